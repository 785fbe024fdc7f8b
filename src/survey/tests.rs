//! Contexts in temporary folders: what counts of them, and what changes a key.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::*;
use crate::config::FamilyFile;
use crate::family::{Found, Sources};
use crate::oci::{Descriptor, Document, ErrorKind, Manifest, MediaType, Memory, Store, fixture};
use crate::plan::{Base, Plan};

/// A folder with one image `a` that copies these things.
struct Site {
    folder: TempDir,
    family: Family,
}

impl Site {
    fn new(dockerfile: &str) -> Self {
        Self::configured("", dockerfile)
    }

    fn configured(config: &str, dockerfile: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder, family: family(config, dockerfile) };
        site.write("Dockerfile", dockerfile);
        site
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join("a").join(path)
    }

    fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        mode(&path, 0o644);
        mode(path.parent().unwrap(), 0o755);
    }

    fn context(&self) -> Result<context::Context> {
        let recipe = self.family.recipes().next().unwrap();
        context::read(self.folder.path(), recipe, &Facts::default().triggered(recipe), &Memo::none())
    }

    /// The files that count, contents shortened, and the warnings; or what is wrong.
    fn picture(&self) -> String {
        let mut out = String::new();
        match self.context() {
            Ok(context) => {
                for (job, files) in context.files {
                    for (path, state) in files {
                        let (kind, rest) = state.split_once(' ').unwrap_or((&state, ""));
                        let rest = rest.split_once("sha256:").map_or(rest, |(_, hex)| &hex[..6]);
                        writeln!(out, "{} {path}: {kind} {rest}", job.platform).unwrap();
                    }
                }
                context.warnings.iter().for_each(|warning| writeln!(out, "{warning}").unwrap());
            }
            Err(problems) => problems.iter().for_each(|problem| writeln!(out, "{problem}").unwrap()),
        }
        out
    }

    fn check(&self, expected: &Expect) {
        expected.assert_eq(&self.picture());
    }

    /// The facts, where `x.example` is the only registry.
    async fn facts(&self, elsewhere: Arc<Memory>) -> Facts {
        self.survey(elsewhere).await.0
    }

    async fn survey(&self, elsewhere: Arc<Memory>) -> (Facts, Vec<Diagnostic>) {
        let registries: Arc<Registries> = Arc::new(move |host: &str| match host {
            "x.example" => Ok(elsewhere.clone() as Arc<dyn Store>),
            host => Err(Error::new(ErrorKind::Invalid, format!("no registry at {host}"))),
        });
        let records = Records::new(Arc::new(Memory::new()), "scopes/trusted".parse().unwrap());
        survey(
            &self.family,
            self.folder.path(),
            (&*registries, &Unreachable),
            &records,
            &Memo::none(),
            &Settled::default(),
        )
        .await
        .unwrap()
    }

    /// The image key of the one job.
    async fn key(&self) -> String {
        let facts = self.facts(Arc::new(Memory::new())).await;
        let plan = Plan::new(&self.family, &facts, &crate::plan::Request::default());
        plan.jobs[&plan.order[0]].key.to_string()
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn family(config: &str, dockerfile: &str) -> Family {
    family_of(Some(config), &[("a", dockerfile)])
}

fn family_of(config: Option<&str>, dockerfiles: &[(&str, &str)]) -> Family {
    let found = dockerfiles
        .iter()
        .map(|(folder, text)| Found { path: Path::new(folder).join("Dockerfile"), text: (*text).to_owned() });
    let sources = Sources {
        name: "family".to_owned(),
        file: config.map(|config| FamilyFile::parse("polyarch.toml".as_ref(), config).unwrap()),
        dockerfiles: found.collect(),
        args: BTreeMap::new(),
        root_image: None,
        release: None,
        machine: "linux/amd64".parse().unwrap(),
    };
    Family::resolve(&sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn only_what_a_copy_reaches_counts_on_each_platform() {
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::configured(config, "FROM scratch\nARG TARGETARCH\nCOPY app bin-${TARGETARCH} /\n");
    site.write("app/one", "1");
    site.write("app/deep/two", "2");
    site.write("bin-amd64", "x");
    site.write("bin-arm64", "y");
    site.write("README.md", "no");
    mode(&site.at("app/one"), 0o755);
    site.check(&expect![[r#"
        linux/amd64 app: folder 0755
        linux/amd64 app/deep: folder 0755
        linux/amd64 app/deep/two: 0644 d4735e
        linux/amd64 app/one: 0755 6b86b2
        linux/amd64 bin-amd64: 0644 2d7116
        linux/arm64 app: folder 0755
        linux/arm64 app/deep: folder 0755
        linux/arm64 app/deep/two: 0644 d4735e
        linux/arm64 app/one: 0755 6b86b2
        linux/arm64 bin-arm64: 0644 a1fce4
    "#]]);
}

#[test]
fn f_d10_what_dockerignore_leaves_out_does_not_count() {
    let site = Site::new("FROM scratch\nCOPY . /\n");
    site.write("kept", "");
    site.write("node_modules/a/b", "");
    site.write("logs/one.log", "");
    site.write("logs/keep.log", "");
    site.write(".dockerignore", "node_modules\n**/*.log\n!logs/keep.log\n");
    site.check(&expect![[r#"
        linux/amd64 .dockerignore: 0644 9bf9eb
        linux/amd64 Dockerfile: 0644 083716
        linux/amd64 kept: 0644 e3b0c4
        linux/amd64 logs: folder 0755
        linux/amd64 logs/keep.log: 0644 e3b0c4
    "#]]);
    // The one beside the Dockerfile goes before the one of the context, and only the one that counts is read.
    site.write("Dockerfile.dockerignore", "logs\nnode_modules\n");
    site.check(&expect![[r#"
        linux/amd64 .dockerignore: 0644 9bf9eb
        linux/amd64 Dockerfile: 0644 083716
        linux/amd64 Dockerfile.dockerignore: 0644 ad4c75
        linux/amd64 kept: 0644 e3b0c4
    "#]]);
}

#[test]
fn an_ignored_folder_is_not_even_looked_into() {
    let site = Site::new("FROM scratch\nCOPY . /\n");
    site.write("private/x", "");
    site.write("open", "");
    let walked = |text: &str| {
        let ignore = crate::dockerfile::Ignore::parse(".dockerignore".as_ref(), text).unwrap();
        let entries = context::entries(&site.at(""), Path::new("a"), &ignore).unwrap();
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    assert_eq!(walked("private\n"), ["Dockerfile", "open"]);
    assert_eq!(walked("private\n!private/x\n"), ["Dockerfile", "open", "private", "private/x"]);
}

#[test]
fn f_d13_links_count_as_links_wherever_they_lead() {
    let site = Site::new("FROM scratch\nCOPY links /\n");
    site.write("links/file", "");
    symlink("/etc/passwd", site.at("links/outside")).unwrap();
    symlink("../../..", site.at("links/up")).unwrap();
    symlink("loop", site.at("links/loop")).unwrap();
    symlink(".", site.at("links/self")).unwrap();
    symlink("nowhere", site.at("links/broken")).unwrap();
    site.check(&expect![[r#"
        linux/amd64 links: folder 0755
        linux/amd64 links/broken: link nowhere
        linux/amd64 links/file: 0644 e3b0c4
        linux/amd64 links/loop: link loop
        linux/amd64 links/outside: link /etc/passwd
        linux/amd64 links/self: link .
        linux/amd64 links/up: link ../../..
    "#]]);
}

/// The paths that count, where links lead to and fro in a context.
fn counted(instruction: &str) -> String {
    let site = Site::new(&format!("FROM scratch\n{instruction}\n"));
    for file in ["file", "file2", "hidden", "d/f", "d/sub/g", "e/f", "p/file2", "p/q/r", "etc/motd"] {
        site.write(file, file);
    }
    site.write(".dockerignore", "hidden\n");
    for (link, target) in [
        ("link", "file"),
        ("link2", "link"),
        ("dlink", "d"),
        ("d/inner", "../file"),
        ("e/todir", "../d"),
        ("deep", "e/todir/sub"),
        ("absolute", "/etc/motd"),
        ("above", "../../../file"),
        ("outside", "/etc/passwd"),
        ("tohidden", "hidden"),
        ("broken", "nowhere"),
        ("loop", "loop"),
        ("longer", "longer/x"),
        ("pq", "p/q"),
        ("cleaned", "pq/../file2"),
        ("all", "."),
    ] {
        symlink(target, site.at(link)).unwrap();
    }
    let files = site.context().unwrap().files.into_values().next().unwrap();
    files.into_keys().collect::<Vec<_>>().join(" ")
}

#[test]
fn f_d13_a_link_that_a_source_names_or_passes_through_counts_with_what_it_leads_to() {
    for (instruction, expected) in [
        ("COPY link /l", "file link"),
        ("ADD link2 /l", "file link link2"),
        ("COPY dlink /l", "d d/f d/inner d/sub d/sub/g dlink"),
        ("COPY dlink/f /l", "d/f dlink"),
        ("COPY dlink/inner /l", "d/inner dlink file"),
        ("COPY d /l", "d d/f d/inner d/sub d/sub/g"),
        ("COPY d/inn* /l", "d/inner file"),
        ("COPY lin* /l/", "file link link2"),
        ("COPY dlink/s*/g /l", "d/sub/g dlink"),
        ("COPY deep /l", "d/sub d/sub/g deep e/todir"),
        ("COPY e/todir/../f /l", "e/f"),
        ("COPY absolute /l", "absolute etc/motd"),
        ("COPY above /l", "above file"),
        ("COPY cleaned /l", "cleaned file2"),
        ("COPY outside /l", "outside"),
        ("COPY tohidden /l", "tohidden"),
        ("COPY broken /l", "broken"),
        ("COPY loop /l", "loop"),
        ("COPY longer /l", "longer"),
        ("RUN --mount=type=bind,source=link,target=/m true", "file link"),
        ("RUN --mount=type=bind,source=dlink/sub,target=/m true", "d/sub d/sub/g dlink"),
        ("RUN --mount=type=bind,source=lin*,target=/m true", ""),
    ] {
        assert_eq!(counted(instruction), expected, "{instruction}");
    }
    assert_eq!(counted("COPY all /l"), counted("COPY . /l"));
}

#[test]
fn a_maze_of_links_makes_everything_count() {
    let site = Site::new("FROM scratch\nCOPY */*/*/*/*/*/*/*/x /\n");
    site.write("file", "");
    for name in 'a'..='p' {
        std::fs::create_dir(site.at(name.to_string())).unwrap();
        for other in 'a'..='p' {
            symlink(format!("../{other}"), site.at(format!("{name}/{other}"))).unwrap();
        }
    }
    assert!(site.picture().contains("linux/amd64 file:"), "{}", site.picture());
}

#[test]
fn a_fifo_is_passed_over_with_one_warning_and_holds_nothing_up() {
    let config = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let site = Site::configured(config, "FROM scratch\nCOPY files /\n");
    site.write("files/one", "");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, site.at("files/fifo"), fifo, 0o644.into(), 0).unwrap();
    site.check(&expect![[r#"
        linux/amd64 files: folder 0755
        linux/amd64 files/one: 0644 e3b0c4
        linux/arm64 files: folder 0755
        linux/arm64 files/one: 0644 e3b0c4
        a/files/fifo: passed over: neither file, folder nor link
    "#]]);
}

#[test]
fn f_d13_names_that_are_no_text_count_and_no_two_look_alike() {
    let site = Site::new("FROM scratch\nCOPY files /\n");
    site.write("files/\\xff", "text");
    site.write(Path::new("files").join(OsStr::from_bytes(b"\xff")), "bytes");
    site.write("files/line\nbreak", "");
    site.write(format!("files/{}", "n".repeat(255)), "");
    let files = site.context().unwrap().files.into_values().next().unwrap();
    assert_eq!(files.len(), 5, "the folder and four files: {files:#?}");
    assert_ne!(files["files/\\xff"], files["./files/\\xff"]);
}

#[test]
fn f_d12_a_file_that_changes_while_it_is_read_is_told() {
    const BYTES: usize = 32 << 20;
    let site = Site::new("FROM scratch\nCOPY big /\n");
    site.write("big", vec![0; BYTES]);
    let over = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (over, begun, path) = (over.clone(), begun.clone(), site.at("big"));
        move || {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            while !over.load(Ordering::SeqCst) {
                file.write_all(b"x").unwrap();
                begun.store(true, Ordering::SeqCst);
            }
        }
    });
    while !begun.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    // On a busy machine the writer may sleep through a reading, which then rightly tells nothing.
    let told = (0..50).map(|_| site.picture()).find(|told| told.contains("changed")).unwrap_or_default();
    over.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    expect![[r#"
        a/big: the build context changed while it was read
    "#]]
    .assert_eq(&told);
    assert!(site.context().is_ok(), "it stands still again");
}

#[test]
fn a_context_that_nothing_reads_is_not_walked() {
    let site = Site::new("FROM scratch\nRUN true\n");
    std::fs::remove_dir_all(site.at("")).unwrap();
    assert_eq!(site.picture(), "");
}

#[tokio::test]
async fn f_d11_i_b3_every_input_of_the_context_changes_the_key_and_nothing_else_does() {
    type Change = fn(&Site);
    let table: [(&str, bool, Change); 17] = [
        ("nothing", false, |_| ()),
        ("the time of a file", false, |site| {
            let file = std::fs::File::options().append(true).open(site.at("app/one")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("a file that no COPY reaches", false, |site| site.write("README.md", "other")),
        ("a file that is ignored", false, |site| site.write("app/ignored", "other")),
        ("content", true, |site| site.write("app/one", "2")),
        ("mode", true, |site| mode(&site.at("app/one"), 0o755)),
        ("the mode of a folder", true, |site| mode(&site.at("app"), 0o700)),
        ("a new file", true, |site| site.write("app/new", "")),
        ("a new empty folder", true, |site| std::fs::create_dir(site.at("app/new")).unwrap()),
        ("a file that is gone", true, |site| std::fs::remove_file(site.at("app/one")).unwrap()),
        ("the target of a link", true, |site| {
            std::fs::remove_file(site.at("app/link")).unwrap();
            symlink("two", site.at("app/link")).unwrap();
        }),
        ("a link that is a file now", true, |site| {
            std::fs::remove_file(site.at("app/link")).unwrap();
            site.write("app/link", "one");
        }),
        ("a file of a submodule, which has moved to another commit", true, |site| {
            site.write("app/module/file", "2");
        }),
        ("a submodule that is not checked out", true, |site| {
            std::fs::remove_dir_all(site.at("app/module")).unwrap();
            std::fs::create_dir(site.at("app/module")).unwrap();
        }),
        ("where Git keeps that submodule", false, |site| {
            site.write("../.git/modules/app/module/HEAD", "1111111111111111111111111111111111111111");
        }),
        ("content behind a link that COPY names", true, |site| site.write("behind", "other")),
        ("another target of that link", true, |site| {
            site.write("behind2", "behind");
            std::fs::remove_file(site.at("named")).unwrap();
            symlink("behind2", site.at("named")).unwrap();
        }),
    ];
    let mut elsewhere = None;
    for (what, changes, change) in table {
        let site = Site::new("FROM scratch\nCOPY app named /\n");
        site.write("app/one", "1");
        site.write("behind", "behind");
        symlink("behind", site.at("named")).unwrap();
        site.write("app/ignored", "");
        site.write("app/module/.git", "gitdir: ../../../.git/modules/app/module\n");
        site.write("app/module/file", "1");
        symlink("one", site.at("app/link")).unwrap();
        site.write("README.md", "");
        site.write(".dockerignore", "app/ignored\n");
        let before = site.key().await;
        assert_eq!(
            elsewhere.get_or_insert_with(|| before.clone()),
            &before,
            "it is the same in every folder"
        );
        change(&site);
        assert_eq!(before != site.key().await, changes, "{what}");
    }
}

/// Write an image `base:TAG` into a store: one manifest, or an index of several, by architecture and configuration.
async fn base(store: &Memory, tag: &str, images: &[(&str, serde_json::Value)]) {
    let repository = "base".parse().unwrap();
    let mut entries = Vec::new();
    for (architecture, execution) in images {
        let config = serde_json::json!({"os": "linux", "architecture": architecture, "config": execution});
        let config = fixture::blob(store, &repository, MediaType::CONFIG, config.to_string()).await;
        let manifest = Document::of_manifest(&Manifest::new(config, Vec::new()));
        let tags = if images.len() == 1 { &[tag][..] } else { &[] };
        let manifest = fixture::keep(store, &repository, manifest, tags).await;
        let platform = Some(format!("linux/{architecture}").parse().unwrap());
        entries.push(Descriptor { platform, ..manifest.descriptor() });
    }
    if images.len() > 1 {
        fixture::index(store, &repository, entries, &[tag]).await;
    }
}

#[tokio::test]
async fn what_triggers_of_a_base_from_outside_can_read_counts() {
    use serde_json::{Value, json};
    let elsewhere = Arc::new(Memory::new());
    let leaves = json!({"OnBuild": ["COPY . /all"]});
    base(&elsewhere, "both", &[("amd64", leaves.clone()), ("arm64", json!({"OnBuild": null}))]).await;
    base(&elsewhere, "one", &[("amd64", leaves)]).await;
    base(&elsewhere, "none", &[("amd64", Value::Null)]).await;
    for (platforms, dockerfile, expected) in [
        ("amd64 arm64", "FROM x.example/base:both\nCOPY one /\n", "amd64 one two; arm64 one; "),
        ("amd64 arm64", "FROM x.example/base:both\n", "amd64 one two; arm64 ; "),
        ("amd64", "FROM x.example/base:one\nCOPY one /\n", "amd64 one two; "),
        ("amd64", "FROM x.example/base:one AS a\nFROM scratch\nCOPY --from=a /x /\n", "amd64 one two; "),
        ("amd64", "FROM scratch\nCOPY --from=x.example/base:one /x /\nCOPY one /\n", "amd64 one; "),
        ("amd64", "FROM x.example/base:none\nCOPY one /\n", "amd64 one; "),
        ("arm64", "FROM --platform=linux/amd64 x.example/base:both\nCOPY one /\n", "arm64 one two; "),
    ] {
        let names: Vec<String> = platforms.split(' ').map(|name| format!("\"linux/{name}\"")).collect();
        let site = Site::configured(&format!("platforms = [{}]\n", names.join(", ")), dockerfile);
        site.write("one", "");
        site.write("two", "");
        let facts = site.facts(elsewhere.clone()).await;
        let mut seen = String::new();
        for (job, files) in &facts.files {
            let files: Vec<&str> =
                files.keys().map(String::as_str).filter(|file| *file != "Dockerfile").collect();
            write!(seen, "{} {}; ", job.platform.architecture(), files.join(" ")).unwrap();
            let recipe = site.family.recipe(&job.unit).unwrap();
            let again = super::files(site.folder.path(), recipe, job, &facts.triggered(recipe)).unwrap();
            assert_eq!(again, facts.files[job], "the same is seen when the build is over");
        }
        assert_eq!(seen, expected, "{dockerfile}");
        assert!(facts.bases.values().all(|base| matches!(base, crate::plan::Base::Found(_))));
    }
}

#[tokio::test]
async fn law_2_an_add_in_a_trigger_that_can_fetch_something_else_tomorrow_is_pointed_at() {
    let commit = "a".repeat(40);
    for (trigger, lacks) in [
        ("ADD https://x.example/one /", Some("https://x.example/one` of FROM has no checksum")),
        (
            "ADD https://u:secret@x.example/r.git#main /",
            Some("https://x.example/r.git#main` of FROM has no commit"),
        ),
        ("add git@x.example:r.git /", Some("git@x.example:r.git` of FROM has no commit")),
        ("ADD https://x.example/r.git#$V /", Some("https://x.example/r.git#$V` of FROM has no commit")),
        ("ADD [\"ssh://git@x.example/r\", \"/\"]", Some("ssh://git@x.example/r` of FROM has no commit")),
        (&format!("ADD https://x.example/r.git#{commit} /"), None),
        (&format!("ADD https://x.example/r.git?ref=main&commit={commit} /"), None),
        (&format!("ADD https://$H/r.git#{commit}:folder /"), None),
        (&format!("ADD --checksum={commit} https://x.example/r.git#main /"), None),
        ("ADD --checksum=sha256:$SUM https://x.example/one /", None),
        ("ADD file /", None),
        ("RUN echo https://x.example/one", None),
        ("COPY https://x.example/one /", None),
    ] {
        let elsewhere = Arc::new(Memory::new());
        let leaves = serde_json::json!({ "OnBuild": [trigger] });
        base(&elsewhere, "1", &[("amd64", leaves)]).await;
        let told = async |dockerfile: &str| {
            let (_, warnings) = Site::new(dockerfile).survey(elsewhere.clone()).await;
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let expected = |place: &str, from: &str| {
            let told = lacks
                .map(|lacks| format!("a/Dockerfile:{place}: `ONBUILD ADD {}", lacks.replace("FROM", from)));
            told.into_iter().collect::<Vec<_>>()
        };
        let from = "x.example/base:1";
        for (dockerfile, place) in [
            (format!("FROM {from}\n"), "1:6"),
            (format!("FROM scratch AS a\nFROM {from} AS b\nFROM a\nCOPY --from=b /x /\n"), "2:6"),
        ] {
            let told = told(&dockerfile).await;
            let first: Vec<_> = told.iter().filter_map(|told| told.split(": what stands").next()).collect();
            assert_eq!(first, expected(place, from), "{trigger}");
        }
        assert_eq!(told(&format!("FROM scratch\nCOPY --from={from} /x /\n")).await, [""; 0], "{trigger}");
        // The same of a parent in the family, at its child alone.
        let mut site = Site::new(&format!("FROM scratch\nONBUILD {trigger}\n"));
        site.write("../b/Dockerfile", "\nFROM a\n");
        site.family =
            family_of(None, &[("a", &format!("FROM scratch\nONBUILD {trigger}\n")), ("b", "\nFROM a\n")]);
        let (_, warnings) = site.survey(elsewhere).await;
        let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let first: Vec<_> = told.iter().filter_map(|told| told.split(": what stands").next()).collect();
        let expected: Vec<_> = expected("2:6", "a").iter().map(|told| told.replacen("a/", "b/", 1)).collect();
        assert_eq!(first, expected, "{trigger}");
    }
}

#[tokio::test]
async fn f_d10_the_files_of_a_test_on_this_machine_are_in_its_key() {
    let config = "[image.a]\ntests = [{ host = \"sh a/t/check.sh\", files = [\"a/more\"] }, { run = \"cat a/inside\" }]\n";
    let site = Site::configured(config, "FROM scratch\n");
    let unit = site.family.recipes().next().unwrap().unit.clone();
    for file in ["t/check.sh", "t/beside", "inside", "more/one", "more/__pycache__/x.pyc", "link-to"] {
        site.write(file, "1");
    }
    std::os::unix::fs::symlink("../link-to", site.at("more/link")).unwrap();
    let files = async || site.facts(Arc::new(Memory::new())).await.files_of_checks(&unit).clone();
    let before = files().await;
    let paths: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(paths, ["a/more", "a/more/link", "a/more/one", "a/t/check.sh"]);
    for (file, counts) in [
        ("more/__pycache__/x.pyc", false),
        ("t/beside", false),
        ("inside", false),
        ("t/check.sh", true),
        ("more/one", true),
    ] {
        let before = files().await;
        site.write(file, "2");
        assert_eq!(files().await != before, counts, "{file}");
    }
}

#[tokio::test]
async fn f_c15_a_file_of_a_test_that_is_not_there_is_told_with_its_place() {
    let config = "[image.a]\ntests = [{ host = \"sh gone.sh\", files = [\"a/Dockerfile\", \"a/gone\"] }]\n";
    let site = Site::configured(config, "FROM scratch\n");
    let problems = super::host::read(site.folder.path(), &site.family, &Memo::none()).unwrap_err();
    assert_eq!(problems.to_string(), "polyarch.toml:2:58: a/gone of a test is not there");
    assert_eq!(problems.exit_code(), 2);
}

#[tokio::test]
async fn a_mirror_and_who_stands_on_it_see_one_and_the_same_image() {
    let elsewhere = Memory::new();
    let repository = "o/search".parse().unwrap();
    let config = "{\"architecture\":\"amd64\",\"os\":\"linux\"}";
    let image = fixture::image(&elsewhere, &repository, config, "layer", &["7"]).await;
    let config = "platforms = [\"linux/amd64\"]\n[image.search]\nmirror = \"x.example/o/search:7\"\n\
        [image.gone]\nmirror = \"x.example/o/gone:7\"\n";
    let site = Site::configured(config, "FROM search\n");
    let facts = site.facts(Arc::new(elsewhere)).await;
    let source = "x.example/o/search:7".parse().unwrap();
    assert_eq!(facts.mirrored.get(&source), Some(image.digest()));
    assert_eq!(facts.mirrored.len(), 1);
    let Some(Base::Found(platforms)) = facts.bases.get(&source) else { panic!("{:?}", facts.bases) };
    assert_eq!(platforms.values().collect::<Vec<_>>(), [image.digest()]);
    let gone = "x.example/o/gone:7".parse().unwrap();
    assert!(matches!(facts.bases.get(&gone), Some(Base::Unknown(_))), "{:?}", facts.bases);
}
