//! Commands about the connection itself: answered here, since the connections behind the sidecar are not the client's.

use std::borrow::Cow;
use std::sync::Arc;

use super::transaction::Own;
use super::{Client, Flow, Muted, Session, Shared};
use crate::command::{Command, Kind, Row};
use crate::resp::{Protocol, parse_integer, write};
use crate::upstream::Expect;

/// How giving a name and a password went.
type Login = Result<(), String>;

/// What a HELLO asks for.
struct Hello<'a> {
    protocol: Protocol,
    /// A name and a password.
    login: Option<(&'a [u8], &'a [u8])>,
    /// What the client calls itself.
    name: Option<&'a [u8]>,
}

/// What clients may send before they have given the password.
pub(super) fn is_allowed_unauthenticated(row: Option<&Row>) -> bool {
    row.is_some_and(|row| row.kind == Kind::Session && ["auth", "hello", "quit", "reset"].contains(&&*row.name))
}

/// Makes a new client the default user, if that needs no password: whether it is authenticated so.
pub(super) fn greeted(shared: &Shared, client: &Client) -> bool {
    // First who it would be, then whether: whoever takes that user out meanwhile finds this client, or is found.
    let mut about = client.about();
    "default".clone_into(&mut about.user);
    about.ours = true;
    drop(about);
    let is_let_in = shared.users.need_no_password();
    client.about().ours = is_let_in;
    is_let_in
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
                           sure your configuration is correct?";
const HELLO_UNAUTHENTICATED: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
                                     HELLO AUTH <user> <pass> option can be used to authenticate the client \
                                     and select the RESP protocol version at the same time";
const HELLO_2: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n";
const HELLO_3: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";

// === impl Session ===

impl Session {
    pub(super) fn connection_command(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        if self.held.in_transaction() {
            return self.connection_command_queued(command, row);
        }
        // In RESP2 the server takes little from a connection that subscribes, and says so.
        if self.protocol == Protocol::Resp2 && self.held.is_subscribing() && !["quit", "reset"].contains(&&*row.name) {
            if self.outbox.owed() > 0 {
                return Flow::Wait;
            }
            if self.outbox.subscriptions() > 0 {
                return self.plain(command);
            }
        }
        match &*row.name {
            "auth" => return self.auth(command),
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
            "select" => {
                let db = command.arg(1).and_then(parse_integer).and_then(|db| u32::try_from(db).ok());
                self.queue(command, db.map(Own::Select))
            }
            _ if self.is_answered_here(command, &row.name) => {
                self.queue(command, Some(Own::Command(command.bytes.to_vec())))
            }
            "client|tracking"
            | "client|caching"
            | "client|trackinginfo"
            | "client|getredir"
            | "client|unblock"
            | "client|pause"
            | "client|unpause" => self.client_command(command, &row.name),
            "auth" => self.auth_queued(command),
            "hello" => self.hello_queued(command, row),
            "client|reply" => {
                let is_on = command.arg(2).is_some_and(|arg| arg.eq_ignore_ascii_case(b"ON"));
                match is_on && !self.is_muted() {
                    true => self.queue(command, Some(Own::Command(command.bytes.to_vec()))),
                    false => self.refuse_queued(command, row),
                }
            }
            _ => self.plain(command),
        }
    }

    pub(super) fn refuse_queued(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        let name = command.name().escape_ascii();
        self.refuse(&match row.kind {
            Kind::Subscribe => format!(
                "ERR bellwether takes {name} inside MULTI with one channel, since the server breaks EXEC's reply with \
                 more; send it outside"
            ),
            _ if row.name == "client|reply" => format!(
                "ERR bellwether takes {name} REPLY inside MULTI only as ON, since the server breaks EXEC's reply with \
                 the others; send it outside"
            ),
            _ => format!("ERR bellwether does not take {name} inside MULTI as a user of the server's; send it before"),
        });
        Flow::Taken
    }

    /// AUTH inside MULTI: our own users are let in when EXEC has run, the server's by EXEC itself.
    fn auth_queued(&mut self, command: &Command<'_>) -> Flow {
        let user = if command.args.len() == 3 { command.arg(1) } else { None };
        let own = if command.args.len() > 3 || self.is_ours(user) {
            Own::Command(command.bytes.to_vec())
        } else {
            Own::Identify(user.unwrap_or(b"default").to_vec())
        };
        self.queue(command, Some(own))
    }

    /// HELLO inside MULTI: the server changes its protocol between two elements of EXEC's reply, and so it does here.
    fn hello_queued(&mut self, command: &Command<'_>, row: &Row) -> Flow {
        let speaks = |own: &(usize, Own)| if let Own::Hello(_, protocol) = own.1 { Some(protocol) } else { None };
        let before = self.held.transaction.as_ref().and_then(|of| of.own.iter().rev().find_map(speaks));
        let before = before.unwrap_or(self.protocol);
        let command_here = Own::Command(command.bytes.to_vec());
        let Ok(Hello { protocol, login, name }) = Hello::read(command, before) else {
            return self.queue(command, Some(command_here));
        };
        if login.is_some_and(|(user, _)| !self.is_ours(Some(user))) {
            return self.refuse_queued(command, row);
        }
        // One that is refused changes nothing.
        let fails = login.is_some_and(|(user, password)| !self.lets_in(user, password));
        let changes = protocol != before && !fails && name.is_none_or(|name| printable(name).is_ok());
        let own = if changes { Own::Hello(command.bytes.to_vec(), protocol) } else { command_here };
        self.queue(command, Some(own))
    }

    /// The pinned lane has been told to speak another protocol by a command whose reply it did not look at.
    pub(super) fn tell_lane(&mut self, protocol: Protocol) {
        if let Some(lane) = self.held.current() {
            lane.send(&self.outbox, Expect::Protocol(protocol), |out| out.extend_from_slice(hello_of(protocol)));
            self.speaks(protocol);
        }
    }

    pub(super) fn auth(&mut self, command: &Command<'_>) -> Flow {
        let (user, password) = match (command.arg(1), command.arg(2)) {
            (Some(password), None) => (None, password),
            (Some(user), Some(password)) if command.args.len() == 3 => (Some(user), password),
            _ => {
                self.answer(|out, _| write::error(out, "ERR syntax error"));
                return Flow::Taken;
            }
        };
        match self.login(user, password) {
            None => return Flow::Wait,
            Some(Ok(())) => self.answer(|out, _| write::simple(out, "OK")),
            Some(Err(error)) => self.answer(|out, _| write::error(out, &error)),
        }
        Flow::Taken
    }

    /// Takes a name and a password of one of our own users.
    fn login_here(&mut self, user: &[u8], password: &[u8]) -> Login {
        let Some(user) = self.shared.users.authenticate(user, password) else {
            return Err(WRONG_PASSWORD.to_owned());
        };
        let mut about = self.client.about();
        user.as_ref().clone_into(&mut about.user);
        about.ours = true;
        drop(about);
        // Asked once more: whoever takes a user out looks for its clients afterwards, and finds this one or is found.
        self.authenticated = self.shared.users.has(&user);
        if self.authenticated { Ok(()) } else { Err(WRONG_PASSWORD.to_owned()) }
    }

    /// Whether we ourselves say who may come in by this name; otherwise the server does.
    fn is_ours(&self, user: Option<&[u8]>) -> bool {
        let is_default = user.is_none_or(|user| user == b"default");
        let needs_none = self.shared.users.need_no_password();
        // Where there is a file of users, it has them all.
        let in_file = self.shared.users.has_file() && !(needs_none && user.is_none());
        in_file || (is_default && !self.held.identified && (!needs_none || self.is_open()))
    }

    /// Clients need no password, whatever the server asks of the sidecar.
    fn is_open(&self) -> bool {
        self.shared.config.client_password.as_ref().is_some_and(|own| own.reveal() == "none")
            || self.shared.users.has_file()
    }

    /// Whether one of our own users would be let in.
    fn lets_in(&self, user: &[u8], password: &[u8]) -> bool {
        let users = &self.shared.users;
        (!users.has_file() && users.need_no_password()) || users.authenticate(user, password).is_some()
    }

    /// Takes a name and a password. Ours are compared here; any other the server knows, so that they are given to it on
    /// a lane that is this session's from then on. None: it has been asked and has not answered.
    fn login(&mut self, user: Option<&[u8]>, password: &[u8]) -> Option<Login> {
        if self.is_ours(user) {
            let checks = self.shared.users.has_file() || !self.shared.users.need_no_password();
            return Some(match user {
                _ if checks && !(self.shared.users.need_no_password() && user.is_none()) => {
                    self.login_here(user.unwrap_or(b"default"), password)
                }
                Some(_) => Ok(()),
                None => Err(NO_PASSWORD.to_owned()),
            });
        }
        // It was ours when EXEC was sent, and EXEC waits for nobody.
        if self.captured.is_some() {
            return Some(Err(WRONG_PASSWORD.to_owned()));
        }
        if let Some(noted) = self.outbox.take_noted() {
            let noted = if noted.first() == Some(&b'-') { Err(error_text(&noted)) } else { Ok(()) };
            // The server has begun to ask everyone for a password, or for another one: this may be it.
            let unknown = |error: &String| error.starts_with("NOAUTH") || error.starts_with("WRONGPASS");
            if !self.held.asked_anew && noted.as_ref().is_err_and(unknown) && self.holding_lane().is_none() {
                self.pin_as(user, password);
                return None;
            }
            self.held.asked_anew = false;
            if noted.is_ok() {
                self.is_identified(user.unwrap_or(b"default"));
            }
            return Some(noted);
        }
        // Also by what stands before it: its reply is the next one, and it is asked once.
        if self.outbox.owed() > 0 {
            return None;
        }
        let lane = self.lane(true)?;
        lane.send(&self.outbox, Expect::Noted, |out| {
            let args = [Some(&b"AUTH"[..]), user, Some(password)];
            write::array(out, args.iter().flatten().count());
            args.iter().flatten().for_each(|arg| write::bulk(out, arg));
        });
        None
    }

    /// The session's own lane is known to the server as this user.
    pub(super) fn is_identified(&mut self, user: &[u8]) {
        self.authenticated = true;
        self.held.identified = true;
        let mut about = self.client.about();
        about.user = String::from_utf8_lossy(user).into_owned();
        about.ours = false;
    }

    pub(super) fn hello(&mut self, command: &Command<'_>) -> Flow {
        // The replies of what came before are in the old protocol, and come from the old lane.
        if self.outbox.owed() > 0 {
            return Flow::Wait;
        }
        match self.hello_options(command) {
            Ok(Flow::Wait) => return Flow::Wait,
            Ok(Flow::Taken) => {}
            Err(error) => {
                self.answer(|out, _| write::error(out, &error));
                return Flow::Taken;
            }
        }
        let (id, facts) = (self.client.id, Arc::clone(&self.shared.facts.borrow()));
        self.answer(|out, protocol| {
            write::map(out, protocol, 7);
            let mut text = |name: &str, value: &str| {
                write::bulk(out, name.as_bytes());
                write::bulk(out, value.as_bytes());
            };
            text("server", &facts.hello.0);
            text("version", &facts.hello.1);
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
    fn hello_options(&mut self, command: &Command<'_>) -> Result<Flow, Cow<'static, str>> {
        let Hello { protocol, login, name } = Hello::read(command, self.protocol)?;
        if let Some((user, password)) = login {
            match self.login(Some(user), password) {
                None => return Ok(Flow::Wait),
                Some(login) => login?,
            }
        }
        if !self.authenticated {
            return Err(HELLO_UNAUTHENTICATED.into());
        }
        if let Some(name) = name {
            self.set_name(name)?;
        }
        if protocol != self.protocol {
            match self.holding_lane() {
                Some(lane) => {
                    lane.send(&self.outbox, Expect::Protocol(protocol), |out| {
                        out.extend_from_slice(hello_of(protocol));
                    });
                    self.speaks(protocol);
                }
                None => self.leave_lane(),
            }
            self.protocol = protocol;
        }
        Ok(Flow::Taken)
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
            Some(number) => u32::try_from(number).ok().filter(|db| *db < self.shared.facts.borrow().databases),
        };
        let Some(db) = db else {
            self.answer(|out, _| write::error(out, "ERR DB index is out of range"));
            return Flow::Taken;
        };
        if let Some(lane) = self.holding_lane() {
            let Some(noted) = self.outbox.take_noted() else {
                // The server may refuse it, and nothing has moved then.
                lane.send(&self.outbox, Expect::Noted, |out| out.extend_from_slice(command.bytes));
                return Flow::Wait;
            };
            if noted.starts_with(b"+") {
                self.moved_to(db);
            }
            self.answer(|out, _| out.extend_from_slice(&noted));
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
        self.db = self.shared.facts.borrow().db;
        self.authenticated = greeted(&self.shared, &self.client);
        self.muted = Muted::No;
        (self.stays, self.untouching) = (false, false);
        let mut about = self.client.about();
        about.name.clear();
        "default".clone_into(&mut about.user);
        drop(about);
        self.answer(|out, _| write::simple(out, "RESET"));
        Flow::Taken
    }

    pub(super) fn set_name(&mut self, name: &[u8]) -> Result<(), &'static str> {
        printable(name)?.clone_into(&mut self.client.about().name);
        Ok(())
    }
}

// === impl Hello ===

impl<'a> Hello<'a> {
    /// Reads the options. `current`: the protocol of a HELLO that names none.
    fn read(command: &Command<'a>, current: Protocol) -> Result<Self, Cow<'static, str>> {
        let protocol = match command.arg(1) {
            None => current,
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
        Ok(Self { protocol, login, name })
    }
}

/// HELLO of a protocol, and of nothing else.
pub(super) fn hello_of(protocol: Protocol) -> &'static [u8] {
    if protocol == Protocol::Resp3 { HELLO_3 } else { HELLO_2 }
}

/// A name that a client may have.
fn printable(name: &[u8]) -> Result<&str, &'static str> {
    let printable = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
    let text = std::str::from_utf8(name).ok().filter(|_| printable);
    text.ok_or("ERR Client names cannot contain spaces, newlines or special characters.")
}

/// What an error reply says.
fn error_text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply.get(1..).unwrap_or_default()).trim_end().to_owned()
}
