//! What one job leaves behind, as one file that another machine takes in: for CI services that pass files between jobs.
//!
//! ```text
//! oci-layout, index.json ──▶ records ──▶ manifests ──▶ configurations and layers
//!                            named here   named there   named there
//! ```
//!
//! It is an OCI image layout in a tar: OCI image specification 1.1, "Image Layout". Layers that an image shares with those
//! of the family that it stands on are left out: they come with those. Every entry is named, with its size, by an
//! entry before it; whoever takes the file in knows what may come, re-hashes it, and takes nothing else (TM5, TM13).

mod delta;
mod incoming;
mod parcel;
#[cfg(test)]
mod tests;

pub(crate) use delta::Delta;
pub(crate) use incoming::{Arrived, Incoming};
pub(crate) use parcel::Fault;
