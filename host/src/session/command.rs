//! What becomes of one command: which part of the session takes it, and how it is passed on or answered.

use std::borrow::Cow;

use super::{Flow, Muted, Session, Waiting, connection};
use crate::command::{Command, KeyUse, Kind, Row, Table};
use crate::config::LossChoice;
use crate::near::Touched;
use crate::proxy::near::touched;
use crate::resp::write;
use crate::top::Touch;
use crate::upstream::{Expect, Lane, Loss};

/// What is still taken while a script runs for too long.
const URGENT: [&str; 3] = ["script|kill", "function|kill", "shutdown"];
/// Keys of one command that are looked at.
const LOOKED_KEYS_MAX: usize = 64;

// === impl Session ===

impl Session {
    pub(super) fn command(
        &mut self,
        command: &Command<'_>,
        table: &Table,
        now: i64,
        counts: &mut [u64; Kind::LABELS.len()],
    ) -> Flow {
        let row = command.row(table);
        self.last = row.map_or(Cow::Borrowed("NULL"), |row| row.name.clone());
        self.traffic[2] += 1;
        let flow = match row {
            _ if !self.authenticated && !connection::is_allowed_unauthenticated(row) => {
                self.answer(|out, _| write::error(out, "NOAUTH Authentication required."));
                Flow::Taken
            }
            // Wrong number of arguments or unknown: the server says so in its own words.
            Some(row) if row.takes(command.args.len()) => self.known(command, row, now),
            Some(_) => self.plain(command),
            // Nobody knows what it does.
            None => self.pass_on(command, Touched::All),
        };
        if flow == Flow::Wait {
            self.held.waiting = Some(Waiting::Lane);
            return flow;
        }
        if self.shared.top.is_due() {
            self.look(command, row);
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
                let words = if row.name.contains('|') { 2 } else { 1 };
                let words: Vec<_> = command.rest(0).take(words).map(|word| word.escape_ascii().to_string()).collect();
                let name = words.join(" ");
                self.refuse(&format!("ERR bellwether does not pass {name} on: it cannot work through a sidecar"));
                Flow::Taken
            }
            Kind::Server if URGENT.contains(&&*row.name) => {
                let Some(lane) = self.urgent_lane() else { return Flow::Wait };
                self.pass(&lane, command, touched(command, row));
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
        if kind == Kind::Read && self.answered_near(command, row, now) {
            return Flow::Taken;
        }
        let is_large = self.shared.top.is_large(command.bytes.len());
        let large = command.bytes.len() > self.shared.config.shared_command_bytes_max;
        // A script may run for long, and the server then answers other connections that it is busy.
        let Some(lane) = self.lane(blocks || large || kind == Kind::Script) else { return Flow::Wait };
        let waits = kind == Kind::Wait && !self.held.in_transaction();
        if waits && self.outbox.owed() == 0 && !self.is_muted() && self.outbox.tell_lost_writes(self.loss()) {
            return Flow::Taken;
        }
        if waits {
            // What WAIT waits for is what its own connection has seen. This one has seen nothing yet; now it has seen
            // all that the server has.
            lane.send(&self.outbox, Expect::Swallow, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
        }
        if blocks {
            lane.wait();
        }
        self.held.blocking |= blocks;
        let mut plan = self.shared.policies.borrow_mut().decide(command, row, now);
        if waits {
            plan.expect = Expect::Waited(self.loss());
        }
        if self.is_muted() {
            plan.expect = Expect::Swallow;
        }
        if !plan.execute(command, &lane, &self.outbox, touched(command, row), self.held.queued()) {
            self.held.refused();
        } else if is_large {
            self.look_large(command, row);
        }
        Flow::Taken
    }

    /// Takes note of what is done with the keys of a command.
    fn look(&self, command: &Command<'_>, row: Option<&Row>) {
        let policies = self.shared.policies.borrow();
        let keys = row.into_iter().flat_map(|row| &row.keys).take(LOOKED_KEYS_MAX);
        let touches = keys.flat_map(|keys| {
            let touch = move |key| Touch { db: self.db, key, writes: keys.used() != KeyUse::Read, rule: None };
            keys.positions(command).take(LOOKED_KEYS_MAX).filter_map(|index| command.arg(index)).map(touch)
        });
        let ruled = touches.map(|touch| Touch { rule: policies.rule_of(touch.key), ..touch });
        self.shared.top.look(ruled, policies.generation());
    }

    /// Takes note of a large value.
    fn look_large(&self, command: &Command<'_>, row: &Row) {
        let top = &self.shared.top;
        let pairs = matches!(row.kind, Kind::MultiSet | Kind::MultiSetEx);
        let written = row.keys.iter().filter(|keys| keys.used() != KeyUse::Read);
        for index in written.flat_map(|keys| keys.positions(command)).take(LOOKED_KEYS_MAX) {
            let Some(key) = command.arg(index) else { continue };
            let bytes = match row.kind {
                _ if pairs => command.arg(index + 1).map_or(0, <[u8]>::len),
                Kind::Set(_) => command.rest(index + 1).map(<[u8]>::len).max().unwrap_or(0),
                // Of a list or a hash: what this command adds.
                _ => command.rest(index + 1).map(<[u8]>::len).sum(),
            };
            if top.is_large(bytes) {
                top.large(self.db, key, bytes);
            }
        }
    }

    fn loss(&self) -> Loss {
        match self.shared.config.on_upstream_lost {
            LossChoice::Close => Loss::Close,
            LossChoice::Error => Loss::Error,
        }
    }

    /// A command that passes as it is and changes nothing.
    pub(super) fn plain(&mut self, command: &Command<'_>) -> Flow {
        self.pass_on(command, Touched::Nothing)
    }

    fn pass_on(&mut self, command: &Command<'_>, touched: Touched) -> Flow {
        let large = command.bytes.len() > self.shared.config.shared_command_bytes_max;
        let Some(lane) = self.lane(large) else { return Flow::Wait };
        self.pass(&lane, command, touched);
        Flow::Taken
    }

    pub(super) fn pass(&mut self, lane: &Lane, command: &Command<'_>, mut touched: Touched) {
        if let Some(queued) = self.held.queued() {
            queued.push(Expect::Forward, std::mem::take(&mut touched));
        }
        lane.send_write(&self.outbox, self.wanted(), touched, |out| out.extend_from_slice(command.bytes));
    }
}
