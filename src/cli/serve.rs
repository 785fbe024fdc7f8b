//! `polyarch serve`: the embedded registry on its own.

use std::path::PathBuf;

use clap::Args;

use crate::diag::{Diagnostic, Result};
use crate::oci::Completeness;
use crate::oci::server::{self, Access, Rights};

use super::access;
use super::workshop::Shelf;
use super::{Context, Ended};

/// Serve a store as a registry, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  polyarch serve                                     the store of the family here, on loopback
  polyarch serve --store DIR --listen 127.0.0.1:5000
  printf %s \"$PASSWORD\" | polyarch serve --user build --password-stdin --listen 0.0.0.0:5000

Whoever reaches it may read, and nobody may write unless an option says who. It speaks plain HTTP: beyond
loopback give it a password, and put a proxy that speaks TLS before it.")]
pub(super) struct Options {
    /// The address and port to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Take manifests and indexes although some of what they name is not here, for mirrors of some platforms
    #[arg(long)]
    sparse: bool,
    /// Let anyone on this machine write, but for the records of this store; a store that others keep in one of its
    /// repositories is anyone's to write
    #[arg(long, conflicts_with_all = ["user", "access"])]
    anonymous_writes: bool,
    /// Take users, and what each may read and write, from this file (docs/registry.md)
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    access: Option<PathBuf>,
    /// Ask for this user, who may do everything, and a password
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
    let access = access(options, context)?;
    let shelf = Shelf::meant(context)?;
    let problem = |error: std::io::Error| {
        // Then it is no address at all.
        let kind = match error.kind() {
            std::io::ErrorKind::InvalidInput => crate::diag::Kind::Request,
            _ => crate::diag::Kind::Surroundings,
        };
        Diagnostic::new(kind, format!("listen at {}", options.listen))
            .caused_by(&error)
            .hint("choose another address: polyarch serve --listen 127.0.0.1:0")
    };
    let listener = tokio::net::TcpListener::bind(&options.listen).await.map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;
    if !address.ip().is_loopback() && options.user.is_none() && options.access.is_none() {
        return Err(Diagnostic::new(
            crate::diag::Kind::Policy,
            format!("serve at {address} without a password"),
        )
        .hint("give it one: --user NAME --password-file FILE, or users: --access FILE")
        .into());
    }
    context.ui.note(&format!("serving {} at http://{address}/v2/", shelf.folder.display()));
    if options.user.is_none() && options.access.is_none() && !options.anonymous_writes {
        context.ui.note("nobody may write to it; --user, --access or --anonymous-writes say who may");
    }
    context.ui.data(&format!("{address}\n"));
    let content = if options.sparse { Completeness::Sparse } else { Completeness::Whole };
    let router = server::router_keeping(shelf.store.clone(), access, content);
    let stop = context.signals.clone();
    server::serve(listener, router, async move { drop(stop.stop().await) })
        .await
        .map_err(|error| Diagnostic::surroundings("serve the store").caused_by(&error))?;
    // To be stopped is how it ends.
    Ok(context.signals.check().map_or_else(|stopped| Ended::With(stopped.kind.exit_code()), |()| Ended::Well))
}

fn access(options: &Options, context: &Context) -> Result<Access> {
    if let Some(file) = &options.access {
        return access::from_file(file, |name| context.environment.text(name));
    }
    let Some(user) = &options.user else {
        return Ok(match options.anonymous_writes {
            true => access::anonymous_writes(),
            false => Access::new(Rights::reading(), Vec::new()),
        });
    };
    let password = match &options.password_file {
        Some(file) => access::password_in(file)?,
        None => access::password_on_input()?,
    };
    let unnamed = if options.anyone_reads { Rights::reading() } else { Rights::default() };
    access::one_user(user, &password, unnamed)
}
