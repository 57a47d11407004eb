//! One client connection: reads what is there, takes its commands in order, writes what has come back. In batches: one
//! read, one write, and the lanes do the same.

mod answer;
mod client;
mod clients;
mod command;
mod connection;
mod held;
mod lease;
mod near;
mod socket;
mod top;
mod transaction;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustc_hash::FxHashMap;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Sleep;

pub use client::take_call;
use clients::Standing;
pub use clients::{Call, Client, Clients};
use held::{Held, Waiting};
pub use lease::Leases;
pub use socket::Incoming;
use socket::Socket;

use crate::buffers::Quiet;
use crate::busy::Busy;
use crate::clock::Clock;
use crate::command::{Command, Kind, Table};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::near::Near;
use crate::policy::PolicySet;
use crate::proxy::Policies;
use crate::record::Records;
use crate::resp::request::{Limits, Scanned, Scanner};
use crate::resp::{Protocol, write};
use crate::top::Top;
use crate::upstream::{Fate, Lanes, Outbox, ServerFacts};
use crate::users::Users;

/// What the sessions of one worker share.
pub struct Shared {
    /// The worker's place, for counters.
    pub worker: usize,
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may use the sidecar.
    pub users: Users,
    /// The clock.
    pub clock: Clock,
    /// Keeps the worker awake for a while.
    pub busy: Busy,
    /// The worker's lanes.
    pub lanes: Lanes,
    /// What the worker keeps of hot keys.
    pub near: Rc<RefCell<Near>>,
    /// Which keys are busy, and which large.
    pub top: Top,
    /// Keys that clients wait for.
    pub leases: Leases,
    /// The worker's policies.
    pub policies: RefCell<Policies>,
    /// Who listens to its decisions.
    pub records: Arc<Records>,
    /// The policy set in force.
    pub current: RefCell<watch::Receiver<Arc<PolicySet>>>,
    /// What is known of the server.
    pub facts: RefCell<Arc<ServerFacts>>,
    /// The server's commands: the worker's own copy.
    pub commands: RefCell<Rc<Table>>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// Every client of the process.
    pub clients: Arc<Clients>,
    /// The outboxes of the worker's sessions, by client id.
    pub outboxes: RefCell<FxHashMap<u64, Rc<Outbox>>>,
    /// No session goes on beyond what is in flight.
    pub draining: Cell<bool>,
}

/// One client connection.
struct Session {
    shared: Rc<Shared>,
    socket: Socket,
    client: Arc<Client>,
    /// Bytes that have been read and not been taken.
    inbox: BytesMut,
    scanner: Scanner,
    outbox: Rc<Outbox>,
    protocol: Protocol,
    db: u32,
    authenticated: bool,
    muted: Muted,
    held: Held,
    /// What other clients are told of this one.
    told: Standing,
    /// CLIENT NO-EVICT and CLIENT NO-TOUCH, which mean nothing to a shared lane.
    stays: bool,
    untouching: bool,
    /// Bytes read, bytes written, commands taken.
    traffic: [u64; 3],
    /// The name of the last command.
    last: Cow<'static, str>,
    /// Replies go here while a transaction's own commands are answered.
    captured: Option<Vec<u8>>,
    idle: Option<Pin<Box<Sleep>>>,
    quiet: Quiet,
    /// The client sends nothing more.
    ended: bool,
    /// Nothing more is taken; what is owed is still answered.
    closing: bool,
}

/// Which replies the client has asked not to get (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Muted {
    /// It gets all.
    No,
    /// Not the next command's.
    Next,
    /// Not this command's.
    This,
    /// None.
    All,
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It was taken.
    Taken,
    /// It has to wait until what is in flight has been answered.
    Wait,
}

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// With this many bytes waiting for the client, no more commands are taken.
const OUTPUT_HELD_BYTES: usize = 1024 * 1024;
/// With this many bytes waiting for their turn, no more is read.
const INPUT_HELD_BYTES: usize = 64 * 1024;
/// A buffer that has grown past this is given back when the client has been quiet for a while.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Serves a client until it leaves, or the sidecar drains.
pub async fn serve(shared: Rc<Shared>, incoming: Incoming, client: Arc<Client>) {
    let id = client.id;
    let outbox = Rc::new(Outbox::new(shared.config.client_output_bytes_max));
    shared.outboxes.borrow_mut().insert(id, Rc::clone(&outbox));
    match open(&shared, &outbox, incoming).await {
        Ok(socket) => {
            let mut session = Session::new(Rc::clone(&shared), socket, Rc::clone(&outbox), client);
            std::future::poll_fn(|cx| session.poll(cx)).await;
            session.socket.close().await;
        }
        Err(error) => tracing::debug!(peer = client.peer, %error, "a client did not get in"),
    }
    outbox.end(Fate::Closed);
    shared.outboxes.borrow_mut().remove(&id);
    for (worker, by) in outbox.take_asked() {
        shared.clients.call(worker, by, Call::Told);
    }
    shared.clients.remove(id);
    shared.metrics.clients_ended.add(shared.worker, 1);
}

/// Takes a client's connection over. One that is ended meanwhile, or takes too long, does not get in.
async fn open(shared: &Shared, outbox: &Outbox, incoming: Incoming) -> std::io::Result<Socket> {
    let time_max = Duration::from_millis(shared.config.listen_tls_handshake_ms_max);
    let mut opening = pin!(tokio::time::timeout(time_max, Socket::open(incoming)));
    std::future::poll_fn(|cx| {
        outbox.register(cx.waker());
        if shared.draining.get() || outbox.fate() != Fate::Alive {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        opening.as_mut().poll(cx).map(|opened| opened.map_err(|_| std::io::ErrorKind::TimedOut)?)
    })
    .await
}

// === impl Shared ===

impl Shared {
    /// Takes up the policy set in force, if it is another than before.
    fn take_up_policies(&self) {
        let mut current = self.current.borrow_mut();
        if current.has_changed().unwrap_or(false) {
            let set = Arc::clone(&current.borrow_and_update());
            let policies = Policies::new(set, Arc::clone(&self.metrics), self.worker, &self.config);
            let policies = policies.recorded(&self.records);
            let mut before = self.policies.borrow_mut();
            *before = policies.after(&mut before);
        }
    }
}

// === impl Session ===

impl Session {
    fn new(shared: Rc<Shared>, socket: Socket, outbox: Rc<Outbox>, client: Arc<Client>) -> Self {
        let config = &shared.config;
        let idle = Self::idle(config).map(|time| Box::pin(tokio::time::sleep(time)));
        let db = shared.facts.borrow().db;
        Self {
            socket,
            inbox: BytesMut::new(),
            quiet: Quiet::default(),
            scanner: Scanner::new(limits(config)),
            outbox,
            protocol: Protocol::Resp2,
            db,
            authenticated: connection::greeted(&shared, &client),
            client,
            muted: Muted::No,
            held: Held::default(),
            told: Standing::default(),
            stays: false,
            untouching: false,
            traffic: [0; 3],
            last: Cow::Borrowed("NULL"),
            captured: None,
            idle,
            ended: false,
            closing: false,
            shared,
        }
    }

    fn idle(config: &Config) -> Option<Duration> {
        (config.client_idle_ms_max > 0).then(|| Duration::from_millis(config.client_idle_ms_max))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.busy.stir();
        loop {
            self.outbox.register(cx.waker());
            if self.outbox.has_missed() {
                self.look_again();
            }
            if self.ended {
                self.outbox.leave();
            }
            if !self.closing {
                self.take_commands();
            }
            self.publish_changes();
            let written = self.poll_write(cx);
            if self.outbox.fate() != Fate::Alive || written == Poll::Ready(false) {
                return Poll::Ready(());
            }
            // More can be taken now that the client has read; not while most of it stands behind a reply to come.
            let has_read = written == Poll::Ready(true) && self.outbox.len() <= OUTPUT_HELD_BYTES;
            if has_read && !self.closing && self.held.waiting == Some(Waiting::Client) {
                continue;
            }
            // Only now: who has ended may have sent what has not been taken yet.
            if written.is_ready() && self.is_over() {
                return Poll::Ready(());
            }
            match self.poll_read(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Nothing is left to do for this client.
    fn is_over(&self) -> bool {
        let draining = self.shared.draining.get() && !self.held.in_transaction();
        let blocked = self.held.is_blocked(&self.outbox);
        let leaving = self.closing || self.ended || draining;
        let answered = self.outbox.owed() == 0 || ((self.ended || draining) && blocked);
        leaving && answered && self.outbox.is_empty()
    }

    /// Reads once. Ready(false): the connection is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Who has said QUIT is still looked after: a command that blocks may be waiting for somebody who leaves.
        if self.ended || (!self.closing && self.inbox.len() > self.input_max()) {
            return Poll::Pending;
        }
        if let Some(idle) = &mut self.idle
            && idle.as_mut().poll(cx).is_ready()
        {
            // Who waits for something is not idle.
            let waits = self.outbox.owed() > 0 || self.held.is_blocked(&self.outbox);
            return Poll::Ready(waits && self.reset_idle());
        }
        self.inbox.reserve(READ_BYTES);
        match pin!(self.socket.read_buf(&mut self.inbox)).poll(cx) {
            Poll::Pending => {
                let (quiet, inbox) = (&mut self.quiet, &mut self.inbox);
                // Ready: they are small now, and there is nothing more to do.
                let _ = self.outbox.drain(|bytes| quiet.poll(cx, &mut [inbox, bytes], BUFFER_KEPT_BYTES));
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(true)
            }
            Poll::Ready(Ok(read)) => {
                self.traffic[0] += read as u64;
                self.quiet.disturb();
                self.client.counted(self.traffic);
                if self.closing {
                    self.inbox.clear();
                }
                Poll::Ready(self.reset_idle())
            }
            Poll::Ready(Err(_)) => Poll::Ready(false),
        }
    }

    fn reset_idle(&mut self) -> bool {
        if let (Some(idle), Some(time)) = (&mut self.idle, Self::idle(&self.shared.config)) {
            idle.as_mut().reset(tokio::time::Instant::now() + time);
        }
        true
    }

    /// A command that is not whole may be as long as commands may be; whole ones that wait may not pile up.
    fn input_max(&self) -> usize {
        if self.held.waiting.is_some() { INPUT_HELD_BYTES } else { usize::MAX }
    }

    /// Writes what is there. Ready(true): all of it; Ready(false): the connection is gone.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let before = self.traffic[1];
        let (socket, traffic) = (&mut self.socket, &mut self.traffic);
        let written = self.outbox.drain(|bytes| {
            while !bytes.is_empty() {
                match Pin::new(&mut *socket).poll_write(cx, bytes) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(written)) => {
                        traffic[1] += written as u64;
                        bytes.advance(written);
                    }
                }
            }
            // Nothing for a plain socket; an encrypted one may hold bytes back.
            Pin::new(socket).poll_flush(cx).map(|flushed| flushed.is_ok())
        });
        self.client.counted(self.traffic);
        if self.traffic[1] != before {
            // Who reads is not idle.
            self.reset_idle();
        }
        written
    }

    /// Why no more commands may be taken now.
    fn waiting(&self) -> Option<Waiting> {
        if self.outbox.owed() >= self.shared.config.client_pipeline_max.max(1) || self.held.is_congested(&self.outbox) {
            Some(Waiting::Lane)
        } else {
            (self.outbox.len() > OUTPUT_HELD_BYTES).then_some(Waiting::Client)
        }
    }

    /// Takes the commands that have been read, as far as they may be taken now.
    fn take_commands(&mut self) {
        self.held.waiting = None;
        if self.held.executing.is_some() && self.outbox.owed() == 0 {
            self.executed();
        }
        if self.outbox.is_asked() {
            self.own_lane();
        }
        if self.inbox.is_empty() {
            return;
        }
        self.shared.take_up_policies();
        let table = Rc::clone(&self.shared.commands.borrow());
        // One reading of the clock for the batch: its commands came together.
        let now = self.shared.clock.now();
        self.client.is_active(now);
        let mut counts = [0_u64; Kind::LABELS.len()];
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut scanner = std::mem::take(&mut self.scanner);
        while !inbox.is_empty() && !self.closing && self.outbox.fate() == Fate::Alive {
            self.held.waiting = self.waiting();
            if self.held.executing.is_some() {
                self.held.waiting = Some(Waiting::Lane);
            }
            if self.held.waiting.is_some() {
                break;
            }
            scanner.restrict(!self.authenticated);
            let Some(length) = self.take_command(&inbox, &mut scanner, &table, now, &mut counts) else { break };
            inbox.advance(length);
            scanner.reset();
        }
        (self.inbox, self.scanner) = (inbox, scanner);
        for (counter, count) in self.shared.metrics.commands.iter().zip(counts) {
            if count > 0 {
                counter.add(self.shared.worker, count);
            }
        }
    }

    /// Takes the command at the front: its length. None: there is none, or it has to wait.
    fn take_command(
        &mut self,
        inbox: &[u8],
        scanner: &mut Scanner,
        table: &Table,
        now: i64,
        counts: &mut [u64; Kind::LABELS.len()],
    ) -> Option<usize> {
        match scanner.scan(inbox) {
            Ok(Scanned::Incomplete) => None,
            Ok(Scanned::Empty(length)) => Some(length),
            Ok(Scanned::Command(length)) => {
                let command = Command { bytes: inbox.get(..length)?, args: scanner.args() };
                (self.command(&command, table, now, counts) == Flow::Taken).then_some(length)
            }
            Ok(Scanned::Inline(length, encoded)) => {
                let mut inner = Scanner::new(limits(&self.shared.config));
                let Ok(Scanned::Command(_)) = inner.scan(&encoded) else { return Some(length) };
                let command = Command { bytes: &encoded, args: inner.args() };
                (self.command(&command, table, now, counts) == Flow::Taken).then_some(length)
            }
            Err(error) => {
                self.answer(|out, _| write::error(out, &format!("ERR {error}")));
                self.closing = true;
                None
            }
        }
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        args_max: config.client_args_max,
        bulk_bytes_max: config.client_bulk_bytes_max,
        command_bytes_max: config.client_command_bytes_max,
    }
}
