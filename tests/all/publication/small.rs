//! A small family in an old state and a new one, and registries where the old one is public.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::Victim;
use super::state::{Eye, Tags};
use crate::client::fault_proxy::{FaultProxy, Rule};
use crate::client::registries::start_debian;
use crate::end_to_end::engines::Engine;
use crate::program::{Answer, Place, program};

/// Two images on two platforms, each under four tags of its platforms together and eight of one of them: 24.
const CONFIGURATION: &str = r#"
name = "small"
platforms = ["linux/386", "linux/amd64"]

[tags]
common = ["latest", "a", "b", "c"]
"#;
const REPOSITORIES: [&str; 2] = ["small/base", "small/tool"];
pub(super) const TAGS: usize = 24;

/// Whose registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `polyarch serve`.
    Ours,
    /// Debian's docker-registry.
    Debian,
}

pub(super) const KINDS: [Kind; 2] = [Kind::Ours, Kind::Debian];

/// The family, built in both states, and what each registry holds where the old one was published.
pub(super) struct Small {
    place: Place,
    bases: Mutex<Vec<(Kind, Arc<Base>)>>,
}

/// What a registry holds in the beginning, and what it is to be in the end.
struct Base {
    folder: tempfile::TempDir,
    old: Tags,
    new: Tags,
    /// How many requests it takes.
    requests: Vec<String>,
}

/// It is built once for all tests that run at the same time.
static SHARED: Mutex<Weak<Small>> = Mutex::new(Weak::new());

impl Small {
    /// The family; `None`, having said why, where there is no engine.
    pub(super) fn built(test: &str) -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(small) = shared.upgrade() {
            return Some(small);
        }
        let mut place = Place::with(&[
            ("polyarch.toml", CONFIGURATION),
            ("base/Dockerfile", "FROM scratch\nCOPY word /word\n"),
            ("tool/Dockerfile", "FROM base\nCOPY word /tool\n"),
        ]);
        if !Engine::Classic.equip(test, &mut place) {
            return None;
        }
        for state in ["old", "new"] {
            in_state(&place, state);
            let _ = tokio::task::block_in_place(|| place.run(&["build"])).well();
        }
        let small = Arc::new(Self { place, bases: Mutex::default() });
        *shared = Arc::downgrade(&small);
        Some(small)
    }

    /// A place of one's own with what was built, in the new state.
    pub(super) fn place(&self) -> Place {
        let place = Place::new();
        copy(&self.place.family(), &place.family());
        copy(&self.place.store(), &place.store());
        let place = place.like(&self.place);
        in_state(&place, "new");
        place
    }

    /// A registry where the old state is public; `None`, having said why, where it is not installed.
    pub(super) async fn registry(&self, test: &str, kind: Kind) -> Option<Registry> {
        let base = self.base(test, kind).await?;
        let folder = tempfile::tempdir().unwrap();
        copy(base.folder.path(), &folder.path().join("storage"));
        let registry = Standing::start(test, kind, &folder.path().join("storage"))?;
        Some(Registry { standing: registry, base, _folder: folder })
    }

    async fn base(&self, test: &str, kind: Kind) -> Option<Arc<Base>> {
        let known = || {
            let bases = self.bases.lock().unwrap();
            bases.iter().find(|(one, _)| *one == kind).map(|(_, base)| base.clone())
        };
        if let Some(base) = known() {
            return Some(base);
        }
        let place = self.place();
        let publish = async |standing: &Standing, state: &str| {
            in_state(&place, state);
            let proxy = FaultProxy::start(&standing.address, Vec::new()).await;
            let answer = Victim::default().run(&place, &["publish", "--to", &proxy.address]);
            let _ = answer.well();
            (standing.eye().tags().await, super::kinds(&proxy))
        };
        let folder = tempfile::tempdir().unwrap();
        let standing = Standing::start(test, kind, folder.path())?;
        let (old, _) = publish(&standing, "old").await;
        drop(standing);
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        let standing = Standing::start(test, kind, copied.path())?;
        let (new, requests) = publish(&standing, "new").await;
        assert_eq!((old.len(), new.len()), (TAGS, TAGS));
        assert!(old.keys().eq(new.keys()) && old.iter().all(|(tag, digest)| new[tag] != *digest));
        let base = Arc::new(Base { folder, old, new, requests });
        self.bases.lock().unwrap().push((kind, base.clone()));
        Some(base)
    }
}

/// Has the family stand in a state.
pub(super) fn in_state(place: &Place, state: &str) {
    for image in ["base", "tool"] {
        place.write(&format!("{image}/word"), &format!("{state} {image}\n"));
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = program("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("run cp");
    assert!(copied.success(), "copy {} to {}", from.display(), to.display());
}

/// A registry process; gone with this value.
struct Standing {
    process: Child,
    address: String,
}

impl Standing {
    fn start(test: &str, kind: Kind, storage: &Path) -> Option<Self> {
        std::fs::create_dir_all(storage).unwrap();
        match kind {
            Kind::Ours => Some(Self::ours(storage)),
            Kind::Debian => Self::debian(test, storage),
        }
    }

    fn ours(storage: &Path) -> Self {
        let mut command = program(env!("CARGO_BIN_EXE_polyarch"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--anonymous-writes", "--store"]).arg(storage);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("start the program");
        let mut address = String::new();
        let out = process.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut address).expect("its address");
        Self { process, address: address.trim().to_owned() }
    }

    fn debian(test: &str, storage: &Path) -> Option<Self> {
        let (process, address) = start_debian(test, storage)?;
        for _ in 0..24_000 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { process, address })
    }

    fn eye(&self) -> Eye {
        Eye::new(&self.address, &REPOSITORIES)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A registry where the old state is public.
pub(super) struct Registry {
    standing: Standing,
    base: Arc<Base>,
    _folder: tempfile::TempDir,
}

/// Where its tags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Public {
    Old,
    New,
    /// Some are old and some are new.
    Both,
}

impl Registry {
    pub(super) fn address(&self) -> &str {
        &self.standing.address
    }

    pub(super) fn eye(&self) -> Eye {
        self.standing.eye()
    }

    /// The kinds of requests that it takes to publish the new state, in an order of theirs.
    pub(super) fn requests(&self) -> &[String] {
        &self.base.requests
    }

    /// Publishes through a proxy with these rules; what was said, and whether a fault was met.
    pub(super) async fn publish(&self, place: &Place, victim: &Victim, rules: Vec<Rule>) -> (Answer, bool) {
        let proxy = FaultProxy::start(self.address(), rules).await;
        let answer = victim.run(place, &["publish", "--to", &proxy.address]);
        (answer, proxy.faults() > 0)
    }

    /// Publishes some images, with nobody in the way.
    pub(super) async fn publish_images(&self, place: &Place, images: &[&str]) -> Answer {
        Victim::default().run(place, &[&["publish", "--to", self.address()], images].concat())
    }

    /// What is public: every tag is old or new, there is no other, and all of it is whole.
    pub(super) async fn public(&self, case: &str) -> Public {
        let (eye, Base { old, new, .. }) = (self.eye(), &*self.base);
        let found = eye.tags().await;
        assert!(found.keys().eq(old.keys()), "{case}: {:?}", found.keys());
        for (tag, digest) in &found {
            assert!([&old[tag], &new[tag]].contains(&digest), "{case}: {tag} points at {digest}");
        }
        eye.is_whole(&found).await;
        match found {
            found if found == *old => Public::Old,
            found if found == *new => Public::New,
            _ => Public::Both,
        }
    }

    /// The new state is public and nothing else, and no journal is open.
    pub(super) async fn is_new(&self, case: &str) {
        assert_eq!(self.public(case).await, Public::New, "{case}");
        self.all_ended(case).await;
    }

    /// No journal is open.
    pub(super) async fn all_ended(&self, case: &str) {
        let journals = self.eye().journals().await;
        let open = journals.iter().find(|one| one["state"]["open"].is_object());
        assert!(open.is_none() && !journals.is_empty(), "{case}: {journals:#?}");
    }

    /// The same command once more, with nobody in its way.
    pub(super) async fn again(&self, case: &str, place: &Place) {
        let (answer, _) = self.publish(place, &Victim::default(), Vec::new()).await;
        assert_eq!(answer.code, Some(0), "{case}: {}", answer.stderr);
        self.is_new(case).await;
    }
}
