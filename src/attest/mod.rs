//! What can be said of an image for others to check: what is in it, how it was made, and a signature on that.
//!
//! ```text
//! layers ──packages──▶ bill ─┐
//! record ──────────▶ provenance ─┼─▶ Statement ──sign──▶ Bundle ──▶ Attachment ──attach──▶ target
//!                    signature ─┘                                  whose subject is the image
//! ```

mod attachment;
mod bundle;
mod key;
mod keyless;
mod provenance;
mod record;
mod spdx;
mod statement;
mod time;
mod trusted;

pub(crate) use attachment::{
    Attachment, Kinds, Released, Signer, Standing, Wanted, attach, standing, wanted,
};
pub(crate) use key::{PrivateKey, PublicKey};
pub(crate) use keyless::{Cosign, Identity};
pub(crate) use provenance::provenance;
pub(crate) use record::{RecordSigner, Trusted, Witnessed};
pub(crate) use spdx::{Billed, bill};
pub(crate) use statement::Kind;
pub(crate) use trusted::TrustedKey;
