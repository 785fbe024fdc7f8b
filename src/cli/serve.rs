//! `polyarch serve`: the embedded registry on its own.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::oci::server::{self, Access, Reading};

use super::workshop::Shelf;
use super::workspace::Workspace;
use super::{Context, Ended};

/// Serve a store as a registry, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch serve                                     the store of the family here, on loopback
  polyarch serve --store DIR --listen 127.0.0.1:5000
  printf %s \"$PASSWORD\" | polyarch serve --user build --password-stdin --listen 0.0.0.0:5000

It speaks plain HTTP. Beyond loopback give it a password, and put a proxy that speaks TLS before it.")]
pub(super) struct Options {
    /// The address and port to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Ask for this user and a password
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Read the password from this file
    #[arg(long, value_name = "FILE", group = "password", requires = "user")]
    password_file: Option<PathBuf>,
    /// Read the password from standard input
    #[arg(long, group = "password", requires = "user")]
    password_stdin: bool,
    /// Let anyone read; the password is for writing
    #[arg(long, requires = "user")]
    anyone_reads: bool,
}

pub(super) async fn run(context: &Context, options: &Options) -> Result<Ended> {
    let access = access(options)?;
    let shelf = match &context.common.store {
        Some(folder) => Shelf::open_at(folder)?,
        None => Shelf::open(context, &Workspace::read(context, &std::collections::BTreeMap::new())?)?,
    };
    let problem = |error: std::io::Error| {
        Diagnostic::surroundings(format!("listen at {}", options.listen))
            .caused_by(&error)
            .hint("choose another address: polyarch serve --listen 127.0.0.1:0")
    };
    let listener = tokio::net::TcpListener::bind(&options.listen).await.map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;
    if !address.ip().is_loopback() && matches!(access, Access::Anonymous) {
        return Err(Diagnostic::new(
            crate::diag::Kind::Policy,
            format!("serve at {address} without a password"),
        )
        .hint("give it one: --user NAME --password-file FILE")
        .into());
    }
    context.ui.note(&format!("serving {} at http://{address}/v2/", shelf.folder.display()));
    context.ui.data(&format!("{address}\n"));
    let router = server::router(shelf.store.clone(), access);
    let stop = context.signals.clone();
    server::serve(listener, router, async move { drop(stop.stop().await) })
        .await
        .map_err(|error| Diagnostic::surroundings("serve the store").caused_by(&error))?;
    // To be stopped is how it ends.
    Ok(context.signals.check().map_or_else(|stopped| Ended::With(stopped.kind.exit_code()), |()| Ended::Well))
}

fn access(options: &Options) -> Result<Access> {
    let Some(user) = options.user.clone() else { return Ok(Access::Anonymous) };
    let failed = |error: std::io::Error| Diagnostic::request("read the password").caused_by(&error);
    let password = match &options.password_file {
        Some(file) => std::fs::read_to_string(file).map_err(failed)?,
        None => {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).map_err(failed)?;
            text
        }
    };
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Diagnostic::request("the password is empty").into());
    }
    let reading = if options.anyone_reads { Reading::Anyone } else { Reading::SamePassword };
    Ok(Access::Basic { user, password, reading })
}
