//! Where a session's replies arrive: filled by lanes and by the session itself, emptied into the client's socket.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use bytes::BytesMut;

use super::Loss;
use super::holes::{Hole, Holes, Missed};
use super::lane::Life;
use crate::lease::Look;
use crate::resp::{Protocol, write};

/// The reply side of one session. Shared by the session and the lane it is on, on one thread.
pub struct Outbox {
    /// What the client may have now.
    bytes: RefCell<BytesMut>,
    bytes_max: usize,
    /// Replies that are still to come, the swallowed ones and those that places are kept for included.
    owed: Cell<usize>,
    /// How many of them places are kept for.
    open: Cell<usize>,
    holes: RefCell<Holes>,
    /// Keys that were not there, each with the number of its reply's place.
    missed: RefCell<Vec<(Rc<Look>, Protocol, u64)>>,
    waker: Cell<Option<Waker>>,
    fate: Cell<Fate>,
    /// The client sends nothing more.
    leaving: Cell<bool>,
    /// Channels, patterns and shard channels that the session is subscribed to.
    subscribed: Cell<[i64; 3]>,
    /// The number that the server has given a connection to which this session's invalidations go, and ours.
    redirect: Cell<Option<(u64, u64)>>,
    /// Clients, by worker and number, that wait for the session to have a lane of its own.
    asked_own: RefCell<Vec<(usize, u64)>>,
    /// The client that was asked for that has answered.
    told: Cell<bool>,
    /// A reply of which the session makes what the client is told.
    noted: RefCell<Option<Vec<u8>>>,
    /// The connection that the session wrote on last.
    wrote_on: RefCell<Rc<Life>>,
    /// One that it wrote on before was lost.
    lost_writes: Cell<bool>,
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

/// What one subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    /// Channels by their name.
    Plain,
    /// Patterns.
    Patterns,
    /// Shard channels.
    Shards,
}

// === impl Outbox ===

impl Outbox {
    /// An empty outbox that takes at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: RefCell::default(),
            bytes_max,
            owed: Cell::new(0),
            open: Cell::new(0),
            holes: RefCell::default(),
            missed: RefCell::default(),
            waker: Cell::new(None),
            fate: Cell::new(Fate::Alive),
            leaving: Cell::new(false),
            subscribed: Cell::new([0; 3]),
            redirect: Cell::new(None),
            asked_own: RefCell::default(),
            told: Cell::new(false),
            noted: RefCell::default(),
            wrote_on: RefCell::new(Rc::new(Life::new())),
            lost_writes: Cell::new(false),
        }
    }

    /// Appends reply bytes. Once the limit is passed the session is over, and what comes later is dropped.
    pub fn push(&self, reply: &[u8]) {
        if self.fate.get() != Fate::Alive {
            return;
        }
        if self.open.get() > 0 {
            return self.push_behind(reply);
        }
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + reply.len() > self.bytes_max {
            bytes.clear();
            self.fate.set(Fate::Overflowed);
            return;
        }
        bytes.extend_from_slice(reply);
    }

    /// The same, behind a place that is kept.
    #[cold]
    fn push_behind(&self, reply: &[u8]) {
        if self.has_room(reply) {
            self.holes.borrow_mut().push(reply);
        }
    }

    /// Whether a reply fits. If it does not, the session is over.
    fn has_room(&self, reply: &[u8]) -> bool {
        let fits = self.len() + reply.len() <= self.bytes_max;
        if !fits {
            self.bytes.borrow_mut().clear();
            self.holes.borrow_mut().clear();
            self.end(Fate::Overflowed);
        }
        fits
    }

    /// Keeps the place of the next reply: its number.
    pub(super) fn open_hole(&self) -> u64 {
        self.open.set(self.open.get() + 1);
        self.owe(1);
        self.holes.borrow_mut().keep()
    }

    /// A key is not there: the place of the reply is kept, and the session looks further.
    pub(super) fn miss(&self, look: &Rc<Look>, protocol: Protocol) {
        let number = self.open_hole();
        self.missed.borrow_mut().push((Rc::clone(look), protocol, number));
    }

    /// Whether a key was not there since this was last asked.
    pub fn has_missed(&self) -> bool {
        self.open.get() > 0 && !self.missed.borrow().is_empty()
    }

    /// Keys that were not there since this was last asked.
    pub fn take_missed(self: &Rc<Self>) -> impl Iterator<Item = Missed> + use<> {
        let missed = self.missed.take();
        let outbox = Rc::clone(self);
        missed.into_iter().map(move |(look, protocol, number)| {
            let hole = Hole::of(&outbox, number);
            Missed { look, protocol, hole }
        })
    }

    /// Gives the reply that a place was kept for.
    pub(super) fn fill_hole(&self, number: u64, reply: &[u8]) {
        if self.fate.get() == Fate::Alive && self.has_room(reply) {
            self.holes.borrow_mut().fill(number, reply, &mut self.bytes.borrow_mut());
        }
        self.open.set(self.open.get().saturating_sub(1));
        self.settle(1);
        self.wake();
    }

    /// Lets the session write what the client may have to its socket, which it takes off the front: what is before the
    /// first place that is kept.
    pub fn drain<T>(&self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        write(&mut self.bytes.borrow_mut())
    }

    /// Bytes that wait for the client, those behind places that are kept included.
    pub fn len(&self) -> usize {
        let behind = if self.open.get() > 0 { self.holes.borrow().bytes() } else { 0 };
        self.bytes.borrow().len() + behind
    }

    /// Nothing waits for the client.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replies that are still to come.
    pub fn owed(&self) -> usize {
        self.owed.get()
    }

    /// The same without those that places are kept for, which are in nobody's queue.
    pub(super) fn owed_by_lane(&self) -> usize {
        self.owed.get() - self.open.get().min(self.owed.get())
    }

    pub(super) fn owe(&self, count: usize) {
        self.owed.set(self.owed.get() + count);
    }

    pub(super) fn settle(&self, count: usize) {
        self.owed.set(self.owed.get().saturating_sub(count));
    }

    /// The session writes on a connection.
    pub(super) fn writes_on(&self, connection: &Rc<Life>) {
        let mut wrote_on = self.wrote_on.borrow_mut();
        if !Rc::ptr_eq(&wrote_on, connection) {
            self.lost_writes.set(self.lost_writes.get() || !wrote_on.lasts());
            *wrote_on = Rc::clone(connection);
        }
    }

    /// Tells a session that waits for what it wrote when a connection that it wrote on has been lost since: what it
    /// wrote may be lost too, and the server that it speaks with now cannot know. It is told once, in place of a reply.
    pub fn tell_lost_writes(&self, loss: Loss) -> bool {
        if !self.lost_writes.replace(false) && self.wrote_on.borrow().lasts() {
            return false;
        }
        self.wrote_on.replace(Rc::new(Life::new()));
        match loss {
            // As a server that dies ends the connection that was written on.
            Loss::Close => self.end(Fate::UpstreamLost),
            Loss::Error => {
                let error = "ERR bellwether lost the server after this client wrote; whether what it wrote is there is \
                             not known";
                let mut reply = Vec::new();
                write::error(&mut reply, error);
                self.push(&reply);
            }
        }
        true
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

    /// The client sends nothing more; it still has what it is owed.
    pub fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether it may send something.
    pub(super) fn stays(&self) -> bool {
        self.fate.get() == Fate::Alive && !self.leaving.get()
    }

    /// Channels, patterns and shard channels the session is subscribed to.
    pub fn subscriptions(&self) -> i64 {
        self.subscribed.get().iter().sum()
    }

    /// The same, one by one.
    pub fn subscribed(&self) -> [i64; 3] {
        self.subscribed.get()
    }

    /// A confirmation has come. The server counts channels and patterns together.
    pub(super) fn set_subscriptions(&self, of: Channels, count: i64) {
        let [channels, patterns, shards] = self.subscribed.get();
        self.subscribed.set(match of {
            Channels::Plain => [count - patterns, patterns, shards],
            Channels::Patterns => [channels, count - channels, shards],
            Channels::Shards => [channels, patterns, count],
        });
    }

    /// A client of a worker waits for the session to have a lane of its own.
    pub fn ask_own(&self, by: (usize, u64)) {
        self.asked_own.borrow_mut().push(by);
    }

    /// Whether one waits for that.
    pub fn is_asked(&self) -> bool {
        !self.asked_own.borrow().is_empty()
    }

    /// Who waits for that.
    pub fn take_asked(&self) -> Vec<(usize, u64)> {
        std::mem::take(&mut *self.asked_own.borrow_mut())
    }

    /// The client that was asked has a lane of its own, or is gone.
    pub fn tell(&self) {
        self.told.set(true);
    }

    /// Whether it has answered.
    pub fn take_told(&self) -> bool {
        self.told.take()
    }

    /// Invalidations go to another connection, which has this number at the server and that one here.
    pub fn redirects(&self, numbers: Option<(u64, u64)>) {
        self.redirect.set(numbers);
    }

    /// Appends a frame, with our number of the connection that invalidations go to in the place of the server's.
    pub(super) fn push_renumbered(&self, frame: &[u8]) {
        let line = |number: u64| format!("\r\n:{number}\r\n").into_bytes();
        let found = self.redirect.get().and_then(|(theirs, ours)| {
            let theirs = line(theirs);
            // The reply of GETREDIR is nothing but the number.
            let at = memchr::memmem::find(&[b"\r\n", frame].concat(), &theirs)?;
            Some((at, theirs.len(), line(ours)))
        });
        match found {
            None => self.push(frame),
            Some((at, length, ours)) => {
                let whole = [b"\r\n", frame].concat();
                let (before, after) = (whole.get(..at), whole.get(at + length..));
                let renumbered = [before.unwrap_or_default(), &ours, after.unwrap_or_default()].concat();
                self.push(renumbered.get(2..).unwrap_or_default());
            }
        }
    }

    pub(super) fn note(&self, reply: &[u8]) {
        *self.noted.borrow_mut() = Some(reply.to_vec());
    }

    /// The reply that was to be noted, if it has come.
    pub fn take_noted(&self) -> Option<Vec<u8>> {
        self.noted.borrow_mut().take()
    }

    /// Forgets the subscriptions: the lane that held them is gone.
    pub fn clear_subscriptions(&self) {
        self.subscribed.set([0; 3]);
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
