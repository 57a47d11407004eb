//! MULTI to EXEC, and WATCH: at the node of the first key. MULTI is sent when that is known. What has been queued is
//! kept until EXEC, so that a transaction whose slot has moved is put together anew where it is: none of it ran. Where
//! keys were watched it cannot be, and EXEC says what it says when a watched key was written.

use std::collections::VecDeque;

use bytes::Bytes;

use super::node::Sent;
use super::plan::{self, Plan, Way};
use super::redirect::{HOPS_MAX, Job, Redirect, Then};
use super::router::Router;
use super::topology::NodeAddress;
use crate::command::{Command, Kind, Row, Table};
use crate::resp::{reply, write};

/// A transaction that is being put together, or runs.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Its own number: replies to what it sent are told from those to one that was discarded before it.
    number: u64,
    /// The slot of its keys, once there was one.
    slot: Option<u16>,
    /// Its node, once it has been told.
    at: Option<usize>,
    queued: Vec<Queued>,
    /// Of those, so many have been answered.
    answered: usize,
    bytes: usize,
    /// A command was refused here.
    refused: bool,
    /// What was watched is elsewhere by now.
    failed: bool,
    /// The place of EXEC's reply, once that has been sent.
    exec: Option<u64>,
    /// Replies that the node still owes.
    outstanding: usize,
    /// Where it is to be put together anew, and whether the node is to be asked for it.
    to: Option<(NodeAddress, bool)>,
    hops: usize,
    /// It subscribes, or no longer.
    subscribes: bool,
}

/// A command that has been queued.
#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    /// Whom the node's answer is for. None: the client has been told.
    place: Option<u64>,
}

const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
const QUEUED: &[u8] = b"+QUEUED\r\n";
const OK: &[u8] = b"+OK\r\n";
/// Larger transactions are not put together anew.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

// === impl Transaction ===

impl Transaction {
    /// Whether more may be taken: not while it runs, or is put together anew.
    pub(super) fn may_go_on(&self) -> bool {
        self.exec.is_none() && self.to.is_none()
    }

    /// Whether it is at a node.
    pub(super) fn is_at(&self, index: usize) -> bool {
        self.at == Some(index)
    }

    fn keep(&mut self, bytes: &Bytes, place: Option<u64>) {
        self.bytes += bytes.len();
        if self.bytes > KEPT_BYTES_MAX {
            self.queued.clear();
        } else {
            self.queued.push(Queued { bytes: bytes.clone(), place });
        }
    }

    /// A queued command has been answered.
    fn told(&mut self, place: u64) {
        while let Some(queued) = self.queued.get_mut(self.answered) {
            match queued.place {
                Some(other) if other != place => return,
                of => {
                    queued.place = None;
                    self.answered += 1;
                    if of.is_some() {
                        return;
                    }
                }
            }
        }
    }
}

// === impl Router ===

impl Router {
    /// A command about a transaction, or inside one.
    pub(super) fn take_in_transaction(&mut self, plan: &Plan, bytes: &Bytes, command: &Command<'_>, table: &Table) {
        let row = command.row(table).filter(|row| row.takes(command.args.len()));
        match (row.map(|row| row.kind), self.transaction.is_some()) {
            (Some(Kind::Multi), false) => {
                let slot = self.watching.map(|(slot, _)| slot);
                self.transactions += 1;
                self.transaction = Some(Transaction { number: self.transactions, slot, ..Transaction::default() });
                self.replies.give(OK);
            }
            (Some(Kind::Multi), true) => self.give_error("ERR MULTI calls can not be nested"),
            (Some(Kind::Watch), true) => self.give_error("ERR WATCH inside MULTI is not allowed"),
            (Some(Kind::Exec), true) => self.exec(bytes),
            (Some(Kind::Discard), true) => self.discard(bytes),
            (Some(Kind::Watch), false) => self.watch(bytes, command, row),
            (Some(Kind::Unwatch), false) => match self.watching.take() {
                Some((_, index)) => {
                    let place = self.replies.owe();
                    self.send(index, bytes, Sent::Tell(place));
                }
                None => self.replies.give(OK),
            },
            (_, true) => match (plan.way.clone(), &mut self.transaction) {
                (Way::Refused(why), Some(transaction)) => {
                    transaction.refused = true;
                    self.give_error(why);
                }
                _ => self.queue(plan, bytes, command, row),
            },
            (_, false) => {
                let place = self.replies.owe();
                self.dispatch(Job::new(bytes.clone(), None, place));
            }
        }
    }

    fn watch(&mut self, bytes: &Bytes, command: &Command<'_>, row: Option<&Row>) {
        let slot = row.and_then(|row| plan::slots(command, row).next()).unwrap_or_default();
        let place = self.replies.owe();
        let job = Job { then: Then::Watch(slot), ..Job::new(bytes.clone(), Some(slot), place) };
        match self.watching {
            Some((watched, _)) if watched != slot => return self.refuse(&job, CROSS_SLOT),
            Some((_, index)) => self.transmit(index, job, false),
            None => self.dispatch(job),
        }
        if self.replies.is_owed(place) {
            self.waits_for = Some(place);
        }
    }

    fn queue(&mut self, plan: &Plan, bytes: &Bytes, command: &Command<'_>, row: Option<&Row>) {
        let mut slots: Vec<_> = row.map(|row| plan::slots(command, row).collect()).unwrap_or_default();
        if let Way::Slot(slot) = plan.way {
            slots.push(slot);
        }
        let slot = slots.first().copied();
        let Some(transaction) = &mut self.transaction else { return };
        let across = slots.iter().any(|other| Some(*other) != transaction.slot.or(slot));
        if across {
            transaction.refused = true;
            return self.give_error(CROSS_SLOT);
        }
        transaction.slot = transaction.slot.or(slot);
        transaction.subscribes |= matches!(plan.way, Way::Subscribe(_));
        if transaction.at.is_none() && row.is_none() {
            // Any node says what is wrong with it.
            transaction.refused = true;
            let place = self.replies.owe();
            return self.dispatch(Job::new(bytes.clone(), None, place));
        }
        if transaction.at.is_none() && slot.is_some() && !self.begin() {
            return self.give_error("CLUSTERDOWN Hash slot not served");
        }
        let Some(transaction) = &mut self.transaction else { return };
        match transaction.at {
            None => {
                transaction.keep(bytes, None);
                self.replies.give(QUEUED);
            }
            Some(index) => {
                let place = self.replies.owe();
                transaction.keep(bytes, Some(place));
                transaction.outstanding += 1;
                let number = transaction.number;
                self.send(index, bytes, Sent::Transaction(number, Some(place)));
            }
        }
    }

    /// Tells the node of a transaction that there is one. False: no node has its slot.
    fn begin(&mut self) -> bool {
        let slot = self.transaction.as_ref().and_then(|transaction| transaction.slot);
        let index = match (self.watching, slot) {
            (Some((_, index)), _) => Some(index),
            (None, Some(slot)) => self.owner(slot),
            (None, None) => Some(self.home()),
        };
        let Some(transaction) = &mut self.transaction else { return false };
        transaction.refused |= index.is_none();
        let Some(index) = index else { return false };
        transaction.at = Some(index);
        self.put_together(index);
        true
    }

    /// Sends what a transaction consists of so far.
    fn put_together(&mut self, index: usize) {
        let Some(transaction) = &mut self.transaction else { return };
        let queued: Vec<_> = transaction.queued.iter().map(|queued| (queued.bytes.clone(), queued.place)).collect();
        transaction.outstanding += 1 + queued.len();
        let number = transaction.number;
        self.send(index, MULTI, Sent::Transaction(number, None));
        for (bytes, place) in queued {
            self.send(index, &bytes, Sent::Transaction(number, place));
        }
    }

    fn exec(&mut self, bytes: &Bytes) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.refused) {
            self.leave_transaction();
            return self.give_error(ABORTED);
        }
        let begun = self.transaction.as_ref().is_some_and(|transaction| transaction.at.is_some());
        if !begun && !self.begin() {
            self.leave_transaction();
            return self.give_error(ABORTED);
        }
        let place = self.replies.owe();
        let Some(transaction) = &mut self.transaction else { return };
        transaction.exec = Some(place);
        transaction.outstanding += 1;
        if let (number, Some(index)) = (transaction.number, transaction.at) {
            self.send(index, bytes, Sent::Transaction(number, Some(place)));
        }
    }

    fn discard(&mut self, bytes: &Bytes) {
        match self.transaction.as_ref().and_then(|transaction| transaction.at) {
            Some(index) => {
                let place = self.replies.owe();
                self.send(index, bytes, Sent::Tell(place));
                (self.transaction, self.watching) = (None, None);
            }
            None => {
                self.leave_transaction();
                self.replies.give(OK);
            }
        }
    }

    /// Ends a transaction that does not run.
    fn leave_transaction(&mut self) {
        let at = self.transaction.take().and_then(|transaction| transaction.at);
        match (at, self.watching.take()) {
            (Some(index), _) => self.send(index, DISCARD, Sent::Swallow),
            (None, Some((_, index))) => self.send(index, UNWATCH, Sent::Swallow),
            (None, None) => {}
        }
    }

    /// The node of a transaction cannot be reached: it does not run, and the connection goes on.
    pub(super) fn transaction_not_sent(&mut self, queue: &VecDeque<Sent>, why: &str) {
        let Some(transaction) = &mut self.transaction else { return };
        let exec = transaction.exec;
        (transaction.at, transaction.refused, transaction.outstanding) = (None, true, 0);
        if exec.is_some() {
            self.transaction = None;
        }
        for place in queue.iter().filter_map(Sent::place) {
            let mut error = Vec::new();
            write::error(&mut error, if Some(place) == exec { ABORTED } else { why });
            self.fill_from_here(place, 0, error.into());
        }
    }

    /// The node of a transaction has answered a part of it.
    pub(super) fn answered_in_transaction(&mut self, index: usize, number: u64, place: Option<u64>, frame: Bytes) {
        let refused = frame.first() == Some(&reply::kind::ERROR);
        let redirect = if refused { Redirect::read(&frame) } else { None };
        let to = match redirect {
            Some(Redirect::Moved(_, to)) => Some((to, false)),
            Some(Redirect::Ask(to)) => Some((to, true)),
            _ => None,
        };
        let said_by = self.nodes.get(index).map(|node| node.address.clone());
        let to = to.zip(said_by).and_then(|((to, asking), by)| Some((NodeAddress::read(to, &by)?, asking)));
        if let (Some(Redirect::Moved(slot, _)), Some((address, _))) = (&redirect, &to) {
            self.cluster.learn(*slot, address);
        }
        let watching = self.watching.is_some();
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.number == number) else {
            // It was discarded meanwhile.
            let frame = if to.is_some() { Bytes::from_static(QUEUED) } else { frame };
            return place.into_iter().for_each(|place| self.fill(index, place, 0, frame.clone()));
        };
        transaction.outstanding = transaction.outstanding.saturating_sub(1);
        let runs = place.is_some() && place == transaction.exec;
        if transaction.to.is_none()
            && let Some(to) = to
        {
            let kept = transaction.bytes <= KEPT_BYTES_MAX && transaction.hops < HOPS_MAX;
            if !watching && kept {
                transaction.to = Some(to);
                transaction.hops += 1;
            }
            transaction.failed |= watching;
            transaction.refused |= !kept && !watching;
            if transaction.to.is_none() && !runs {
                place.into_iter().for_each(|place| transaction.told(place));
                return place.into_iter().for_each(|place| self.fill(index, place, 0, Bytes::from_static(QUEUED)));
            }
        }
        if transaction.to.is_some() {
            if transaction.outstanding == 0 {
                self.anew(index);
            }
            return;
        }
        let Some(place) = place else { return };
        transaction.told(place);
        let (failed, subscribes) = (transaction.failed, transaction.subscribes);
        if !runs {
            return self.fill(index, place, 0, frame);
        }
        if subscribes {
            self.subscribed_in_transaction(index, &frame);
        }
        (self.transaction, self.watching) = (None, None);
        let frame = if failed {
            let mut nil = Vec::new();
            write::nil_array(&mut nil, self.protocol);
            nil.into()
        } else if refused && Redirect::read(&frame).is_some_and(|redirect| matches!(redirect, Redirect::Moved(..))) {
            format!("-{ABORTED}\r\n").into()
        } else {
            frame
        };
        self.fill(index, place, 0, frame);
    }

    /// Puts a transaction together where its slot is now.
    fn anew(&mut self, from: usize) {
        self.take_up_map();
        let Some(transaction) = &mut self.transaction else { return };
        let Some((to, asking)) = transaction.to.take() else { return };
        let (number, exec) = (transaction.number, transaction.exec);
        if exec.is_none() {
            self.send(from, DISCARD, Sent::Swallow);
        }
        let index = self.index_of(&to);
        if asking {
            self.send(index, ASKING, Sent::Swallow);
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.at = Some(index);
            transaction.outstanding = usize::from(exec.is_some());
        }
        self.put_together(index);
        if let Some(place) = exec {
            self.send(index, b"*1\r\n$4\r\nEXEC\r\n", Sent::Transaction(number, Some(place)));
        }
    }
}
