//! The embedded store: what `bellwether dev` talks to where there is no Redis. For trying, tests and laptops.
//!
//! It speaks RESP over in-process pipes, so the lanes in front of it are the same as in front of a server. One thread
//! owns one database; connections are tasks on that thread and take turns, command by command. `store.rs` and below it
//! do no I/O and read no clock. There are no streams, scripts, blocking commands or pub/sub: their commands get one
//! error that says so. Memory is bounded, but nothing is evicted and nothing is saved.

mod bits;
mod call;
mod client;
mod commands;
mod connection;
mod counters;
mod expiry;
pub mod glob;
mod hashes;
mod keys;
mod keyspace;
mod list_moves;
mod lists;
mod number;
mod random;
mod scan;
mod server;
mod session;
mod set;
mod set_combine;
mod sets;
mod sort;
mod sorted_set;
mod sorted_set_combine;
mod sorted_set_ranges;
mod sorted_sets;
mod store;
mod strings;
#[cfg(test)]
mod tests;
mod transactions;
mod value;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::{io::DuplexStream, sync::mpsc, task::LocalSet, time::MissedTickBehavior};

use crate::resp::request;

use self::{connection::Connection, store::Store};

/// A running embedded store. It ends, and every connection with it, when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    connections: mpsc::Sender<DuplexStream>,
    pipe_bytes: usize,
}

/// What the store may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One command.
    pub request: request::Limits,
    /// Connections at once.
    pub connections_max: usize,
    /// What is on its way in one connection, each way.
    pub pipe_bytes: usize,
    /// Keys and values, roughly; at more, commands that need memory get `-OOM`.
    pub memory_bytes_max: usize,
    /// The commands queued in one transaction.
    pub transaction_bytes_max: usize,
    /// Keys watched by one connection, which weigh no more than a transaction.
    pub watches_max: usize,
    /// The replies not yet taken by one connection; at more, it is closed.
    pub replies_bytes_max: usize,
}

/// The time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The Redis whose commands and replies these are, as HELLO and INFO say it.
pub const VERSION: &str = "7.0.0";

/// Connections made and not yet begun.
const BACKLOG_MAX: usize = 128;
/// How often expired keys are looked for: as often as Redis does.
const SWEEP_EVERY_MS: u64 = 100;
/// Expired keys given back in one go, between which connections have their turn.
const SWEEP_KEYS_MAX: usize = 1024;

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Starts an empty store on a thread of its own, within the limits that suit a laptop.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(clock: Clock) -> std::io::Result<Self> {
        Self::start_within(Limits::default(), clock)
    }

    /// Starts an empty store on a thread of its own, within other limits.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start_within(limits: Limits, clock: Clock) -> std::io::Result<Self> {
        let (connections, accepted) = mpsc::channel(BACKLOG_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("embedded-store".into())
            .spawn(move || LocalSet::new().block_on(&runtime, own(clock, limits, accepted)))?;
        Ok(Self { connections, pipe_bytes: limits.pipe_bytes })
    }

    /// A new connection, from any thread and for any runtime. When the store has no room for it, it is closed.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(self.pipe_bytes);
        // Refused, the server's end is dropped, and the client reads the end of the stream.
        let _ = self.connections.try_send(server);
        client
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            request: request::Limits { args_max: MIB, bulk_bytes_max: 512 * MIB, command_bytes_max: 1024 * MIB },
            connections_max: 1024,
            pipe_bytes: 64 * 1024,
            memory_bytes_max: 1024 * MIB,
            transaction_bytes_max: 64 * MIB,
            watches_max: 1000,
            replies_bytes_max: 1024 * MIB,
        }
    }
}

/// The commands the store has, in lower case, for the table of what is supported.
pub fn commands() -> impl Iterator<Item = &'static str> {
    commands::names()
}

/// The owner's life: begins connections and sweeps, until there is nobody left to connect.
async fn own(clock: Clock, limits: Limits, mut accepted: mpsc::Receiver<DuplexStream>) {
    let store = Rc::new(RefCell::new(Store::new(limits, clock())));
    let mut sweep = tokio::time::interval(Duration::from_millis(SWEEP_EVERY_MS));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            stream = accepted.recv() => match stream {
                Some(stream) => {
                    let connection = Connection::new(stream, Rc::clone(&store), Arc::clone(&clock), limits.request);
                    tokio::task::spawn_local(connection.serve());
                }
                None => return,
            },
            _ = sweep.tick() => {
                while store.borrow_mut().sweep(clock(), SWEEP_KEYS_MAX) == SWEEP_KEYS_MAX {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
