//! Which node a command goes to: what the map says, what waits in a slot, and where a walk over all keys goes on.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cursor::Cursor;
use super::merge::Merge;
use super::node::{Node, Sent};
use super::plan::{Plan, Way};
use super::redirect::Job;
use super::router::{Hold, Router, SILENT};
use super::topology::NodeAddress;
use crate::command::Command;
use crate::resp::write;

// === impl Router ===

impl Router {
    /// Takes up which node has which slot, where that has changed.
    pub(super) fn take_up_map(&mut self) {
        if self.cluster.version() == self.map.version {
            return;
        }
        self.map = self.cluster.map();
        self.by_place.clear();
        // What is on its way to where a slot was is not to be overtaken by what goes to where it is.
        let of_node = |node: &Node| -> Vec<u16> {
            let slots = node.queue.iter().filter_map(Sent::slot);
            slots.filter(|slot| self.map.owner(*slot) != Some(&node.address)).collect()
        };
        let elsewhere: Vec<_> = self.nodes.iter().flat_map(of_node).collect();
        elsewhere.into_iter().for_each(|slot| self.hold(slot, 0));
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(index) else { continue };
            if !node.is_used() || self.map.is_master(&node.address) {
                continue;
            }
            if self.tracking().is_some() {
                // Another node is written to from now on, and this one may not say so in time.
                self.ended = true;
            } else if node.queue.is_empty() && !self.depends_on(index) {
                self.losses.add();
                drop(self.nodes.get_mut(index).map(Node::close));
            }
        }
    }

    /// The connection to the node of a slot. None: no node has it.
    pub(super) fn owner(&mut self, slot: u16) -> Option<usize> {
        let place = self.map.place_of(slot)?;
        if let Some(Some(index)) = self.by_place.get(place) {
            return Some(*index);
        }
        let address = self.map.owner(slot)?.clone();
        let index = self.index_of(&address);
        if self.by_place.len() <= place {
            self.by_place.resize(place + 1, None);
        }
        self.by_place.get_mut(place).into_iter().for_each(|known| *known = Some(index));
        Some(index)
    }

    /// The connection to a node.
    pub(super) fn index_of(&mut self, address: &NodeAddress) -> usize {
        let known = self.nodes.iter().position(|node| node.address == *address);
        known.unwrap_or_else(|| {
            // The place of one that is not used may be taken, so that nodes that come and go do not pile up.
            let free = self.nodes.iter().position(|node| !node.is_used() && !self.map.is_master(&node.address));
            let node = Node::new(address.clone());
            match free.and_then(|index| Some((index, self.nodes.get_mut(index)?))) {
                Some((index, place)) => {
                    *place = node;
                    self.by_place.clear();
                    index
                }
                None => {
                    self.nodes.push(node);
                    self.nodes.len() - 1
                }
            }
        })
    }

    /// The node of commands that any may have: a master that is spoken to already, if there is one.
    pub(super) fn home(&mut self) -> usize {
        let is_good = |node: &Node, map: &super::topology::Map| node.is_used() && map.is_master(&node.address);
        let known = self.nodes.get(self.home);
        if known.is_some_and(|node| is_good(node, &self.map) || node.channels > 0) {
            return self.home;
        }
        let other = self.nodes.iter().position(|node| is_good(node, &self.map));
        self.home = match other {
            Some(index) => index,
            None => self.next_master(),
        };
        self.home
    }

    /// Another master than the one that was home.
    pub(super) fn next_master(&mut self) -> usize {
        let masters: Vec<_> = self.map.masters().map(|(_, address)| address.clone()).collect();
        let known = self.nodes.get(self.home).map(|node| &node.address);
        let at = masters.iter().position(|address| Some(address) == known);
        let next = masters.get(at.map_or(0, |at| (at + 1) % masters.len().max(1)));
        next.map_or(self.home, |address| self.index_of(&address.clone()))
    }

    /// Lets later commands for a slot wait until those that have been sent, and so many more, have been answered.
    pub(super) fn hold(&mut self, slot: u16, more: usize) {
        let sent = self.nodes.iter().flat_map(|node| &node.queue).filter(|sent| sent.slot() == Some(slot)).count();
        self.held.entry(slot).or_insert_with(|| Hold { outstanding: sent + more, ..Hold::default() });
    }

    /// Sends a command that did not run again: when no others of its slot are on their way, and with all that have met
    /// the same, so that their order stays.
    pub(super) fn send_again(&mut self, job: Job, to: Option<(NodeAddress, bool)>, wait: Duration) {
        let Some(slot) = job.slot else {
            let home = self.home();
            return self.transmit(home, job, false);
        };
        self.hold(slot, 1);
        if let Some(hold) = self.held.get_mut(&slot) {
            hold.again.push(job);
            // The last one to say so knows best.
            hold.to = to;
            let at = Instant::now() + wait;
            hold.not_before = Some(hold.not_before.map_or(at, |known| known.max(at)));
        }
        self.go_on(slot);
    }

    /// Goes on with a slot whose commands wait, where it is time.
    fn go_on(&mut self, slot: u16) {
        let Some(hold) = self.held.get_mut(&slot) else { return };
        if hold.outstanding == 0 && hold.again.is_empty() {
            let waiting = self.held.remove(&slot).map(|hold| hold.waiting).unwrap_or_default();
            return waiting.into_iter().for_each(|job| self.dispatch(job));
        }
        if hold.again.len() < hold.outstanding {
            return;
        }
        if hold.not_before.is_some_and(|at| at > Instant::now()) {
            self.timer = None;
            return;
        }
        hold.not_before = None;
        let (again, to) = (std::mem::take(&mut hold.again), hold.to.take());
        let asking = to.as_ref().is_some_and(|(_, asking)| *asking);
        let index = match to {
            Some((address, _)) => Some(self.index_of(&address)),
            None => self.owner(slot),
        };
        for job in again {
            match index {
                Some(index) => self.transmit(index, job, asking),
                None => self.refuse(&job, "CLUSTERDOWN Hash slot not served"),
            }
        }
    }

    /// A command for a slot has been answered.
    pub(super) fn settle(&mut self, slot: Option<u16>) {
        let Some(slot) = slot else { return };
        let Some(hold) = self.held.get_mut(&slot) else { return };
        hold.outstanding = hold.outstanding.saturating_sub(1);
        self.go_on(slot);
    }

    /// Whether a command cannot be taken yet, although others might.
    pub(super) fn must_wait(&self, plan: &Plan, command: &Command<'_>) -> bool {
        // A transaction goes its own way, on which it must not overtake what waits.
        let alone = self.transaction.is_some() || plan.way == Way::Transaction;
        (alone && !self.held.is_empty()) || self.may_be_subscribed(plan, command)
    }

    /// Does what is due.
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) {
        while self.look.poll_tick(cx).is_ready() {
            self.look();
        }
        loop {
            if self.timer.is_none() {
                let first = self.held.values().filter_map(|hold| hold.not_before).min();
                self.timer = first.map(|at| Box::pin(tokio::time::sleep_until(at)));
            }
            let Some(timer) = &mut self.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer = None;
            let now = Instant::now();
            let due = self.held.iter().filter(|(_, hold)| hold.not_before.is_some_and(|at| at <= now));
            let due: Vec<_> = due.map(|(slot, _)| *slot).collect();
            for slot in due {
                // Where others are on their way, it goes on behind the last of them.
                self.held.get_mut(&slot).into_iter().for_each(|hold| hold.not_before = None);
                self.go_on(slot);
            }
        }
    }

    /// Looks for nodes that are silent: another may have taken their place.
    fn look(&mut self) {
        self.table = self.cluster.table();
        self.cluster.ask_sometimes();
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(index) else { continue };
            let silent = !node.queue.is_empty() && node.heard.elapsed() > SILENT;
            if !silent {
                continue;
            }
            if !self.map.is_master(&node.address) {
                self.lose(index, "it is silent, and another node has its slots");
            } else if self.waits_for.is_none() {
                // A node that makes a client wait may be silent for long.
                self.cluster.ask_soon();
            }
        }
    }

    /// SCAN: the next step over the keys of one node, and from the last to the next node.
    pub(super) fn scan(&mut self, bytes: &Bytes, command: &Command<'_>) {
        let number = command.arg(1).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let asked = Cursor::read(number.unwrap_or_default());
        let masters: Vec<_> = self.map.masters().map(|(slot, address)| (slot, address.clone())).collect();
        let at = self.map.owner(asked.slot);
        // Without an owner the slot is not served any more; the node behind it goes on.
        let here = masters.iter().find(|(_, address)| Some(address) == at);
        let here = here.or_else(|| masters.iter().find(|(first, _)| *first >= asked.slot));
        let (Some(_), Some((_, address))) = (number, here) else {
            // What is wrong with the cursor, a node says in its own words.
            let place = self.replies.owe();
            return self.dispatch(Job { reads: true, ..Job::new(bytes.clone(), None, place) });
        };
        let mark = self.map.mark(asked.slot);
        let of_node = if mark == asked.mark { asked.of_node } else { 0 };
        let next = masters.iter().map(|(first, _)| *first).find(|first| *first > asked.slot);
        let here = Cursor { of_node, slot: asked.slot, mark };
        let mut out = Vec::new();
        write::array(&mut out, command.args.len());
        write::bulk(&mut out, command.name());
        write::bulk_number(&mut out, of_node);
        command.rest(2).for_each(|arg| write::bulk(&mut out, arg));
        let place = self.replies.owe_parts(Merge::Scan { here, next }, 1);
        let index = self.index_of(address);
        self.transmit(index, Job { reads: true, fixed: true, ..Job::new(out.into(), None, place) }, false);
    }

    /// Whether something is held at a node that is gone when its connection is.
    pub(super) fn depends_on(&self, index: usize) -> bool {
        let stateful = |sent: &Sent| matches!(sent, Sent::Subscribe { .. } | Sent::Transaction(..) | Sent::Tell(_));
        let node = self.nodes.get(index);
        node.is_some_and(|node| node.channels > 0 || node.shards > 0 || node.queue.iter().any(stateful))
            || self.watching.is_some_and(|(_, at)| at == index)
            || self.transaction.as_ref().is_some_and(|transaction| transaction.is_at(index))
            || self.monitoring
            || (self.tracking().is_some() && node.is_some_and(Node::is_open))
    }

    /// The connection to a node is lost, or cannot be had. What was not written there is written elsewhere, if it can
    /// be; what only reads is sent again, once; of the rest nobody knows whether it ran.
    pub(super) fn lose(&mut self, index: usize, reason: &str) {
        self.cluster.ask_soon();
        self.take_up_map();
        let depends = self.depends_on(index);
        let Some(node) = self.nodes.get_mut(index) else { return };
        let address = node.address.clone();
        let (queue, written) = node.close();
        if written {
            self.losses.add();
        }
        tracing::debug!(node = %address, reason, "lost a node");
        if !written && self.watching.is_none() && self.transaction.as_ref().is_some_and(|of| of.is_at(index)) {
            self.transaction_not_sent(&queue, &not_sent(&address, reason));
        } else if depends {
            // The lane, and the session with it, cannot go on as if that were still there.
            self.ended = true;
            return;
        }
        for sent in queue {
            if let Sent::Job(job) = sent {
                self.lost(job, index, &address, reason, written);
            }
        }
    }

    fn lost(&mut self, mut job: Job, index: usize, address: &NodeAddress, reason: &str, written: bool) {
        if written && job.reads && !job.again {
            job.again = true;
            // It is still counted as being on its way in its slot.
            let to = job.slot.map_or(Some(index), |slot| self.owner(slot)).filter(|_| job.slot.is_some() || job.fixed);
            let to = to.unwrap_or_else(|| self.home());
            return self.transmit(to, job, false);
        }
        if written {
            return match self.cluster.route().loss {
                crate::upstream::Loss::Close => {
                    self.replies.lose(job.place);
                    self.settle(job.slot);
                }
                crate::upstream::Loss::Error => {
                    let told = format!("ERR bellwether lost {address}: {reason}; whether the command ran is not known");
                    self.refuse(&job, &told);
                }
            };
        }
        job.hops += 1;
        let masters = self.map.masters().count();
        let elsewhere = match job.slot {
            Some(slot) => self.owner(slot).filter(|owner| *owner != index && job.hops <= super::redirect::HOPS_MAX),
            None if !job.fixed && job.hops < masters => {
                self.home = self.next_master();
                Some(self.home)
            }
            None => None,
        };
        match elsewhere {
            Some(to) => self.transmit(to, job, false),
            None => self.refuse(&job, &not_sent(address, reason)),
        }
    }

    /// Gives the lane what a node said unasked, behind what that node has answered before.
    pub(super) fn tell(&mut self, index: usize, frame: &[u8]) {
        let behind = self.nodes.get(index).and_then(|node| node.answered);
        self.replies.tell(behind, frame);
    }
}

fn not_sent(address: &NodeAddress, reason: &str) -> String {
    format!("CLUSTERDOWN bellwether cannot reach {address}: {reason}; the command was not sent")
}
