//! Attacks by what an untrusted run is given to build, and by what it asks for.

use crate::Scenario;
use crate::ground::{CONFIGURATION, OFF, Site};

const CANARY: &str = "canaryQXHZPTWKVJ";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, defence, attack: fn(&Site) -> bool| Scenario { name, defence, attack };
    let publishes = "UntrustedPublishes";
    vec![
        of("F-U3 an untrusted run publishes what it builds", publishes, |site| {
            past_policy(site, &["build", "--publish", "--to", "127.0.0.1:1"])
        }),
        of("F-U3 an untrusted run publishes what it built", publishes, |site| {
            past_policy(site, &["publish", "--to", "127.0.0.1:1"])
        }),
        of("F-U3 an untrusted run promotes itself", publishes, |site| {
            past_policy(site, &["promote", "--from", "pr-1", "--trust-key", "../own.pub"])
        }),
        of("F-U3 an untrusted run mirrors over a public tag", publishes, |site| {
            past_policy(site, &["mirror", "127.0.0.1:1/a:b", "127.0.0.1:1/c"])
        }),
        of("F-U3 an untrusted run deletes a public tag", publishes, |site| {
            past_policy(site, &["delete", "127.0.0.1:1/two/child:latest"])
        }),
        of("F-U3 an untrusted run takes a publication back", publishes, |site| {
            past_policy(site, &["rollback", "20260101T000000Z-0000", "--to", "127.0.0.1:1"])
        }),
        of("F-U8 a scope named to stand below the trusted one", "ScopeNames", |site| {
            site.run(&["plan", "--scope", "trusted/x"]).code != Some(2)
        }),
        of("F-U8 a scope named to stand below another's", "ScopeNames", |site| {
            site.run(&["plan", "--scope", "pr-6/x"]).code != Some(2)
        }),
        of("F-U8 a branch as a scope, of any length", "ScopeNames", |site| {
            site.run(&["plan", "--scope", &"a".repeat(200)]).code != Some(2)
        }),
        of("TM9 a frontend of the attacker's", "Frontends", |site| {
            frontend(site, "# syntax=127.0.0.1:1/evil:1\n")
        }),
        of("TM9 the same without blanks and in capitals", "Frontends", |site| {
            frontend(site, "#SYNTAX=127.0.0.1:1/evil:1\n")
        }),
        of("TM9 the same after a mark of byte order", "Frontends", |site| {
            frontend(site, "\u{feff}# syntax=127.0.0.1:1/evil:1\n")
        }),
        of("TM9 the same with the ends of lines of Windows", "Frontends", |site| {
            frontend(site, "# escape=`\r\n# syntax = 127.0.0.1:1/evil:1\r\n")
        }),
        of("TM9 a name like that of the usual one", "Frontends", |site| {
            frontend(site, "# syntax=127.0.0.1:1/docker/dockerfile:1\n")
        }),
        of("TM9 a frontend named by an argument of the configuration", "FrontendArgument", |site| {
            let evil = format!(
                "{CONFIGURATION}[image.parent]\nargs = {{ BUILDKIT_SYNTAX = \"127.0.0.1:1/evil\" }}\n"
            );
            site.place.write("polyarch.toml", &evil);
            site.run(&["plan", "--scope", "pr-1"]).code != Some(2)
        }),
        of("TM8 a Dockerfile for an engine that it may break out of", "EngineFloors", |site| {
            on_an_engine(site, "24.0.7", "v1.3.3-0-gd842d771")
        }),
        of("TM8 the same for what starts the containers of a newer one", "EngineFloors", |site| {
            on_an_engine(site, "28.5.2", "v1.3.0-0-g4ca628d1")
        }),
        of("F-U5 a build in the network of the host", "Entitlements", |site| {
            builds(site, "FROM parent\nRUN --network=host true\n")
        }),
        of("F-U5 a build with the rights of the host", "Entitlements", |site| {
            builds(site, "FROM parent\nRUN --security=insecure true\n")
        }),
        of("F-U5 a stage that the image stands on, in the network of the host", "Entitlements", |site| {
            builds(site, "FROM parent AS one\nRUN --network=host true\nFROM one\nCOPY words /words\n")
        }),
        of("F-U5 a build that wants a secret", "SecretsWithheld", |site| {
            let evil = format!("{CONFIGURATION}secrets = {{ token = {{ env = \"PATH\" }} }}\n");
            site.place.write("polyarch.toml", &evil);
            builds(site, "FROM parent\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n")
        }),
        of("TM2 a step that asks the ssh agent of the runner", "SecretsWithheld", asks_an_agent),
        of("TM2 a test on the host that prints a token of the run", "HostEnvironment", |site| {
            printed(site, "GITHUB_TOKEN", &["build", "--scope", "pr-1"])
        }),
        of("TM2 a test on the host that prints where an agent is", "HostEnvironment", |site| {
            printed(site, "SSH_AUTH_SOCK", &["build", "--scope", "pr-1"])
        }),
        of(
            "F-U6 a proposal of the very tree that is published, which is built anew over it",
            "OwnScope",
            |site| of_the_same_tree(site, "--no-reuse"),
        ),
        of("F-U6 the same with what is new outside, for the next night to begin with", "OwnScope", |site| {
            of_the_same_tree(site, "--refresh")
        }),
        of("TM22 a test on the host that prints the key that signs", "KeyWithheld", |site| {
            site.sign("pr-1", "../own.key");
            assert!(site.promoted("pr-1", "../own.pub"), "what the test is of stands in the trusted scope");
            printed(site, "POLYARCH_SIGN_KEY", &["build"])
        }),
    ]
}

/// Whether a command in an untrusted run ends otherwise than by policy.
fn past_policy(site: &Site, arguments: &[&str]) -> bool {
    site.run(&[&["--scope", "pr-1"], arguments].concat()).code != Some(4)
}

/// Whether a Dockerfile that begins so is built in an untrusted run, as far as there is an engine.
fn frontend(site: &Site, head: &str) -> bool {
    builds(site, &format!("{head}FROM parent\nCOPY words /words\nRUN true\n"))
}

fn builds(site: &Site, dockerfile: &str) -> bool {
    site.place.write("child/Dockerfile", dockerfile);
    past_policy(site, &["build"])
}

/// Whether a step of an untrusted run finds an agent.
fn asks_an_agent(site: &Site) -> bool {
    site.place.write("polyarch.toml", &format!("{CONFIGURATION}ssh = [\"default\"]\n"));
    site.place.write(
        "child/Dockerfile",
        "FROM parent\nCOPY words /words\nRUN --mount=type=ssh [ -S \"$SSH_AUTH_SOCK\" ]\n",
    );
    let socket = site.place.folder().join("agent").display().to_string();
    let mut agent = site.place.program("ssh-agent");
    let mut agent = agent.args(["-D", "-a", &socket]).spawn().expect("ssh-agent runs");
    for _ in 0..100 {
        if std::path::Path::new(&socket).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let built = site.set("SSH_AUTH_SOCK", &socket).run(&["build", "--scope", "pr-1"]).code == Some(0);
    agent.kill().and_then(|()| agent.wait()).expect("it is gone");
    built
}

/// Whether a proposal of the tree that was built in the trusted scope changes what stands there, where it builds again.
fn of_the_same_tree(site: &Site, again: &str) -> bool {
    let mut place = site.set(OFF, "");
    let _ = place.run(&["build"]).well();
    place.set(OFF, &site.off);
    let before = site.pointed(&place, "trusted");
    let _ = place.run(&["build", "--scope", "pr-7"]).well();
    assert_eq!(site.pointed(&place, "trusted"), before, "what stands is read");
    let _ = place.run(&["build", "child@linux/amd64", "--scope", "pr-7", again]).well();
    site.pointed(&place, "trusted") != before
}

/// Whether an untrusted run goes to an engine of which some part has known holes; a script answers for it.
fn on_an_engine(site: &Site, version: &str, runc: &str) -> bool {
    let mut place = site.set("POLYARCH_EPHEMERAL", "");
    let client = place.folder().join("docker");
    let info = format!(
        r#"{{"ServerVersion":"{version}","OSType":"linux","Architecture":"x86_64","NCPU":1,"ID":"x","Name":"x","RuncCommit":{{"ID":"{runc}"}}}}"#
    );
    let said = format!(
        "#!/bin/sh\ncase \"$1\" in --version) echo Docker version {version}, ;; buildx) echo x 0.29.1 ;; info) echo '{info}' ;; esac\n"
    );
    crate::program::write_program(&client, &said);
    place.set("PATH", format!("{}:/usr/bin:/bin", place.folder().display()));
    place.set("DOCKER_HOST", "unix:///nowhere");
    place.run(&["plan", "--builders", "--scope", "pr-1"]).code != Some(4)
}

/// Whether a test on the host finds a variable of the run in its environment.
fn printed(site: &Site, variable: &str, arguments: &[&str]) -> bool {
    let leak = site.place.folder().join(format!("leak-{variable}"));
    let test = format!("printenv {variable} > {} || true", leak.display());
    let evil = CONFIGURATION.replace("tests = [", &format!("tests = [{{ host = '{test}' }}, "));
    site.place.write("polyarch.toml", &evil);
    let _ = site.set(variable, CANARY).run(arguments);
    std::fs::read_to_string(&leak).is_ok_and(|text| text.contains(CANARY))
}
