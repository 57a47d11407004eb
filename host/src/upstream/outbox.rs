//! Where a session's replies arrive: filled by lanes and by the session itself, emptied into the client's socket.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use bytes::BytesMut;

/// The reply side of one session. Shared by the session and the lane it is on, on one thread.
pub struct Outbox {
    bytes: RefCell<BytesMut>,
    bytes_max: usize,
    /// Replies that lanes still owe the session, the swallowed ones included.
    owed: Cell<usize>,
    waker: Cell<Option<Waker>>,
    fate: Cell<Fate>,
    /// Channels and patterns, and shard channels, that the session is subscribed to.
    subscribed: Cell<(i64, i64)>,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does.
    Alive,
    /// It is over, or its client is gone: replies are dropped.
    Closed,
    /// The lane was lost with replies owed, and the configuration says to close.
    UpstreamLost,
    /// The client does not read, and its replies are over their limit.
    Overflowed,
}

// === impl Outbox ===

impl Outbox {
    /// An empty outbox that takes at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: RefCell::default(),
            bytes_max,
            owed: Cell::new(0),
            waker: Cell::new(None),
            fate: Cell::new(Fate::Alive),
            subscribed: Cell::new((0, 0)),
        }
    }

    /// Appends reply bytes. Once the limit is passed the session is over, and what comes later is dropped.
    pub fn push(&self, reply: &[u8]) {
        if self.fate.get() != Fate::Alive {
            return;
        }
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + reply.len() > self.bytes_max {
            bytes.clear();
            self.fate.set(Fate::Overflowed);
            return;
        }
        bytes.extend_from_slice(reply);
    }

    /// Writes replies in place, through `write`.
    pub fn fill(&self, write: impl FnOnce(&mut BytesMut)) {
        if self.fate.get() == Fate::Alive {
            write(&mut self.bytes.borrow_mut());
        }
    }

    /// Lets the session write what is there to its socket, which it takes off the front.
    pub fn drain<T>(&self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        write(&mut self.bytes.borrow_mut())
    }

    /// Bytes that wait for the client.
    pub fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Nothing waits for the client.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replies that are still to come.
    pub fn owed(&self) -> usize {
        self.owed.get()
    }

    pub(super) fn owe(&self, count: usize) {
        self.owed.set(self.owed.get() + count);
    }

    pub(super) fn settle(&self, count: usize) {
        self.owed.set(self.owed.get().saturating_sub(count));
    }

    /// Whether the session goes on.
    pub fn fate(&self) -> Fate {
        self.fate.get()
    }

    /// Ends the session; the first reason stands.
    pub fn end(&self, fate: Fate) {
        if self.fate.get() == Fate::Alive {
            self.fate.set(fate);
        }
    }

    /// Channels, patterns and shard channels the session is subscribed to.
    pub fn subscriptions(&self) -> i64 {
        let (plain, shard) = self.subscribed.get();
        plain + shard
    }

    pub(super) fn set_subscriptions(&self, shard: bool, count: i64) {
        let (plain, sharded) = self.subscribed.get();
        self.subscribed.set(if shard { (plain, count) } else { (count, sharded) });
    }

    /// Forgets the subscriptions: the lane that held them is gone.
    pub fn clear_subscriptions(&self) {
        self.subscribed.set((0, 0));
    }

    /// Who is to be woken when something arrives.
    pub fn register(&self, waker: &Waker) {
        let known = self.waker.take();
        self.waker.set(Some(match known {
            Some(known) if known.will_wake(waker) => known,
            _ => waker.clone(),
        }));
    }

    /// Wakes the session.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Outbox").field("owed", &self.owed).field("fate", &self.fate).finish_non_exhaustive()
    }
}
