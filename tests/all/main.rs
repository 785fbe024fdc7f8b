//! All integration tests, in one binary: one link, and helpers are shared.

mod architecture;
mod server;
mod store;
