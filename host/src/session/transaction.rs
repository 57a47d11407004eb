//! MULTI to EXEC, and WATCH: the session's part of a transaction. The server does the rest, on a pinned lane.

use super::held::Transaction;
use super::{Flow, Session};
use crate::command::{Command, Kind, Row};
use crate::resp::{Protocol, write};
use crate::upstream::Expect;

// === impl Session ===

impl Session {
    pub(super) fn transaction(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        // In RESP2 the server refuses all of it to a connection that subscribes. Whether this one does is known once it
        // has been answered.
        if self.held.is_subscribing() && self.protocol == Protocol::Resp2 {
            if self.outbox.owed() > 0 {
                return Flow::Wait;
            }
            if self.outbox.subscriptions() > 0 {
                return self.plain(command);
            }
        }
        match row.kind {
            Kind::Exec => self.exec(command),
            Kind::Multi if !self.held.in_transaction() => self.multi(command),
            Kind::Watch if !self.held.in_transaction() => {
                let refusal = self.shared.policies.borrow().access(command, row);
                if let Some(refusal) = refusal {
                    self.refuse(&refusal);
                    return Flow::Taken;
                }
                let Some(lane) = self.lane(true) else { return Flow::Wait };
                self.held.watching = true;
                lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
                Flow::Taken
            }
            // The server answers these with an error at once and does not queue them.
            Kind::Multi | Kind::Watch => {
                let Some(lane) = self.lane(true) else { return Flow::Wait };
                lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
                Flow::Taken
            }
            Kind::Discard => {
                let flow = self.unqueued(command);
                // Without MULTI it is an error, and what is watched stays watched.
                if self.held.transaction.take().is_some() {
                    self.held.watching = false;
                }
                flow
            }
            _ => {
                let flow = self.plain(command);
                if !self.held.in_transaction() {
                    self.held.watching = false;
                }
                flow
            }
        }
    }

    fn multi(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        self.held.transaction = Some(Transaction::default());
        lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }

    fn exec(&mut self, command: &Command<'_>) -> Flow {
        let Some(mut transaction) = self.held.transaction.take() else { return self.plain(command) };
        // In a transaction the session is on its pinned lane, which never makes a command wait.
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        self.held.watching = false;
        if transaction.refused {
            let mut abort = Vec::new();
            write::error(&mut abort, "EXECABORT Transaction discarded because of previous errors.");
            let discard = b"*1\r\n$7\r\nDISCARD\r\n";
            let expect = if self.is_muted() { Expect::Swallow } else { Expect::Replace(abort.into()) };
            lane.send(&self.outbox, expect, |out| out.extend_from_slice(discard));
            return Flow::Taken;
        }
        for (index, bytes) in std::mem::take(&mut transaction.local) {
            let reply = self.client_executed(&bytes);
            if let Some(slot) = transaction.queued.get_mut(index) {
                *slot = Expect::Replace(reply.into());
            }
        }
        self.held.selecting = transaction.queued.iter().any(|expect| matches!(expect, Expect::Select(_)));
        let plain = transaction.queued.iter().all(|expect| *expect == Expect::Forward);
        let expect = if plain || self.is_muted() { self.wanted() } else { Expect::Exec(transaction.queued.into()) };
        lane.send(&self.outbox, expect, |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }

    fn unqueued(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(self.held.in_transaction()) else { return Flow::Wait };
        lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }
}
