//! Name, keep and move content, as the OCI specifications have it.
//!
//! Written as if it were a crate of its own: values first ([`Digest`], [`Platform`], [`Reference`],
//! [`Document`]), then one trait for every place that content can be kept in ([`Store`]), then the places.

mod error;
mod digest;
mod measured;
mod platform;
mod reference;
mod document;
mod store;
mod configuration;
mod copy;
mod unambiguous;
mod rules;
mod rehash;
mod tree;
mod beside;
mod memory;
mod layout;
mod credentials;
mod client;
pub mod server;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub use beside::Beside;
pub use client::{
    Amount, Client, ClientOptions, Gates, Listener, Notice, Pauses, PlainHttp, Proxies, Traffic,
};
pub use configuration::ImageConfiguration;
pub use copy::{blob_stands, copy_document, copy_image, image_stands};
pub use credentials::{Credentials, DockerConfig, Fixed, Layered, Login, NoCredentials, Secret};
pub use digest::{Algorithm, Digest, Hasher};
pub use document::{Descriptor, Document, ImageIndex, Manifest, MediaType, Subject};
pub use error::{Error, ErrorKind};
pub use layout::{Claim, Claimed, Cleared, Collected, Collection, Layout, Lease, Room, Scrubbed, Unused};
pub use measured::Measured;
pub use memory::Memory;
pub use platform::Platform;
pub use reference::{Pointer, Reference, Repository, Tag};
pub use rehash::broken;
pub use store::{BlobReader, Completeness, Condition, Origin, Store, Taken, Terms, Upload, UploadName};
pub use tree::{Copied, Tree};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
pub(crate) mod watched;
