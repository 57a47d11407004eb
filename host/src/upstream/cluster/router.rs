//! One lane's side of the cluster: takes its commands off the pipe, sends each where it belongs, and gives the replies
//! back in order. Owns the connections to the nodes, which are opened when they are first needed.
//!
//! The order of commands is kept for each slot, also when some of them are redirected: later ones then wait. Between
//! slots there is none, as between the nodes of a cluster.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream};
use tokio::time::{Instant, Interval, Sleep};

use super::Cluster;
use super::node::{Node, Sent};
use super::plan::{Holds, Plan, Way};
use super::pub_sub::Subscriptions;
use super::redirect::{Job, Then};
use super::replies::Replies;
use super::said::Said;
use super::topology::{Map, NodeAddress};
use super::transaction::Transaction;
use crate::buffers::release;
use crate::command::{Command, Table};
use crate::resp::request::{Limits, Scanned, Scanner};
use crate::resp::{Protocol, reply, write};
use crate::upstream::lane::{BUFFER_KEPT_BYTES, Losses};
use crate::upstream::stream::Stream;

/// One lane's side of the cluster.
pub(super) struct Router {
    pub(super) cluster: Cluster,
    pipe: DuplexStream,
    inbox: BytesMut,
    scanner: Scanner,
    pub(super) table: Arc<Table>,
    pub(super) map: Arc<Map>,
    pub(super) nodes: Vec<Node>,
    /// The nodes by their places in the map, as far as they have been looked up.
    pub(super) by_place: Vec<Option<usize>>,
    pub(super) replies: Replies,
    /// How many nodes have been lost that may have been written to.
    pub(super) losses: Losses,
    pub(super) protocol: Protocol,
    /// The node of commands that any may have.
    pub(super) home: usize,
    /// What has been said of the connection, which every node is told.
    pub(super) said: Vec<Said>,
    /// What goes to the node of the next command, before it.
    pub(super) before_next: Option<Bytes>,
    /// Slots whose next commands wait.
    pub(super) held: FxHashMap<u16, Hold>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// No command is taken until this reply is there.
    pub(super) waits_for: Option<u64>,
    pub(super) transaction: Option<Transaction>,
    /// How many there have been.
    pub(super) transactions: u64,
    /// Keys of this slot are watched, at this node.
    pub(super) watching: Option<(u16, usize)>,
    pub(super) subscriptions: Subscriptions,
    pub(super) monitoring: bool,
    /// The last that was said is that nothing read before is valid.
    pub(super) all_invalid: bool,
    /// Scripts that have been remembered, by a hash of their text.
    pub(super) seen: FxHashSet<u64>,
    pub(super) look: Interval,
    /// The pipe is to be closed.
    pub(super) ended: bool,
}

/// A slot whose next commands wait until those before them have been answered.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// How many have been sent, or are to be sent again.
    pub(super) outstanding: usize,
    /// Those that are to be sent again, in their order, as soon as no others are on their way.
    pub(super) again: Vec<Job>,
    /// Where to, and whether the node is to be asked for it. None: to the node of the slot.
    pub(super) to: Option<(NodeAddress, bool)>,
    /// Not before then.
    pub(super) not_before: Option<Instant>,
    /// The next ones.
    pub(super) waiting: VecDeque<Job>,
}

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Commands that may wait for their replies before no more are taken.
const COMMANDS_MAX: usize = 64 * 1024;
/// Bytes of replies that may wait for one before them; then only the nodes that hold them up are read.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often silent nodes are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// A node that is silent for so long may have been replaced.
pub(super) const SILENT: Duration = Duration::from_secs(2);
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

// === impl Router ===

impl Router {
    /// A router that has a connection to one node already.
    pub(super) fn new(cluster: Cluster, pipe: DuplexStream, address: NodeAddress, stream: Stream) -> Self {
        let limits = Limits { args_max: usize::MAX, bulk_bytes_max: usize::MAX, command_bytes_max: usize::MAX };
        let (table, map) = (cluster.table(), cluster.map());
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self {
            cluster,
            pipe,
            inbox: BytesMut::new(),
            scanner: Scanner::new(limits),
            table,
            map,
            nodes: vec![Node::connected(address, stream)],
            by_place: Vec::new(),
            replies: Replies::default(),
            losses: Losses::default(),
            protocol: Protocol::Resp2,
            home: 0,
            said: Vec::new(),
            before_next: None,
            held: FxHashMap::default(),
            timer: None,
            waits_for: None,
            transaction: None,
            transactions: 0,
            watching: None,
            subscriptions: Subscriptions::default(),
            monitoring: false,
            all_invalid: false,
            seen: FxHashSet::default(),
            look,
            ended: false,
        }
    }

    /// Serves until the lane closes the pipe, or what it holds at a node is lost.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_up_map();
            self.poll_time(cx);
            let mut more = false;
            match self.poll_pipe(cx) {
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Ready(true) => more = true,
                Poll::Pending => {}
            }
            self.take_commands();
            for index in 0..self.nodes.len() {
                more |= self.poll_node(index, cx);
            }
            if self.poll_give(cx).is_err() {
                return Poll::Ready(());
            }
            let over = self.ended || self.replies.has_ended();
            if over && self.replies.ready().is_empty() {
                return Poll::Ready(());
            }
            // What has been answered may let commands go on that wait here.
            self.take_up_map();
            more |= self.take_commands();
            if over || !more {
                return Poll::Pending;
            }
        }
    }

    /// Reads commands once. Ready(false): the lane is gone.
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.may_take() && self.inbox.len() > READ_BYTES {
            // Who waits for a command that blocks is looked after, now and whenever nodes are: nothing wakes us.
            let gone =
                self.waits_for.is_some() && matches!(Pin::new(&mut self.pipe).poll_write(cx, &[]), Poll::Ready(Err(_)));
            return if gone { Poll::Ready(false) } else { Poll::Pending };
        }
        self.inbox.reserve(READ_BYTES);
        match pin!(self.pipe.read_buf(&mut self.inbox)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => Poll::Ready(read.is_ok_and(|read| read > 0)),
        }
    }

    /// Gives the lane what is ready.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        let ready = self.replies.ready();
        while !ready.is_empty() {
            match Pin::new(&mut self.pipe).poll_write(cx, ready) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(written)) if written > 0 => ready.advance(written),
                Poll::Ready(_) => return Err(()),
            }
        }
        release(ready, BUFFER_KEPT_BYTES);
        Ok(())
    }

    /// Connects, writes to and reads from a node. True: something has come.
    fn poll_node(&mut self, index: usize, cx: &mut Context<'_>) -> bool {
        let held_up =
            self.replies.waiting_bytes() > WAITING_BYTES_MAX || self.replies.ready().len() > WAITING_BYTES_MAX;
        let first = self.replies.first();
        let owes = |node: &Node| node.queue.iter().any(|sent| sent.place() == Some(first));
        // The first may itself wait here for others of its slot.
        let may_read = !held_up || self.nodes.get(index).is_some_and(owes) || !self.nodes.iter().any(owes);
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_used()) else { return false };
        let step = (|| {
            let connected = node.poll_connect(cx)?;
            node.poll_write(cx)?;
            Ok::<_, std::io::Error>((may_read && node.poll_read(cx)?) || connected)
        })();
        match step {
            Ok(false) => false,
            Ok(true) => {
                self.frames(index);
                true
            }
            Err(error) => {
                self.lose(index, &error.to_string());
                true
            }
        }
    }

    fn frames(&mut self, index: usize) {
        while let Some(node) = self.nodes.get_mut(index) {
            match node.frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.frame(index, frame),
                Err(error) => return self.lose(index, &error.to_string()),
            }
        }
    }

    /// A whole frame of a node.
    pub(super) fn frame(&mut self, index: usize, frame: Bytes) {
        if self.is_unasked(index, &frame) {
            return self.unasked(index, &frame);
        }
        let Some(sent) = self.nodes.get_mut(index).and_then(|node| node.queue.pop_front()) else {
            return self.lose(index, "it sent a reply that nobody asked for");
        };
        let refused = frame.first() == Some(&reply::kind::ERROR);
        match sent {
            Sent::Swallow => {}
            Sent::Opening { needed } => {
                if needed && refused {
                    let text = String::from_utf8_lossy(reply::text(&frame).unwrap_or_default()).into_owned();
                    return self.lose(index, &format!("it refuses us: {text}"));
                }
                self.nodes.get_mut(index).into_iter().for_each(Node::opened);
            }
            Sent::Job(job) => self.answered(index, job, frame),
            Sent::Tell(place) => self.fill(index, place, 0, frame),
            Sent::Subscribe { place, job, .. } => self.not_confirmed(index, place, job, frame),
            Sent::Transaction(number, place) => self.answered_in_transaction(index, number, place, frame),
        }
    }

    /// A node has answered a command or a part of one.
    fn answered(&mut self, index: usize, job: Job, frame: Bytes) {
        let refused = frame.first() == Some(&reply::kind::ERROR);
        let job = if refused { self.redirected(index, job, &frame) } else { Some(job) };
        let Some(job) = job else { return };
        match job.then {
            Then::Connection => {
                // HELLO alone is answered with a map; in RESP2 that is an array.
                match frame.first() {
                    Some(b'%') => self.protocol = Protocol::Resp3,
                    Some(b'*') => self.protocol = Protocol::Resp2,
                    _ => {}
                }
                self.answered_said(job.place, refused);
            }
            Then::Watch(slot) if !refused => self.watching = Some((slot, index)),
            _ => {}
        }
        self.fill(index, job.place, job.part, frame);
        if job.untracked {
            self.invalidate(index, &job);
        }
        self.settle(job.slot);
    }

    /// A place, or a part of it, has its reply.
    pub(super) fn fill(&mut self, index: usize, place: u64, part: usize, frame: Bytes) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.answered = Some(place);
        }
        self.all_invalid = false;
        self.fill_from_here(place, part, frame);
    }

    /// The same, and it is not a node that says it.
    pub(super) fn fill_from_here(&mut self, place: u64, part: usize, frame: Bytes) {
        self.replies.fill(place, part, frame, self.protocol);
        if self.waits_for.is_some_and(|place| !self.replies.is_owed(place)) {
            self.waits_for = None;
        }
    }

    /// Answers with an error of our own.
    pub(super) fn refuse(&mut self, job: &Job, message: &str) {
        let mut error = Vec::new();
        write::error(&mut error, message);
        self.fill_from_here(job.place, job.part, error.into());
        self.settle(job.slot);
    }

    /// Whether commands may be taken.
    fn may_take(&self) -> bool {
        let waiting: usize = self.nodes.iter().map(Node::waiting_bytes).sum();
        self.waits_for.is_none()
            && self.transaction.as_ref().is_none_or(Transaction::may_go_on)
            && self.replies.len() < COMMANDS_MAX
            && self.replies.waiting_bytes() <= WAITING_BYTES_MAX
            && waiting <= self.cluster.route().bytes_max
            && self.held.values().map(|hold| hold.waiting.len()).sum::<usize>() < COMMANDS_MAX
    }

    /// Takes the commands that have been read, as far as they may be taken now. True: there were some.
    fn take_commands(&mut self) -> bool {
        let mut taken = false;
        if self.inbox.is_empty() || self.ended {
            return taken;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut scanner = std::mem::take(&mut self.scanner);
        let table = Arc::clone(&self.table);
        while !self.ended && self.may_take() {
            match scanner.scan(&inbox) {
                Ok(Scanned::Incomplete) => break,
                Ok(Scanned::Empty(length)) => inbox.advance(length),
                Ok(Scanned::Command(length)) => {
                    let command = Command { bytes: inbox.get(..length).unwrap_or_default(), args: scanner.args() };
                    let plan = Plan::of(&command, &table);
                    if self.must_wait(&plan, &command) {
                        break;
                    }
                    let bytes = inbox.split_to(length).freeze();
                    self.take(plan, &bytes, &Command { bytes: &bytes, args: scanner.args() }, &table);
                }
                // Lanes write arrays only.
                Ok(Scanned::Inline(..)) | Err(_) => self.ended = true,
            }
            taken = true;
            scanner.reset();
        }
        (self.inbox, self.scanner) = (inbox, scanner);
        taken
    }

    /// One command.
    fn take(&mut self, plan: Plan, bytes: &Bytes, command: &Command<'_>, table: &Table) {
        if self.transaction.is_none() && self.take_subscribed(&plan, bytes, command) {
            return;
        }
        if self.transaction.is_some() || plan.way == Way::Transaction {
            return self.take_in_transaction(&plan, bytes, command, table);
        }
        let (reads, holds) = (plan.reads, plan.holds == Holds::Slot);
        let before = if plan.way == Way::BeforeNext { None } else { self.before_next.take() };
        match plan.way {
            Way::Slot(slot) => {
                let then = self.script(command);
                let job = Job { before, reads, holds, then, ..Job::new(bytes.clone(), Some(slot), self.replies.owe()) };
                if plan.holds == Holds::All {
                    self.waits_for = Some(job.place);
                }
                self.dispatch(job);
            }
            Way::Split(parts, merge) => {
                let place = self.replies.owe_parts(merge, parts.len());
                for (part, of) in parts.into_iter().enumerate() {
                    let holds = of.several && !reads;
                    let job = Job::new(of.bytes, Some(of.slot), place);
                    self.dispatch(Job { part, before: before.clone(), reads, holds, ..job });
                }
            }
            Way::Any => {
                let then = self.script(command);
                let job = Job { before, reads, then, ..Job::new(bytes.clone(), None, self.replies.owe()) };
                self.dispatch(job);
            }
            Way::Masters(merge) => {
                self.script(command);
                self.send_to_masters(bytes, merge, reads, None);
            }
            Way::Wait(merge) => {
                // What a connection waits for is what it has seen: now it has seen all that its node has.
                let place = self.send_to_masters(bytes, merge, false, Some(PING));
                self.waits_for = Some(place);
            }
            Way::Monitor => {
                self.monitoring = true;
                self.send_to_masters(bytes, super::merge::Merge::First, false, None);
            }
            Way::Connection(about) => self.say(about, bytes),
            Way::BeforeNext => self.say_before_next(bytes, command),
            Way::Scan => self.scan(bytes, command),
            Way::Subscribe(channels) => self.subscribe(channels, bytes, command),
            Way::Refused(why) => self.give_error(why),
            Way::Transaction => {}
        }
    }

    pub(super) fn give_error(&mut self, message: &str) {
        let mut error = Vec::new();
        write::error(&mut error, message);
        self.replies.give(error);
    }

    /// Sends a command to all masters: the place of its reply.
    pub(super) fn send_to_masters(
        &mut self,
        bytes: &Bytes,
        merge: super::merge::Merge,
        reads: bool,
        first: Option<&'static [u8]>,
    ) -> u64 {
        let masters: Vec<_> = self.map.masters().map(|(_, address)| address.clone()).collect();
        let place = self.replies.owe_parts(merge, masters.len());
        for (part, address) in masters.iter().enumerate() {
            let index = self.index_of(address);
            if let Some(first) = first {
                self.send(index, first, Sent::Swallow);
            }
            let job = Job::new(bytes.clone(), None, place);
            self.transmit(index, Job { part, reads, fixed: true, ..job }, false);
        }
        place
    }

    /// Sends a command where it belongs, or lets it wait behind what is before it in its slot.
    pub(super) fn dispatch(&mut self, job: Job) {
        match job.slot.and_then(|slot| self.held.get_mut(&slot)) {
            Some(hold) => hold.waiting.push_back(job),
            None => self.go(job),
        }
    }

    fn go(&mut self, job: Job) {
        let Some(slot) = job.slot else {
            let home = self.home();
            return self.transmit(home, job, false);
        };
        if job.holds {
            self.hold(slot, 1);
        }
        match self.owner(slot) {
            Some(index) => self.transmit(index, job, false),
            None => {
                self.cluster.ask_soon();
                self.refuse(&job, "CLUSTERDOWN Hash slot not served");
            }
        }
    }

    /// Sends a command to a node; one that asks for it is first told that it was asked.
    pub(super) fn transmit(&mut self, index: usize, mut job: Job, asking: bool) {
        if asking {
            self.send(index, ASKING, Sent::Swallow);
            // The two do not go together: the second would be for the first, and not for the command.
            job.untracked |= job.before.take().is_some();
        } else if let Some(before) = job.before.clone() {
            self.send(index, &before, Sent::Swallow);
        }
        let bytes = job.bytes.clone();
        self.send(index, &bytes, Sent::Job(job));
    }

    /// Sends bytes to a node.
    pub(super) fn send(&mut self, index: usize, bytes: &[u8], sent: Sent) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        if !node.is_used() {
            let (cluster, address) = (self.cluster.clone(), node.address.clone());
            let needed = |about: &str| matches!(about, "auth" | "hello" | "client|tracking");
            let opening = self.said.iter().map(Said::words).map(|(about, bytes)| (bytes, needed(about)));
            node.open(async move { cluster.reach(address).await }, opening);
        }
        node.send(bytes, sent);
    }
}
