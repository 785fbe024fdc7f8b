//! Builders behind a network that loses packets, and is slow to answer (F-N3, G13).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
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

/// Links to hosts that carry a megabit in a second each way, as long as this is there.
struct Narrow {
    hosts: Vec<String>,
}

/// The programs that set how much the link to a host carries: what comes to it, and what comes from it.
fn ends_of_link(host: &str, how: &str) -> [Vec<String>; 2] {
    let far = format!("nsenter --net=/run/netns/polyarch-{host} tc qdisc {how} dev eth0 root");
    let near = format!("tc qdisc {how} dev pa-{host} root");
    [near, far].map(|line| line.split(' ').map(str::to_owned).collect())
}

impl Narrow {
    /// `None`, having said why, where this kernel limits no link.
    fn of(test: &str, hosts: &[&str]) -> Option<Self> {
        let narrow = Self { hosts: hosts.iter().map(|host| (*host).to_owned()).collect() };
        for line in hosts.iter().flat_map(|host| ends_of_link(host, "add")) {
            let limited = program(&line[0])
                .args(&line[1..])
                .args(["tbf", "rate", "1mbit", "burst", "16kb", "latency", "400ms"])
                .output();
            if !limited.is_ok_and(|output| output.status.success()) {
                skip(test, "tc limits no link here");
                return None;
            }
        }
        Some(narrow)
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|host| widen(host));
    }
}

/// Give a link back all that it carries.
pub(super) fn widen(host: &str) {
    for line in ends_of_link(host, "del") {
        let _ = program(&line[0]).args(&line[1..]).output();
    }
}

/// A port of this machine at which what listens at an address answers, and all that is said takes so long each way; and how
/// many have connected.
pub(super) fn delayed(address: String, delay: Duration) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    // It ends with the process, as those of its connections do that are still open then.
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let address = address.clone();
            std::thread::spawn(move || {
                // Nobody is connected before it was heard of there, and here.
                std::thread::sleep(2 * delay);
                let Ok(far) = TcpStream::connect(&address) else { return };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    pass_on(from, to, delay);
                }
            });
        }
    });
    (port, connections)
}

/// Pass on what comes, each piece as much later.
fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if pieces.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        let _ = to.set_nodelay(true);
        for (when, piece) in under_way {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A host over ssh to which no port is forwarded, and to and from which each word takes so long; how many have connected.
fn far_away(place: &mut Place, hosts: &Hosts, delay: Duration) -> Arc<AtomicUsize> {
    let address = hosts.address("east");
    let (near, connections) = delayed(format!("{address}:2222"), delay);
    let configuration = format!(
        "Host closed-east\n HostName 127.0.0.1\n Port {near}\n HostKeyAlias [{address}]:2222\nHost *\nInclude {}\n",
        hosts.ssh_configuration().display()
    );
    let file = place.folder().join("ssh-of-far");
    std::fs::write(&file, configuration).expect("a configuration of ssh");
    hosts.give_ssh(place, &format!("-F {}", file.display()));
    place.write(
        "polyarch.toml",
        "name = \"lossy\"\nplatforms = [\"linux/amd64\"]\ntests = [{ run = \"cat /made\" }]\n\n\
         [builder.east]\nengine = \"ssh://closed-east\"\n",
    );
    connections
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

/// How many images stand on the one that all stand on.
const LEAVES: usize = 6;

#[test]
fn f_n3_g13_one_packet_of_a_hundred_that_is_lost_loses_no_builder() {
    let test = "lossy::f_n3_g13_one_packet_of_a_hundred_that_is_lost_loses_no_builder";
    let Some((place, _hosts)) = family(test, LEAVES) else { return };
    nothing_is_lost_but_packets(test, &place, 1, seconds(20));
}

#[test]
fn f_n3_a_builder_that_is_400_ms_away_is_not_taken_for_lost() {
    let test = "lossy::f_n3_a_builder_that_is_400_ms_away_is_not_taken_for_lost";
    let Some((mut place, hosts)) = family(test, 0) else { return };
    let connections = far_away(&mut place, &hosts, Duration::from_millis(200));
    // Long enough to be asked for several signs of life.
    place.write("root/Dockerfile", &format!("{FOUNDATION}RUN sleep 18; echo well > /made\n"));
    let begun = Instant::now();
    let answer = place.run(&["build", "--no-cache"]).well();
    let lost = place.events().iter().filter(|event| event["event"] == "builder-lost").count();
    assert_eq!(lost, 0, "{}", answer.stderr);
    let connections = connections.load(Ordering::Relaxed);
    tell(&format!("{test}: {:?}, {connections} connections", begun.elapsed()));
    assert_eq!(connections, 1, "clients of the engine go by the one that stands");
}

#[test]
fn f_n3_a_build_ends_well_while_one_packet_of_five_is_lost() {
    let test = "lossy::f_n3_a_build_ends_well_while_one_packet_of_five_is_lost";
    let Some((place, _hosts)) = family(test, 0) else { return };
    let Some(lossy) = Lossy::of(test, &["west", "east"], 20) else { return };
    let begun = Instant::now();
    let answer = place.run(&["build", "--no-cache"]).well();
    assert_eq!(ended(&place, "built").len(), 1, "{}", answer.stderr);
    let events = place.events();
    let happened = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    let [gone, again] = ["builder-lost", "job-retried"].map(happened);
    let (lost, elapsed) = (lossy.lost(), begun.elapsed());
    assert!(lost > 0, "no packet was lost");
    tell(&format!(
        "{test}: {elapsed:?}, {lost} packets lost, {gone} builders told as lost, {again} tries more"
    ));
}

#[test]
fn f_n3_a_link_of_one_megabit_takes_no_builder_away() {
    let test = "lossy::f_n3_a_link_of_one_megabit_takes_no_builder_away";
    let Some((place, _hosts)) = family(test, 2) else { return };
    let begun = Instant::now();
    let answer = place.run(&["build", "--no-cache"]).well();
    let wide = begun.elapsed();
    assert_eq!(ended(&place, "built").len(), 3, "{}", answer.stderr);
    let Some(_narrow) = Narrow::of(test, &["west", "east"]) else { return };
    let begun = Instant::now();
    let answer = place.run(&["build", "--no-reuse", "--no-cache"]).well();
    assert_eq!(ended(&place, "built").len(), 3, "{}", answer.stderr);
    let events = place.events();
    let happened = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(["builder-lost", "job-moved"].map(happened), [0, 0], "{}", answer.stderr);
    tell(&format!("{test}: {wide:?}, and {:?} with a megabit in a second", begun.elapsed()));
    assert!(begun.elapsed() > wide, "nothing was limited");
}

/// Build again and again while packets are lost: each build passes, and no builder is taken for lost.
fn nothing_is_lost_but_packets(test: &str, place: &Place, percent: u32, limit: Duration) {
    let Some(lossy) = Lossy::of(test, &["west", "east"], percent) else { return };
    let begun = Instant::now();
    let (mut rounds, mut told) = (0, String::new());
    while begun.elapsed() < limit {
        let answer = place.run(&["build", "--no-reuse", "--no-cache"]).well();
        assert_eq!(ended(place, "built").len(), LEAVES + 1, "{}", answer.stderr);
        let events = place.events();
        let happened = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!(
            ["builder-lost", "job-moved"].map(happened),
            [0, 0],
            "{percent} % in round {rounds}: {}",
            answer.stderr
        );
        let both: BTreeSet<_> = builders(place).into_values().collect();
        assert_eq!(both.len(), 2, "both are at work");
        rounds += 1;
        let _ = write!(told, "{:?} ", begun.elapsed());
    }
    let lost = lossy.lost();
    assert!(lost > 0, "no packet was lost");
    tell(&format!("{lost} packets lost, {percent} %: {rounds} rounds of {LEAVES} jobs, ended after {told}"));
}
