//! Where scenarios happen: a family whose pull request was built by an engine once, and a copy of it for each of them.

use std::path::PathBuf;

use polyarch::oci::{Digest, Document, Layout, Pointer, Repository, Store, Tag};
use serde_json::Value;

use crate::program::{Answer, Place, skip, variable};

/// The family that the maintainers have.
pub(crate) const CONFIGURATION: &str = "name = \"two\"\nplatforms = [\"linux/386\", \"linux/amd64\"]\n\
    [tags]\ncommon = [\"latest\"]\n[image.child]\ntests = [{ run = \"test -s /words\" }]\n";
/// The same with what an attacker would rather have in it.
pub(crate) const EVIL: &str = "FROM parent\nCOPY words /words\nRUN echo evil > /evil\n";
const HONEST: &str = "FROM parent\nCOPY words /words\n";
const FOUNDATION: &str = "FROM scratch\nARG TARGETARCH\nCOPY rootfs/${TARGETARCH}/ /\nENV PATH=/bin\n\
    RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
/// Where an engine would be if scenarios had one; those that need one say so.
const NOWHERE: &str = "unix:///nowhere";

/// The variable that names the defence that is off.
pub(crate) const OFF: &str = "POLYARCH_TEST_DEFENCES_OFF";

/// The family in a place, its scopes `pr-1` (honest, not signed) and `pr-6` (the attacker's own), and two pairs of keys.
pub(crate) struct Ground {
    place: Place,
    engine: String,
}

/// A copy of it for one scenario, with a defence off, or none.
pub(crate) struct Site {
    pub(crate) place: Place,
    /// The defence that is off.
    pub(crate) off: String,
    engine: String,
    runtime: tokio::runtime::Runtime,
}

/// A record in a scope.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) tag: Tag,
    pub(crate) document: Document,
    pub(crate) said: Value,
}

impl Ground {
    /// Builds it, or says why not.
    pub(crate) fn prepare(test: &str) -> Option<Self> {
        let Some(engine) = variable("POLYARCH_TEST_CLASSIC") else {
            skip(test, "POLYARCH_TEST_CLASSIC names no engine");
            return None;
        };
        let Some(busybox) = variable("POLYARCH_TEST_BUSYBOX").map(PathBuf::from) else {
            skip(test, "POLYARCH_TEST_BUSYBOX names no programs");
            return None;
        };
        let mut place = Place::with(&[
            ("polyarch.toml", CONFIGURATION),
            ("parent/Dockerfile", FOUNDATION),
            ("child/Dockerfile", EVIL),
            ("child/words", "hello\n"),
        ]);
        for architecture in ["386", "amd64"] {
            let bin = place.family().join("parent/rootfs").join(architecture).join("bin");
            std::fs::create_dir_all(&bin).expect("a folder");
            let from = busybox.join(format!("busybox-linux-{architecture}"));
            std::fs::copy(from, bin.join("busybox")).expect("busybox");
            std::os::unix::fs::symlink("busybox", bin.join("sh")).expect("a shell");
        }
        place.set("DOCKER_HOST", &engine);
        let _ = place.run(&["build", "--scope", "pr-6"]).well();
        place.write("child/Dockerfile", HONEST);
        let _ = place.run(&["build", "--scope", "pr-1"]).well();
        for name in ["own", "other"] {
            let file = |end: &str| place.folder().join(format!("{name}.{end}")).display().to_string();
            let make = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
            place.ask("openssl", &[&make[..], &[&file("key")]].concat());
            place.ask("openssl", &["pkey", "-in", &file("key"), "-pubout", "-out", &file("pub")]);
        }
        Some(Self { place, engine: engine.to_string_lossy().into_owned() })
    }

    /// A copy with this defence off; none where it has no name.
    pub(crate) fn site(&self, off: &str) -> Site {
        let mut place = Place::new();
        place.set("DOCKER_HOST", NOWHERE);
        place.set(OFF, off);
        for name in ["family", "store", "own.key", "own.pub", "other.key", "other.pub"] {
            let from = self.place.folder().join(name).display().to_string();
            let to = place.folder().display().to_string();
            place.ask("cp", &["-a", &from, &to]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Site { place, off: off.to_owned(), engine: self.engine.clone(), runtime }
    }
}

impl Site {
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        self.place.run(arguments)
    }

    /// A copy of this with a variable set, where an engine is.
    pub(crate) fn set(&self, name: &str, value: &str) -> Place {
        let mut place = Place::new();
        place = place.like(&self.place);
        for part in ["family", "store"] {
            let to = place.folder().display().to_string();
            place.ask("cp", &["-a", &self.place.folder().join(part).display().to_string(), &to]);
        }
        place.set("DOCKER_HOST", &self.engine);
        place.set(name, value);
        place
    }

    /// What the maintainers' job after the merge does; whether it published the child.
    pub(crate) fn promoted(&self, scope: &str, key: &str) -> bool {
        let _ = self.run(&["promote", "--from", scope, "--trust-key", key]);
        self.is_published()
    }

    pub(crate) fn is_published(&self) -> bool {
        let store = self.place.store().display().to_string();
        self.run(&["--store", &store, "inspect", "two/child:latest"]).code == Some(0)
    }

    /// What the last job of a trusted run does.
    pub(crate) fn sign(&self, scope: &str, key: &str) {
        let _ = self.run(&["sign", "--scope", scope, "--sign-key", key]).well();
    }

    /// Signs the attacker's own pull request, as whoever approved it would.
    pub(crate) fn sign_evil(&self) {
        self.place.write("child/Dockerfile", EVIL);
        self.sign("pr-6", "../own.key");
        self.place.write("child/Dockerfile", HONEST);
    }

    /// Changes the store past everybody, as who has its disk could.
    pub(crate) fn raw<T>(&self, work: impl AsyncFnOnce(&Layout) -> T) -> T {
        let store = Layout::open(self.place.store()).expect("the store");
        self.runtime.block_on(work(&store))
    }

    /// The records of a scope.
    pub(crate) fn records(&self, scope: &str) -> Vec<Record> {
        let repository = repository(scope);
        self.raw(async |store| {
            let mut found = Vec::new();
            for tag in store.tags(&repository, None, 1000).await.expect("tags") {
                if !tag.as_str().starts_with("image-") && !tag.as_str().starts_with("checks-") {
                    continue;
                }
                let pointer = Pointer::Tag(tag.clone());
                let document = store.read_document(&repository, &pointer).await.expect("a record");
                let index = document.index().expect("an index");
                let said = serde_json::from_str(&index.annotations["dev.polyarch.record"]).expect("JSON");
                found.push(Record { tag, document, said });
            }
            found
        })
    }

    /// The record of a kind of a job in a scope.
    pub(crate) fn record(&self, scope: &str, kind: &str, job: &str) -> Record {
        let of = |record: &Record| record.tag.as_str().starts_with(kind) && record.said["job"] == job;
        self.records(scope).into_iter().find(of).expect("a record")
    }

    /// What the tags of a scope point at, in a copy of this.
    pub(crate) fn pointed(&self, place: &Place, scope: &str) -> Vec<(Tag, Digest)> {
        let (store, repository) = (Layout::open(place.store()).expect("the store"), repository(scope));
        self.runtime.block_on(async {
            let mut found = Vec::new();
            for tag in store.tags(&repository, None, 1000).await.expect("tags") {
                let document =
                    store.read_document(&repository, &tag.clone().into()).await.expect("a document");
                found.push((tag, document.digest().clone()));
            }
            found
        })
    }

    /// Puts a document into a scope under a tag.
    pub(crate) fn put(&self, scope: &str, document: &Document, tag: &Tag) {
        let repository = repository(scope);
        self.raw(async |store| {
            let tags = [tag.clone()];
            store.write_document(&repository, document, &tags).await.expect("written past everybody");
        });
    }
}

/// The repository of a scope.
pub(crate) fn repository(scope: &str) -> Repository {
    format!("scopes/{scope}").parse().expect("a scope")
}

/// The record with another text: what an attacker would have it say.
pub(crate) fn forged(record: &Record, change: impl FnOnce(&mut Value)) -> Document {
    let mut index = record.document.index().expect("an index");
    let mut said = record.said.clone();
    change(&mut said);
    index.annotations.insert("dev.polyarch.record".to_owned(), said.to_string());
    Document::of_index(&index)
}
