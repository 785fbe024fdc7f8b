//! `polyarch init`: write a configuration for the Dockerfiles found here.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::family::starter;

use super::workspace::Workspace;
use super::{Context, Ended};

/// Write polyarch.toml for the Dockerfiles found here
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch init
  polyarch init --print                  only show it")]
pub(super) struct Options {
    /// Write to standard output instead
    #[arg(long)]
    print: bool,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Ended> {
    let workspace = Workspace::read_quietly(context, &BTreeMap::new())?;
    let text = starter(&workspace.family);
    if options.print {
        context.ui.data(&text);
        return Ok(Ended::Well);
    }
    let file = workspace.root.join("polyarch.toml");
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&file);
    match written.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => {
            context.ui.note(&format!("wrote {}; see what it means: polyarch plan", file.display()));
            Ok(Ended::Well)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Diagnostic::request(format!("{} is there already", file.display()))
                .hint("see what would be written: polyarch init --print")
                .into())
        }
        Err(error) => {
            Err(Diagnostic::surroundings(format!("write {}", file.display())).caused_by(&error).into())
        }
    }
}
