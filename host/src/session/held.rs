//! What a session holds at the server: which lane it is on, and why it cannot share one.

use std::rc::Rc;
use std::sync::Arc;

use super::transaction::Own;
use super::{Call, Flow, Session};
use crate::command::Command;
use crate::near::Touched;
use crate::proxy::near::Queued;
use crate::resp::Protocol;
use crate::upstream::{Expect, Lane, Listening, Outbox};

/// What a session holds at the server.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What the command at the front of the inbox waits for.
    pub(super) waiting: Option<Waiting>,
    /// A command that may wait at the server for long has been sent.
    pub(super) blocking: bool,
    pub(super) transaction: Option<Transaction>,
    pub(super) watching: bool,
    /// Tracking has been asked for: the client that is told in this one's place, 0 this one, -1 off again.
    pub(super) tracking: Option<i64>,
    /// The lane is known to the server as another user than the sidecar's.
    pub(super) identified: bool,
    /// EXEC has been sent, and this is to be done when it has run.
    pub(super) executing: Option<Transaction>,
    /// A name and a password have been tried on a lane of their own.
    pub(super) asked_anew: bool,
    /// Another client's invalidations come to this one.
    pub(super) owned: bool,
    /// Another client has been asked to have a lane of its own.
    pub(super) asked_own: bool,
    /// CLIENT IMPORT-SOURCE is on.
    pub(super) importing: bool,
    /// The lane's own number has been asked for.
    pub(super) asked_number: bool,
    pub(super) monitoring: bool,
    /// Commands that subscribe or unsubscribe have been sent.
    subscribing: bool,
    lane: Option<On>,
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The answers to what is in flight, or room in the lane.
    Lane,
    /// The client, which has to read first.
    Client,
}

/// A transaction that is being put together.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queued: Queued,
    /// What the session does itself when EXEC has run, with its places there.
    pub(super) own: Vec<(usize, Own)>,
    /// A command was refused here, so EXEC must fail.
    pub(super) refused: bool,
}

/// The lane that a session is on.
#[derive(Debug)]
enum On {
    Shared(Rc<Lane>, Protocol, u32),
    Pinned(Rc<Lane>, Protocol, u32),
}

// === impl Held ===

impl Held {
    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// What EXEC's replies are for, in a transaction.
    pub(super) fn queued(&mut self) -> Option<&mut Queued> {
        self.transaction.as_mut().map(|transaction| &mut transaction.queued)
    }

    /// A command has been sent whose reply in EXEC is for this, if it is in a transaction.
    pub(super) fn queue(&mut self, expect: Expect) {
        if let Some(transaction) = &mut self.transaction {
            transaction.queued.push(expect, Touched::Nothing);
        }
    }

    /// A command was refused here.
    pub(super) fn refused(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused = true;
        }
    }

    /// What is owed may never come: a blocked command, a subscription.
    pub(super) fn is_blocked(&self, outbox: &Outbox) -> bool {
        self.blocking || self.monitoring || outbox.subscriptions() > 0
    }

    /// Commands that subscribe or unsubscribe have been sent on the lane.
    pub(super) fn is_subscribing(&self) -> bool {
        self.subscribing
    }

    /// The lane the session is on.
    pub(super) fn current(&self) -> Option<&Rc<Lane>> {
        match &self.lane {
            None => None,
            Some(On::Shared(lane, ..) | On::Pinned(lane, ..)) => Some(lane),
        }
    }

    pub(super) fn is_congested(&self, outbox: &Rc<Outbox>) -> bool {
        self.current().is_some_and(|lane| lane.is_congested(outbox))
    }

    /// What the session reads has to come from the server.
    pub(super) fn is_exclusive(&self, outbox: &Outbox) -> bool {
        self.needs_pin(outbox)
    }

    /// State at the server that only this session may see.
    fn needs_pin(&self, outbox: &Outbox) -> bool {
        self.in_transaction()
            || self.watching
            || self.executing.is_some()
            || self.identified
            || self.owned
            || self.importing
            || self.tracking.is_some()
            || self.monitoring
            || (self.subscribing && outbox.subscriptions() > 0)
    }
}

// === impl Session ===

impl Session {
    /// The lane for the next command. None: it is another than the one that still owes replies, so the command waits.
    pub(super) fn lane(&mut self, pinned: bool) -> Option<Rc<Lane>> {
        let owed = self.outbox.owed() > 0;
        // While the server holds writes back, whoever reads must not stand behind one that writes.
        let paused_until = self.shared.clients.paused_until();
        let pinned = pinned || (paused_until != 0 && self.shared.clock.now() < paused_until);
        let fits = |protocol: &Protocol, db: &u32| (*protocol, *db) == (self.protocol, self.db);
        match &self.held.lane {
            Some(On::Shared(lane, protocol, db)) if !pinned && fits(protocol, db) => return Some(Rc::clone(lane)),
            Some(On::Pinned(lane, ..)) if self.held.needs_pin(&self.outbox) => return Some(Rc::clone(lane)),
            // One that was lost and held nothing is no reason to close.
            Some(On::Pinned(lane, protocol, db)) if fits(protocol, db) && ((pinned && !lane.has_ended()) || owed) => {
                return Some(Rc::clone(lane));
            }
            _ if owed => return None,
            _ => {}
        }
        self.leave_lane();
        let lanes = &self.shared.lanes;
        let (protocol, db) = (self.protocol, self.db);
        let (lane, on) = if pinned {
            let lane = lanes.pin(protocol, db);
            self.client.about().at_server = Arc::clone(lane.number());
            (Rc::clone(&lane), On::Pinned(lane, protocol, db))
        } else {
            let lane = lanes.shared(protocol, db);
            (Rc::clone(&lane), On::Shared(lane, protocol, db))
        };
        self.held.lane = Some(on);
        Some(lane)
    }

    /// A lane of its own to the server in its first database: what ends a script must not stand behind it, and nothing
    /// else is taken as long as it runs, SELECT neither.
    pub(super) fn urgent_lane(&mut self) -> Option<Rc<Lane>> {
        if self.held.needs_pin(&self.outbox) {
            return self.lane(true);
        }
        if self.outbox.owed() > 0 {
            return None;
        }
        self.leave_lane();
        let lane = self.shared.lanes.pin(self.protocol, 0);
        self.held.lane = Some(On::Pinned(Rc::clone(&lane), self.protocol, 0));
        Some(lane)
    }

    /// Takes a lane of its own, for another client's invalidations to come to, and lets who waits for that know.
    pub(super) fn own_lane(&mut self) {
        let Some(lane) = self.lane(true) else { return };
        lane.listen(&self.outbox, Listening::Messages);
        self.held.owned = true;
        if self.own_number(&lane).is_some() {
            for (worker, by) in self.outbox.take_asked() {
                self.shared.clients.call(worker, by, Call::Told);
            }
        }
    }

    /// Takes a lane that is opened with a name and password of the client's.
    pub(super) fn pin_as(&mut self, user: Option<&[u8]>, password: &[u8]) {
        self.leave_lane();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lane = self.shared.lanes.pin_as(self.protocol, self.db, user.map(text), text(password));
        self.held.lane = Some(On::Pinned(Rc::clone(&lane), self.protocol, self.db));
        self.held.asked_anew = true;
        lane.send(&self.outbox, Expect::Noted, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
    }

    /// Leaves a lane that owes nothing; a pinned one that holds nothing goes back to the pool.
    pub(super) fn leave_lane(&mut self) {
        let clean = !self.held.needs_pin(&self.outbox) && self.outbox.owed() == 0;
        if let Some(On::Pinned(lane, protocol, db)) = self.held.lane.take()
            && clean
        {
            self.client.about().at_server = Arc::default();
            self.shared.lanes.unpin(protocol, db, lane);
        }
        (self.held.blocking, self.held.subscribing, self.held.asked_number) = (false, false, false);
    }

    /// Gives up everything held at the server: a pinned lane's connection is closed.
    pub(super) fn give_up_held(&mut self) {
        self.held = Held { waiting: self.held.waiting, ..Held::default() };
        self.outbox.clear_subscriptions();
    }

    /// The lane that holds the session's state, if it holds any.
    pub(super) fn holding_lane(&self) -> Option<Rc<Lane>> {
        self.held.needs_pin(&self.outbox).then(|| self.held.current().map(Rc::clone)).flatten()
    }

    /// The pinned lane has been told to select a database.
    pub(super) fn moved_to(&mut self, db: u32) {
        self.db = db;
        if let Some(On::Pinned(_, _, of)) = &mut self.held.lane {
            *of = db;
        }
    }

    /// The pinned lane has been told to speak another protocol.
    pub(super) fn speaks(&mut self, protocol: Protocol) {
        if let Some(On::Pinned(_, of, _)) = &mut self.held.lane {
            *of = protocol;
        }
    }

    pub(super) fn subscribe(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        lane.listen(&self.outbox, Listening::Messages);
        self.held.subscribing = true;
        lane.send_unanswered(|out| out.extend_from_slice(command.bytes));
        // Confirmations are not counted; when this is answered, they have all come.
        lane.send(&self.outbox, Expect::Fence, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
        Flow::Taken
    }

    /// SUBSCRIBE to one channel, or UNSUBSCRIBE from it, inside MULTI: its confirmation is an element of EXEC's array.
    pub(super) fn subscribe_queued(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        lane.listen(&self.outbox, Listening::Messages);
        self.held.subscribing = true;
        self.queue(command, Some(Own::Subscribe))
    }

    pub(super) fn monitor(&mut self, command: &Command<'_>) -> Flow {
        if self.held.monitoring {
            return self.plain(command);
        }
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        lane.listen(&self.outbox, Listening::Monitor);
        lane.send(&self.outbox, Expect::Forward, |out| out.extend_from_slice(command.bytes));
        self.held.monitoring = true;
        Flow::Taken
    }
}
