//! End-to-end tests: the real binary, a real Redis, real components, real clients. One module per feature.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]
#![allow(unreachable_pub, reason = "one program: `pub` is what a module has for the others")]

mod admin;
mod bench;
mod breaker;
mod busy;
mod calendars;
mod cli;
mod cluster;
mod command_table;
mod contract;
mod corpus;
mod drain;
mod embedded;
mod endpoints;
mod examples;
mod explain;
mod faults;
mod fuzz;
mod harness;
mod hostile;
mod lease;
mod lifetimes;
mod market;
mod memory;
mod near;
mod oci;
mod policy;
mod record;
mod reload;
mod retime;
mod rollout;
mod sentinel;
mod soak;
mod tidy;
mod top;
mod transcripts;
mod upstream;
mod versions;
mod warm;
