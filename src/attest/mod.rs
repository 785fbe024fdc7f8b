//! What can be said of an image for others to check: what is in it, how it was made, and a signature on that.

mod packages;
mod spdx;
mod time;

pub(crate) use packages::Cache;
pub(crate) use spdx::{Billed, bill};
