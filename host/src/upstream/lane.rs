//! One connection to the server, used by many sessions or by one: commands go out in one write per batch, replies are
//! split and handed to whoever is next in the queue. Replies are not parsed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::expect::{self, Expect, PubSub};
use super::outbox::{Fate, Outbox};
use super::stream::Stream;
use super::{Loss, Route};
use crate::resp::reply::{self, Splitter};
use crate::resp::{Protocol, write};

/// A handle on a lane. When the last one is dropped, the connection is closed.
pub struct Lane {
    shared: Rc<Shared>,
}

/// What the handle and the lane's task share.
struct Shared {
    protocol: Cell<Protocol>,
    /// The number that the server has given the connection, on a pinned lane. 0: not told.
    number: Arc<AtomicU64>,
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
    /// The handle is gone.
    released: Cell<bool>,
    /// The task is gone.
    ended: Cell<bool>,
}

/// A reply that is owed.
#[derive(Debug)]
struct Entry {
    outbox: Rc<Outbox>,
    expect: Expect,
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

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Before the server's own words, where it refused the lane's opening.
const REFUSED: &str = "the server refused the connection: ";

// === impl Lane ===

impl Lane {
    /// A lane to the route's server, connecting on a task of its own. A shared lane connects again when it is lost.
    pub(super) fn open(route: &Rc<Route>, protocol: Protocol, db: u32, shared_lane: bool) -> Self {
        let shared = Rc::new(Shared {
            protocol: Cell::new(protocol),
            number: Arc::default(),
            out: RefCell::default(),
            out_bytes_max: route.lane_bytes_max,
            queue: RefCell::default(),
            waker: Cell::default(),
            stalled: RefCell::default(),
            listener: RefCell::default(),
            before_fence_answered: Cell::new(false),
            released: Cell::new(false),
            ended: Cell::new(false),
        });
        tokio::task::spawn_local(run(Rc::clone(&shared), Rc::clone(route), db, shared_lane));
        Self { shared }
    }

    /// Sends what `fill` writes, one command whose reply is dealt with as `expect` says.
    pub fn send(&self, outbox: &Rc<Outbox>, expect: Expect, fill: impl FnOnce(&mut BytesMut)) {
        if self.has_ended() {
            // A pinned lane that is gone took the session's state with it.
            outbox.end(Fate::UpstreamLost);
            return;
        }
        outbox.owe(1);
        self.shared.queue.borrow_mut().push_back(Entry { outbox: Rc::clone(outbox), expect });
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
        if outbox.owed() == 0 {
            outbox.push(reply);
        } else {
            outbox.owe(1);
            let expect = Expect::Local(reply.into());
            self.shared.queue.borrow_mut().push_back(Entry { outbox: Rc::clone(outbox), expect });
        }
    }

    /// Hands what nobody asked for to the session from now on.
    pub fn listen(&self, outbox: &Rc<Outbox>, listening: Listening) {
        *self.shared.listener.borrow_mut() = Some((Rc::clone(outbox), listening));
    }

    /// No longer.
    pub fn unlisten(&self) {
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
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Hands on the whole replies at the front of `bytes`.
    fn replies(&self, bytes: &mut BytesMut, splitter: &mut Splitter) -> Result<(), String> {
        let mut from = 0;
        // Replies that follow each other to the same session are handed on in one piece.
        let mut run: Option<(Rc<Outbox>, usize, usize)> = None;
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let Some(length) = splitter.split(rest).map_err(|error| error.to_string())? else { break };
            let frame = rest.get(..length).unwrap_or_default();
            let end = from + length;
            if self.is_unasked(frame) {
                finish(&mut run, bytes, from);
                self.unasked(frame);
                from = end;
                continue;
            }
            let entry = self.queue.borrow_mut().pop_front();
            let Some(entry) = entry else { return Err("the server sent a reply that nobody asked for".into()) };
            if entry.expect == Expect::Forward {
                match &mut run {
                    Some((outbox, _, count)) if Rc::ptr_eq(outbox, &entry.outbox) => *count += 1,
                    _ => {
                        finish(&mut run, bytes, from);
                        run = Some((entry.outbox, from, 1));
                    }
                }
            } else {
                finish(&mut run, bytes, from);
                self.special(entry, frame)?;
            }
            from = end;
            if self.queue.borrow().front().is_some_and(|entry| !entry.expect.is_remote()) {
                finish(&mut run, bytes, from);
                self.locals();
            }
        }
        finish(&mut run, bytes, from);
        bytes.advance(from);
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
        match entry.expect {
            Expect::Protocol(protocol) if !refused => self.protocol.set(protocol),
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

    /// Gives the replies whose turn has come and that the server has no part in.
    fn locals(&self) {
        loop {
            let mut queue = self.queue.borrow_mut();
            if queue.front().is_none_or(|entry| entry.expect.is_remote()) {
                return;
            }
            let entry = queue.pop_front();
            drop(queue);
            if let Some(Entry { outbox, expect }) = entry {
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
        self.out.borrow_mut().clear();
        let entries = std::mem::take(&mut *self.queue.borrow_mut());
        for Entry { outbox, expect } in entries {
            outbox.settle(1);
            match (loss, &expect) {
                (_, Expect::Local(reply)) => outbox.push(reply),
                (Loss::Error, Expect::Noted | Expect::Executed(_)) => outbox.note(&error),
                (Loss::Close, _) => outbox.end(Fate::UpstreamLost),
                (Loss::Error, expect) if expect.is_answer() => outbox.push(&error),
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

/// Hands on a run of replies that ends before `end`.
fn finish(run: &mut Option<(Rc<Outbox>, usize, usize)>, bytes: &[u8], end: usize) {
    if let Some((outbox, start, count)) = run.take() {
        outbox.push(bytes.get(start..end).unwrap_or_default());
        outbox.settle(count);
        outbox.wake();
    }
}

/// The life of a lane's connections.
async fn run(shared: Rc<Shared>, route: Rc<Route>, db: u32, again: bool) {
    let mut attempt = 0;
    loop {
        let lost = match route.target.connect(route.connect_timeout).await {
            Ok(stream) => {
                route.state.connected();
                let lost = serve(&shared, &route, db, again, stream).await;
                route.state.disconnected();
                // A server that took a command is well again: the next attempt is made at once.
                attempt = if lost.sent { 0 } else { attempt };
                lost
            }
            Err(error) => Lost { reason: error.to_string(), sent: false, refusal: None },
        };
        if shared.released.get() {
            break;
        }
        tracing::warn!(target = %route.target, reason = %lost.reason, "lost the server");
        shared.lose(&lost, &route);
        if !again {
            break;
        }
        tokio::time::sleep(route.back_off.after(attempt)).await;
        attempt += 1;
    }
    shared.ended.set(true);
}

/// Serves one connection until it ends, or until the handle is dropped.
async fn serve(shared: &Rc<Shared>, route: &Route, db: u32, again: bool, mut stream: Stream) -> Lost {
    let (mut unwritten, mut bytes, mut splitter) = (BytesMut::new(), BytesMut::new(), Splitter::default());
    let lane = Rc::new(Outbox::new(0));
    let mut openings = route.opening(&mut unwritten, shared.protocol.get(), db);
    if !again {
        // Clients of the sidecar ask about each other by numbers that are not the server's.
        unwritten.extend_from_slice(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n");
        openings.push(Expect::Number);
    }
    for expect in openings.into_iter().rev() {
        lane.owe(1);
        shared.queue.borrow_mut().push_front(Entry { outbox: Rc::clone(&lane), expect });
    }
    let mut opened = false;
    let reason = std::future::poll_fn(|cx| {
        if shared.released.get() {
            return Poll::Ready("released".into());
        }
        shared.waker.set(Some(cx.waker().clone()));
        loop {
            // Commands wait for the opening: in the wrong database they would do harm.
            opened |= lane.owed() == 0;
            if let Err(error) = poll_out(shared, &mut stream, &mut unwritten, opened, cx) {
                return Poll::Ready(error.to_string());
            }
            bytes.reserve(READ_BYTES);
            match pin!(stream.read_buf(&mut bytes)).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready("the server closed the connection".into()),
                Poll::Ready(Ok(_)) => {
                    if let Err(reason) = shared.replies(&mut bytes, &mut splitter) {
                        return Poll::Ready(reason);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
            }
        }
    })
    .await;
    let refusal = reason.strip_prefix(REFUSED).map(ToOwned::to_owned);
    Lost { reason, sent: opened, refusal }
}

/// Writes as much as the stream takes.
fn poll_out(
    shared: &Shared,
    stream: &mut Stream,
    unwritten: &mut BytesMut,
    opened: bool,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    loop {
        if unwritten.is_empty() && opened {
            std::mem::swap(unwritten, &mut *shared.out.borrow_mut());
            shared.wake_stalled();
        }
        if unwritten.is_empty() {
            return Ok(());
        }
        match Pin::new(&mut *stream).poll_write(cx, unwritten) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => unwritten.advance(written),
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
}
