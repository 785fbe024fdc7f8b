//! polyarch builds, tests, tags and publishes families of container images for several platforms.
//!
//! The order of the modules below is the architecture: a module uses only those above it.

mod diag;
pub mod oci;
