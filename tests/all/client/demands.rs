//! What a scripted registry demands and where it leads: tokens, redirects, realms, and lists without end.

use std::time::Duration;

use polyarch::oci::{Digest, ErrorKind, Login, Secret, Store};

use super::scripted::{CANARY, Reply, Seen, Server, basic, fixed, reply, repository};

/// A registry and its token server in one; the first token is refused from the third use on.
fn bearer_script(_: usize, seen: &Seen) -> Reply {
    let host = seen.header("host").unwrap();
    if seen.target.starts_with("/token") {
        let identity = seen.method == "POST" && String::from_utf8_lossy(&seen.body).contains(CANARY);
        return match seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")) || identity
        {
            true => reply(200).body(r#"{"token":"good","expires_in":5}"#),
            false => reply(401),
        };
    }
    match seen.header("authorization") {
        Some("Bearer good") => reply(200).with("content-length", "1"),
        _ => reply(401)
            .with("www-authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"reg\"")),
    }
}

#[tokio::test]
async fn f_r10_tokens_are_fetched_kept_and_renewed() {
    for login in [basic(), Login::IdentityToken(Secret::new(CANARY))] {
        let server = Server::start(bearer_script).await;
        let client =
            server.client_with(|options| options.credentials = fixed(&server.address, login.clone()));
        for _ in 0..3 {
            assert_eq!(client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1));
        }
        assert_eq!(server.seen().len(), 5, "401, token, and three that carry it");
        tokio::time::sleep(Duration::from_millis(4_750)).await;
        client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap();
        assert_eq!(server.seen().len(), 7, "a token that is about to end is renewed first");
        let scope = "repository%3Ateam%2Fimage%3Apull";
        let token = server.seen()[1].clone();
        assert!(token.target.contains(scope) || String::from_utf8_lossy(&token.body).contains(scope));
    }
}

#[tokio::test]
async fn f_r10_a_loop_of_challenges_ends_and_so_does_an_endless_token() {
    let server = Server::start(|number, seen| match seen.target.starts_with("/token") {
        true => reply(200).body(format!(r#"{{"token":"t{number}"}}"#)),
        false => reply(401).with(
            "www-authenticate",
            format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap()),
        ),
    })
    .await;
    let error = server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(server.seen().len() <= 5);
    let server = Server::start(|_, seen| match seen.target.starts_with("/token") {
        true => reply(200).body(format!(r#"{{"token":"{}"}}"#, "t".repeat(1 << 20))),
        false => reply(401).with(
            "www-authenticate",
            format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap()),
        ),
    })
    .await;
    let error = server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn tm11_a_redirect_to_another_host_carries_no_credentials() {
    let other = Server::start(|_, _| reply(200).body("x")).await;
    let target = other.address.clone();
    let server = Server::start(move |_, seen| match seen.header("authorization") {
        None => reply(401).with("www-authenticate", "Basic realm=\"x\""),
        Some(_) => reply(307).with("location", format!("http://{target}/storage?signature=s")),
    })
    .await;
    let client = server.client_with(|options| options.credentials = fixed(&server.address, basic()));
    let reader = client.read_blob(&repository(), &Digest::of(b"x"), None).await.unwrap();
    assert_eq!(reader.collect(&Digest::of(b"x"), 10).await.unwrap(), "x");
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn tm12_realms_and_redirects_do_not_lead_astray() {
    for realm in
        ["http://registry.example/token", "http://169.254.169.254/token", "file:///etc/passwd", "nonsense"]
    {
        let server = Server::start(move |_, _| {
            reply(401).with("www-authenticate", format!("Bearer realm=\"{realm}\""))
        })
        .await;
        let client = server.client_with(|options| options.credentials = fixed(&server.address, basic()));
        let error = client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
        assert_eq!((error.kind(), server.seen().len()), (ErrorKind::Denied, 1), "{realm}: {error}");
    }
    for location in ["http://169.254.169.254/x", "file:///etc/passwd", "http://[::ffff:a9fe:a9fe]/"] {
        let server = Server::start(move |_, _| reply(302).with("location", location)).await;
        let error = server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{location}");
    }
    let server = Server::start(|_, _| reply(302).with("location", "/again")).await;
    server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
    assert_eq!(server.seen().len(), 11, "ten redirects are followed");
}

#[tokio::test]
async fn f_r10_a_token_server_that_fails_is_asked_again_and_one_without_tokens_is_told_of() {
    let demand = |seen: &Seen| {
        let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
        reply(401).with("www-authenticate", realm)
    };
    let server = Server::start(move |number, seen| match seen.target.starts_with("/token") {
        true if number < 3 => reply(500),
        true => reply(200).body(r#"{"access_token":"good"}"#),
        false if seen.header("authorization") == Some("Bearer good") => {
            reply(200).with("content-length", "1")
        }
        false => demand(seen),
    })
    .await;
    assert_eq!(server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1));
    for answer in ["{}", r#"{"token":""}"#, "no JSON", r#"{"token":7}"#] {
        let server = Server::start(move |_, seen| match seen.target.starts_with("/token") {
            true => reply(200).body(answer),
            false => demand(seen),
        })
        .await;
        let error = server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("holds no token"), "{error}");
    }
}

#[tokio::test]
async fn f_r10_a_scope_that_is_too_small_is_asked_for_once_more() {
    // The registry wants more than the client asked for, and says so.
    let server = Server::start(|_, seen| {
        let host = seen.header("host").unwrap();
        if seen.target.starts_with("/token") {
            let more = seen.target.contains("repository%3Aother%2Fimage%3Apull");
            return reply(200).body(if more { r#"{"token":"more"}"# } else { r#"{"token":"less"}"# });
        }
        match seen.header("authorization") {
            Some("Bearer more") => reply(200).with("content-length", "1"),
            _ => reply(401).with(
                "www-authenticate",
                format!("Bearer realm=\"http://{host}/token\",scope=\"repository:other/image:pull\""),
            ),
        }
    })
    .await;
    assert_eq!(server.client().blob_size(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1));
    assert!(server.seen().len() <= 5);
}

#[tokio::test]
async fn f_r1_whatever_retry_after_says_the_request_is_sent_again() {
    for text in ["", "0", "-5", "soon", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "99999999999999999999999"] {
        let server = Server::start(move |number, _| match number {
            0 => reply(429).with("retry-after", text),
            _ => reply(200).with("content-length", "1"),
        })
        .await;
        let client = server.client_with(|options| options.patience = Duration::from_secs(60));
        assert_eq!(client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1), "{text}");
        assert_eq!(server.seen().len(), 2, "{text}");
    }
}

#[tokio::test]
async fn f_r11_ten_redirects_over_two_hosts_and_no_password_on_the_way() {
    let hop = |seen: &Seen| {
        let number = seen.target.rsplit('/').next().and_then(|text| text.parse::<usize>().ok());
        number.unwrap_or(0) + 1
    };
    let end = Server::start(move |_, seen| match hop(seen) {
        10.. => reply(200).with("content-length", "1"),
        next => reply(307).with("location", format!("/storage/{next}")),
    })
    .await;
    let target = end.address.clone();
    let server = Server::start(move |_, seen| match seen.header("authorization") {
        None => reply(401).with("www-authenticate", "Basic realm=\"x\""),
        Some(_) => reply(308).with("location", format!("http://{target}/storage/1")),
    })
    .await;
    let client = server.client_with(|options| options.credentials = fixed(&server.address, basic()));
    assert_eq!(client.blob_size(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1));
    assert_eq!(end.seen().len(), 9);
    assert!(end.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn f_r16_a_hundred_thousand_tags_at_once_or_in_pages() {
    let all = |range: std::ops::Range<usize>| {
        let tags: Vec<String> = range.map(|number| format!("\"t{number:06}\"")).collect();
        format!(r#"{{"tags":[{}]}}"#, tags.join(","))
    };
    // One that ignores `n`.
    let server = Server::start(move |_, _| reply(200).body(all(0..100_000))).await;
    let tags = server.client().tags(&repository(), None, usize::MAX).await.unwrap();
    assert_eq!((tags.len(), server.seen().len()), (100_000, 1));
    let server = Server::start(move |_, seen| {
        let page = seen.target.split("page=").nth(1).and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        let link = format!("</v2/team/image/tags/list?page={}>; rel=\"next\"", page + 1);
        let answer = reply(200).body(all(page * 1000..(page + 1) * 1000));
        if page < 99 { answer.with("link", link) } else { answer }
    })
    .await;
    let tags = server.client().tags(&repository(), None, usize::MAX).await.unwrap();
    assert_eq!((tags.len(), server.seen().len()), (100_000, 100));
    assert!(tags.is_sorted());
}
