//! The clients: each is a thread with connections of its own, and checks every reply. What they share is here.

pub mod channels;
pub mod crowd;
pub mod queues;
pub mod readers;
pub mod streams;
pub mod tracking;
pub mod transactions;
pub mod writers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cells::{Cell, Retired};
use crate::ledger::{Ledger, Rule, Said};
use crate::random::Random;
use crate::wire::{Connection, Lost, Reply};

/// What all clients have in common.
pub struct Shared {
    /// The sidecar's port.
    pub port: u16,
    pub ledger: Ledger,
    pub cells: Vec<Cell>,
    pub retired: Mutex<Vec<Retired>>,
    pub queues: queues::Queues,
    pub channels: channels::Channels,
    pub transactions: transactions::Counters,
    pub stream: streams::Stream,
    /// Milliseconds between two rounds of a client, on average.
    pub pause_ms: u64,
}

/// One client.
pub struct Client<'a> {
    pub shared: &'a Shared,
    /// Its place among its kind.
    pub number: usize,
    /// Its place among all.
    place: usize,
    pub random: Random,
    connection: Option<Connection>,
}

/// What a client does until all is over.
pub type Run = fn(Client<'_>);

/// All kinds, and how many of each.
pub const KINDS: [(&str, usize, Run); 14] = [
    ("writer", writers::WRITERS, writers::run),
    ("reader", 6, readers::run),
    ("transaction", 4, transactions::run),
    ("producer", queues::PRODUCERS, queues::produce),
    ("consumer", queues::CONSUMERS, queues::consume),
    ("popper", 2, queues::pop),
    ("publisher", channels::PUBLISHERS, channels::publish),
    ("subscriber", 5, channels::subscribe),
    ("adder", 1, streams::add),
    ("stream reader", 2, streams::read),
    ("tracker", 2, tracking::run),
    ("slow", 2, crowd::slow),
    ("vanishing", 2, crowd::vanishing),
    ("idle", 1, crowd::idle),
];

// === impl Client ===

impl<'a> Client<'a> {
    pub fn new(shared: &'a Shared, number: usize, place: usize, seed: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(1000).wrapping_add(place as u64));
        Self { shared, number, place, random, connection: None }
    }

    pub fn ledger(&self) -> &'a Ledger {
        &self.shared.ledger
    }

    pub fn name(&self) -> &'a str {
        &self.ledger().clients[self.place].name
    }

    /// Waits a little before the next round. False: all is over.
    pub fn goes_on(&mut self) -> bool {
        let pause = self.shared.pause_ms * 2;
        std::thread::park_timeout(Duration::from_millis(self.random.between(0, pause)));
        !self.ledger().is_over()
    }

    /// A round in which all was answered.
    pub fn good(&self) {
        self.ledger().clients[self.place].good.fetch_add(1, Ordering::SeqCst);
    }

    /// A rule is broken.
    pub fn broken(&self, rule: Rule, what: &str) {
        self.ledger().broken(rule, format!("{}: {what}", self.name()));
    }

    /// Whether a connection is there or can be made now.
    pub fn is_connected(&mut self) -> bool {
        if self.connection.is_none() {
            self.connection = self.open();
        }
        self.connection.is_some()
    }

    /// A new connection; every other client speaks RESP3.
    pub fn open(&self) -> Option<Connection> {
        let era = self.ledger().era();
        match Connection::open(self.shared.port, self.place % 2 == 1) {
            Ok(mut connection) => {
                connection.era = era;
                Some(connection)
            }
            Err(_) => {
                self.ledger().count("connections that could not be opened", 1);
                std::thread::park_timeout(Duration::from_millis(20));
                None
            }
        }
    }

    /// The connection is given up, for its state is not known.
    pub fn forget(&mut self) {
        self.connection = None;
    }

    /// Goes away without a word.
    pub fn vanish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.vanish();
        }
    }

    /// Sends bytes. None: the connection is lost.
    pub fn send(&mut self, bytes: &[u8]) -> Option<()> {
        let done = self.connection.as_mut()?.send(bytes);
        self.kept(done)
    }

    /// The next reply. None: the connection is lost.
    pub fn reply(&mut self) -> Option<Reply> {
        let done = self.connection.as_mut()?.reply();
        let reply = self.kept(done)?;
        if !matches!(reply, Reply::Error(_)) {
            let era = self.ledger().era();
            self.connection.as_mut()?.era = era;
        }
        Some(reply)
    }

    /// Whatever comes within a time. None: the connection is lost.
    pub fn next(&mut self, patience: Duration) -> Option<Option<Reply>> {
        let done = self.connection.as_mut()?.next(patience);
        let reply = self.kept(done)?;
        if reply.is_some() {
            let era = self.ledger().era();
            self.connection.as_mut()?.era = era;
        }
        Some(reply)
    }

    /// A command and its reply.
    pub fn ask(&mut self, words: &[&[u8]]) -> Option<Reply> {
        self.send(&crate::wire::encoded(words))?;
        self.ledger().count("commands", 1);
        self.reply()
    }

    /// The same with words split at blanks.
    pub fn say(&mut self, line: &str) -> Option<Reply> {
        self.ask(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    /// What came without being asked for.
    pub fn pushes(&mut self) -> Vec<Vec<Reply>> {
        self.connection.as_mut().map(|connection| std::mem::take(&mut connection.pushes)).unwrap_or_default()
    }

    /// Reads a few bytes, as somebody does who is slow.
    pub fn sip(&mut self, count_max: usize) -> Option<()> {
        let done = self.connection.as_mut()?.read(Duration::from_millis(50), count_max);
        self.kept(done).map(|_| ())
    }

    /// Counts an error: what it says.
    pub fn error(&self, error: &str) -> Said {
        match &self.connection {
            Some(connection) => self.ledger().error(self.name(), connection, error),
            None => Said::InDoubt,
        }
    }

    fn kept<T>(&mut self, done: Result<T, Lost>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(lost) => {
                let connection = self.connection.take()?;
                self.ledger().lost(self.name(), &connection, lost);
                None
            }
        }
    }
}

/// A number that only grows.
pub fn grow(number: &AtomicU64) {
    number.fetch_add(1, Ordering::SeqCst);
}
