//! End-to-end tests: the real binary, a real Redis, real components, real clients. One module per feature.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod explain;
mod harness;
mod hostile;
mod reload;
