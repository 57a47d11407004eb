//! What becomes of one command: which part of the session takes it, and how it is passed on or answered.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Flow, Muted, Session, Waiting, connection};
use crate::command::{Command, Kind, Row, Table};
use crate::config::LossChoice;
use crate::near::Touched;
use crate::proxy::near::touched;
use crate::resp::write;
use crate::upstream::{Expect, Fate, Lane, Loss};

/// The first words of a line of HTTP: the server hangs up on whoever sends them, and a lane is everybody's.
const HTTP: [&[u8]; 2] = [b"post", b"host:"];
/// What is still taken while a script runs for too long.
const URGENT: [&str; 3] = ["script|kill", "function|kill", "shutdown"];

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
            None if HTTP.iter().any(|word| command.name().eq_ignore_ascii_case(word)) => {
                self.outbox.end(Fate::Closed);
                Flow::Taken
            }
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
            self.note_keys(command, row);
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
            Kind::Read => self.read(command, row, now),
            kind => self.data(command, row, kind, now),
        }
    }

    /// A command that only reads: nothing is decided about it but whether it is let through.
    fn read(&mut self, command: &Command<'_>, row: &Row, now: i64) -> Flow {
        let refusal = self.shared.policies.borrow().access(command, row);
        if refusal.is_none() && self.answered_near(command, row, now) {
            return Flow::Taken;
        }
        let Some(lane) = self.lane_for(command) else { return Flow::Wait };
        if let Some(refusal) = refusal {
            self.refuse(&refusal);
            return Flow::Taken;
        }
        if let Some(plan) = self.refresh_ahead(command, row, now) {
            plan.execute(command, &lane, &self.outbox, Touched::Nothing, None);
            return Flow::Taken;
        }
        let look = if self.is_muted() { None } else { self.look(command, row, &lane, now) };
        let expect = look.map_or_else(|| self.wanted(), Expect::Look);
        self.send(&lane, command, expect, Touched::Nothing);
        Flow::Taken
    }

    /// A command with keys, or about the server.
    fn data(&mut self, command: &Command<'_>, row: &Row, kind: Kind, now: i64) -> Flow {
        let blocks = match kind {
            Kind::Block(_) | Kind::Wait => true,
            Kind::BlockOption => command.rest(1).any(|arg| arg.eq_ignore_ascii_case(b"BLOCK")),
            _ => false,
        };
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
        } else if plan.expect == Expect::Forward
            && let Some(look) = self.look(command, row, &lane, now)
        {
            plan.expect = Expect::Look(look);
        }
        if !plan.execute(command, &lane, &self.outbox, touched(command, row), self.held.queued()) {
            self.held.refused();
        } else if is_large {
            self.note_large(command, row);
        }
        Flow::Taken
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
        let Some(lane) = self.lane_for(command) else { return Flow::Wait };
        self.pass(&lane, command, touched);
        Flow::Taken
    }

    /// The lane for a command that holds nothing at the server.
    fn lane_for(&mut self, command: &Command<'_>) -> Option<Rc<Lane>> {
        self.lane(command.bytes.len() > self.shared.config.shared_command_bytes_max)
    }

    pub(super) fn pass(&mut self, lane: &Lane, command: &Command<'_>, touched: Touched) {
        self.send(lane, command, self.wanted(), touched);
    }

    fn send(&mut self, lane: &Lane, command: &Command<'_>, expect: Expect, mut touched: Touched) {
        if let Some(queued) = self.held.queued() {
            queued.push(Expect::Forward, std::mem::take(&mut touched));
        }
        lane.send_write(&self.outbox, expect, touched, |out| out.extend_from_slice(command.bytes));
    }
}
