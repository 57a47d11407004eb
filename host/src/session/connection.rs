//! Commands about the connection itself: answered here, since the connections behind the sidecar are not the client's.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Client, Flow, Muted, Session, Shared};
use crate::command::{Command, Kind, Row};
use crate::resp::{Protocol, parse_integer, write};
use crate::upstream::Expect;

/// What clients may send before they have given the password.
pub(super) fn is_allowed_unauthenticated(row: Option<&Row>) -> bool {
    row.is_some_and(|row| row.kind == Kind::Session && ["auth", "hello", "quit", "reset"].contains(&&*row.name))
}

/// Makes a new client the default user, if that needs no password: whether it is authenticated so.
pub(super) fn greeted(shared: &Shared, client: &Client) -> bool {
    // First who it would be, then whether: whoever takes that user out meanwhile finds this client, or is found.
    client.set_user(Some("default".into()));
    let is_let_in = shared.users.need_no_password();
    if !is_let_in {
        client.set_user(None);
    }
    is_let_in
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
                           sure your configuration is correct?";
const HELLO_UNAUTHENTICATED: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
                                     HELLO AUTH <user> <pass> option can be used to authenticate the client \
                                     and select the RESP protocol version at the same time";

// === impl Session ===

impl Session {
    pub(super) fn connection_command(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        if self.held.in_transaction() {
            return self.connection_command_queued(command, row);
        }
        match &*row.name {
            "auth" => self.auth(command),
            "hello" => return self.hello(command),
            "quit" => {
                self.answer(|out, _| write::simple(out, "OK"));
                self.closing = true;
            }
            "reset" => return self.reset(),
            "select" => return self.select(command),
            name => return self.client_command(command, name),
        }
        Flow::Taken
    }

    /// Inside MULTI the server queues what it can do for its own connection; the rest makes EXEC fail.
    fn connection_command_queued(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        match &*row.name {
            "reset" => self.reset(),
            "quit" => {
                self.answer(|out, _| write::simple(out, "OK"));
                self.closing = true;
                Flow::Taken
            }
            "client|id" | "client|getname" | "client|info" | "client|list" => self.plain(command),
            _ => self.refuse_queued(command),
        }
    }

    pub(super) fn refuse_queued(&mut self, command: &Command<'_>) -> Flow {
        let name = command.name().escape_ascii();
        self.refuse(&format!("ERR bellwether does not take {name} inside MULTI; send it before MULTI"));
        Flow::Taken
    }

    fn auth(&mut self, command: &Command<'_>) {
        let (user, password) = match (command.arg(1), command.arg(2)) {
            (Some(password), None) => (&b"default"[..], password),
            (Some(user), Some(password)) if command.args.len() == 3 => (user, password),
            _ => {
                self.answer(|out, _| write::error(out, "ERR syntax error"));
                return;
            }
        };
        if self.shared.users.need_no_password() && command.args.len() == 2 {
            self.answer(|out, _| write::error(out, NO_PASSWORD));
        } else if self.authenticate(user, password) {
            self.answer(|out, _| write::simple(out, "OK"));
        } else {
            self.answer(|out, _| write::error(out, WRONG_PASSWORD));
        }
    }

    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> bool {
        let Some(user) = self.shared.users.authenticate(user, password) else { return false };
        self.client.set_user(Some(Arc::clone(&user)));
        // Asked once more: whoever takes a user out looks for its clients afterwards, and finds this one or is found.
        self.authenticated = self.shared.users.has(&user);
        self.authenticated
    }

    fn hello(&mut self, command: &Command<'_>) -> Flow {
        // The replies of what came before are in the old protocol, and come from the old lane.
        if self.outbox.owed() > 0 {
            return Flow::Wait;
        }
        if let Err(error) = self.hello_options(command) {
            self.answer(|out, _| write::error(out, &error));
            return Flow::Taken;
        }
        let (id, facts) = (self.client.id, self.shared.facts.clone());
        self.answer(|out, protocol| {
            write::map(out, protocol, 7);
            let mut text = |name: &str, value: &str| {
                write::bulk(out, name.as_bytes());
                write::bulk(out, value.as_bytes());
            };
            text("server", "redis");
            text("version", &facts.version);
            write::bulk(out, b"proto");
            write::integer(out, if protocol == Protocol::Resp3 { 3 } else { 2 });
            write::bulk(out, b"id");
            write::integer(out, i64::try_from(id).unwrap_or(i64::MAX));
            let mut text = |name: &str, value: &str| {
                write::bulk(out, name.as_bytes());
                write::bulk(out, value.as_bytes());
            };
            text("mode", "standalone");
            text("role", "master");
            write::bulk(out, b"modules");
            write::array(out, 0);
        });
        Flow::Taken
    }

    /// Does what HELLO asks for, all of it or nothing.
    fn hello_options(&mut self, command: &Command<'_>) -> Result<(), Cow<'static, str>> {
        let protocol = match command.arg(1) {
            None => self.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(other) => {
                let unsupported = parse_integer(other).map(|_| "NOPROTO unsupported protocol version");
                return Err(unsupported.unwrap_or("ERR Protocol version is not an integer or out of range").into());
            }
        };
        let (mut login, mut name) = (None, None);
        let mut args = command.rest(2);
        while let Some(option) = args.next() {
            let wrong = || Cow::from(format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option)));
            if option.eq_ignore_ascii_case(b"AUTH") {
                login = Some(args.next().zip(args.next()).ok_or_else(wrong)?);
            } else if option.eq_ignore_ascii_case(b"SETNAME") {
                name = Some(args.next().ok_or_else(wrong)?);
            } else {
                return Err(wrong());
            }
        }
        if let Some((user, password)) = login
            && !self.authenticate(user, password)
        {
            return Err(WRONG_PASSWORD.into());
        }
        if !self.authenticated {
            return Err(HELLO_UNAUTHENTICATED.into());
        }
        if let Some(name) = name {
            self.set_name(name)?;
        }
        if protocol != self.protocol {
            if self.holding_lane().is_some() {
                return Err("ERR bellwether does not change the protocol of a connection that watches, tracks or \
                            subscribes; send HELLO first"
                    .into());
            }
            self.leave_lane();
            self.protocol = protocol;
        }
        Ok(())
    }

    fn select(&mut self, command: &Command<'_>) -> Flow {
        if self.outbox.owed() > 0 {
            return Flow::Wait;
        }
        let number = command.arg(1).and_then(parse_integer);
        let db = match number {
            None => {
                self.answer(|out, _| write::error(out, "ERR value is not an integer or out of range"));
                return Flow::Taken;
            }
            Some(number) => u32::try_from(number).ok().filter(|db| *db < self.shared.facts.databases),
        };
        let Some(db) = db else {
            self.answer(|out, _| write::error(out, "ERR DB index is out of range"));
            return Flow::Taken;
        };
        if let Some(lane) = self.holding_lane() {
            lane.send(&self.outbox, Expect::Forward, |out| out.extend_from_slice(command.bytes));
            self.moved_to(db);
        } else {
            self.leave_lane();
            self.db = db;
            self.answer(|out, _| write::simple(out, "OK"));
        }
        Flow::Taken
    }

    /// As a new connection, which a RESET connection is.
    fn reset(&mut self) -> Flow {
        if self.outbox.owed() > 0 {
            return Flow::Wait;
        }
        self.give_up_held();
        self.protocol = Protocol::Resp2;
        self.db = self.shared.facts.db;
        self.authenticated = greeted(&self.shared, &self.client);
        self.muted = Muted::No;
        self.client.set_name("");
        self.answer(|out, _| write::simple(out, "RESET"));
        Flow::Taken
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), &'static str> {
        let printable = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
        let text = std::str::from_utf8(name).ok().filter(|_| printable);
        let text = text.ok_or("ERR Client names cannot contain spaces, newlines or special characters.")?;
        self.client.set_name(text);
        Ok(())
    }

    fn client_command(&mut self, command: &Command<'_>, name: &str) -> Flow {
        match name {
            "client|id" => {
                let id = i64::try_from(self.client.id).unwrap_or(i64::MAX);
                self.answer(|out, _| write::integer(out, id));
            }
            "client|getname" => {
                let name = self.client.name();
                self.answer(|out, protocol| match name.as_str() {
                    "" => write::nil(out, protocol),
                    name => write::bulk(out, name.as_bytes()),
                });
            }
            "client|setname" => match self.set_name(command.arg(2).unwrap_or_default()) {
                Ok(()) => self.answer(|out, _| write::simple(out, "OK")),
                Err(error) => self.answer(|out, _| write::error(out, error)),
            },
            "client|info" => {
                let line = self.client.line(self.shared.clock.now());
                self.answer(|out, protocol| write::verbatim(out, protocol, &line));
            }
            "client|list" => self.client_list(command),
            "client|no-evict" => {
                let known = command
                    .arg(2)
                    .is_some_and(|arg| [&b"on"[..], b"off"].iter().any(|on| arg.eq_ignore_ascii_case(on)));
                self.answer(
                    |out, _| if known { write::simple(out, "OK") } else { write::error(out, "ERR syntax error") },
                );
            }
            "client|getredir" => self.answer(|out, _| write::integer(out, -1)),
            "client|reply" => self.client_reply(command),
            "client|kill" => self.client_kill(command),
            "client|tracking" | "client|caching" | "client|trackinginfo" => return self.client_tracking(command, name),
            // For the whole server, or the server's own error for a subcommand that it does not know.
            "client|pause" | "client|unpause" | "client|help" => return self.plain(command),
            "client|unblock" => {
                self.refuse(
                    "ERR bellwether does not pass CLIENT UNBLOCK on: its ids are the sidecar's, not the server's",
                );
            }
            _ if is_set_info(command) => self.answer(|out, _| write::simple(out, "OK")),
            _ => return self.plain(command),
        }
        Flow::Taken
    }

    /// CLIENT LIST [ID id …]
    fn client_list(&mut self, command: &Command<'_>) {
        let ids: Option<Vec<_>> = command.rest(3).map(parse_integer).collect();
        let by_id = command.arg(2).is_some_and(|option| option.eq_ignore_ascii_case(b"ID"));
        let ids = match (command.args.len(), ids) {
            (2, _) => Vec::new(),
            (4.., Some(ids)) if by_id => ids,
            (4.., None) if by_id => return self.answer(|out, _| write::error(out, "ERR Invalid client ID")),
            _ => return self.refuse("ERR bellwether lists clients by ID, and not otherwise"),
        };
        let is_asked_for = |client: &Client| ids.is_empty() || ids.iter().any(|id| u64::try_from(*id) == Ok(client.id));
        let lines = self.shared.clients.lines(self.shared.clock.now(), is_asked_for);
        self.answer(|out, protocol| write::verbatim(out, protocol, &lines));
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
            self.answer(|out, _| write::error(out, "ERR syntax error"));
        }
    }

    /// Tracking is the connection's, so the session takes a lane of its own and keeps it.
    fn client_tracking(&mut self, command: &Command<'_>, name: &str) -> Flow {
        let has = |word: &str| command.rest(2).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        if name == "client|tracking" && has("REDIRECT") {
            self.refuse(
                "ERR bellwether does not pass CLIENT TRACKING REDIRECT on: ids are the sidecar's, not the server's; \
                 use HELLO 3, where the same connection is told",
            );
            return Flow::Taken;
        }
        let begins = name == "client|tracking" && !has("OFF");
        let Some(lane) = self.lane(begins || self.held.tracking) else { return Flow::Wait };
        if begins {
            lane.listen(&self.outbox, crate::upstream::Listening::Messages);
            self.held.tracking = true;
        }
        lane.send(&self.outbox, Expect::Forward, |out| out.extend_from_slice(command.bytes));
        Flow::Taken
    }

    /// CLIENT KILL [ID id | ADDR ip:port | LADDR … | addr] [SKIPME yes|no]: among the sidecar's own clients.
    fn client_kill(&mut self, command: &Command<'_>) {
        let text = |index| command.arg(index).and_then(|arg| std::str::from_utf8(arg).ok());
        if let (Some(addr), None) = (text(2), text(3)) {
            let found = self.shared.clients.kill(|client| client.peer == addr);
            return self.answer(|out, _| match found {
                0 => write::error(out, "ERR No such client"),
                _ => write::simple(out, "OK"),
            });
        }
        let (mut id, mut addr, mut skip_me, mut index) = (None, None, true, 2);
        while let (Some(option), Some(value)) = (text(index), text(index + 1)) {
            match option.to_ascii_lowercase().as_str() {
                "id" => match value.parse::<u64>() {
                    Ok(number) if number > 0 => id = Some(number),
                    _ => return self.answer(|out, _| write::error(out, "ERR client-id should be greater than 0")),
                },
                "addr" => addr = Some(value.to_owned()),
                "skipme" => skip_me = !value.eq_ignore_ascii_case("no"),
                other => {
                    let error = format!("ERR bellwether kills clients by ID, ADDR and SKIPME, not by {other}");
                    return self.refuse(&error);
                }
            }
            index += 2;
        }
        if index != command.args.len() {
            return self.answer(|out, _| write::error(out, "ERR syntax error"));
        }
        let me = self.client.id;
        let killed = self.shared.clients.kill(|client| {
            id.is_none_or(|id| client.id == id)
                && addr.as_ref().is_none_or(|addr| client.peer == *addr)
                && !(skip_me && client.id == me)
        });
        self.answer(|out, _| write::integer(out, i64::try_from(killed).unwrap_or(i64::MAX)));
    }
}

/// CLIENT SETINFO and CLIENT NO-TOUCH are younger than the table; clients send them to every server and take an error,
/// but they can be had here.
fn is_set_info(command: &Command<'_>) -> bool {
    let is = |word: &str, count| {
        command.args.len() == count && command.arg(1).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    is("SETINFO", 4) || is("NO-TOUCH", 3)
}
