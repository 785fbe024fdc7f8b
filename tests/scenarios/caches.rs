//! Attacks by what an engine keeps between builds: mounts of caches, which trusted builds have too.

use crate::Scenario;
use crate::ground::Site;

const CONFIGURATION: &str =
    "name = \"two\"\nplatforms = [\"linux/amd64\"]\n[image.child]\ntests = [{ run = \"test -e /evil\" }]\n";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, attack: fn(&Site) -> bool| Scenario { name, defence: "CacheMounts", attack };
    let earlier = |name, attack: fn(&Site) -> bool| Scenario { name, defence: "CachesOfATree", attack };
    let unseen = |name, attack: fn(&Site) -> bool| Scenario { name, defence: "UnseenInputs", attack };
    vec![
        of("TM10 a cache filled that a trusted build mounts by its id", |site| {
            poisoned(site, "FROM parent\nRUN --mount=type=cache,id=OWN,target=/c COMMAND\n")
        }),
        of("TM10 a cache filled that a trusted build mounts by its place", |site| {
            poisoned(site, "FROM parent\nRUN --mount=target=/OWN,type=CACHE,id= ln -s /OWN /c; COMMAND\n")
        }),
        of("TM10 the same in a trigger of an image that both stand on", |site| {
            let trigger = "ONBUILD RUN --mount=type=cache,id=OWN,target=/c COMMAND";
            site.place.write("on/Dockerfile", &format!("FROM parent\n{trigger}\n"));
            poisoned(site, "FROM on\n")
        }),
        of(
            "TM10 a step done with such a cache, for a trusted build to take from the cache of layers",
            |site| {
                poisoned(site, "FROM parent\nRUN --mount=type=cache,id=OWN-l,target=/c COMMAND\nLABEL l=1\n")
            },
        ),
        of("TM10 a mount that is a cache by a variable", |site| {
            refused(site, "ARG T=cache\nRUN --mount=type=$T,target=/c true\n")
        }),
        of("TM10 a mount that is a cache behind quotes", |site| {
            refused(site, "RUN --mount=type=ca\\'\\'che,target=/c true\n")
        }),
        earlier("F-U12 a cache filled by a push that nobody approved, for one that is", |site| {
            pushed_before(site, "")
        }),
        earlier("F-U12 the same where caches are kept in the store", |site| {
            pushed_before(site, "cache-mounts = \"1MB\"\n")
        }),
        unseen("TM1 a proxy, which tells no step from another", |site| {
            let (run, evil) =
                ("RUN echo OWN $HTTP_PROXY >/w", "args = { HTTP_PROXY = \"http://evil.invalid\" }");
            taken_over(site, [evil, run], ["", run])
        }),
        unseen("TM1 another of them, in lower case", |site| {
            let (run, evil) = ("RUN echo OWN $no_proxy >/w", "args = { no_proxy = \"evil.invalid\" }");
            taken_over(site, [evil, run], ["", run])
        }),
        unseen("TM1 a step done without the secret that trusted builds have", |site| {
            let run = "RUN --mount=type=secret,id=word,target=/s [ -s /s ] || echo OWN evil >/w";
            taken_over(site, ["", run], ["secrets = { word = { env = \"WORD\" } }", run])
        }),
    ]
}

/// Whether the build of a pull request leaves something in a cache that a trusted build of the same Dockerfile finds there.
fn poisoned(site: &Site, child: &str) -> bool {
    let place = site.set("NO_COLOR", "1");
    let own = place.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
    let trigger = std::fs::read_to_string(place.family().join("on/Dockerfile")).unwrap_or_default();
    let write = |command: &str| {
        let with = |text: &str| text.replace("OWN", &own).replace("COMMAND", command);
        place.write("child/Dockerfile", &with(child));
        if !trigger.is_empty() {
            place.write("on/Dockerfile", &with(&trigger));
        }
    };
    place.write("polyarch.toml", &CONFIGURATION.replace("test -e", "true"));
    write("echo evil >/c/x");
    let _ = place.run(&["build", "--scope", "pr-1"]).well();
    write("cp /c/x /evil || true");
    if child.contains("LABEL") {
        let _ = place.run(&["build", "--scope", "pr-1"]).well();
    }
    place.write("polyarch.toml", CONFIGURATION);
    place.run(&["build"]).code == Some(0)
}

/// Whether the build of a pull request has what an earlier push of it left in a cache.
fn pushed_before(site: &Site, settings: &str) -> bool {
    let place = site.set("NO_COLOR", "1");
    let own = place.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
    place.write("polyarch.toml", &format!("{settings}{CONFIGURATION}"));
    let built = |command: &str| {
        let mount = format!("--mount=type=cache,id={own},target=/c");
        place.write("child/Dockerfile", &format!("FROM parent\nRUN {mount} {command}\n"));
        place.run(&["build", "--scope", "pr-1"]).code == Some(0)
    };
    assert!(built("echo evil >/c/x && touch /evil"), "the push that nobody has seen");
    built("[ ! -e /c/x ] || cp /c/x /evil")
}

/// Whether a trusted build publishes what a step of a pull request did; of both the settings and the step.
fn taken_over(site: &Site, hostile: [&str; 2], trusted: [&str; 2]) -> bool {
    let place = site.set("WORD", "a secret");
    let own = place.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
    let build = |[settings, step]: [&str; 2], test: &str, arguments: &[&str]| {
        let configuration = CONFIGURATION.replace("test -e /evil", test);
        place.write("polyarch.toml", &format!("{configuration}{settings}\n"));
        let step = step.replace("OWN", &own);
        place.write("child/Dockerfile", &format!("FROM parent\nCOPY words /words/here\n{step}\n"));
        place.run(&[&["build"], arguments].concat())
    };
    let _ = build(hostile, "grep -q evil /w", &["--scope", "pr-1"]).well();
    build(trusted, "grep -q evil /w", &[]).code == Some(0)
}

/// Whether an untrusted run builds it, as far as there is an engine.
fn refused(site: &Site, lines: &str) -> bool {
    site.place.write("child/Dockerfile", &format!("FROM parent\n{lines}"));
    site.run(&["build", "--scope", "pr-1"]).code != Some(4)
}
