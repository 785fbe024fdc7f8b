//! The whole, on real engines and real registries.

mod apart;
mod broken_platform;
mod downstream;
mod daemonless;
pub(crate) mod engines;
mod exports;
mod foreign_registry;
mod hosts;
mod interrupted;
mod mirrored;
mod parent_and_child;
mod refusals;
mod room;
mod selection;
mod signed;
mod tags;
mod tiny_stacks;
mod trust;
