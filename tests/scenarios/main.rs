//! Hostile pull requests, against the real program, its server and an engine. Each is tried twice: as the program is, where
//! the attacker must not succeed, and with the one defence switched off that is named with it, where he must get past:
//! otherwise the scenario would show nothing.
//!
//! `cargo test --features defences-off --test scenarios`; `scripts/scenarios` prints the list with it.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed"))]

#[path = "../all/program.rs"]
#[expect(dead_code, unused_imports, reason = "other tests use more of it")]
mod program;

mod caches;
mod engines;
mod ground;
mod pipelines;
mod requests;
mod runs;
mod signed;
mod transfers;

use ground::{Ground, Site};

/// One thing that an attacker tries.
struct Scenario {
    /// The ids that it is of, and what is tried.
    name: &'static str,
    /// The one defence without which he gets past.
    defence: &'static str,
    /// Tries it; whether he got past.
    attack: Attack,
}

type Attack = fn(&Site) -> bool;

fn all() -> Vec<Scenario> {
    let parts = [
        signed::scenarios(),
        runs::scenarios(),
        caches::scenarios(),
        requests::scenarios(),
        transfers::scenarios(),
        pipelines::scenarios(),
        engines::scenarios(),
    ];
    parts.into_iter().flatten().collect()
}

#[test]
fn g9_no_hostile_pull_request_gets_past_and_each_does_without_its_defence() {
    let only = program::variable("POLYARCH_SCENARIOS").map(|only| only.to_string_lossy().into_owned());
    let mut all = all();
    assert!(all.len() >= 45, "{} scenarios", all.len());
    for page in ["docs/trust.md", "CONTRIBUTING.md"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let told = format!("tries {} hostile pull requests", all.len());
        assert!(std::fs::read_to_string(path).unwrap().contains(&told), "{page} does not say: {told}");
    }
    if let Some(only) = only {
        all.retain(|scenario| scenario.name.contains(&only) || scenario.defence == only);
    }
    let Some(ground) = Ground::prepare("scenarios") else { return };
    let mut faults = Vec::new();
    for Scenario { name, defence, attack } in &all {
        let (held, open) = (!attack(&ground.site("")), attack(&ground.site(defence)));
        println!(
            "{:5} {:5} {defence:20} {name}",
            if held { "held" } else { "PAST" },
            if open { "past" } else { "HELD" }
        );
        if !held {
            faults.push(format!("{name}: the attacker got past"));
        }
        if !open {
            faults.push(format!("{name}: without {defence} he should get past, and does not"));
        }
    }
    println!("{} scenarios", all.len());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
