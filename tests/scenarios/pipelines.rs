//! Attacks on pipelines: by names that stand in them, by what they fetch from others, by what they print, and by a change of
//! the pipeline itself.

use polyarch::oci::Digest;

use crate::Scenario;
use crate::ground::{CONFIGURATION, Site};

/// What an attacker would have a runner do.
const EVIL: &str = "touch /tmp/evil";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |name, defence, attack: fn(&Site) -> bool| Scenario { name, defence, attack };
    vec![
        of("TM3 an expression of the service as the label of a runner", "PipelineWords", |site| {
            let label = "ubuntu-${{ github.event.pull_request.title }}";
            let line = format!("[ci.github]\nrunners = {{ \"linux/amd64\" = \"{label}\" }}\n");
            stands_in_pipeline(site, "github", &line, label)
        }),
        of("TM3 an expression as the name of a branch", "PipelineWords", |site| {
            let branch = "<< pipeline.git.branch >>";
            stands_in_pipeline(site, "circleci", &format!("[ci]\nbranch = \"{branch}\"\n"), branch)
        }),
        of("TM3 a command of a shell as the name of a release tag", "PipelineWords", |site| {
            let tag = format!("v1$({EVIL})");
            stands_in_pipeline(site, "github", &format!("[ci]\nrelease-tags = [\"{tag}\"]\n"), &tag)
        }),
        of("TM3 a command to the runner in what a test prints", "LogCommands", |site| {
            let test = "{ host = 'echo \"##[add-path]/evil\"; exit 1' }";
            site.place
                .write("polyarch.toml", &CONFIGURATION.replace("tests = [", &format!("tests = [{test}, ")));
            let answer = site.set("GITHUB_ACTIONS", "true").run(&["build", "--scope", "pr-1"]);
            [answer.stdout, answer.stderr].concat().contains("##[add-path]")
        }),
        of("TM4 an action whose release was moved to another commit", "PinnedActions", |site| {
            let pipeline = site.run(&["ci", "github", "--print"]).well().stdout;
            let used: Vec<&str> = pipeline.lines().filter_map(|line| line.split("uses: ").nth(1)).collect();
            assert!(used.len() > 3, "{pipeline}");
            used.iter().any(|action| can_be_moved(action))
        }),
        of(
            "TM4 a program in the place of the one that the pipeline fetches",
            "InstallDigest",
            fetches_another,
        ),
        of("F-U2 an edited pipeline that says of itself that nobody edited it", "PipelineCompared", |site| {
            let _ = site.run(&["ci", "github"]).well();
            let file = ".github/workflows/polyarch.yml";
            let text = std::fs::read_to_string(site.place.family().join(file)).expect("a pipeline");
            let [mark, _, content]: [&str; 3] =
                text.splitn(3, '\n').collect::<Vec<_>>().try_into().expect("lines");
            assert!(content.contains("polyarch job plan"), "{content}");
            let content = content.replace("polyarch job plan", EVIL);
            let seal = Digest::of(content.as_bytes());
            site.place.write(file, &format!("{mark}\n# {seal}\n{content}"));
            site.run(&["ci", "github", "--check"]).code == Some(0)
        }),
        of("F-U2 an edited pipeline that publishes what is proposed", "ProposedScope", |site| {
            let arguments = ["job", "publish", "--scope", "trusted", "--to", "127.0.0.1:1"];
            proposed(site, &arguments, "").0 != Some(4)
        }),
        of("F-U2 an edited pipeline that has the run taken for a trusted one", "ProposedScope", |site| {
            let said = site.place.folder().join("said");
            let arguments = ["job", "plan", "--scope", "trusted"];
            let (code, _) = proposed(site, &arguments, said.to_str().expect("a path"));
            assert_eq!(code, Some(0), "it is planned either way");
            std::fs::read_to_string(said).expect("what it said").contains("trusted=true")
        }),
    ]
}

/// Whether a text of the configuration comes into a pipeline.
fn stands_in_pipeline(site: &Site, service: &str, lines: &str, text: &str) -> bool {
    site.place.write("polyarch.toml", &format!("{CONFIGURATION}{lines}"));
    let answer = site.run(&["ci", service, "--print"]);
    answer.code == Some(0) && answer.stdout.contains(text)
}

/// Whether somebody else says what runs under this name: it is at no commit.
fn can_be_moved(action: &str) -> bool {
    let at = action.split([' ', '#']).next().and_then(|name| name.split_once('@')).map(|(_, at)| at);
    !at.is_some_and(|at| at.len() == 40 && at.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a pipeline runs what somebody has put where the program was; scripts are the network and the program.
fn fetches_another(site: &Site) -> bool {
    let honest = Digest::of(b"the program").hex().to_owned();
    let install = format!(
        "[ci.install]\nurl = \"https://example.invalid/polyarch-{{target}}\"\nsha256 = {{ x86_64 = \"{honest}\", aarch64 = \"{honest}\" }}\n"
    );
    site.place.write("polyarch.toml", &format!("{CONFIGURATION}{install}"));
    let pipeline = site.run(&["ci", "github", "--print"]).well().stdout;
    let script = pipeline.split("run: |\n").nth(1).expect("a script");
    let script: String = { script.lines().take_while(|line| line.starts_with("          ")) }
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    let canary = site.place.folder().join("canary");
    let curl = site.place.folder().join("curl");
    let fetched = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --output ]; do shift; done\nprintf '#!/bin/sh\\ntouch {}\\n' >\"$2\"\n",
        canary.display()
    );
    crate::program::write_program(&curl, &fetched);
    let path = format!("{}:/usr/bin:/bin", site.place.folder().display());
    let mut shell = site.place.program("bash");
    shell.args(["-c", &format!("{script}\n\"$bin/polyarch\"\n")]).env("PATH", path);
    shell.env("GITHUB_PATH", site.place.folder().join("paths"));
    for machine in ["X86_64", "AARCH64"] {
        shell
            .env(format!("URL_{machine}"), "https://example.invalid/")
            .env(format!("SHA256_{machine}"), &honest);
    }
    let _ = shell.output().expect("a shell");
    canary.exists()
}

/// What a job of a pipeline that a pull request has changed ends with, where the service says what began it.
fn proposed(site: &Site, arguments: &[&str], said: &str) -> (Option<i32>, String) {
    let mut place = site.set("GITHUB_ACTIONS", "true");
    for (name, value) in [
        ("GITHUB_EVENT_NAME", "pull_request"),
        ("GITHUB_REF", "refs/pull/6/merge"),
        ("POLYARCH_BRANCH", "main"),
        ("GITHUB_OUTPUT", said),
    ] {
        place.set(name, value);
    }
    let work = place.folder().join("work").display().to_string();
    let answer = place.run(&[arguments, &["--work", &work]].concat());
    (answer.code, answer.stderr)
}
