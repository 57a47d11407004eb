//! MULTI to EXEC, and WATCH: the session's part of a transaction. The server does the rest, on a pinned lane.

use std::rc::Rc;

use super::held::Transaction;
use super::{Flow, Session, connection};
use crate::command::{Command, Kind, Row};
use crate::near::Touched;
use crate::proxy::near::Queued;
use crate::resp::request::{Scanned, Scanner};
use crate::resp::{Protocol, reply, write};
use crate::upstream::Expect;

/// The session's own part in a command that has been queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// The server has no part in it.
    Command(Vec<u8>),
    /// The session is in this database, if the server says OK.
    Select(u32),
    /// The lane is known to the server as this user, if it says OK.
    Identify(Vec<u8>),
    /// A HELLO, of which the server is told only this protocol, and speaks it from here on.
    Hello(Vec<u8>, Protocol),
    /// The reply confirms a subscription.
    Subscribe,
}

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
        // In a transaction the session is on its pinned lane, which never makes a command wait; one that is lost ends
        // the session, as long as it counts as in a transaction.
        let Some(lane) = self.lane(self.held.in_transaction()) else { return Flow::Wait };
        let Some(transaction) = self.held.transaction.take() else { return self.plain(command) };
        self.held.watching = false;
        if transaction.refused {
            let mut abort = Vec::new();
            write::error(&mut abort, "EXECABORT Transaction discarded because of previous errors.");
            let discard = b"*1\r\n$7\r\nDISCARD\r\n";
            let expect = if self.is_muted() { Expect::Swallow } else { Expect::Replace(abort.into()) };
            lane.send(&self.outbox, expect, |out| out.extend_from_slice(discard));
            return Flow::Taken;
        }
        if !transaction.own.is_empty() {
            let subscribes = transaction.own.iter().filter(|(_, own)| *own == Own::Subscribe).map(|(place, _)| *place);
            let expect = Expect::Executed(subscribes.collect());
            let touched = transaction.queued.touched.clone();
            lane.send_write(&self.outbox, expect, touched, |out| out.extend_from_slice(command.bytes));
            self.held.executing = Some(transaction);
            return Flow::Taken;
        }
        let Queued { expects, touched } = transaction.queued;
        let plain = expects.iter().all(|expect| *expect == Expect::Forward);
        let expect = if plain || self.is_muted() { self.wanted() } else { Expect::Exec(expects.into()) };
        lane.send_write(&self.outbox, expect, touched, |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }

    /// Sends a command that is queued, and of which the session has a part to do when it has run.
    pub(super) fn queue(&mut self, command: &Command<'_>, own: Option<Own>) -> Flow {
        let Some(lane) = self.lane(true) else { return Flow::Wait };
        let sent = match own {
            // What is answered here has a PING in its place.
            Some(Own::Command(_)) => b"*1\r\n$4\r\nPING\r\n",
            Some(Own::Hello(_, protocol)) => connection::hello_of(protocol),
            _ => command.bytes,
        };
        lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(sent));
        if let Some(transaction) = &mut self.held.transaction {
            transaction.own.extend(own.map(|own| (transaction.queued.expects.len(), own)));
            transaction.queued.push(Expect::Forward, Touched::Nothing);
        }
        Flow::Taken
    }

    /// EXEC has been answered: does the session's own part, if it has run, and answers the client.
    pub(super) fn executed(&mut self) {
        let (Some(mut transaction), Some(reply)) = (self.held.executing.take(), self.outbox.take_noted()) else {
            return;
        };
        let elements = reply::elements(&reply).filter(|elements| elements.len() == transaction.queued.expects.len());
        let mut spoken = None;
        for (place, own) in transaction.own {
            let Some(element) = elements.as_ref().and_then(|elements| elements.get(place)) else { continue };
            let is_ok = *element == b"+OK\r\n";
            let here = match own {
                Own::Select(db) if is_ok => {
                    self.moved_to(db);
                    continue;
                }
                Own::Identify(user) if is_ok => {
                    self.is_identified(&user);
                    continue;
                }
                Own::Hello(bytes, protocol) if element.first() != Some(&b'-') => {
                    (self.protocol, spoken) = (protocol, Some(protocol));
                    bytes
                }
                Own::Select(_) | Own::Identify(_) | Own::Hello(..) | Own::Subscribe => continue,
                Own::Command(bytes) => bytes,
            };
            let told = self.answered_here(&here);
            if let Some(slot) = transaction.queued.expects.get_mut(place) {
                *slot = Expect::Replace(told.into());
            }
        }
        if !self.is_muted() {
            Expect::Exec(transaction.queued.expects.into()).deliver(&reply, self.protocol, &self.outbox);
        }
        if let Some(protocol) = spoken {
            self.tell_lane(protocol);
        }
    }

    /// The reply to a command that the server has no part in.
    fn answered_here(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut scanner = Scanner::new(super::limits(&self.shared.config));
        let Ok(Scanned::Command(_)) = scanner.scan(bytes) else { return Vec::new() };
        let command = Command { bytes, args: scanner.args() };
        self.captured = Some(Vec::new());
        let table = Rc::clone(&self.shared.commands.borrow());
        match command.row(&table).map_or("client", |row| &row.name) {
            "auth" => self.auth(&command),
            "hello" => self.hello(&command),
            name => self.client_command(&command, name),
        };
        self.captured.take().unwrap_or_default()
    }

    fn unqueued(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(self.held.in_transaction()) else { return Flow::Wait };
        lane.send(&self.outbox, self.wanted(), |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }
}
