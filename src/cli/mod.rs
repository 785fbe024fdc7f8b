//! Arguments to options; one short file a command.

mod access;
mod build;
mod builder_argument;
mod capable;
mod carrying;
mod changes;
mod ci;
mod clean;
mod commit;
mod delta;
mod describe;
mod debris;
mod delete;
mod disk;
mod doctor;
mod ending;
mod environment;
mod export;
mod facts;
mod fitting;
mod fleet;
mod gc;
mod git;
mod holes;
mod imagined;
mod import;
mod init;
mod inspect;
mod job;
mod job_files;
mod ledger;
mod lines;
mod load;
mod mirror;
mod mirrored;
mod nightly;
mod place;
mod mirror_registries;
mod plan;
mod preview;
mod promote;
mod publications;
mod publish;
mod publisher;
mod recorder;
mod registries;
mod rehearsal;
mod report;
mod room;
mod settled;
mod sbom;
mod secrets;
mod serve;
mod shrinking;
mod sign;
mod signals;
mod simulate;
mod site;
mod trust;
mod verify;
mod why;
mod wiki;
mod workshop;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::config::{LimitSetting, StorePlace, Version};
use crate::defence::{Defence, stands};
use crate::diag::{self, Diagnostic, Kind, Problems, Result};
use crate::oci::{Fixed, Gates, Traffic};
use crate::record::ScopeName;
use crate::ui::{Called, Ui};

use environment::Environment;
use signals::Signals;

/// How long the program waits at its end for work that cannot be dropped, such as a read of a slow disk.
const LEAVING: Duration = Duration::from_secs(2);
/// How many threads may wait for the disk or for names at once. The pool counts a thread that it has woken as one
/// that works, so under load it starts ever more for the same few clients, and none of them idles long enough to end:
/// each holds its stack and what the allocator keeps for it. What finds no thread waits its turn.
const BLOCKING_THREADS: usize = 32;

/// Build, test, tag and publish families of container images for several platforms.
///
/// Run it in a folder of Dockerfiles that build on one another. With no configuration every folder with a
/// Dockerfile is an image, and FROM lines are the edges.
#[derive(Debug, Parser)]
#[command(name = "polyarch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  polyarch plan                          what would be built, and why
  polyarch build                         build and test what is not built yet
  polyarch build --publish               and publish it
  polyarch -C DIR plan                   in another folder
  polyarch doctor                        what works on this machine, and what mends the rest

Exit codes: 0 done; 1 a build, a test or verify failed; 2 the request was wrong; \
    3 the surroundings failed (engine, registry, disk); 4 refused by policy; 5 publication incomplete, the same \
    command resumes it; 129 hung up; 130 interrupted; 143 terminated; 101 our bug.")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
struct Common {
    /// The folder of the family
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// The configuration file; polyarch.toml in the family's folder, where there is one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where results are kept: a folder, or `host[:port]/repository` for repositories of a registry that several machines
    /// share; a folder for each family, in the user's data folder, where it is not said
    #[arg(long, global = true, value_name = "PLACE", env = "POLYARCH_STORE", value_parser = store_place())]
    store: Option<StorePlace>,
    /// The folder that content is worked on in where the store is at a registry; what is there is not asked for again
    #[arg(long, global = true, value_name = "DIR", env = "POLYARCH_FOLDER")]
    folder: Option<PathBuf>,
    /// The scope that results are kept in, such as pr-12 for those of a pull request; every other than the trusted one
    /// reads that too, and publishes nothing
    #[arg(long, global = true, value_name = "NAME", env = "POLYARCH_SCOPE", default_value_t = ScopeName::trusted())]
    scope: ScopeName,
    /// The tag of Git whose release this is, as in v6.1.0: images get the tags of `release` in polyarch.toml, and no others
    #[arg(long, global = true, value_name = "GIT-TAG", env = "POLYARCH_RELEASE")]
    release: Option<Version>,
    /// How many requests a registry is asked at once, as in quay.io=4, or in a second, as in quay.io=2/s; may be given
    /// several times
    #[arg(long, global = true, value_name = "REGISTRY=N", value_parser = LimitSetting::read)]
    limit: Vec<(String, LimitSetting)>,
    /// Whether the command line itself names the store.
    #[arg(skip)]
    names_store: bool,
    /// What is made is handed on as files: others bring it to the registry.
    #[arg(skip)]
    hands_on: bool,
    /// Say nothing but what is wrong
    #[arg(short, long, global = true)]
    quiet: bool,
    /// When to colour what is said
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

fn store_place() -> impl TypedValueParser<Value = StorePlace> {
    OsStringValueParser::new().try_map(|written| StorePlace::read(&written).map_err(|why| why.to_string()))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Options),
    Plan(plan::Options),
    Why(why::Options),
    Simulate(simulate::Options),
    Build(build::Options),
    Publish(publish::Options),
    Promote(promote::Options),
    Sign(sign::Options),
    Publications(publications::Options),
    Rollback(publications::RollbackOptions),
    Verify(verify::Options),
    Mirror(mirror::Options),
    Delete(delete::Options),
    Inspect(inspect::Options),
    Load(load::Options),
    Report(report::Options),
    Changes(changes::Options),
    Describe(describe::Options),
    Ledger(ledger::Options),
    Sbom(sbom::Options),
    Export(export::Options),
    Import(import::Options),
    Job(job::Options),
    Ci(ci::Options),
    Serve(serve::Options),
    Gc(gc::Options),
    Doctor(doctor::Options),
    Clean(clean::Options),
}

/// What a command works in.
#[derive(Clone)]
struct Context {
    common: Common,
    environment: Environment,
    ui: std::sync::Arc<Ui>,
    signals: Signals,
    /// What is asked of registries, counted.
    traffic: std::sync::Arc<Traffic>,
    /// What holds all clients of a registry to its limits.
    gates: std::sync::Arc<Gates>,
    /// The families that were read, each of them once.
    known: std::sync::Arc<workspace::Known>,
    /// A login for one registry, before those of the user's files.
    login: Option<std::sync::Arc<Fixed>>,
}

impl Context {
    /// Refuse what would bring the bytes of an untrusted run to where others believe them: law 11.
    ///
    /// # Errors
    /// Of kind policy, in every scope but the trusted one.
    fn refuse_untrusted(&self, doing: &str) -> Result<(), Diagnostic> {
        let scope = &self.common.scope;
        match scope.is_trusted() || !stands(Defence::UntrustedPublishes) {
            true => Ok(()),
            false => Err(Diagnostic::new(Kind::Policy, format!("{doing} is refused in the scope `{scope}`"))
                .because("what an untrusted run has built is never published")
                .hint("do it in a run that is trusted, whose scope is `trusted`: --scope trusted")),
        }
    }
}

/// The form of an answer to be read by a person or by a program.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// How a command ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All is as asked.
    Well,
    /// It said itself what is wrong; this is the exit code.
    With(u8),
}

/// The options of [`Common`] that say where and for whom a command works, as they were written.
fn called(matches: &ArgMatches) -> Called {
    let options = [
        ("directory", "-C"),
        ("config", "--config"),
        ("store", "--store"),
        ("folder", "--folder"),
        ("scope", "--scope"),
        ("release", "--release"),
    ];
    let written =
        options.into_iter().filter(|(id, _)| matches.value_source(id) == Some(ValueSource::CommandLine));
    Called::with(written.filter_map(|(id, option)| {
        let value = matches.get_raw(id)?.next_back()?;
        Some((option, value.to_string_lossy().into_owned()))
    }))
}

/// Run the program.
pub(crate) fn main() -> ExitCode {
    let mut command = Arguments::command();
    let parsed = command.try_get_matches_from_mut(std::env::args_os()).and_then(|matches| {
        let mut arguments =
            Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        arguments.common.names_store = matches.value_source("store") == Some(ValueSource::CommandLine);
        Ok((arguments, called(&matches)))
    });
    let (arguments, called) = match parsed {
        Ok(parsed) => parsed,
        Err(help) => {
            // A closed pipe is no reason to complain about help.
            let _ = help.print();
            return ExitCode::from(u8::try_from(help.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment::read();
    let colour = match arguments.common.color {
        Color::Auto => environment.colour_wanted(),
        Color::Always => true,
        Color::Never => false,
    };
    let ui = std::sync::Arc::new(environment.ui(colour, arguments.common.quiet).called(called));
    diag::keep_panics(environment.text("RUST_BACKTRACE").is_some_and(|wanted| wanted != "0"));
    let command = |runtime: tokio::runtime::Runtime| {
        let ended = runtime.block_on(async {
            let signals = Signals::listen()?;
            let (common, ui) = (arguments.common, ui.clone());
            let signals_too = signals.clone();
            let context = Context {
                common,
                environment,
                ui,
                signals: signals_too,
                traffic: Default::default(),
                gates: Default::default(),
                known: Default::default(),
                login: None,
            };
            signals.unless_ended(dispatch(&context, arguments.command)).await
        });
        // What is under way is dropped, which ends the programs that were started: it must have happened before we go.
        runtime.shutdown_timeout(LEAVING);
        ended
    };
    let ended = diag::outliving(|| runtime().and_then(command));
    match ended.and_then(|ended| ui.finish().map(|()| ended)) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::With(code)) => ExitCode::from(code),
        Err(problems) => {
            ui.problems(&problems);
            ExitCode::from(problems.exit_code())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Diagnostic::new(Kind::Surroundings, "start the runtime").caused_by(&error).into())
}

async fn dispatch(context: &Context, command: Command) -> Result<Ended, Problems> {
    let signals = &context.signals;
    match command {
        // What these begin they end in order themselves.
        Command::Build(options) => build::run(context, &options).await,
        Command::Publish(options) => {
            let ended = publish::run(context, &options).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Promote(options) => {
            let ended = promote::run(context, &options).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Mirror(options) => {
            let ended = mirror::run(context, &options).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Rollback(options) => {
            let ended = publications::roll_back(context, &options).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Delete(options) => {
            let ended = delete::run(context, &options).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Load(options) => load::run(context, &options).await,
        Command::Export(options) => export::run(context, &options).await,
        Command::Import(options) => import::run(context, &options).await,
        Command::Job(options) => job::run(context, &options).await,
        Command::Ci(options) => ci::run(context, &options),
        Command::Serve(options) => serve::run(context, &options).await,
        // These leave nothing behind wherever they are stopped.
        Command::Sign(options) => signals.unless_stopped(sign::run(context, &options)).await,
        Command::Init(options) => init::run(context, &options),
        Command::Plan(options) => signals.unless_stopped(plan::run(context, &options)).await,
        Command::Why(options) => signals.unless_stopped(why::run(context, &options)).await,
        Command::Simulate(options) => signals.unless_stopped(simulate::run(context, &options)).await,
        Command::Verify(options) => {
            let ended = signals.unless_stopped(verify::run(context, &options)).await;
            registries::tell_traffic(context);
            ended
        }
        Command::Publications(options) => signals.unless_stopped(publications::run(context, &options)).await,
        Command::Inspect(options) => signals.unless_stopped(inspect::run(context, &options)).await,
        Command::Report(options) => report::run(context, &options),
        Command::Changes(options) => signals.unless_stopped(changes::run(context, &options)).await,
        Command::Describe(options) => signals.unless_stopped(describe::run(context, &options)).await,
        Command::Ledger(options) => signals.unless_stopped(ledger::run(context, &options)).await,
        Command::Sbom(options) => signals.unless_stopped(sbom::run(context, &options)).await,
        Command::Gc(options) => signals.unless_stopped(gc::run(context, &options)).await,
        Command::Doctor(options) => signals.unless_stopped(doctor::run(context, &options)).await,
        Command::Clean(options) => clean::run(context, &options).await,
    }
}

/// The whole of the help as a page: what `docs/cli.md` holds.
#[cfg(test)]
fn help_page() -> String {
    let mut page = String::from("# The command line\n\nMade from `--help`; do not edit.\n");
    let mut command = <Arguments as clap::CommandFactory>::command().term_width(100);
    command.build();
    page.push_str(&format!(
        "\n## polyarch\n\n```text\n{}\n```\n",
        command.render_long_help().to_string().trim_end()
    ));
    for sub in command.get_subcommands_mut() {
        if sub.get_name() != "help" {
            let help = sub.render_long_help().to_string();
            page.push_str(&format!(
                "\n## polyarch {}\n\n```text\n{}\n```\n",
                sub.get_name(),
                help.trim_end()
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    /// The page is the help: `UPDATE=1` writes it anew.
    #[test]
    fn the_page_of_the_command_line_is_the_help() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
        let page: String = super::help_page().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        #[expect(clippy::disallowed_methods, reason = "a test may be told to write its picture")]
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(&file, &page).expect("write docs/cli.md");
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(written == page, "docs/cli.md is out of date: UPDATE=1 cargo test --lib the_page");
    }

    #[test]
    fn arguments_agree_with_each_other() {
        <super::Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
