//! Subscriptions in a cluster: channels and patterns at one node of the connection, shard channels at the nodes of
//! their slots. What nodes say unasked is handed on as it comes; only the number of shard channels is made that of all
//! nodes.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::merge::Merge;
use super::node::Sent;
use super::plan::{self, Channels, Plan, Way};
use super::redirect::{HOPS_MAX, Job, Redirect};
use super::router::Router;
use super::slot::key_slot;
use super::topology::NodeAddress;
use crate::command::Command;
use crate::resp::{Protocol, reply, write};
use crate::upstream::expect::{self, PubSub};
use crate::upstream::outbox::Channels as Of;

/// What the connection is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// There was a command that subscribes.
    begun: bool,
    /// Where the last command of that family went: a PING behind it tells that it has been answered.
    fence: Vec<usize>,
    /// Shard channels, and where.
    shards: FxHashMap<Bytes, usize>,
}

/// What a node says when it was emptied, to who keeps what it has read there.
const ALL_INVALID: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

// === impl Router ===

impl Router {
    /// A command that subscribes, or no longer.
    pub(super) fn subscribe(&mut self, channels: Channels, bytes: &Bytes, command: &Command<'_>) {
        self.subscriptions.begun = true;
        let several = (command.args.len() > 1).then(|| command.args.len() - 1);
        match channels {
            Channels::Plain => {
                let home = self.home();
                self.subscribe_at(home, bytes.clone(), several);
                self.subscriptions.fence = vec![home];
            }
            Channels::Shards => match self.owner(key_slot(command.arg(1).unwrap_or_default())) {
                Some(index) => {
                    self.subscribe_at(index, bytes.clone(), several);
                    self.subscriptions.fence = vec![index];
                }
                None => {
                    self.give_error("CLUSTERDOWN Hash slot not served");
                    self.subscriptions.fence.clear();
                }
            },
            Channels::NoShards if several.is_none() => {
                let with =
                    (0..self.nodes.len()).filter(|index| self.nodes.get(*index).is_some_and(|node| node.shards > 0));
                let mut at: Vec<_> = with.collect();
                if at.is_empty() {
                    at.push(self.home());
                }
                at.iter().for_each(|index| self.subscribe_at(*index, bytes.clone(), None));
                self.subscriptions.fence = at;
            }
            Channels::NoShards => self.unsubscribe_shards(command),
        }
    }

    /// Each shard channel at the node where it is.
    fn unsubscribe_shards(&mut self, command: &Command<'_>) {
        let home = self.home();
        let mut at: Vec<(usize, Vec<&[u8]>)> = Vec::new();
        for channel in command.rest(1) {
            let index = self.subscriptions.shards.get(channel).copied().unwrap_or(home);
            match at.iter_mut().find(|(known, _)| *known == index) {
                Some((_, channels)) => channels.push(channel),
                None => at.push((index, vec![channel])),
            }
        }
        for (index, channels) in &at {
            let mut bytes = Vec::new();
            write::array(&mut bytes, 1 + channels.len());
            write::bulk(&mut bytes, command.name());
            channels.iter().for_each(|channel| write::bulk(&mut bytes, channel));
            self.subscribe_at(*index, bytes.into(), Some(channels.len()));
        }
        self.subscriptions.fence = at.into_iter().map(|(index, _)| index).collect();
    }

    fn subscribe_at(&mut self, index: usize, bytes: Bytes, confirmations: Option<usize>) {
        let place = self.replies.owe();
        let job = Job::new(bytes.clone(), None, place);
        self.send(index, &bytes, Sent::Subscribe { place, confirmations, job: Some(job) });
    }

    /// Takes a command that has to do with what the connection is subscribed to. False: it is one like any other.
    pub(super) fn take_subscribed(&mut self, plan: &Plan, bytes: &Bytes, command: &Command<'_>) -> bool {
        if !self.subscriptions.begun || matches!(plan.way, Way::Subscribe(_)) {
            return false;
        }
        let fence = std::mem::take(&mut self.subscriptions.fence);
        if !fence.is_empty() && command.name().eq_ignore_ascii_case(b"PING") {
            let place = self.replies.owe_parts(Merge::First, fence.len());
            for (part, index) in fence.into_iter().enumerate() {
                self.transmit(index, Job { part, fixed: true, ..Job::new(bytes.clone(), None, place) }, false);
            }
            return true;
        }
        if self.protocol == Protocol::Resp3 {
            return false;
        }
        // A connection that subscribes may do little else, and the node says so in its own words; not of a command
        // whose keys are at another node, which it would name first.
        let Some(index) = self.nodes.iter().position(|node| node.channels > 0 || node.shards > 0) else { return false };
        let row = command.row(&self.table).filter(|row| plan::slots(command, row).next().is_some());
        if let Some(row) = row {
            let only = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
            let why = format!("ERR Can't execute '{}': {only}", row.name);
            self.give_error(&why);
            return true;
        }
        let place = self.replies.owe();
        self.send(index, bytes, Sent::Tell(place));
        true
    }

    /// The confirmations that are among the replies of a transaction.
    pub(super) fn subscribed_in_transaction(&mut self, index: usize, frame: &[u8]) {
        for element in reply::elements(frame).unwrap_or_default() {
            let (Some(PubSub::Confirmation { count, .. }), Some(node)) =
                (expect::pub_sub(element), self.nodes.get_mut(index))
            else {
                continue;
            };
            node.channels = count;
            self.subscriptions.begun = true;
            // All others are at the same node.
            self.home = index;
        }
    }

    /// Whether it is not known yet if the connection is subscribed, and so what it may do.
    pub(super) fn may_be_subscribed(&self, plan: &Plan, command: &Command<'_>) -> bool {
        if !self.subscriptions.begun || self.protocol == Protocol::Resp3 || matches!(plan.way, Way::Subscribe(_)) {
            return false;
        }
        let fence = !self.subscriptions.fence.is_empty() && command.name().eq_ignore_ascii_case(b"PING");
        let asked = |sent: &Sent| matches!(sent, Sent::Subscribe { .. });
        !fence && self.nodes.iter().any(|node| node.queue.iter().any(asked))
    }

    /// Whether a frame answers no command.
    pub(super) fn is_unasked(&self, index: usize, frame: &[u8]) -> bool {
        if frame.first() == Some(&reply::kind::PUSH) {
            return true;
        }
        if self.monitoring && expect::is_monitored(frame) {
            return true;
        }
        if !self.subscriptions.begun || self.protocol == Protocol::Resp3 {
            return false;
        }
        match expect::pub_sub(frame) {
            None => false,
            Some(PubSub::Confirmation { .. }) => true,
            Some(PubSub::Message) => self.nodes.get(index).is_some_and(|node| node.channels > 0 || node.shards > 0),
        }
    }

    /// Hands it on.
    pub(super) fn unasked(&mut self, index: usize, frame: &[u8]) {
        if frame == ALL_INVALID {
            // Each node says it. Who has been given nothing since need not be told again.
            if !std::mem::replace(&mut self.all_invalid, true) {
                self.tell(index, frame);
            }
            return;
        }
        let Some(PubSub::Confirmation { of, count }) = expect::pub_sub(frame) else { return self.tell(index, frame) };
        let elements = reply::elements(frame).unwrap_or_default();
        let channel = elements.get(1).and_then(|channel| reply::text(channel)).unwrap_or_default();
        let Some(node) = self.nodes.get_mut(index) else { return };
        let mut told = Bytes::copy_from_slice(frame);
        if of == Of::Shards {
            node.shards = count;
            let shards = &mut self.subscriptions.shards;
            if elements.first().and_then(|word| reply::text(word)) == Some(b"ssubscribe") {
                shards.insert(Bytes::copy_from_slice(channel), index);
            } else if shards.get(channel) == Some(&index) {
                shards.remove(channel);
            }
            told = renumbered(frame, shards.len());
        } else {
            node.channels = count;
        }
        let Some(Sent::Subscribe { place, confirmations, .. }) = node.queue.front_mut() else {
            return self.tell(index, &told);
        };
        let place = *place;
        self.replies.tell(Some(place), &told);
        if let Some(missing) = confirmations {
            *missing -= 1;
            if *missing == 0 {
                node.queue.pop_front();
                self.fill(index, place, 0, Bytes::new());
            }
        }
    }

    /// What came in the place of a confirmation.
    pub(super) fn not_confirmed(&mut self, index: usize, place: u64, job: Option<Job>, frame: Bytes) {
        if frame.first() != Some(&reply::kind::ERROR) {
            // So all have come, and this answers the next command.
            self.fill(index, place, 0, Bytes::new());
            return self.frame(index, frame);
        }
        let said_by = self.nodes.get(index).map(|node| node.address.clone());
        if let (Some(mut job), Some(Redirect::Moved(slot, to)), Some(said_by)) = (job, Redirect::read(&frame), said_by)
            && let Some(to) = NodeAddress::read(to, &said_by)
            && job.hops < HOPS_MAX
        {
            job.hops += 1;
            self.cluster.learn(slot, &to);
            self.take_up_map();
            let to = self.index_of(&to);
            let bytes = job.bytes.clone();
            // A place for one of them each; their number is in the command.
            let confirmations = Some(array_length(&bytes).saturating_sub(1));
            return self.send(to, &bytes, Sent::Subscribe { place, confirmations, job: Some(job) });
        }
        self.fill(index, place, 0, frame);
    }
}

/// A confirmation with another number at its end.
fn renumbered(frame: &[u8], count: usize) -> Bytes {
    let end = memchr::memrchr(b':', frame).unwrap_or(frame.len());
    let mut out = frame.get(..end).unwrap_or_default().to_vec();
    write::integer(&mut out, i64::try_from(count).unwrap_or(i64::MAX));
    out.into()
}

/// How many arguments a command has.
fn array_length(bytes: &[u8]) -> usize {
    let digits: Vec<u8> = bytes.iter().skip(1).copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::{array_length, renumbered};

    #[test]
    fn confirmations_count_all_nodes() {
        let frame = b">3\r\n$10\r\nssubscribe\r\n$3\r\na:1\r\n:1\r\n";
        assert_eq!(&renumbered(frame, 12)[..], b">3\r\n$10\r\nssubscribe\r\n$3\r\na:1\r\n:12\r\n");
        assert_eq!(array_length(b"*12\r\n$1\r\n"), 12);
    }
}
