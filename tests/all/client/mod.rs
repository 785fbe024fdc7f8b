//! The registry client: against a scripted registry, and against two real ones behind a proxy that does harm.

mod fault_proxy;
mod peers;
mod registries;
mod scripted;
mod faults;
mod tls;
