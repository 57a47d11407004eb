//! One client connection: reads what is there, takes its commands in order, writes what has come back. In batches: one
//! read, one write, and the lanes do the same.

mod answer;
mod client;
mod clients;
mod connection;
mod held;
mod transaction;

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
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

pub use client::take_call;
use clients::Standing;
pub use clients::{Call, Client, Clients};
use held::{Held, Waiting};

use crate::clock::Clock;
use crate::command::{Command, Kind, Row};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::policy::PolicySet;
use crate::proxy::Policies;
use crate::resp::request::{Limits, Scanned, Scanner};
use crate::resp::{Protocol, write};
use crate::upstream::{Expect, Fate, Lane, Lanes, Outbox, ServerFacts};

/// What the sessions of one worker share.
pub struct Shared {
    /// The worker's place, for counters.
    pub worker: usize,
    /// The configuration.
    pub config: Arc<Config>,
    /// The password that clients must give.
    pub password: Option<String>,
    /// The clock.
    pub clock: Clock,
    /// The worker's lanes.
    pub lanes: Lanes,
    /// The worker's policies.
    pub policies: RefCell<Policies>,
    /// The policy set in force.
    pub current: RefCell<watch::Receiver<Arc<PolicySet>>>,
    /// What is known of the server.
    pub facts: Arc<ServerFacts>,
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
    socket: TcpStream,
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
    last: &'static str,
    /// Replies go here while a transaction's own commands are answered.
    captured: Option<Vec<u8>>,
    idle: Option<Pin<Box<Sleep>>>,
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

/// What is still taken while a script runs for too long.
const URGENT: [&str; 3] = ["script|kill", "function|kill", "shutdown"];
/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// With this many bytes waiting for the client, no more commands are taken.
const OUTPUT_HELD_BYTES: usize = 1024 * 1024;
/// With this many bytes waiting for their turn, no more is read.
const INPUT_HELD_BYTES: usize = 64 * 1024;
/// A buffer that has grown past this is given back when it is empty.
const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Serves a client until it leaves, or the sidecar drains.
pub async fn serve(shared: Rc<Shared>, socket: TcpStream, client: Arc<Client>) {
    let id = client.id;
    let mut session = Session::new(Rc::clone(&shared), socket, client);
    shared.outboxes.borrow_mut().insert(id, Rc::clone(&session.outbox));
    std::future::poll_fn(|cx| session.poll(cx)).await;
    session.outbox.end(Fate::Closed);
    shared.outboxes.borrow_mut().remove(&id);
    for (worker, by) in session.outbox.take_asked() {
        shared.clients.call(worker, by, Call::Told);
    }
    shared.clients.remove(id);
    shared.metrics.clients_ended.add(shared.worker, 1);
}

// === impl Shared ===

impl Shared {
    /// Takes up the policy set in force, if it is another than before.
    fn take_up_policies(&self) {
        let mut current = self.current.borrow_mut();
        if current.has_changed().unwrap_or(false) {
            let set = Arc::clone(&current.borrow_and_update());
            let policies = Policies::new(set, Arc::clone(&self.metrics), self.worker, &self.config);
            *self.policies.borrow_mut() = policies;
        }
    }
}

// === impl Session ===

impl Session {
    fn new(shared: Rc<Shared>, socket: TcpStream, client: Arc<Client>) -> Self {
        let config = &shared.config;
        let idle = Self::idle(config).map(|time| Box::pin(tokio::time::sleep(time)));
        Self {
            socket,
            client,
            inbox: BytesMut::new(),
            scanner: Scanner::new(limits(config)),
            outbox: Rc::new(Outbox::new(config.client_output_bytes_max)),
            protocol: Protocol::Resp2,
            db: shared.facts.db,
            authenticated: shared.password.is_none(),
            muted: Muted::No,
            held: Held::default(),
            told: Standing::default(),
            stays: false,
            untouching: false,
            traffic: [0; 3],
            last: "NULL",
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
        loop {
            self.outbox.register(cx.waker());
            if !self.closing {
                self.take_commands();
            }
            self.publish_changes();
            let written = self.poll_write(cx);
            if self.outbox.fate() != Fate::Alive || written == Poll::Ready(false) || self.is_over() {
                return Poll::Ready(());
            }
            // More can be taken now that the client has read.
            if written == Poll::Ready(true) && !self.closing && self.held.waiting == Some(Waiting::Client) {
                continue;
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
        if self.closing || self.ended || self.inbox.len() > self.input_max() {
            return Poll::Pending;
        }
        if let Some(idle) = &mut self.idle
            && idle.as_mut().poll(cx).is_ready()
        {
            // Who waits for something is not idle.
            let waits = self.outbox.owed() > 0 || self.held.is_blocked(&self.outbox);
            return Poll::Ready(waits && self.reset_idle());
        }
        if self.inbox.is_empty() && self.inbox.capacity() > BUFFER_KEPT_BYTES {
            self.inbox = BytesMut::new();
        }
        self.inbox.reserve(READ_BYTES);
        match pin!(self.socket.read_buf(&mut self.inbox)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(true)
            }
            Poll::Ready(Ok(read)) => {
                self.traffic[0] += read as u64;
                self.client.counted(self.traffic);
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
            if bytes.capacity() > BUFFER_KEPT_BYTES {
                *bytes = BytesMut::new();
            }
            Poll::Ready(true)
        });
        self.client.counted(self.traffic);
        written
    }

    /// Why no more commands may be taken now.
    fn waiting(&self) -> Option<Waiting> {
        if self.outbox.owed() >= self.shared.config.client_pipeline_max || self.held.is_congested(&self.outbox) {
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
            let Some(length) = self.take_command(&inbox, &mut scanner, now, &mut counts) else { break };
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
        now: i64,
        counts: &mut [u64; Kind::LABELS.len()],
    ) -> Option<usize> {
        match scanner.scan(inbox) {
            Ok(Scanned::Incomplete) => None,
            Ok(Scanned::Empty(length)) => Some(length),
            Ok(Scanned::Command(length)) => {
                let command = Command { bytes: inbox.get(..length)?, args: scanner.args() };
                (self.command(&command, now, counts) == Flow::Taken).then_some(length)
            }
            Ok(Scanned::Inline(length, encoded)) => {
                let mut inner = Scanner::new(limits(&self.shared.config));
                let Ok(Scanned::Command(_)) = inner.scan(&encoded) else { return Some(length) };
                let command = Command { bytes: &encoded, args: inner.args() };
                (self.command(&command, now, counts) == Flow::Taken).then_some(length)
            }
            Err(error) => {
                self.answer(|out, _| write::error(out, &format!("ERR {error}")));
                self.closing = true;
                None
            }
        }
    }

    fn command(&mut self, command: &Command<'_>, now: i64, counts: &mut [u64; Kind::LABELS.len()]) -> Flow {
        let row = command.row();
        self.last = row.map_or("NULL", |row| row.name);
        self.traffic[2] += 1;
        let flow = match row {
            _ if !self.authenticated && !connection::is_allowed_unauthenticated(row) => {
                self.answer(|out, _| write::error(out, "NOAUTH Authentication required."));
                Flow::Taken
            }
            // Wrong number of arguments or unknown: the server says so in its own words.
            Some(row) if row.takes(command.args.len()) => self.known(command, row, now),
            _ => self.plain(command),
        };
        if flow == Flow::Wait {
            self.held.waiting = Some(Waiting::Lane);
            return flow;
        }
        let label = row.map_or(Kind::LABELS.len() - 1, |row| row.kind.label_index());
        if let Some(count) = counts.get_mut(label) {
            *count += 1;
        }
        self.muted = match self.muted {
            Muted::Next => Muted::This,
            Muted::This => Muted::No,
            other => other,
        };
        flow
    }

    fn known(&mut self, command: &Command<'_>, row: &Row, now: i64) -> Flow {
        match row.kind {
            Kind::Session => self.connection_command(command, row),
            Kind::Multi | Kind::Exec | Kind::Discard | Kind::Watch | Kind::Unwatch => self.transaction(command, row),
            Kind::Subscribe if !self.held.in_transaction() => self.subscribe(command),
            Kind::Monitor if !self.held.in_transaction() => self.monitor(command),
            // With more, the server itself puts more elements into EXEC's array than it has announced.
            Kind::Subscribe if command.args.len() == 2 => self.subscribe_queued(command),
            Kind::Subscribe => self.refuse_queued(command, row),
            Kind::Refused => {
                let name = command.name().escape_ascii();
                self.refuse(&format!("ERR bellwether does not pass {name} on: it cannot work through a sidecar"));
                Flow::Taken
            }
            Kind::Server if URGENT.contains(&row.name) => {
                let Some(lane) = self.urgent_lane() else { return Flow::Wait };
                self.pass(&lane, command);
                Flow::Taken
            }
            kind => self.data(command, row, kind, now),
        }
    }

    /// A command with keys, or about the server.
    fn data(&mut self, command: &Command<'_>, row: &Row, kind: Kind, now: i64) -> Flow {
        let blocks = match kind {
            Kind::Block(_) | Kind::Wait => true,
            Kind::BlockOption => command.rest(1).any(|arg| arg.eq_ignore_ascii_case(b"BLOCK")),
            _ => false,
        };
        let large = command.bytes.len() > self.shared.config.shared_command_bytes_max;
        // A script may run for long, and the server then answers other connections that it is busy.
        let Some(lane) = self.lane(blocks || large || kind == Kind::Script) else { return Flow::Wait };
        if kind == Kind::Wait && !self.held.in_transaction() {
            // What WAIT waits for is what its own connection has seen. This one has seen nothing yet; now it has seen
            // all that the server has.
            lane.send(&self.outbox, Expect::Swallow, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
        }
        self.held.blocking |= blocks;
        let mut plan = self.shared.policies.borrow_mut().decide(command, row, now);
        if self.is_muted() {
            plan.expect = Expect::Swallow;
        }
        if !plan.execute(command, &lane, &self.outbox, self.held.queued()) {
            self.held.refused();
        }
        Flow::Taken
    }

    /// A command that passes as it is.
    fn plain(&mut self, command: &Command<'_>) -> Flow {
        let large = command.bytes.len() > self.shared.config.shared_command_bytes_max;
        let Some(lane) = self.lane(large) else { return Flow::Wait };
        self.pass(&lane, command);
        Flow::Taken
    }

    fn pass(&mut self, lane: &Lane, command: &Command<'_>) {
        lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
        self.held.queue(Expect::Forward);
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        args_max: config.client_args_max,
        bulk_bytes_max: config.client_bulk_bytes_max,
        command_bytes_max: config.client_command_bytes_max,
    }
}
