//! One connection to the server, used by many sessions or by one: commands go out in one write per batch, replies are
//! split and handed to whoever is next in the queue. Replies are not parsed.

mod connection;
mod life;
mod owed;
mod silence;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::{Buf, BytesMut};

pub(super) use life::{Follows, Life, Losses};
use owed::{Entry, Run};

use super::expect::{self, Expect, PubSub};
use super::outbox::{Fate, Outbox};
use super::{Loss, Route, near_lane};
use crate::buffers::Quiet;
use crate::lease::Look;
use crate::near::{Near, Touched, Versions};
use crate::resp::reply::{self, Splitter};
use crate::resp::{Protocol, write};

/// A handle on a lane. When the last one is dropped, the connection is closed.
pub struct Lane {
    shared: Rc<Shared>,
}

/// What the handle and the lane's task share.
struct Shared {
    protocol: Cell<Protocol>,
    db: u32,
    /// The number that the server has given the connection, on a pinned lane. 0: not told.
    number: Arc<AtomicU64>,
    versions: Arc<Versions>,
    /// The near cache that the lane reads for, if it does.
    near: Option<Rc<RefCell<Near>>>,
    /// Bytes that wait to be written.
    out: RefCell<BytesMut>,
    out_bytes_max: usize,
    queue: RefCell<VecDeque<Entry>>,
    waker: Cell<Option<Waker>>,
    /// Sessions that wait until `out` is written.
    stalled: RefCell<Vec<Rc<Outbox>>>,
    /// Who receives what nobody asked for, on a pinned lane.
    listener: RefCell<Option<(Rc<Outbox>, Listening)>>,
    /// The command before the next fence has been answered.
    before_fence_answered: Cell<bool>,
    /// How often something has arrived, or the server has made room for more.
    heard: Cell<u64>,
    /// The server takes nothing more for now.
    full: Cell<bool>,
    /// A command that may wait at the server has been sent.
    waits: Cell<bool>,
    /// The connection, or the one that is being made.
    life: RefCell<Rc<Life>>,
    /// The connection was found dead.
    dead: Cell<bool>,
    /// How many were, when it was opened.
    deaths: usize,
    /// The handle is gone.
    released: Cell<bool>,
    /// The task is gone.
    ended: Cell<bool>,
}

/// What a pinned lane listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// Channels, or invalidations.
    Messages,
    /// Every command of the server: all that arrives is handed on.
    Monitor,
}

/// Why a connection ended.
#[derive(Debug)]
struct Lost {
    reason: String,
    /// Commands may have reached the server.
    sent: bool,
    /// The server's own words, where it refused the lane's opening.
    refusal: Option<String>,
}

/// Before the server's own words, where it refused the lane's opening.
const REFUSED: &str = "the server refused the connection: ";
/// What a lane keeps of each buffer, and of its queue, once nothing is owed: enough for the batches of many clients.
pub(super) const BUFFER_KEPT_BYTES: usize = 1024 * 1024;
const ENTRIES_KEPT: usize = 16 * 1024;

// === impl Lane ===

impl Lane {
    /// A lane to the route's server, connecting on a task of its own. A shared lane connects again when it is lost. One
    /// that reads for a near cache is told by the server when what was read has changed.
    pub(super) fn open(
        route: &Rc<Route>,
        protocol: Protocol,
        db: u32,
        shared_lane: bool,
        near: Option<Rc<RefCell<Near>>>,
    ) -> Self {
        let shared = Rc::new(Shared {
            protocol: Cell::new(protocol),
            db,
            number: Arc::default(),
            versions: Arc::clone(&route.versions),
            near,
            out: RefCell::default(),
            out_bytes_max: route.lane_bytes_max,
            queue: RefCell::default(),
            waker: Cell::default(),
            stalled: RefCell::default(),
            listener: RefCell::default(),
            before_fence_answered: Cell::new(false),
            heard: Cell::new(0),
            full: Cell::new(false),
            waits: Cell::new(false),
            life: RefCell::new(Rc::new(Life::new())),
            dead: Cell::new(false),
            deaths: route.state.deaths(),
            released: Cell::new(false),
            ended: Cell::new(false),
        });
        tokio::task::spawn_local(connection::run(Rc::clone(&shared), Rc::clone(route), shared_lane));
        Self { shared }
    }

    /// Sends what `fill` writes, one command that changes nothing and whose reply is dealt with as `expect` says.
    pub fn send(&self, outbox: &Rc<Outbox>, expect: Expect, fill: impl FnOnce(&mut BytesMut)) {
        self.send_write(outbox, expect, Touched::Nothing, fill);
    }

    /// The same of a command that may change keys.
    pub fn send_write(&self, outbox: &Rc<Outbox>, expect: Expect, touched: Touched, fill: impl FnOnce(&mut BytesMut)) {
        if self.has_ended() {
            // A pinned lane that is gone took the session's state with it.
            outbox.end(Fate::UpstreamLost);
            return;
        }
        outbox.owe(1);
        if touched != Touched::Nothing {
            let left = self.shared.life.borrow().after_loss();
            left.into_iter().for_each(|left| drop(self.shared.life.replace(left)));
            outbox.writes_on(&self.shared.life.borrow());
        }
        self.shared.versions.bump(&touched);
        self.shared.owe(outbox, expect, touched);
        self.send_unanswered(fill);
    }

    /// Sends what `fill` writes, to which no reply is matched.
    pub fn send_unanswered(&self, fill: impl FnOnce(&mut BytesMut)) {
        let mut out = self.shared.out.borrow_mut();
        let idle = out.is_empty();
        fill(&mut out);
        drop(out);
        if idle {
            self.shared.wake();
        }
    }

    /// Gives a session a reply that is not the server's, behind all that it is owed.
    pub fn answer(&self, outbox: &Rc<Outbox>, reply: &[u8]) {
        if outbox.owed_by_lane() == 0 {
            outbox.push(reply);
        } else {
            outbox.owe(1);
            self.shared.owe(outbox, Expect::Local(reply.into()), Touched::Nothing);
        }
    }

    /// The server may keep a reply back as long as it likes from now on: a command that blocks has been sent.
    pub fn wait(&self) {
        self.shared.waits.set(true);
    }

    /// Hands what nobody asked for to the session from now on.
    pub fn listen(&self, outbox: &Rc<Outbox>, listening: Listening) {
        *self.shared.listener.borrow_mut() = Some((Rc::clone(outbox), listening));
    }

    /// No longer. Nor does the server keep a reply back.
    pub fn unlisten(&self) {
        self.shared.waits.set(false);
        *self.shared.listener.borrow_mut() = None;
    }

    /// More waits to be written than is good; `outbox` is woken when that is over.
    pub fn is_congested(&self, outbox: &Rc<Outbox>) -> bool {
        let congested = self.shared.out.borrow().len() > self.shared.out_bytes_max;
        if congested {
            self.shared.stalled.borrow_mut().push(Rc::clone(outbox));
        }
        congested
    }

    /// How often something has come; it counts on and on.
    pub(super) fn heard(&self) -> u64 {
        self.shared.heard.get()
    }

    /// Other connections were found dead since it was opened: it may be, too.
    pub(super) fn is_suspect(&self, route: &Route) -> bool {
        self.shared.deaths != route.state.deaths()
    }

    /// The versions of keys, which its writes count up.
    pub fn versions(&self) -> &Arc<Versions> {
        &self.shared.versions
    }

    /// The number that the server has given the connection, on a pinned lane. 0: not told yet.
    pub fn number(&self) -> &Arc<AtomicU64> {
        &self.shared.number
    }

    /// The connection is gone for good.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.get()
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lane").field("protocol", &self.shared.protocol).finish_non_exhaustive()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.released.set(true);
        self.shared.wake();
    }
}

// === impl Shared ===

impl Shared {
    fn hear(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Gives back what a busy time took, some time after nothing is owed any more.
    fn rest(&self, cx: &mut Context<'_>, quiet: &mut Quiet, unwritten: &mut BytesMut, read: &mut BytesMut) {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            quiet.disturb();
            return;
        }
        let rested = quiet.poll(cx, &mut [&mut self.out.borrow_mut(), unwritten, read], BUFFER_KEPT_BYTES);
        if rested.is_ready() && queue.capacity() > ENTRIES_KEPT {
            *queue = VecDeque::new();
        }
    }

    /// One more reply is owed.
    fn owe(&self, outbox: &Rc<Outbox>, expect: Expect, touched: Touched) {
        let plain = matches!((&expect, &touched), (Expect::Forward, Touched::Nothing));
        let mut queue = self.queue.borrow_mut();
        match queue.back_mut() {
            Some(last) if plain && last.is_plain_of(outbox) => last.count += 1,
            _ => queue.push_back(Entry { outbox: Rc::clone(outbox), expect, touched, count: 1 }),
        }
    }

    /// Hands on the whole replies at the front of `bytes`.
    fn replies(&self, bytes: &mut BytesMut, splitter: &mut Splitter) -> Result<(), String> {
        // Others may have been answered by another server by now: what this one says is from before that.
        let over = self.life.borrow().over();
        if let Some(reason) = over {
            return Err(reason);
        }
        // Replies that follow each other to the same session are handed on in one piece.
        let (mut from, mut run) = (0, Run::default());
        let done = self.hand_on(bytes, splitter, &mut from, &mut run);
        // Also where nonsense follows: these came whole, and are no longer in the queue of what is owed.
        run.finish(bytes, from);
        bytes.advance(from);
        done
    }

    /// Takes one whole reply after the other. `from` is where the next one begins; `run` may be left with some.
    fn hand_on(&self, bytes: &[u8], splitter: &mut Splitter, from: &mut usize, run: &mut Run) -> Result<(), String> {
        loop {
            let rest = bytes.get(*from..).unwrap_or_default();
            let Some(length) = splitter.split(rest).map_err(|error| error.to_string())? else { break };
            let frame = rest.get(..length).unwrap_or_default();
            let end = *from + length;
            if self.is_unasked(frame) {
                run.finish(bytes, *from);
                self.unasked(frame);
                *from = end;
                continue;
            }
            let mut queue = self.queue.borrow_mut();
            if let Some(front) = queue.front_mut().filter(|front| front.count > 1) {
                front.count -= 1;
                run.extend(&front.outbox, bytes, *from);
                *from = end;
                continue;
            }
            let entry = queue.pop_front();
            drop(queue);
            let Some(entry) = entry else { return Err("the server sent a reply that nobody asked for".into()) };
            // Before anyone is told: what was read since it was sent may be from before it.
            self.versions.bump(&entry.touched);
            if frame.first() == Some(&reply::kind::ERROR) && frame.starts_with(b"-READONLY ") {
                self.life.borrow().doubt();
            }
            let forwards = match &entry.expect {
                Expect::Forward => true,
                Expect::Look(_) => !reply::is_nil(frame),
                _ => false,
            };
            if forwards {
                run.extend(&entry.outbox, bytes, *from);
            } else {
                run.finish(bytes, *from);
                self.special(entry, frame)?;
            }
            *from = end;
            if self.queue.borrow().front().is_some_and(|entry| !entry.expect.is_remote()) {
                run.finish(bytes, *from);
                self.locals();
            }
        }
        Ok(())
    }

    fn special(&self, entry: Entry, frame: &[u8]) -> Result<(), String> {
        let refused = frame.first() == Some(&reply::kind::ERROR);
        if entry.expect == Expect::Fence {
            let answered = self.before_fence_answered.get();
            self.before_fence_answered.set(refused && !answered);
            if refused && !answered {
                entry.outbox.push(frame);
                entry.outbox.wake();
                self.queue.borrow_mut().push_front(entry);
                return Ok(());
            }
        }
        if entry.expect == Expect::Opening && refused {
            let text = String::from_utf8_lossy(reply::text(frame).unwrap_or_default()).into_owned();
            return Err(format!("{REFUSED}{text}"));
        }
        if let Some(near) = &self.near {
            near_lane::heard(&mut near.borrow_mut(), &entry.expect, frame, self.db);
        }
        match &entry.expect {
            Expect::Look(look) if !self.is_overtaken(&entry.outbox, look) => {
                entry.outbox.miss(look, self.protocol.get());
                entry.outbox.settle(1);
                entry.outbox.wake();
                return Ok(());
            }
            Expect::Protocol(protocol) if !refused => self.protocol.set(*protocol),
            Expect::Number => {
                let number = reply::integer(frame).and_then(|number| u64::try_from(number).ok());
                self.number.store(number.unwrap_or_default(), Ordering::Release);
            }
            _ => {}
        }
        entry.expect.deliver(frame, self.protocol.get(), &entry.outbox);
        entry.outbox.settle(1);
        entry.outbox.wake();
        Ok(())
    }

    /// Whether the session has sent, behind its question for a key that is not there, what may change that: it counts
    /// on the reply from before it.
    fn is_overtaken(&self, outbox: &Rc<Outbox>, look: &Look) -> bool {
        let own = |entry: &Entry| Rc::ptr_eq(&entry.outbox, outbox) && entry.touched.covers(&look.key);
        self.versions.stamp(&look.key) != look.stamp && self.queue.borrow().iter().any(own)
    }

    /// Gives the replies whose turn has come and that the server has no part in.
    fn locals(&self) {
        loop {
            let mut queue = self.queue.borrow_mut();
            if queue.front().is_none_or(|entry| entry.expect.is_remote()) {
                return;
            }
            let entry = queue.pop_front();
            drop(queue);
            if let Some(Entry { outbox, expect, .. }) = entry {
                expect.deliver(&[], self.protocol.get(), &outbox);
                outbox.settle(1);
                outbox.wake();
            }
        }
    }

    /// Whether a frame answers no command.
    fn is_unasked(&self, frame: &[u8]) -> bool {
        match (self.protocol.get(), frame.first()) {
            (Protocol::Resp3, Some(&reply::kind::PUSH)) => true,
            _ => match &*self.listener.borrow() {
                None => false,
                Some((_, Listening::Monitor)) => self.queue.borrow().is_empty() || expect::is_monitored(frame),
                Some((outbox, Listening::Messages)) if self.protocol.get() == Protocol::Resp2 => {
                    match expect::pub_sub(frame) {
                        None => false,
                        Some(PubSub::Confirmation { .. }) => true,
                        // Without a subscription it is a reply that looks like one.
                        Some(PubSub::Message) => outbox.subscriptions() > 0,
                    }
                }
                Some((_, Listening::Messages)) => false,
            },
        }
    }

    fn unasked(&self, frame: &[u8]) {
        if let Some(near) = &self.near {
            near.borrow_mut().push_came(self.db, frame);
        }
        if let Some((outbox, _)) = &*self.listener.borrow() {
            if let Some(PubSub::Confirmation { of, count }) = expect::pub_sub(frame) {
                outbox.set_subscriptions(of, count);
                self.before_fence_answered.set(true);
            }
            if frame.starts_with(b">2\r\n$21\r\ntracking-redir-broken\r\n") {
                outbox.push_renumbered(frame);
            } else {
                outbox.push(frame);
            }
            outbox.wake();
        }
    }

    /// Lets everyone who is owed a reply know that it will not come.
    fn lose(&self, lost: &Lost, route: &Route) {
        let known = if lost.sent { "whether the command ran is not known" } else { "the command was not sent" };
        let target = &route.target;
        let mut error = Vec::new();
        let text = match &lost.refusal {
            // To the client it is as if its own connection had been refused: it may know a password that helps.
            Some(refusal) => refusal.clone(),
            None => format!("ERR bellwether lost the server at {target}: {}; {known}", lost.reason),
        };
        write::error(&mut error, &text);
        let loss = if lost.refusal.is_some() { Loss::Error } else { route.loss };
        if let Some(near) = &self.near {
            near.borrow_mut().lose(self.db);
        }
        self.life.replace(Rc::new(Life::new())).end();
        self.out.borrow_mut().clear();
        let entries = std::mem::take(&mut *self.queue.borrow_mut());
        for Entry { outbox, expect, touched, count } in entries {
            // It may have run, or run yet.
            self.versions.bump(&touched);
            outbox.settle(count);
            match (loss, &expect) {
                (_, Expect::Local(reply)) => outbox.push(reply),
                (Loss::Error, Expect::Noted | Expect::Executed(_)) => outbox.note(&error),
                (Loss::Error, Expect::Keep(kept)) => kept.keep(&error),
                (Loss::Close, _) => outbox.end(Fate::UpstreamLost),
                (Loss::Error, expect) if expect.is_answer() => (0..count).for_each(|_| outbox.push(&error)),
                (Loss::Error, _) => {}
            }
            outbox.wake();
        }
        if let Some((outbox, _)) = self.listener.borrow_mut().take() {
            outbox.end(Fate::UpstreamLost);
            outbox.wake();
        }
        self.wake_stalled();
    }

    fn wake_stalled(&self) {
        for outbox in self.stalled.borrow_mut().drain(..) {
            outbox.wake();
        }
    }
}
