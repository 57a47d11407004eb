//! CLIENT: about the sidecar's own clients, whose numbers and addresses are not those of the connections behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clients::{ClientKind, Filter, Standing};
use super::{Call, Flow, Muted, Session, Shared};
use crate::command::Command;
use crate::config::Upstream;
use crate::near::Touched;
use crate::resp::{parse_integer, write};
use crate::upstream::{Expect, Fate, Lane, Listening};

/// An error of a command, in the server's words.
type Refusal = String;

/// What the server has found of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// It has been asked.
    Waits,
    /// It is wrong, and the client has been told.
    Refused,
    /// It is right.
    Right,
}

const SYNTAX: &str = "ERR syntax error";

/// Tells a client of the worker what another one has to say.
pub fn take_call(shared: &Shared, id: u64, call: Call) {
    match (shared.outboxes.borrow().get(&id), call) {
        (Some(outbox), Call::End) => outbox.end(Fate::Closed),
        (Some(outbox), Call::Own(worker, by)) => outbox.ask_own((worker, by)),
        (Some(outbox), Call::Told) => outbox.tell(),
        // It is gone, so that it will have none.
        (None, Call::Own(worker, by)) => shared.clients.call(worker, by, Call::Told),
        (None, _) => {}
    }
    if let Some(outbox) = shared.outboxes.borrow().get(&id) {
        outbox.wake();
    }
}

// === impl Session ===

impl Session {
    pub(super) fn client_command(&mut self, command: &Command<'_>, name: &str) -> Flow {
        match name {
            "client|id" => {
                let id = number(self.client.id);
                self.answer(|out, _| write::integer(out, id));
            }
            "client|getname" => {
                let name = self.client.about().name.clone();
                self.answer(|out, protocol| match name.as_str() {
                    "" => write::nil(out, protocol),
                    name => write::bulk(out, name.as_bytes()),
                });
            }
            "client|setname" => {
                let set = self.set_name(command.arg(2).unwrap_or_default());
                self.answer_done(set.map_err(ToOwned::to_owned));
            }
            "client|info" => {
                self.publish();
                let line = self.client.line(self.shared.clock.now(), &self.shared.facts.borrow().client_line);
                self.answer(|out, protocol| write::verbatim(out, protocol, &line));
            }
            "client|list" => return self.client_list(command),
            "client|no-evict" => {
                let set = on_or_off(command.arg(2)).map(|on| self.stays = on);
                self.answer_done(set);
            }
            "client|reply" => self.client_reply(command),
            "client|kill" => return self.client_kill(command),
            // What ends a pause must not stand behind what waits for its end.
            "client|pause" | "client|unpause" => return self.client_pause(command, name),
            "client|tracking" => return self.client_tracking(command),
            "client|getredir" if self.held.tracking.is_none() => self.answer(|out, _| write::integer(out, -1)),
            "client|caching" | "client|trackinginfo" | "client|getredir" => return self.client_tracked(command),
            "client|unblock" => return self.client_unblock(command),
            // For the whole server, or the server's own error for a subcommand that it does not know.
            _ => return self.client_other(command),
        }
        Flow::Taken
    }

    /// Lets other clients know what this one holds, where that has changed.
    pub(super) fn publish_changes(&mut self) {
        let standing = self.standing();
        if standing != self.told {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.told = self.standing();
        let mut about = self.client.about();
        (about.standing, about.command) = (self.told, self.last.clone());
    }

    fn standing(&self) -> Standing {
        let transaction = self.held.transaction.as_ref();
        let is_answer = |expect: &&Expect| **expect != Expect::Swallow;
        Standing {
            db: self.db,
            protocol: self.protocol,
            subscribed: self.outbox.subscribed(),
            queued: transaction.map(|of| of.queued.expects.iter().filter(is_answer).count()),
            blocked: self.held.blocking && self.outbox.owed() > 0,
            monitoring: self.held.monitoring,
            tracking: self.held.tracking.is_some_and(|redirect| redirect >= 0),
            redirect: self.held.tracking.unwrap_or(-1),
            stays: self.stays,
            untouching: self.untouching,
            importing: self.held.importing,
        }
    }

    fn answer_done(&mut self, done: Result<(), Refusal>) {
        self.answer(|out, _| match done {
            Ok(()) => write::simple(out, "OK"),
            Err(error) => write::error(out, &error),
        });
    }

    /// Whether the server has no part in the command.
    pub(super) fn is_answered_here(&self, command: &Command<'_>, name: &str) -> bool {
        match name.strip_prefix("client|") {
            Some("getredir") => self.held.tracking.is_none(),
            Some("id" | "getname" | "setname" | "info" | "list" | "kill" | "no-evict") => true,
            Some(_) => false,
            None => self.is_younger(command, "SETINFO", 4) || self.is_younger(command, "NO-TOUCH", 3),
        }
    }

    /// CLIENT SETINFO and CLIENT NO-TOUCH are younger than the table. A server that knows them has the fields for them.
    fn is_younger(&self, command: &Command<'_>, word: &str, count: usize) -> bool {
        command.args.len() == count
            && command.arg(1).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
            && self.shared.facts.borrow().client_line.contains(" lib-name=")
    }

    fn client_other(&mut self, command: &Command<'_>) -> Flow {
        if self.is_younger(command, "SETINFO", 4) {
            let set = self.set_info(command.arg(2).unwrap_or_default(), command.arg(3).unwrap_or_default());
            self.answer_done(set);
        } else if self.is_younger(command, "NO-TOUCH", 3) {
            let set = on_or_off(command.arg(2)).map(|on| self.untouching = on);
            self.answer_done(set);
        } else if command.arg(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"IMPORT-SOURCE")) {
            // It is the connection's, and a shared one would import for others too.
            let Some(lane) = self.lane(true) else { return Flow::Wait };
            self.held.importing = command.arg(2).is_some_and(|on| on.eq_ignore_ascii_case(b"ON"));
            self.pass(&lane, command, Touched::Nothing);
        } else {
            return self.plain(command);
        }
        Flow::Taken
    }

    fn set_info(&mut self, attribute: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let shown = String::from_utf8_lossy(attribute);
        let is_name = attribute.eq_ignore_ascii_case(b"lib-name");
        if !is_name && !attribute.eq_ignore_ascii_case(b"lib-ver") {
            return Err(format!("ERR Unrecognized option '{shown}'"));
        }
        let printable = value.iter().all(|byte| (b'!'..=b'~').contains(byte));
        let text = std::str::from_utf8(value).ok().filter(|_| printable);
        let lower = shown.to_ascii_lowercase();
        let text = text.ok_or(format!("ERR {lower} cannot contain spaces, newlines or special characters."))?;
        let mut about = self.client.about();
        if is_name {
            text.clone_into(&mut about.library)
        } else {
            text.clone_into(&mut about.library_version)
        }
        Ok(())
    }

    /// CLIENT LIST with filters.
    fn client_list(&mut self, command: &Command<'_>) -> Flow {
        if command.args.len() > 2 {
            let words: Vec<_> = command.rest(0).collect();
            match self.checked(&words) {
                Checked::Waits => return Flow::Wait,
                Checked::Refused => return Flow::Taken,
                Checked::Right => {}
            }
        }
        let skips = command.rest(2).any(|arg| arg.eq_ignore_ascii_case(b"SKIPME"));
        let filter = filter(command, skips.then_some(self.client.id));
        self.publish();
        let (now, facts) = (self.shared.clock.now(), Arc::clone(&self.shared.facts.borrow()));
        let lines = filter.map(|filter| self.shared.clients.lines(now, &facts.client_line, &filter));
        self.answer(|out, protocol| match lines {
            Ok(lines) => write::verbatim(out, protocol, &lines),
            Err(error) => write::error(out, &error),
        });
        Flow::Taken
    }

    /// Lets the server see whether a command is right, which each version sees otherwise. What it refuses has been
    /// answered.
    fn checked(&mut self, words: &[&[u8]]) -> Checked {
        // A command that was queued has been seen by nobody, and EXEC waits for no other. The store inside this
        // program has no clients of its own.
        if self.captured.is_some() || self.shared.config.upstream == Some(Upstream::Embedded) {
            return Checked::Right;
        }
        match self.outbox.take_noted() {
            Some(noted) if noted.first() == Some(&b'-') => {
                self.answer(|out, _| out.extend_from_slice(&noted));
                return Checked::Refused;
            }
            Some(_) => return Checked::Right,
            None if self.outbox.owed() > 0 => return Checked::Waits,
            None => {}
        }
        if let Some(lane) = self.lane(false) {
            lane.send(&self.outbox, Expect::Noted, |out| {
                write::array(out, words.len());
                words.iter().for_each(|word| write::bulk(out, word));
            });
        }
        Checked::Waits
    }

    fn client_pause(&mut self, command: &Command<'_>, name: &str) -> Flow {
        let Some(lane) = self.urgent_lane() else { return Flow::Wait };
        let until = match command.arg(2).and_then(parse_integer) {
            Some(milliseconds) if name == "client|pause" => self.shared.clock.now().saturating_add(milliseconds),
            _ => 0,
        };
        // Another mode the server refuses.
        let mode =
            command.arg(3).is_none_or(|mode| [&b"ALL"[..], b"WRITE"].iter().any(|of| mode.eq_ignore_ascii_case(of)));
        if mode && command.args.len() <= 4 {
            self.shared.clients.pause(until);
        }
        self.pass(&lane, command, Touched::Nothing);
        Flow::Taken
    }

    fn client_reply(&mut self, command: &Command<'_>) {
        let is = |word: &str| command.arg(2).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        if is("ON") {
            self.muted = Muted::No;
            self.answer(|out, _| write::simple(out, "OK"));
        } else if is("OFF") {
            self.muted = Muted::All;
        } else if is("SKIP") {
            if self.muted != Muted::All {
                self.muted = Muted::Next;
            }
        } else {
            self.answer(|out, _| write::error(out, SYNTAX));
        }
    }

    /// CLIENT KILL addr, or CLIENT KILL with filters: among the sidecar's own clients.
    fn client_kill(&mut self, command: &Command<'_>) -> Flow {
        let (now, me) = (self.shared.clock.now(), self.client.id);
        if let (Some(addr), None) = (command.arg(2), command.arg(3)) {
            let filter = Filter { addr: Some(text(addr)), ..Filter::default() };
            let (found, is_me) = self.shared.clients.kill(now, &filter, me);
            self.answer_done(if found == 0 { Err("ERR No such client".to_owned()) } else { Ok(()) });
            self.closing |= is_me;
            return Flow::Taken;
        }
        let words = kill_of_nobody(command, |name| self.shared.users.has(&text(name)));
        match self.checked(&words) {
            Checked::Waits => return Flow::Wait,
            Checked::Refused => return Flow::Taken,
            Checked::Right => {}
        }
        match filter(command, Some(me)) {
            Err(error) => self.answer(|out, _| write::error(out, &error)),
            Ok(filter) => {
                let (found, is_me) = self.shared.clients.kill(now, &filter, me);
                self.answer(|out, _| write::integer(out, i64::try_from(found).unwrap_or(i64::MAX)));
                self.closing |= is_me;
            }
        }
        Flow::Taken
    }

    /// CLIENT UNBLOCK id: the number is that of a client here, and the server knows its connection by another.
    fn client_unblock(&mut self, command: &Command<'_>) -> Flow {
        let Some(id) = command.arg(2).and_then(parse_integer) else { return self.plain(command) };
        let client = u64::try_from(id).ok().and_then(|id| self.shared.clients.get(id));
        // No connection of the server has the number 0: it says what it says of a client that is not blocked.
        let at_server = client.map_or(0, |client| client.about().at_server.load(Ordering::Acquire));
        let Some(lane) = self.lane(false) else { return Flow::Wait };
        self.pass_with(&lane, command, 2, at_server);
        Flow::Taken
    }

    /// CLIENT TRACKING: it is the connection's, so the session takes a lane of its own and keeps it.
    fn client_tracking(&mut self, command: &Command<'_>) -> Flow {
        let begins = !command.rest(2).any(|arg| arg.eq_ignore_ascii_case(b"OFF"));
        let option = command.rest(3).position(|arg| arg.eq_ignore_ascii_case(b"REDIRECT")).map(|at| at + 4);
        let target = option.and_then(|at| Some((at, command.arg(at).and_then(parse_integer)?)));
        let Some(lane) = self.lane(begins || self.held.tracking.is_some()) else { return Flow::Wait };
        let Some((at, id)) = target else {
            self.track(&lane, begins, 0);
            self.outbox.redirects(None);
            self.pass(&lane, command, Touched::Nothing);
            return Flow::Taken;
        };
        let at_server = if u64::try_from(id) == Ok(self.client.id) {
            let Some(own) = self.own_number(&lane) else { return Flow::Wait };
            own
        } else {
            let Some(number) = self.number_of(id) else { return Flow::Wait };
            number
        };
        if at_server != 0 {
            self.track(&lane, begins, id);
            let ours = u64::try_from(id).unwrap_or_default();
            self.outbox.redirects(begins.then_some((at_server, ours)));
        }
        self.pass_with(&lane, command, at, at_server);
        Flow::Taken
    }

    /// The number that the server has given the lane of another client, which is asked to take one if it has none. 0:
    /// there is no such client. None: it has been asked.
    fn number_of(&mut self, id: i64) -> Option<u64> {
        let Some(client) = u64::try_from(id).ok().and_then(|id| self.shared.clients.get(id)) else { return Some(0) };
        let number = client.about().at_server.load(Ordering::Acquire);
        if number == 0 && !self.outbox.take_told() {
            if !self.held.asked_own {
                self.held.asked_own = true;
                self.shared.clients.call(client.worker, client.id, Call::Own(self.client.worker, self.client.id));
            }
            return None;
        }
        self.held.asked_own = false;
        Some(number)
    }

    fn track(&mut self, lane: &Lane, begins: bool, redirect: i64) {
        if begins {
            lane.listen(&self.outbox, Listening::Messages);
        }
        // Once it has been tracking, the lane is the session's to the end: what is on its way belongs to nobody else.
        self.held.tracking = if begins { Some(redirect) } else { self.held.tracking.map(|_| -1) };
    }

    /// The number that the server has given the session's own lane. None: it is still to be told.
    pub(super) fn own_number(&mut self, lane: &Lane) -> Option<u64> {
        let number = lane.number().load(Ordering::Acquire);
        if number == 0 && !self.held.asked_number {
            self.held.asked_number = true;
            // When this is answered, the opening has been.
            lane.send(&self.outbox, Expect::Swallow, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"));
        }
        (number != 0 || self.outbox.owed() == 0).then_some(number)
    }

    /// CLIENT CACHING, CLIENT TRACKINGINFO and CLIENT GETREDIR, about the session's own lane.
    fn client_tracked(&mut self, command: &Command<'_>) -> Flow {
        let Some(lane) = self.lane(self.held.tracking.is_some()) else { return Flow::Wait };
        let expect = if self.is_muted() { Expect::Swallow } else { Expect::Renumber };
        let expect = if self.held.in_transaction() { self.wanted() } else { expect };
        lane.send(&self.outbox, expect, |out| out.extend_from_slice(command.bytes));
        self.held.queue(Expect::Renumber);
        Flow::Taken
    }

    /// Passes a command on with another number in the place of one of its arguments.
    fn pass_with(&mut self, lane: &Lane, command: &Command<'_>, at: usize, number: u64) {
        let number = number.to_string();
        lane.send(&self.outbox, self.wanted(), |out| {
            write::array(out, command.args.len());
            command.rest(0).enumerate().for_each(|(index, arg)| {
                write::bulk(out, if index == at { number.as_bytes() } else { arg });
            });
        });
        self.held.queue(Expect::Forward);
    }
}

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn text(arg: &[u8]) -> String {
    String::from_utf8_lossy(arg).into_owned()
}

fn on_or_off(arg: Option<&[u8]>) -> Result<bool, Refusal> {
    let is = |word: &str| arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    if is("on") || is("off") { Ok(is("on")) } else { Err(SYNTAX.to_owned()) }
}

fn kind_of(name: &[u8]) -> Result<Option<ClientKind>, Refusal> {
    ClientKind::parse(name).map(Some).ok_or_else(|| format!("ERR Unknown client type '{}'", text(name)))
}

/// The same CLIENT KILL, about addresses that no connection has, and about no user that is known here alone: for the
/// server to see whether it is right.
fn kill_of_nobody<'a>(command: &Command<'a>, is_ours: impl Fn(&[u8]) -> bool) -> Vec<&'a [u8]> {
    let mut words: Vec<&[u8]> = command.rest(0).take(2).chain([&b"ADDR"[..], b"-"]).collect();
    let mut option: Option<&[u8]> = None;
    for word in command.rest(2) {
        let is = |name: &str| option.is_some_and(|option| option.eq_ignore_ascii_case(name.as_bytes()));
        let (address, user) = (is("ADDR") || is("LADDR"), is("USER"));
        words.push(match word {
            _ if address => b"-",
            _ if user && is_ours(word) => b"default",
            word => word,
        });
        option = if address || user { None } else { Some(word) };
    }
    words
}

/// The filters of a command that the server has found right.
fn filter(command: &Command<'_>, but: Option<u64>) -> Result<Filter, Refusal> {
    let me = but;
    let mut filter = Filter { but, ..Filter::default() };
    let mut args = command.rest(2).peekable();
    while let Some(option) = args.next() {
        let option = option.to_ascii_lowercase();
        if option == b"id" {
            let ids = filter.ids.get_or_insert_default();
            while let Some(id) = args.peek().and_then(|arg| parse_integer(arg)) {
                ids.extend(u64::try_from(id));
                args.next();
            }
            continue;
        }
        let value = args.next().ok_or(SYNTAX)?;
        match option.as_slice() {
            b"type" => filter.kind = kind_of(value)?,
            b"addr" => filter.addr = Some(text(value)),
            b"laddr" => filter.laddr = Some(text(value)),
            b"user" => filter.user = Some(text(value)),
            b"maxage" => filter.age_seconds_min = parse_integer(value),
            b"skipme" => filter.but = if value.eq_ignore_ascii_case(b"yes") { me } else { None },
            other => return Err(format!("ERR bellwether knows no filter of clients {}", other.escape_ascii())),
        }
    }
    Ok(filter)
}
