//! The command table: what each command is and where its keys stand. Data (`table.txt`, `newer.txt`, what a server
//! reports) and how it is read; no policy, no I/O.

mod keys;
mod reported;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use rustc_hash::FxBuildHasher;

pub use keys::{KeyUse, Keys};
pub use reported::{BeginSearch, FindKeys, KeySpec, Reported};

use crate::resp::Span;

/// One command: the bytes it came as and where its arguments stand in them, the name first.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// The arguments. Never empty.
    pub args: &'a [Span],
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name in lower case, `container|subcommand` for a subcommand.
    pub name: Cow<'static, str>,
    /// The number of arguments with the name; negative: at least so many.
    pub arity: i32,
    /// How the sidecar takes it.
    pub kind: Kind,
    /// Where its keys stand.
    pub keys: Vec<Keys>,
}

/// How the sidecar takes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads keys.
    Read,
    /// Changes or removes keys, creates none.
    Write,
    /// Can create keys, which then need a lifetime: an expiry follows behind it.
    Create(Data),
    /// The SET family: a whole value with its lifetime in the command itself.
    Set(SetForm),
    /// Several whole values: expiries follow behind it.
    MultiSet,
    /// MSETEX: several whole values, with one lifetime for all of them in the command itself.
    MultiSetEx,
    /// RESTORE: a key made of a dump, with its lifetime in the command itself.
    Restore,
    /// GETEX: reads, and may change a lifetime.
    GetEx,
    /// EXPIRE and its relatives.
    Expire(ExpireForm),
    /// PERSIST.
    Persist,
    /// Waits at the server, and may create a key when it wakes.
    Block(Option<Data>),
    /// Waits at the server if its options say so.
    BlockOption,
    /// WAIT: waits for the replicas to have what the connection wrote.
    Wait,
    /// Runs a script, or is another whose keys are not all known: it may change any.
    Script,
    /// Begins a transaction.
    Multi,
    /// Ends it and runs it.
    Exec,
    /// Ends it.
    Discard,
    /// Makes the next transaction conditional.
    Watch,
    /// Takes that back.
    Unwatch,
    /// SUBSCRIBE, UNSUBSCRIBE and their relatives.
    Subscribe,
    /// Shows all commands of the server.
    Monitor,
    /// About the connection: the sidecar answers it.
    Session,
    /// About the server: passed on.
    Server,
    /// Cannot work through a sidecar.
    Refused,
}

/// What kind of data a command creates, for the policies that ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    /// A string.
    Value,
    /// A number.
    Counter,
    /// A hash.
    Hash,
    /// A sorted set.
    SortedSet,
    /// A set.
    Set,
    /// A list.
    List,
    /// A stream.
    Stream,
    /// A bitmap or HyperLogLog.
    Bits,
    /// What another key or a dump holds.
    Copy,
    /// Nothing: the command is about a lifetime.
    Expiry,
    /// Anything else.
    Other,
}

/// The members of the SET family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetForm {
    /// SET key value …
    Set,
    /// SETNX key value
    SetNx,
    /// SETEX key seconds value
    SetEx,
    /// PSETEX key milliseconds value
    PSetEx,
    /// GETSET key value
    GetSet,
}

/// The members of the EXPIRE family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireForm {
    /// The number is in milliseconds, not seconds.
    pub milliseconds: bool,
    /// The number is an instant, not a span.
    pub absolute: bool,
}

/// All rows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Those whose names fit into a number: nearly all that are sent.
    short: HashMap<u64, Row, FxBuildHasher>,
    /// The others.
    long: HashMap<Cow<'static, str>, Row, FxBuildHasher>,
}

/// Longer names, with their container, are not looked up: no server has one.
const NAME_BYTES_MAX: usize = 64;

static OF_REDIS: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("table.txt")));
static NEWEST: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::of_redis().clone();
    let newer = Table::parse(include_str!("newer.txt"));
    newer.rows().cloned().for_each(|row| table.insert(row));
    table
});

// === impl Command ===

impl<'a> Command<'a> {
    /// The argument at `index`.
    pub fn arg(&self, index: usize) -> Option<&'a [u8]> {
        self.args.get(index).map(|span| span.of(self.bytes))
    }

    /// The name.
    pub fn name(&self) -> &'a [u8] {
        self.arg(0).unwrap_or_default()
    }

    /// The arguments from `index` on.
    pub fn rest(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.args.get(index..).unwrap_or_default().iter().map(move |span| span.of(bytes))
    }

    /// The command's row in a table; the subcommand's where there is one. None: not in the table.
    pub fn row<'t>(&self, table: &'t Table) -> Option<&'t Row> {
        let short = short_name(self.name()).and_then(|name| table.short.get(&name));
        if let Some(row) = short.filter(|row| !self.may_have_subcommand(row)) {
            return Some(row);
        }
        let mut name = [0; NAME_BYTES_MAX];
        let length = lower_case(self.name(), &mut name)?;
        let row = table.get(name.get(..length)?)?;
        if !self.may_have_subcommand(row) {
            return Some(row);
        }
        *name.get_mut(length)? = b'|';
        let rest = name.get_mut(length + 1..)?;
        let sub = lower_case(self.arg(1)?, rest).and_then(|sub| table.get(name.get(..=length + sub)?));
        Some(sub.unwrap_or(row))
    }

    fn may_have_subcommand(&self, row: &Row) -> bool {
        matches!(row.kind, Kind::Server | Kind::Session) && self.args.len() >= 2
    }
}

// === impl Row ===

impl Row {
    /// Whether `count` arguments, the name included, are as many as the command takes.
    pub fn takes(&self, count: usize) -> bool {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        if self.arity < 0 { count >= -self.arity } else { count == self.arity }
    }

    /// The position of the first key, for a command that has exactly one place for it.
    pub fn only_key(&self) -> Option<usize> {
        match self.keys.as_slice() {
            [Keys::At { index, .. }] => Some(*index),
            _ => None,
        }
    }
}

// === impl Table ===

impl Table {
    /// The table of the commands of Redis 7.0.
    pub fn of_redis() -> &'static Self {
        &OF_REDIS
    }

    /// The same with all younger commands that are known: for a server that does not say what it has.
    pub fn newest() -> &'static Self {
        &NEWEST
    }

    /// The row of a name in lower case.
    pub fn get(&self, name: &[u8]) -> Option<&Row> {
        match short_name(name) {
            Some(short) => self.short.get(&short),
            None => self.long.get(std::str::from_utf8(name).ok()?),
        }
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.short.values().chain(self.long.values())
    }

    fn insert(&mut self, row: Row) {
        match short_name(row.name.as_bytes()) {
            Some(short) => drop(self.short.insert(short, row)),
            None => drop(self.long.insert(row.name.clone(), row)),
        }
    }

    /// Reads the table. A line that says nothing is left out, and the test that compares with a real server shows it.
    fn parse(text: &'static str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let rows = lines.filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (name, arity, kind) = (words.next()?, words.next()?.parse().ok()?, Kind::parse(words.next()?)?);
            let keys = words.map(Keys::parse).collect::<Option<_>>()?;
            Some(Row { name: name.into(), arity, kind, keys })
        });
        let mut table = Self { short: HashMap::default(), long: HashMap::default() };
        rows.for_each(|row| table.insert(row));
        table
    }
}

// === impl Kind ===

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        let (kind, data) = text.split_once(':').map_or((text, None), |(kind, data)| (kind, Some(data)));
        let data = data.and_then(Data::parse);
        Some(match kind {
            "read" => Self::Read,
            "write" => Self::Write,
            "create" => Self::Create(data?),
            "set" => Self::Set(SetForm::Set),
            "setnx" => Self::Set(SetForm::SetNx),
            "setex" => Self::Set(SetForm::SetEx),
            "psetex" => Self::Set(SetForm::PSetEx),
            "getset" => Self::Set(SetForm::GetSet),
            "mset" | "msetnx" => Self::MultiSet,
            "msetex" => Self::MultiSetEx,
            "restore" => Self::Restore,
            "getex" => Self::GetEx,
            "expire" => Self::Expire(ExpireForm { milliseconds: false, absolute: false }),
            "pexpire" => Self::Expire(ExpireForm { milliseconds: true, absolute: false }),
            "expireat" => Self::Expire(ExpireForm { milliseconds: false, absolute: true }),
            "pexpireat" => Self::Expire(ExpireForm { milliseconds: true, absolute: true }),
            "persist" => Self::Persist,
            "block" => Self::Block(data),
            "block-option" => Self::BlockOption,
            "wait" => Self::Wait,
            "script" => Self::Script,
            "multi" => Self::Multi,
            "exec" => Self::Exec,
            "discard" => Self::Discard,
            "watch" => Self::Watch,
            "unwatch" => Self::Unwatch,
            "subscribe" => Self::Subscribe,
            "monitor" => Self::Monitor,
            "session" => Self::Session,
            "server" => Self::Server,
            "refused" => Self::Refused,
            _ => return None,
        })
    }

    /// What metrics call it: its place in [`Kind::LABELS`].
    pub fn label_index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write | Self::Create(_) | Self::Set(_) | Self::MultiSet | Self::MultiSetEx | Self::Restore => 1,
            Self::GetEx | Self::Expire(_) | Self::Persist => 2,
            Self::Block(_) | Self::BlockOption | Self::Wait => 3,
            Self::Script => 4,
            Self::Multi | Self::Exec | Self::Discard | Self::Watch | Self::Unwatch => 5,
            Self::Subscribe => 6,
            Self::Session => 7,
            Self::Monitor | Self::Server | Self::Refused => 8,
        }
    }

    /// What metrics call it.
    pub fn label(self) -> &'static str {
        Self::LABELS.get(self.label_index()).copied().unwrap_or("unknown")
    }

    /// The words of metrics. The last is for commands that are not in the table.
    pub const LABELS: [&'static str; 10] =
        ["read", "write", "expire", "block", "script", "transaction", "pubsub", "session", "server", "unknown"];
}

// === impl Data ===

impl Data {
    /// Reads the word of the contract, as the table uses it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "value" => Self::Value,
            "counter" => Self::Counter,
            "hash" => Self::Hash,
            "sorted-set" => Self::SortedSet,
            "set" => Self::Set,
            "list" => Self::List,
            "stream" => Self::Stream,
            "bits" => Self::Bits,
            "copy" => Self::Copy,
            "expiry" => Self::Expiry,
            "other" => Self::Other,
            _ => return None,
        })
    }

    /// The word of the contract.
    pub fn label(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Counter => "counter",
            Self::Hash => "hash",
            Self::SortedSet => "sorted-set",
            Self::Set => "set",
            Self::List => "list",
            Self::Stream => "stream",
            Self::Bits => "bits",
            Self::Copy => "copy",
            Self::Expiry => "expiry",
            Self::Other => "other",
        }
    }
}

/// A name of at most seven bytes as a number, in lower case; a one before it tells it from a longer one that begins
/// with zeros. None: it is longer.
fn short_name(name: &[u8]) -> Option<u64> {
    (name.len() < 8).then(|| name.iter().fold(1, |number, byte| number << 8 | u64::from(byte.to_ascii_lowercase())))
}

/// Writes `name` in lower case into `out`: its length. None: longer than any name in the table.
fn lower_case(name: &[u8], out: &mut [u8]) -> Option<usize> {
    for (byte, lower) in name.iter().zip(out.get_mut(..name.len())?) {
        *lower = byte.to_ascii_lowercase();
    }
    Some(name.len())
}

#[cfg(test)]
mod tests {
    use super::{Command, Table};
    use crate::resp::request::{Limits, Scanned, Scanner};

    #[test]
    fn names() {
        let check = |name: &[u8], expect: Option<&str>| {
            let mut scanner = Scanner::new(Limits { args_max: 1, bulk_bytes_max: 100, command_bytes_max: 200 });
            let bytes = [format!("*1\r\n${}\r\n", name.len()).as_bytes(), name, b"\r\n"].concat();
            assert_eq!(scanner.scan(&bytes), Ok(Scanned::Command(bytes.len())));
            let row = Command { bytes: &bytes, args: scanner.args() }.row(Table::of_redis());
            assert_eq!(row.map(|row| row.name.as_ref()), expect, "{}", name.escape_ascii());
        };
        check(b"GeT", Some("get"));
        check(b"HINCRBY", Some("hincrby"));
        check(b"SMEMBERS", Some("smembers"));
        check(b"ZRANGEBYSCORE", Some("zrangebyscore"));
        check(b"client", Some("client"));
        check(b"", None);
        check(b"\0get", None);
        check(b"get\0", None);
        check(b"ge\x01", None);
        check(b"\x01get", None);
        check(&[b'x'; 100], None);
    }
}
