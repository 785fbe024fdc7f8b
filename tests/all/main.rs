//! All integration tests, in one binary: one link, and helpers are shared.

mod architecture;
mod client;
mod server;
mod store;
