//! Builders behind a network that loses packets, and is slow to answer (F-N3, G13).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::engines::{FOUNDATION, ended, root_file_systems};
use super::hosts::{Hosts, builders};
use crate::program::{Place, program, skip, tell, variable};

/// How many of a hundred packets to a host, and from it, are lost as long as this is there.
struct Lossy {
    rules: Vec<Vec<String>>,
}

/// A rule is put first, or taken away.
pub(super) fn rule(how: &str, rule: &[String]) -> bool {
    let mut iptables = program("nsenter");
    iptables.args([&rule[0], "iptables", "--wait", how]).args(&rule[1..]);
    iptables.output().is_ok_and(|output| output.status.success())
}

impl Lossy {
    /// `None`, having said why, where this kernel cannot lose packets.
    fn of(test: &str, hosts: &[&str], percent: u32) -> Option<Self> {
        let mut lossy = Self { rules: Vec::new() };
        let probability = format!("0.{percent:02}");
        for host in hosts {
            for chain in ["INPUT", "OUTPUT"] {
                let namespace = format!("--net=/run/netns/polyarch-{host}");
                let lost =
                    ["-m", "statistic", "--mode", "random", "--probability", &probability, "-j", "DROP"];
                // What the host says to itself stays whole.
                let way = if chain == "INPUT" { "-i" } else { "-o" };
                let words = [&*namespace, chain, way, "eth0"].into_iter().chain(lost);
                let words: Vec<String> = words.map(str::to_owned).collect();
                if !rule("-A", &words) {
                    skip(test, "iptables loses no packets at random here");
                    return None;
                }
                lossy.rules.push(words);
            }
        }
        Some(lossy)
    }

    /// How many packets were lost.
    fn lost(&self) -> u64 {
        let of_rule = |words: &[String]| {
            let mut iptables = program("nsenter");
            iptables.args([&words[0], "iptables", "--wait", "-nvxL", &words[1]]);
            let listed = String::from_utf8(iptables.output().expect("iptables runs").stdout).expect("text");
            let counts = listed.lines().filter(|line| line.contains("statistic"));
            counts.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum::<u64>()
        };
        self.rules.iter().map(|words| of_rule(words)).sum()
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        for words in &self.rules {
            rule("-D", words);
        }
    }
}

/// How long it goes on; `POLYARCH_LOSSY_SECONDS` says another number.
fn seconds(usual: u64) -> Duration {
    let wanted = variable("POLYARCH_LOSSY_SECONDS").and_then(|number| number.to_str()?.parse().ok());
    Duration::from_secs(wanted.unwrap_or(usual))
}

/// One image that others stand on, on a builder over ssh and on another over TCP with certificates.
fn family(test: &str, leaves: usize) -> Option<(Place, Hosts)> {
    let mut place = Place::with(&[("root/Dockerfile", &format!("{FOUNDATION}RUN echo well > /made\n"))]);
    let hosts = Hosts::reached_from(test, &mut place)?;
    let configuration = format!(
        "name = \"lossy\"\nplatforms = [\"linux/amd64\"]\ntests = [{{ run = \"cat /made\" }}]\n\n\
         [builder.west]\nengine = \"ssh://west\"\nslots = 2\n\n\
         [builder.east]\nengine = \"{}\"\ncertificates = \"{}\"\nslots = 2\n",
        hosts.engine("east"),
        hosts.certificates("client").display()
    );
    place.write("polyarch.toml", &configuration);
    for leaf in 0..leaves {
        // Long enough to be asked for a sign of life, and different bytes each time.
        let text = format!("FROM root\nRUN sleep 6; head -c 300000 /dev/urandom > /{leaf}\n");
        place.write(&format!("leaf{leaf}/Dockerfile"), &text);
    }
    root_file_systems(test, &place, "root", &["amd64"]).then_some((place, hosts))
}

/// Build again and again while packets are lost: each build passes, and no builder is taken for lost.
fn nothing_is_lost_but_packets(test: &str, percent: u32, usual: u64) {
    const LEAVES: usize = 6;
    let Some((place, _hosts)) = family(test, LEAVES) else { return };
    let Some(lossy) = Lossy::of(test, &["west", "east"], percent) else { return };
    let (begun, limit) = (Instant::now(), seconds(usual));
    let (mut rounds, mut told) = (0, String::new());
    while begun.elapsed() < limit {
        let answer = place.run(&["build", "--no-reuse", "--no-cache"]).well();
        assert_eq!(ended(&place, "built").len(), LEAVES + 1, "{}", answer.stderr);
        let events = place.events();
        let happened = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!(
            ["builder-lost", "job-moved"].map(happened),
            [0, 0],
            "{percent} % in round {rounds}: {}",
            answer.stderr
        );
        let both: BTreeSet<_> = builders(&place).into_values().collect();
        assert_eq!(both.len(), 2, "both are at work");
        rounds += 1;
        let _ = write!(told, "{:?} ", begun.elapsed());
    }
    let lost = lossy.lost();
    assert!(lost > 0, "no packet was lost");
    tell(&format!("{lost} packets lost, {percent} %: {rounds} rounds of {LEAVES} jobs, ended after {told}"));
}

#[test]
fn f_n3_g13_one_packet_of_a_hundred_that_is_lost_loses_no_builder() {
    nothing_is_lost_but_packets(
        "lossy::f_n3_g13_one_packet_of_a_hundred_that_is_lost_loses_no_builder",
        1,
        20,
    );
}
