//! polyarch builds, tests, tags and publishes families of container images for several platforms.
//!
//! The order of the modules below is the architecture: a module uses only those above it.

mod diag;
#[cfg(test)]
mod dice;
#[cfg(test)]
#[path = "../tests/all/lent.rs"]
mod lent;
mod defence;
pub mod oci;
mod contents;
mod dockerfile;
mod config;
mod family;
mod trust;
mod record;
mod plan;
mod schedule;
mod survey;
mod event;
mod engine;
mod run;
mod attest;
mod publish;
mod export;
mod transfer;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod report;
mod ci;
mod ui;
mod cli;

/// Run the program with the arguments and the environment of this process.
pub fn main() -> std::process::ExitCode {
    cli::main()
}
