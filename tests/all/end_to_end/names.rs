//! Names of registries that lead to several addresses, some of which answer nothing at all (F-N1).

use std::time::{Duration, Instant};

use crate::program::{Answer, Place, skip, tell};

/// What has several addresses is reached within this, and what is not reached is told of.
const SOON: Duration = Duration::from_secs(20);

/// A network of its own, in which no packet to these addresses is answered, and a registry at one of them.
const NETWORK: &str = r#"set -e
ip link set lo up
ip link add d0 type veth peer name d1
ip address add 192.0.2.2/24 dev d0
ip -6 address add 2001:db8::2/64 dev d0 nodad
ip link set d1 up
ip link set d0 up
ip neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev d0
ip -6 neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev d0
iptables -A OUTPUT -d 127.0.0.1 -p tcp --dport 5999 -j DROP
mount --bind "$1/names" /etc/hosts
mount --bind "$1/resolver" /etc/resolv.conf
"$0" --store "$1/registry" serve --anonymous-writes --listen 127.1.1.1:5999 >"$1/serving" 2>&1 &
serving=$!
for try in $(seq 600); do grep -q 5999 "$1/serving" && break; sleep 0.1; done
code=0
"$0" inspect "$2" || code=$?
kill $serving
exit $code
"#;

const NAMES: &str = "127.1.1.1 one.localhost\n\
    127.0.0.1 first-dead.localhost\n127.1.1.1 first-dead.localhost\n\
    2001:db8::1 other-kind-dead.localhost\n127.1.1.1 other-kind-dead.localhost\n\
    192.0.2.1 all-dead.localhost\n2001:db8::1 all-dead.localhost\n";

#[test]
fn f_n1_a_name_is_reached_by_whichever_of_its_addresses_answers_and_none_is_waited_for_long() {
    let test = "names::f_n1_a_name_is_reached_by_whichever_of_its_addresses_answers";
    let place = Place::new();
    let write = |name: &str, text: &str| std::fs::write(place.folder().join(name), text).expect("a file");
    write("names", NAMES);
    // Nobody answers there either.
    write("resolver", "nameserver 192.0.2.1\n");
    let alone = |arguments: &[&str]| {
        let mut unshare = place.program("unshare");
        unshare.args(["--mount", "--net"]).args(arguments).env("POLYARCH_STORE", place.store());
        Answer::from(unshare.output().expect("unshare runs"))
    };
    let tried = alone(&["sh", "-c", "ip link add d0 type veth peer name d1 && iptables -L -n"]);
    if tried.code != Some(0) {
        return skip(test, &format!("no network of its own: {}", tried.stderr));
    }
    let folder = place.folder().display().to_string();
    for (name, is_reached) in [
        ("one.localhost", true),
        ("first-dead.localhost", true),
        ("other-kind-dead.localhost", true),
        ("all-dead.localhost", false),
        ("unknown.test", false),
    ] {
        let image = format!("{name}:5999/x/y:1");
        let begun = Instant::now();
        let answer = alone(&["sh", "-c", NETWORK, env!("CARGO_BIN_EXE_polyarch"), &folder, &image]);
        let took = begun.elapsed();
        tell(&format!("{test}: {name} after {took:?}"));
        assert!(took <= SOON, "{name}: {took:?} {}", answer.stderr);
        let told = if is_reached {
            "the registry answered 404 Not Found"
        } else {
            "hint: see whether its registry answers"
        };
        assert!(answer.stderr.contains(told), "{name}: {}", answer.stderr);
        assert!(answer.stderr.contains(&format!("{name}:5999")), "{name}: {}", answer.stderr);
        assert!(is_reached || answer.code == Some(3), "{name}: {answer:?}");
    }
}
