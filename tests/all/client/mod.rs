//! The registry client: against a scripted registry, and against two real ones behind a proxy that does harm.

mod ambiguous;
mod demands;
mod family;
pub(crate) mod fault_proxy;
mod faults;
mod peers;
mod publication;
pub(crate) mod registries;
mod scripted;
mod shape;
mod tls;
mod told;
