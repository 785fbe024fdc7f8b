//! What is in the mounts of caches of a job, from machine to machine by the store.
//!
//! No engine gives away what is in them, and steps of a build see it: so a small build before that of the job copies what is kept
//! into a mount that is empty, and one after it copies what is there into an image without programs, which the engine brings to the store as
//! any other. Both run in an image that the job stands on or makes, with its `sh`, `ls`, `cp`, `mv`, `rm`, `du` and `mkdir`. A
//! cache that cannot be taken is a cold one, with a warning, and so is one that cannot be kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::ENGINE_SLACK;
use super::adopt;
use super::floor::patience;
use super::job::{Trouble, Work, create_private, passing_over_absence};
use crate::diag::{Diagnostic, Kind, size};
use crate::dockerfile::{BuildPlatform, CacheMount, Request};
use crate::engine::{BuildOrder, CacheOrder};
use crate::event::EventKind;
use crate::family::{CacheMounts, Use};
use crate::oci::{Digest, Document, Error, Pointer, Tag};
use crate::record::CacheName;

/// How long copying a cache within an engine may take.
const COPYING: Duration = Duration::from_secs(900);
/// Where a cache is mounted whose own place is not known.
const ELSEWHERE: &str = "/polyarch-cache";
/// What the lines of our own steps begin with.
const SAID: &str = "polyarch-cache";

/// Copies what is kept into a mount, `$1`, that is empty. What another job is copying there counts, and what was cut off does not.
const TAKE: &str = r#"set -e; m=polyarch-''cache; c=$1; n=$c/.polyarch-$2; : >/polyarch-done
for f in "$c"/* "$c"/.[!.]*; do case $f in "$c"/.polyarch-*) ;; *) if [ -e "$f" ]; then echo $m: warm; exit; fi ;; esac; done
mkdir "$n"; cp -a /polyarch-kept/. "$n/"
for f in "$n"/* "$n"/.[!.]*; do if [ -e "$f" ] || [ -L "$f" ]; then mv "$f" "$c/" || true; fi; done
rm -rf "$n"; echo $m: taken"#;

/// Copies what is in a mount, `$1`, if that is at most `$2` KiB, pruned before by `$3`.
const KEEP: &str = r#"set -e; m=polyarch-''cache; c=$1; cd "$c"; mkdir /polyarch-kept; rm -rf "$c"/.polyarch-*
if [ -n "$3" ]; then sh -c "$3" || echo $m: not pruned; fi
if [ -z "$(ls -A "$c")" ]; then echo $m: empty; exit; fi
set -- $(du -sk "$c") "$2"; for l; do :; done
if [ "$1" -gt "$l" ]; then echo $m: large "$1"; exit; fi
cp -a "$c/." /polyarch-kept/; echo $m: kept"#;

/// What one of our steps said last.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Done,
    Nothing,
    Warm,
    Large { kibibytes: u64 },
}

/// A cache of a job that goes from machine to machine, and how.
pub(super) type Carried<'a> = (&'a CacheMounts, CacheMount);

/// One cache on its way.
struct Moving<'a> {
    work: &'a Work<'a>,
    settings: &'a CacheMounts,
    mount: &'a CacheMount,
    /// Which build tag it is pushed by, and where its files are.
    build: &'a Tag,
    scratch: PathBuf,
}

impl Work<'_> {
    /// Bring what is kept of these caches of the job into the engine.
    pub(super) async fn take_caches(&self, carried: &[Carried<'_>], build: &Tag) {
        for one in carried.iter().filter(|_| !self.without_cache()) {
            let moving = self.moving(one, build);
            moving.tell(moving.take().await);
        }
    }

    /// Keep what is in these caches of the job, now that `image` was built with them.
    pub(super) async fn keep_caches(&self, carried: &[Carried<'_>], build: &Tag, image: &Digest) {
        for one in carried {
            let moving = self.moving(one, build);
            moving.tell(moving.keep(image).await);
        }
    }

    fn moving<'a>(&'a self, (settings, mount): &'a Carried<'a>, build: &'a Tag) -> Moving<'a> {
        let scratch = self.session.folder.scratch.join(format!("{build}-cache"));
        Moving { work: self, settings, mount, build, scratch }
    }

    /// The mounts of caches of the job that go from machine to machine.
    pub(super) fn carried_caches(&self) -> Vec<Carried<'_>> {
        let Some(settings) = &self.session.family.cache_mounts else { return Vec::new() };
        let platform = BuildPlatform::from(&self.job.platform);
        let request =
            Request { target: self.recipe.target.as_deref(), args: &self.recipe.args, platform: &platform };
        let mounts = self.recipe.file.cache_mounts(&request).unwrap_or_default();
        mounts.into_iter().map(|mount| (settings, mount)).collect()
    }
}

/// What became of a cache: how many bytes moved, or nothing had to.
type Moved = Result<Option<Told>, Diagnostic>;

struct Told {
    kept: bool,
    bytes: u64,
    since: Instant,
}

impl Moving<'_> {
    fn tell(&self, moved: Moved) {
        let (job, cache) = (self.work.job.to_string(), self.mount.written.clone());
        (self.work.session.show)(match moved {
            Ok(None) => return,
            Ok(Some(Told { kept, bytes, since })) => EventKind::CacheMoved {
                job,
                cache,
                kept,
                bytes,
                milliseconds: super::milliseconds_since(since),
            },
            Err(problem) => EventKind::CacheDropped { job, cache, reason: problem.to_string() },
        });
    }

    async fn take(&self) -> Moved {
        let since = Instant::now();
        let records = &self.work.session.records;
        let failed =
            |error: Error| Diagnostic::surroundings("it is cold, since it cannot be read").caused_by(&error);
        let Some(kept) = records.cache(&self.name()).await.map_err(failed)? else { return Ok(None) };
        self.can_move("it is cold")?;
        let bytes = kept.manifest().map_err(failed)?.layer_bytes();
        let bringing = async {
            records.bring(&kept.digest().clone()).await.map_err(failed)?;
            self.build(self.stands_on()?, Some(kept.digest()), TAKE, [self.build.as_str(), ""]).await
        };
        let said = match patience(bytes, self.settings.floor_bytes, self.work.taken_before()) {
            None => bringing.await?,
            Some(limit) => {
                tokio::time::timeout(limit.time, bringing).await.map_err(|_| limit.problem(bytes))??
            }
        };
        self.remove().await?;
        Ok((said == Said::Done).then_some(Told { kept: false, bytes, since }))
    }

    async fn keep(&self, image: &Digest) -> Moved {
        let since = Instant::now();
        self.can_move("it is not kept")?;
        let session = self.work.session;
        let in_image = match self.mount.in_target {
            true => image.clone(),
            false => self.stands_on()?,
        };
        let limit = (self.settings.limit_bytes / 1024).to_string();
        let prune = self.settings.prune.as_deref().unwrap_or_default();
        let said = self.build(in_image, None, KEEP, [&limit, prune]).await?;
        let told = match said {
            Said::Done => {
                let kept = self.kept().await?;
                let manifest = kept.manifest().map_err(|error| not_kept().caused_by(&error))?;
                let keeping = session.records.keep_cache(&self.name(), &kept, session.time()).await;
                let is_kept = keeping.map_err(|error| not_kept().caused_by(&error))?;
                Ok(is_kept.then(|| Told { kept: true, bytes: manifest.layer_bytes(), since }))
            }
            Said::Large { kibibytes } => Err(not_kept().because(format!(
                "it has {}, and `cache-mounts` allows {}; `cache-prune` may remove what is not worth keeping",
                size(kibibytes.saturating_mul(1024)),
                size(self.settings.limit_bytes)
            ))),
            Said::Nothing | Said::Warm => Ok(None),
        };
        self.remove().await?;
        told
    }

    /// The image that the engine has brought to the store, as it is kept.
    async fn kept(&self) -> Result<Document, Diagnostic> {
        let records = &self.work.session.records;
        let read = records.store.read_document(&records.scope, &Pointer::Tag(self.build.clone())).await;
        let pushed = read.map_err(|error| not_kept().caused_by(&error))?;
        let config = pushed.manifest().map_err(|error| not_kept().caused_by(&error))?.config.digest;
        let (store, platform) = (&*records.store, &self.work.job.platform);
        let built = crate::engine::Built { config };
        let pointer = Pointer::Tag(self.build.clone());
        match adopt::adopt(store, &records.scope, &pointer, platform, &built, None).await {
            Ok(adopted) => Ok(adopted.manifest),
            Err(Trouble::Here(problem) | Trouble::There(problem)) => Err(not_kept().because_of(&problem)),
        }
    }

    /// See that an engine and an image are such that caches can be moved.
    fn can_move(&self, otherwise: &str) -> Result<(), Diagnostic> {
        let no = |why: &str| Err(Diagnostic::surroundings(otherwise).because(why));
        if !self.work.builder.facts.carries_caches() {
            return no("caches of Podman and Buildah do not go from machine to machine");
        }
        let build = &self.work.recipe.platforms[&self.work.job.platform];
        match self.work.triggers().next().is_some() || self.mount.in_target && !build.needs.onbuild.is_empty()
        {
            true => no("an `ONBUILD` of the image that it would be copied in would run"),
            false => Ok(()),
        }
    }

    /// The image that the stage of the mount stands on.
    fn stands_on(&self) -> Result<Digest, Diagnostic> {
        let (written, work) = (&self.mount.stands_on, self.work);
        let build = &work.recipe.platforms[&work.job.platform];
        let found = match build.uses.get(written) {
            Some(Use::Family(unit)) => work.parents.get(unit),
            Some(Use::Outside(_)) => work.session.facts.base(build, written, &work.job.platform),
            None => None,
        };
        found.cloned().ok_or_else(|| Diagnostic::new(Kind::Bug, format!("{written} has no image")))
    }

    /// Under which it is kept.
    fn name(&self) -> CacheName {
        self.work.own_caches().in_store(&self.mount.written)
    }

    /// One of our own builds in an image, with the mount and, if any, what is kept.
    async fn build(
        &self,
        image: Digest,
        kept: Option<&Digest>,
        script: &str,
        arguments: [&str; 2],
    ) -> Result<Said, Diagnostic> {
        let work = self.work;
        let failed = |error: std::io::Error| {
            Diagnostic::surroundings(format!("use the folder {}", self.scratch.display())).because(error)
        };
        let context = self.scratch.join("context");
        // A cache before it, or a try, may have left one.
        let _ = std::fs::remove_dir_all(&self.scratch);
        create_private(&self.scratch)?;
        create_private(&context)?;
        let dockerfile = self.dockerfile(&image, kept, script, arguments);
        let images = [Some(image), kept.cloned()].into_iter().flatten().collect();
        let order = work.order((dockerfile, images), CacheOrder::default(), self.build, &self.scratch);
        let log = self.scratch.join("log");
        let order = BuildOrder {
            title: format!("a cache of {}", work.job),
            context,
            ignore: None,
            target: None,
            args: Default::default(),
            labels: Default::default(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            // BuildKit empties the mounts of steps that are done without a cache. The name above has the tag of this try in it.
            no_cache: false,
            log: log.clone(),
            time_limit: COPYING,
            ..order
        };
        let building = work.engine_time.of(work.builder.engine.build(&order, &|_| {}));
        let built = tokio::time::timeout(COPYING + ENGINE_SLACK, building).await;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        append(&work.log().with_extension("caches.log"), &text);
        std::fs::remove_dir_all(&self.scratch).map_err(failed)?;
        match built.map_err(|_| Diagnostic::surroundings("the engine did not answer in time"))? {
            Ok(_) => {
                said(&text).ok_or_else(|| Diagnostic::surroundings("the engine did not say what came of it"))
            }
            Err(failure) => {
                let problem = failure.problem();
                Err(Diagnostic::surroundings("it could not be copied in the engine").because_of(problem))
            }
        }
    }

    fn dockerfile(
        &self,
        image: &Digest,
        kept: Option<&Digest>,
        script: &str,
        arguments: [&str; 2],
    ) -> String {
        let store = &self.work.builder.store;
        // A command may look for the cache at its own place.
        let place = self.mount.target.as_deref().filter(|_| kept.is_none()).unwrap_or(ELSEWHERE);
        let id = self.work.own_caches().id(&self.mount.written);
        let options: String = self.mount.options.iter().map(|option| format!(",{option}")).collect();
        let from = kept.map_or_else(String::new, |kept| {
            format!("--mount=type=bind,from={},target=/polyarch-kept ", store.at(kept))
        });
        let result = if kept.is_some() { "/polyarch-done" } else { "/polyarch-kept" };
        // BuildKit may take two steps for one that differ in their mounts alone, even where nothing is cached.
        let name = format!("{id} {}", self.build);
        let command = serde_json::json!(["/bin/sh", "-c", script, name, place, arguments[0], arguments[1]]);
        format!(
            "FROM {} AS copied\nUSER 0:0\nRUN {from}--mount=type=cache,id={id},target={place}{options} {command}\n\
             FROM scratch\nCOPY --from=copied {result} /\n",
            store.at(image)
        )
    }

    /// Take the build tag away again.
    async fn remove(&self) -> Result<(), Diagnostic> {
        let records = &self.work.session.records;
        let removed = records.store.remove_tag(&records.scope, self.build).await;
        removed
            .or_else(passing_over_absence)
            .map_err(|error| Diagnostic::surroundings("take the tag of a build away").caused_by(&error))
    }
}

fn not_kept() -> Diagnostic {
    Diagnostic::surroundings("it is not kept")
}

/// What a step of ours has said in the output of its build.
fn said(log: &str) -> Option<Said> {
    let lines =
        log.lines().rev().filter_map(|line| Some(line.split_once(SAID)?.1.strip_prefix(": ")?.trim()));
    let found = lines.filter_map(|text| match text.split_once(' ').unwrap_or((text, "")) {
        ("kept" | "taken", "") => Some(Said::Done),
        ("empty", "") => Some(Said::Nothing),
        ("warm", "") => Some(Said::Warm),
        ("large", kibibytes) => Some(Said::Large { kibibytes: kibibytes.parse().ok()? }),
        _ => None,
    });
    { found }.next()
}

/// For people; a disk that is full must not end a build.
fn append(file: &Path, text: &str) {
    use std::io::Write as _;
    let opened = std::fs::File::options().create(true).append(true).open(file);
    let _ = opened.and_then(|mut file| file.write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_said_is_found_among_what_others_say() {
        let log = "#5 RUN [\"/bin/sh\",\"-c\",\"m=polyarch-''cache; echo $m: kept\"]\n#5 0.2 polyarch-cache: not pruned\n";
        assert_eq!(said(log), None);
        assert_eq!(said(&format!("{log}#5 0.3 polyarch-cache: kept\n#5 DONE 1s\n")), Some(Said::Done));
        assert_eq!(said("#5 0.3 polyarch-cache: large 2048\n"), Some(Said::Large { kibibytes: 2048 }));
        assert_eq!(said("polyarch-cache: large\npolyarch-cache: empty\n"), Some(Said::Nothing));
    }
}
