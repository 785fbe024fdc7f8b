//! What a person hears of a registry that has troubles: from the program itself, behind the proxy that does harm.

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
