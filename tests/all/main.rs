//! All integration tests, in one binary: one link, and helpers are shared.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that unwraps says where it failed"))]

mod architecture;
mod bad_input;
mod browser;
mod client;
mod collection;
mod defences;
mod delete;
mod end_to_end;
mod families;
mod floors;
mod generated;
mod images;
mod interop;
mod mirror;
mod program;
mod publication;
mod reports;
mod served;
mod server;
mod signals;
mod simulate;
mod stated;
mod store;
mod twins;
