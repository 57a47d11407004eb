//! The store without its connections: a command goes in, a reply comes out. No I/O.

use std::collections::HashMap;

use super::{
    Limits,
    call::{Call, Error, Reply, is, shown},
    commands::{self, Command, Effect},
    keyspace::Keyspace,
    random::Random,
    session::{Queued, Session},
    transactions,
};

/// The database and what its commands share.
pub(super) struct Store {
    keys: Keyspace,
    server: Server,
    table: HashMap<&'static [u8], &'static Command>,
    sessions_made: u64,
}

/// What commands share beside the keys.
pub(super) struct Server {
    pub(super) limits: Limits,
    pub(super) random: Random,
    pub(super) started_at_ms: i64,
    pub(super) commands_run: u64,
    pub(super) sessions: usize,
}

/// Expired keys given back before each command; the rest waits for the sweep between commands.
const SWEEP_PER_COMMAND: usize = 4;
/// The longest name of a command, a blank and a subcommand.
const NAME_BYTES_MAX: usize = 64;

// === impl Store ===

impl Store {
    /// An empty store. What it picks at random follows from `now_ms`.
    pub(super) fn new(limits: Limits, now_ms: i64) -> Self {
        let server =
            Server { limits, random: Random::new(now_ms), started_at_ms: now_ms, commands_run: 0, sessions: 0 };
        let table = commands::table().map(|command| (command.name.as_bytes(), command)).collect();
        Self { keys: Keyspace::default(), server, table, sessions_made: 0 }
    }

    /// Begins a session. None: there are as many as there may be.
    pub(super) fn begin(&mut self) -> Option<Session> {
        if self.server.sessions >= self.server.limits.connections_max {
            return None;
        }
        self.server.sessions += 1;
        self.sessions_made += 1;
        Some(Session::new(self.sessions_made))
    }

    /// Ends a session.
    pub(super) fn end(&mut self, session: &mut Session) {
        transactions::forget(&mut self.keys, session);
        self.server.sessions -= 1;
    }

    /// Gives back the memory of expired keys: how many, at most `count_max`.
    pub(super) fn sweep(&mut self, now_ms: i64, count_max: usize) -> usize {
        self.keys.now_ms = now_ms;
        self.keys.sweep(count_max)
    }

    /// Runs one command, `args` being its name and its arguments, and appends its reply to `out`.
    pub(super) fn execute(&mut self, session: &mut Session, args: &[&[u8]], now_ms: i64, out: &mut Vec<u8>) {
        self.sweep(now_ms, SWEEP_PER_COMMAND);
        self.server.commands_run += 1;
        let (protocol, start) = (session.protocol, out.len());
        let reply = Reply { out, protocol, bytes_max: self.server.limits.replies_bytes_max, is_full: false };
        let command = self.admit(args);
        let mut call = Call { keys: &mut self.keys, server: &mut self.server, session, args, reply };
        match command {
            Err(error) if is(call.arg(0), "EXEC") => {
                transactions::forget(call.keys, call.session);
                call.reply.error(&error.aborts_exec());
            }
            Err(error) => {
                call.session.refuse();
                call.reply.error(&error);
            }
            Ok(command) if call.session.transaction.is_some() && command.effect != Effect::Session => {
                queue(&mut call, command);
            }
            Ok(command) => run(&mut call, command),
        }
        if call.reply.is_full {
            // Half a reply is worse than none.
            call.reply.out.truncate(start);
            session.closing = true;
        }
    }

    /// The command that `args` call, when it may run.
    fn admit(&self, args: &[&[u8]]) -> Result<&'static Command, Error> {
        let name = args.first().copied().unwrap_or_default();
        let subcommand = args.get(1).copied().unwrap_or_default();
        // A subcommand's own name (`client|id`) is the table's spelling, not a client's.
        let base = self.find(&[name]).filter(|command| !command.is_subcommand());
        let command = match base {
            Some(base) if base.is_container() && args.len() > 1 => self.find(&[name, b"|", subcommand]),
            other => other,
        };
        let Some(command) = command else {
            return Err(unknown(args, base.is_some()));
        };
        if !command.takes(args.len()) {
            return Err(Error::about(format!("ERR wrong number of arguments for '{}' command", command.name)));
        }
        has_memory(command, &self.keys, &self.server.limits).map(|()| command)
    }

    fn find(&self, parts: &[&[u8]]) -> Option<&'static Command> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > NAME_BYTES_MAX {
            return None;
        }
        let mut name = [0; NAME_BYTES_MAX];
        let mut bytes = parts.iter().flat_map(|part| part.iter());
        name.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = from.to_ascii_lowercase());
        self.table.get(name.get(..length)?).copied()
    }
}

/// Runs a command and writes its reply or its error.
pub(super) fn run(call: &mut Call<'_>, command: &Command) {
    let start = call.reply.out.len();
    // Asked again for a queued command: those before it may have taken what was left.
    let outcome = has_memory(command, call.keys, &call.server.limits).and_then(|()| (command.run)(call));
    if let Err(error) = outcome {
        call.reply.out.truncate(start);
        call.reply.error(&error);
    }
}

fn has_memory(command: &Command, keys: &Keyspace, limits: &Limits) -> Result<(), Error> {
    if command.effect == Effect::Grows && keys.used_bytes() > limits.memory_bytes_max {
        return Err(Error::OUT_OF_MEMORY);
    }
    Ok(())
}

fn queue(call: &mut Call<'_>, command: &'static Command) {
    let bytes_max = call.server.limits.transaction_bytes_max;
    let Some(transaction) = &mut call.session.transaction else {
        return;
    };
    // A queued argument weighs its box and its place, too.
    let bytes: usize = call.args.iter().map(|arg| arg.len() + 2 * size_of::<Box<[u8]>>()).sum();
    if transaction.bytes.saturating_add(bytes) > bytes_max {
        transaction.refused = true;
        call.reply.error(&Error::fixed("ERR transaction is too big for Bellwether's embedded store"));
        return;
    }
    transaction.bytes += bytes;
    transaction.queue.push(Queued { command, args: call.args.iter().map(|arg| (*arg).into()).collect() });
    call.reply.simple("QUEUED");
}

/// The error of a command that is not in the table, in the server's words, or in ours when the server has it.
fn unknown(args: &[&[u8]], is_container: bool) -> Error {
    /// The server cuts names and arguments here.
    const SHOWN_BYTES_MAX: usize = 128;
    // The server prints C strings, which end at a zero.
    let cut = |bytes: &[u8], length: usize| {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        bytes.get(..length.min(bytes.len())).unwrap_or_default().to_vec()
    };
    let name = cut(args.first().copied().unwrap_or_default(), SHOWN_BYTES_MAX);
    let subcommand = cut(args.get(1).copied().unwrap_or_default(), SHOWN_BYTES_MAX);
    let upper = shown(&name).to_ascii_uppercase();
    if is_container {
        let both = format!("{upper} {}", shown(&subcommand).to_ascii_uppercase());
        return match commands::is_absent(&both) {
            true => Error::absent(&both),
            false => Error::about(format!("ERR unknown subcommand '{}'. Try {upper} HELP.", shown(&subcommand))),
        };
    }
    if commands::is_absent(&upper) {
        return Error::absent(&upper);
    }
    let mut beginning = Vec::new();
    for arg in args.iter().skip(1) {
        if beginning.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - beginning.len();
        beginning.push(b'\'');
        beginning.extend(cut(arg, room));
        beginning.extend(b"' ");
    }
    Error::about(format!("ERR unknown command '{}', with args beginning with: {}", shown(&name), shown(&beginning)))
}
