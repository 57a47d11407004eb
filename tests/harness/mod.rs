//! The three nouns of a test: a [`Redis`], a [`Sidecar`] in front of it, a [`Client`] of either. Each ends with its
//! test.

mod client;
pub mod cluster;
pub mod conversation;
pub mod fault;
pub mod load;
pub mod policies;
pub mod process;
mod redis;
pub mod scripted;
pub mod sentinel;
mod sidecar;
pub mod transcript;
pub mod wasm;
pub mod wire;

pub use client::{Client, encoded};
pub use cluster::Cluster;
pub use policies::folder;
pub use redis::Redis;
pub use sidecar::{Sidecar, run, run_with};
