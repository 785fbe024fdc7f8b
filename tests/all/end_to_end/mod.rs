//! The whole, on real engines and real registries.

mod engines;
mod parent_and_child;
