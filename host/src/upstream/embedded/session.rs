//! What a connection remembers between its commands.

use crate::resp::Protocol;

use super::{commands::Command, keyspace::Watch};

/// One connection's state.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) name: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) transaction: Option<Transaction>,
    pub(super) watches: Vec<Watch>,
    /// The connection ends behind the replies written so far.
    pub(super) closing: bool,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queue: Vec<Queued>,
    pub(super) bytes: usize,
    /// A command was refused, so EXEC will be too.
    pub(super) refused: bool,
}

/// A command that waits for EXEC.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) command: &'static Command,
    pub(super) args: Vec<Box<[u8]>>,
}

// === impl Session ===

impl Session {
    /// A session as it is when the connection begins.
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            name: Vec::new(),
            protocol: Protocol::default(),
            transaction: None,
            watches: Vec::new(),
            closing: false,
        }
    }

    /// Notes that a command was refused before it could be queued.
    pub(super) fn refuse(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused = true;
        }
    }
}
