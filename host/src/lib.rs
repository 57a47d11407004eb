//! Bellwether: a Redis sidecar whose caching rules are WebAssembly components.
//!
//! The way of a command, each step one module:
//! [`server`] accepts a client that came over [`listen`] and hands it to a [`worker`]; the [`session`] reads what is
//! there and [`resp`] finds the commands in it; [`command`] says what each is and where its keys stand; [`namespace`]
//! says which rule a key is under; [`proxy`] decides, asking a [`policy`] where it must, and sends what it decided
//! along a lane of [`upstream`], whose replies come back to the session.
//!
//! Beside it: [`config`] and [`clock`] are what the process is started with, [`oci`] brings policies from a registry,
//! [`reload`] loads new ones and [`rollout`] knows which are in force, [`retime`] decides anew about keys that are
//! there already, [`top`] sees which are busy and which large, [`record`] hands on the decisions that were made,
//! [`admin`] and [`metrics`] tell how it goes, [`cli`] is what a person types.

pub mod admin;
pub mod buffers;
pub mod busy;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod files;
pub mod lease;
pub mod listen;
pub mod metrics;
pub mod namespace;
pub mod near;
pub mod oci;
pub mod policy;
pub mod proxy;
pub mod record;
pub mod reload;
pub mod resp;
pub mod retime;
pub mod rollout;
pub mod server;
pub mod session;
pub mod tls;
pub mod top;
pub mod upstream;
pub mod users;
pub mod warm;
pub mod worker;
