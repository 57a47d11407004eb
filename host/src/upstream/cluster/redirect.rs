//! What is done with a command that a node did not run, because its slot is elsewhere, on its way, or a script is not
//! known there: it is sent again, a bounded number of times and within a bounded time. It did not run, so nothing runs
//! twice.

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::node::Sent;
use super::router::Router;
use super::topology::NodeAddress;
use crate::command::{Command, Table};
use crate::resp::request::{Limits, Scanner};
use crate::resp::{Protocol, write};

/// A command on its way, or a part of one.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) bytes: Bytes,
    /// The slot of its keys. None: it has none.
    pub(super) slot: Option<u16>,
    /// Whose reply it is, and which part of it.
    pub(super) place: u64,
    pub(super) part: usize,
    /// It changes nothing.
    pub(super) reads: bool,
    /// It has been sent again, because a connection was lost.
    pub(super) again: bool,
    /// Later commands for its slot wait for it.
    pub(super) holds: bool,
    /// It is for this node and no other.
    pub(super) fixed: bool,
    /// What is said to the node before it.
    pub(super) before: Option<Bytes>,
    /// The node was to watch its keys, and could not be told to.
    pub(super) untracked: bool,
    /// What is to be done with the reply.
    pub(super) then: Then,
    /// How often it has been sent on.
    pub(super) hops: usize,
    /// When it was first asked to be tried again.
    pub(super) since: Option<Instant>,
}

/// What is to be done with a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// It is about the connection: what is refused is not said to other nodes.
    Connection,
    /// Keys of this slot are watched.
    Watch(u16),
    /// The script of this digest is asked for.
    Script(Bytes),
}

/// What a node says of a command that it did not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect<'a> {
    /// Its slot is at another node.
    Moved(u16, &'a str),
    /// Its key is at another node, its slot is not yet.
    Ask(&'a str),
    /// Its keys are at two nodes at the moment.
    TryAgain,
    /// The cluster is not whole.
    Down,
    /// The node does not know the script.
    NoScript,
}

/// How often a command is sent on.
pub(super) const HOPS_MAX: usize = 5;
/// With so many it is sent on at once; after that, nodes do not agree yet, and it waits in between.
const HOPS_AT_ONCE: usize = 2;
const WAIT: Duration = Duration::from_millis(15);

// === impl Job ===

impl Job {
    /// A whole command.
    pub(super) fn new(bytes: Bytes, slot: Option<u16>, place: u64) -> Self {
        Self {
            bytes,
            slot,
            place,
            part: 0,
            reads: false,
            again: false,
            holds: false,
            fixed: false,
            before: None,
            untracked: false,
            then: Then::Nothing,
            hops: 0,
            since: None,
        }
    }
}

// === impl Sent ===

impl Sent {
    /// The place whose reply it is, or a part of it.
    pub(super) fn place(&self) -> Option<u64> {
        match self {
            Self::Job(job) => Some(job.place),
            Self::Tell(place) | Self::Subscribe { place, .. } => Some(*place),
            Self::Transaction(_, place) => *place,
            Self::Swallow | Self::Opening { .. } => None,
        }
    }

    /// The slot of the command, where its order counts.
    pub(super) fn slot(&self) -> Option<u16> {
        if let Self::Job(job) = self { job.slot } else { None }
    }
}

// === impl Redirect ===

impl<'a> Redirect<'a> {
    /// Reads an error. None: it is for the client.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        // Most errors are none of these.
        if !matches!(frame.get(1), Some(b'M' | b'A' | b'T' | b'C' | b'N')) {
            return None;
        }
        let text = std::str::from_utf8(frame.strip_prefix(b"-")?).ok()?.trim_end();
        let mut words = text.split(' ');
        match words.next()? {
            "MOVED" => Some(Self::Moved(words.next()?.parse().ok()?, words.next()?)),
            "ASK" => words.nth(1).map(Self::Ask),
            "TRYAGAIN" => Some(Self::TryAgain),
            "CLUSTERDOWN" => Some(Self::Down),
            "NOSCRIPT" => Some(Self::NoScript),
            _ => None,
        }
    }
}

// === impl Router ===

impl Router {
    /// What a node says of a command that it did not run. Some: that is for the client.
    pub(super) fn redirected(&mut self, index: usize, mut job: Job, frame: &[u8]) -> Option<Job> {
        let Some(redirect) = Redirect::read(frame) else { return Some(job) };
        let said_by = self.nodes.get(index)?.address.clone();
        match redirect {
            Redirect::Down => {
                self.cluster.ask_soon();
                Some(job)
            }
            Redirect::NoScript => self.not_known(index, job),
            Redirect::TryAgain => self.try_again(job),
            Redirect::Moved(slot, to) => {
                let Some(to) = NodeAddress::read(to, &said_by) else { return Some(job) };
                job.slot.get_or_insert(slot);
                self.cluster.learn(slot, &to);
                self.send_on(to, job, false);
                None
            }
            Redirect::Ask(to) => {
                let Some(to) = NodeAddress::read(to, &said_by) else { return Some(job) };
                self.send_on(to, job, true);
                None
            }
        }
    }

    fn send_on(&mut self, to: NodeAddress, mut job: Job, asking: bool) {
        job.hops += 1;
        if job.hops > HOPS_MAX {
            let error = "TRYAGAIN bellwether was sent from node to node; the cluster does not agree on a slot yet";
            return self.refuse(&job, error);
        }
        let wait = if job.hops > HOPS_AT_ONCE { WAIT } else { Duration::ZERO };
        self.send_again(job, Some((to, asking)), wait);
    }

    /// The command is tried again in a while, unless one that is behind it may have written meanwhile.
    fn try_again(&mut self, mut job: Job) -> Option<Job> {
        let since = *job.since.get_or_insert_with(Instant::now);
        let overtaken = self.in_flight().any(|other| other.slot == job.slot && !other.reads);
        if overtaken || since.elapsed() > self.cluster.route().connect_timeout {
            return Some(job);
        }
        // How long it is tried is bounded by time.
        job.hops = 0;
        self.send_again(job, None, WAIT);
        None
    }

    /// The node is told the script, where it is known here, and asked once more.
    fn not_known(&mut self, index: usize, mut job: Job) -> Option<Job> {
        let Then::Script(digest) = &job.then else { return Some(job) };
        let Some(text) = self.cluster.scripts().text(digest) else { return Some(job) };
        let mut load = Vec::new();
        write::array(&mut load, 3);
        write::bulk(&mut load, b"SCRIPT");
        write::bulk(&mut load, b"LOAD");
        write::bulk(&mut load, &text);
        job.then = Then::Nothing;
        self.send(index, &load, Sent::Swallow);
        self.transmit(index, job, false);
        None
    }

    /// Commands that have been sent and not been answered.
    fn in_flight(&self) -> impl Iterator<Item = &Job> {
        let sent = self.nodes.iter().flat_map(|node| &node.queue);
        sent.filter_map(|sent| if let Sent::Job(job) = sent { Some(job) } else { None })
    }

    /// A value was read whose key no node watches: whoever keeps it is told to forget it.
    pub(super) fn invalidate(&mut self, index: usize, job: &Job) {
        if self.protocol != Protocol::Resp3 {
            return;
        }
        let mut scanner =
            Scanner::new(Limits { args_max: usize::MAX, bulk_bytes_max: usize::MAX, command_bytes_max: usize::MAX });
        if scanner.scan(&job.bytes).is_err() || scanner.args().is_empty() {
            return;
        }
        let command = Command { bytes: &job.bytes, args: scanner.args() };
        let Some(row) = command.row(Table::newest()) else { return };
        let positions = row.keys.iter().flat_map(|keys| keys.positions(&command));
        let keys: Vec<_> = positions.filter_map(|index| command.arg(index)).collect();
        let mut push = b">2\r\n$10\r\ninvalidate\r\n".to_vec();
        write::array(&mut push, keys.len());
        keys.iter().for_each(|key| write::bulk(&mut push, key));
        self.tell(index, &push);
    }
}

#[cfg(test)]
mod tests {
    use super::Redirect;

    #[test]
    fn errors_that_are_not_for_the_client() {
        let check = |frame: &str, expect: Option<Redirect<'_>>| {
            assert_eq!(Redirect::read(frame.as_bytes()), expect, "{frame:?}");
        };
        check("-MOVED 3999 127.0.0.1:6381\r\n", Some(Redirect::Moved(3999, "127.0.0.1:6381")));
        check("-ASK 3999 :6381\r\n", Some(Redirect::Ask(":6381")));
        check("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Some(Redirect::TryAgain));
        check("-CLUSTERDOWN The cluster is down\r\n", Some(Redirect::Down));
        check("-NOSCRIPT No matching script.\r\n", Some(Redirect::NoScript));
        check("-MOVED\r\n", None);
        check("-MOVED x y\r\n", None);
        check("-MOVED 99999 y\r\n", None);
        check("-ERR x\r\n", None);
        check("+MOVED 1 x\r\n", None);
    }
}
