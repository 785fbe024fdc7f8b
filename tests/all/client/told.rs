//! What a person hears of a registry that has troubles: from the program itself, behind the proxy that does harm.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::fault_proxy::{Fault, FaultProxy, Reply, Request, rule};
use super::registries::{Image, Registry};
use crate::program::Place;

#[tokio::test(flavor = "multi_thread")]
async fn waiting_warnings_and_proxies_are_told() {
    let image = Image::new().await;
    let registry = Registry::ours().await;
    image.push(&registry.client()).await.unwrap();
    let warns: fn(Reply) -> Reply = |reply| reply.with("warning", "299 - \"your plan ends\"");
    let rules = vec![
        rule(1, |request: &Request| request.is("GET", "/manifests/"), Fault::Answer(Reply::of(500))),
        rule(1, |request: &Request| request.is("GET", "/manifests/"), Fault::Answer(Reply::of(502))),
        rule(usize::MAX, |_| true, Fault::Change(warns)),
    ];
    let proxy = FaultProxy::start(&registry.address, rules).await;
    let reference = format!("{}/team/image:latest", proxy.address);
    let place = Place::new();
    let answer =
        tokio::task::spawn_blocking(move || place.run(&["inspect", &reference])).await.unwrap().well();
    let waiting = format!("{} answers 502; trying again until ", proxy.address);
    assert!(answer.stderr.contains(&waiting), "{}", answer.stderr);
    assert!(answer.stderr.contains(&format!("{} says: your plan ends", proxy.address)), "{}", answer.stderr);

    // F-N4: a proxy that is none is named, and what is on this machine is not sent to one.
    let mut place = Place::new();
    place.set("HTTPS_PROXY", "http://127.0.0.1:1");
    place.set("HTTP_PROXY", "http://127.0.0.1:1");
    let own = format!("{}/team/image:latest", registry.address);
    let answers = tokio::task::spawn_blocking(move || {
        let far = place.run(&["inspect", "registry.invalid/team/image:latest"]);
        (far, place.run(&["inspect", &own]))
    });
    let (far, near) = answers.await.unwrap();
    assert!(far.ended(3).stderr.contains("through the proxy 127.0.0.1:1"));
    let _ = near.well();
}

/// Who came to a proxy: what was said, and the first byte that came through.
type Visitor = (Option<String>, Option<u8>);

/// A proxy that lets only those through who say this: its address, and whoever came.
fn guarded_proxy(said: &'static str) -> (String, Receiver<Visitor>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, seen) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut client = BufReader::new(client);
            let mut heard = None;
            let mut line = String::new();
            while client.read_line(&mut line).is_ok_and(|length| length > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("proxy-authorization: ") {
                    heard = Some(line[line.len() - value.len()..].trim().to_owned());
                }
                line.clear();
            }
            let (status, mut first) = (heard.as_deref() == Some(said), None);
            let answer: &[u8] = match status {
                true => b"HTTP/1.1 200 OK\r\n\r\n",
                false => b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"way out\"\r\n\
                           content-length: 0\r\n\r\n",
            };
            let written = client.get_mut().write_all(answer);
            let mut byte = [0];
            if status && written.is_ok() && client.read_exact(&mut byte).is_ok() {
                first = Some(byte[0]);
            }
            let _ = tell.send((heard, first));
        }
    });
    (address, seen)
}

#[test]
fn f_n4_a_proxy_that_wants_a_password_gets_it_and_one_that_refuses_is_told_without_it() {
    // user:canary@1
    const SAID: &str = "Basic dXNlcjpjYW5hcnlAMQ==";
    /// The first byte of what TLS begins with.
    const HANDSHAKE: u8 = 0x16;
    let (address, seen) = guarded_proxy(SAID);
    let inspect = |variable: &str, user: &str| {
        let mut place = Place::new();
        place.set(variable, format!("http://{user}{address}"));
        place.run(&["inspect", "registry.invalid/team/image:latest"]).ended(3).stderr
    };
    let through = inspect("https_proxy", "user:canary%401@");
    assert!(!through.contains("canary") && !through.contains("wants a user"), "{through}");
    let let_in: Vec<_> = seen.try_iter().collect();
    assert_eq!(let_in.first(), Some(&(Some(SAID.to_owned()), Some(HANDSHAKE))), "{let_in:?} {through}");

    let example = format!("https_proxy=http://USER:PASSWORD@{address}");
    let none = inspect("HTTPS_PROXY", "");
    assert!(
        none.contains(&format!("the proxy {address} wants a user and a password, as in {example}")),
        "{none}"
    );
    let wrong = inspect("ALL_PROXY", "user:canary2@");
    assert!(wrong.contains(&format!("the proxy {address} does not take the user")), "{wrong}");
    assert!(wrong.contains(&example) && !wrong.contains("canary"), "{wrong}");
    let refused: Vec<_> = seen.try_iter().collect();
    assert_eq!(refused.len(), 2, "neither is asked a second time: {refused:?}");
    assert!(refused[0].0.is_none() && refused[1].0.is_some(), "{refused:?}");
}
