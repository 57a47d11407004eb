//! Where a command goes in a cluster. Pure.

use bytes::Bytes;

use super::merge::Merge;
use super::slot::key_slot;
use crate::command::{Command, Kind, Row, Table};
use crate::resp::write;

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where it goes.
    pub(super) way: Way,
    /// It changes nothing, so that it may be sent again.
    pub(super) reads: bool,
    /// What must not be sent before it is answered.
    pub(super) holds: Holds,
}

/// Where a command goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the node of a slot.
    Slot(u16),
    /// In parts, each to the node of its slot.
    Split(Vec<Part>, Merge),
    /// To any node.
    Any,
    /// To all masters.
    Masters(Merge),
    /// To all masters, behind a command that lets them know how far this connection is.
    Wait(Merge),
    /// To every node that is spoken to, now or later: it is about the connection. What it is about.
    Connection(&'static str),
    /// To the node of the next command, before it.
    BeforeNext,
    /// SCAN.
    Scan,
    /// MONITOR.
    Monitor,
    /// SUBSCRIBE and its relatives.
    Subscribe(Channels),
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    Transaction,
    /// Nowhere: why.
    Refused(&'static str),
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) slot: u16,
    pub(super) bytes: Bytes,
    /// It has several keys.
    pub(super) several: bool,
}

/// What one subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    /// Channels or patterns, which every node knows.
    Plain,
    /// Shard channels, from now on.
    Shards,
    /// Shard channels, no longer.
    NoShards,
}

/// What must not be sent before a command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// All may be.
    Nothing,
    /// What is for its slot: the node may ask that it be tried again.
    Slot,
    /// Anything: it waits at the node.
    All,
}

/// What is sent to all masters, and how their replies become one.
const OF_ALL_MASTERS: [(&str, Merge); 25] = [
    ("dbsize", Merge::Sum),
    ("keys", Merge::Concat),
    ("randomkey", Merge::Something),
    ("flushall", Merge::First),
    ("flushdb", Merge::First),
    ("script|load", Merge::First),
    ("script|flush", Merge::First),
    ("script|kill", Merge::Something),
    ("script|exists", Merge::LeastEach),
    ("function|load", Merge::First),
    ("function|delete", Merge::First),
    ("function|flush", Merge::First),
    ("function|restore", Merge::First),
    ("function|kill", Merge::Something),
    ("config|set", Merge::First),
    ("config|resetstat", Merge::First),
    ("config|rewrite", Merge::First),
    ("acl|setuser", Merge::First),
    ("acl|deluser", Merge::First),
    ("acl|load", Merge::First),
    ("acl|save", Merge::First),
    ("pubsub|channels", Merge::Concat),
    ("pubsub|shardchannels", Merge::Concat),
    ("pubsub|numpat", Merge::Sum),
    ("client|pause", Merge::First),
];

/// What is about the connection, and holds on every node.
const OF_CONNECTION: [&str; 8] = [
    "auth",
    "hello",
    "client|setname",
    "client|setinfo",
    "client|tracking",
    "client|no-evict",
    "client|no-touch",
    "client|import-source",
];

/// What is about one node, and nobody can say which is meant.
const OF_ONE_NODE: [&str; 4] = ["shutdown", "replicaof", "slaveof", "failover"];
const ASK_NO_NODE: &str =
    "ERR bellwether cannot unblock a client in front of a cluster, where each node numbers its connections by itself";
const ASK_A_NODE: &str = "ERR bellwether does not pass this on to a cluster, since it is about one node; ask that node";

// === impl Plan ===

impl Plan {
    /// Says where a command goes.
    pub(super) fn of(command: &Command<'_>, table: &Table) -> Self {
        let Some(row) = command.row(table).filter(|row| row.takes(command.args.len())) else {
            // The server says what is wrong with it, in its own words.
            return Self::new(Way::Any);
        };
        match row.kind {
            Kind::Multi | Kind::Exec | Kind::Discard | Kind::Watch | Kind::Unwatch => Self::new(Way::Transaction),
            Kind::Subscribe => Self::new(Way::Subscribe(Channels::of(&row.name))),
            Kind::Monitor => Self::new(Way::Monitor),
            Kind::Wait => {
                let merge = if row.name == "wait" { Merge::Least } else { Merge::LeastEach };
                Self { holds: Holds::All, ..Self::new(Way::Wait(merge)) }
            }
            Kind::Session | Kind::Server => Self::of_server(command, row),
            _ => Self::of_keys(command, row),
        }
    }

    fn new(way: Way) -> Self {
        Self { way, reads: false, holds: Holds::Nothing }
    }

    /// A command about a server or a connection; some have a key all the same.
    fn of_server(command: &Command<'_>, row: &Row) -> Self {
        let name = &*row.name;
        if let Some((_, merge)) = OF_ALL_MASTERS.iter().find(|(of, _)| *of == name) {
            let reads = matches!(merge, Merge::Sum | Merge::Concat | Merge::LeastEach);
            return Self { reads, ..Self::new(Way::Masters(merge.clone())) };
        }
        if let Some(about) = OF_CONNECTION.iter().find(|of| **of == name) {
            let redirects =
                name == "client|tracking" && command.rest(2).any(|arg| arg.eq_ignore_ascii_case(b"REDIRECT"));
            if redirects {
                let why = "ERR bellwether cannot redirect invalidations in front of a cluster, where each node numbers \
                           its connections by itself; use RESP3";
                return Self::new(Way::Refused(why));
            }
            return Self::new(Way::Connection(about));
        }
        match name {
            "client|unblock" => Self::new(Way::Refused(ASK_NO_NODE)),
            "client|unpause" => Self::new(Way::Masters(Merge::First)),
            "scan" => Self { reads: true, ..Self::new(Way::Scan) },
            "client|caching" => Self::new(Way::BeforeNext),
            "spublish" => Self::new(Way::Slot(key_slot(command.arg(1).unwrap_or_default()))),
            _ if OF_ONE_NODE.contains(&name) => Self::new(Way::Refused(ASK_A_NODE)),
            "ping" | "echo" | "time" | "info" | "command" => Self { reads: true, ..Self::new(Way::Any) },
            _ => Self::of_keys(command, row),
        }
    }

    fn of_keys(command: &Command<'_>, row: &Row) -> Self {
        let mut slots = slots(command, row);
        let Some(first) = slots.next() else { return Self::new(Way::Any) };
        let reads = row.kind == Kind::Read;
        let (mut several, mut across) = (false, false);
        for slot in slots {
            several = true;
            across |= slot != first;
        }
        let blocks = match row.kind {
            Kind::Block(_) => true,
            Kind::BlockOption => command.rest(1).any(|arg| arg.eq_ignore_ascii_case(b"BLOCK")),
            _ => false,
        };
        let holds = match blocks {
            true => Holds::All,
            // A script that a node does not know is sent again behind its text.
            false if (several && !reads) || row.name.starts_with("evalsha") => Holds::Slot,
            false => Holds::Nothing,
        };
        let way = if across { split(command, row) } else { None };
        // Where it cannot be split, the node of its first key says so in the server's own words.
        Self { way: way.unwrap_or(Way::Slot(first)), reads, holds }
    }
}

// === impl Channels ===

impl Channels {
    fn of(name: &str) -> Self {
        match name {
            "ssubscribe" => Self::Shards,
            "sunsubscribe" => Self::NoShards,
            _ => Self::Plain,
        }
    }
}

/// The slots of a command's keys, in their order.
pub(super) fn slots(command: &Command<'_>, row: &Row) -> impl Iterator<Item = u16> {
    let positions = row.keys.iter().flat_map(|keys| keys.positions(command));
    positions.filter_map(|index| command.arg(index)).map(key_slot)
}

/// A command's parts by slot. None: it is one of those that have to be whole.
fn split(command: &Command<'_>, row: &Row) -> Option<Way> {
    // The arguments that go together: a key, or a key and its value.
    let (step, merge) = match &*row.name {
        "mget" => (1, None),
        "mset" if command.args.len() % 2 == 1 => (2, Some(Merge::First)),
        "del" | "unlink" | "exists" | "touch" => (1, Some(Merge::Sum)),
        _ => return None,
    };
    let args: Vec<_> = command.rest(1).collect();
    let mut slots: Vec<(u16, Vec<usize>)> = Vec::new();
    let mut known = rustc_hash::FxHashMap::default();
    for (index, group) in args.chunks_exact(step).enumerate() {
        let slot = key_slot(group.first().copied().unwrap_or_default());
        let at = *known.entry(slot).or_insert_with(|| {
            slots.push((slot, Vec::new()));
            slots.len() - 1
        });
        slots.get_mut(at)?.1.push(index);
    }
    let part = |(slot, groups): &(u16, Vec<usize>)| {
        let mut bytes = Vec::new();
        write::array(&mut bytes, 1 + groups.len() * step);
        write::bulk(&mut bytes, command.name());
        for group in groups {
            args.iter().skip(group * step).take(step).for_each(|arg| write::bulk(&mut bytes, arg));
        }
        Part { slot: *slot, bytes: bytes.into(), several: groups.len() > 1 }
    };
    let parts = slots.iter().map(part).collect();
    let places = || Merge::Places(slots.iter().map(|(_, groups)| groups.clone()).collect());
    Some(Way::Split(parts, merge.unwrap_or_else(places)))
}

#[cfg(test)]
mod tests {
    use super::{Holds, Plan, Way};
    use crate::command::{Command, Table};
    use crate::resp::request::{Limits, Scanned, Scanner};

    /// Where a command that a person typed goes, and in which parts.
    fn check(line: &str, expect: &str) {
        let limits = Limits { args_max: 32, bulk_bytes_max: 1024, command_bytes_max: 4096 };
        let mut scanner = Scanner::new(limits);
        let Ok(Scanned::Inline(_, bytes)) = scanner.scan(format!("{line}\r\n").as_bytes()) else { panic!("{line}") };
        scanner.scan(&bytes).unwrap();
        let command = Command { bytes: &bytes, args: scanner.args() };
        let plan = Plan::of(&command, Table::newest());
        let way = match &plan.way {
            Way::Split(parts, merge) => {
                let words = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")
                };
                let parts = parts.iter().map(|part| format!("{} {}", part.slot, words(&part.bytes)));
                format!("{}, {merge:?}", parts.collect::<Vec<_>>().join(", "))
            }
            Way::Refused(_) => "refused".to_owned(),
            way => format!("{way:?}"),
        };
        let holds = match plan.holds {
            Holds::Nothing => "",
            Holds::Slot => ", holds its slot",
            Holds::All => ", holds all",
        };
        assert_eq!(format!("{way}{}{holds}", if plan.reads { ", reads" } else { "" }), expect, "{line}");
    }

    #[test]
    fn commands_have_ways() {
        check("GET a", "Slot(15495), reads");
        check("SET a 1", "Slot(15495)");
        check("GET", "Any");
        check("NOSUCH a", "Any");
        check("MGET {a}1 {a}2", "Slot(15495), reads");
        check("MGET a b a", "15495 MGET a a, 3300 MGET b, Places([[0, 2], [1]]), reads");
        check("MSET a 1 b 2", "15495 MSET a 1, 3300 MSET b 2, First, holds its slot");
        check("MSET {a}1 1 {a}2 2", "Slot(15495), holds its slot");
        check("MSET a 1 b", "Slot(15495), holds its slot");
        check("DEL a b {a}c", "15495 DEL a {a}c, 3300 DEL b, Sum, holds its slot");
        check("EXISTS a b", "15495 EXISTS a, 3300 EXISTS b, Sum, reads");
        check("MSETNX a 1 b 2", "Slot(15495), holds its slot");
        check("RENAME a b", "Slot(15495), holds its slot");
        check("EVAL x 0", "Any");
        check("EVAL x 1 a", "Slot(15495)");
        check("EVALSHA x 1 a", "Slot(15495), holds its slot");
        check("BLPOP a 0", "Slot(15495), holds all");
        check("XREAD COUNT 1 STREAMS a 0", "Slot(15495)");
        check("XREAD BLOCK 1 STREAMS a 0", "Slot(15495), holds all");
        check("OBJECT ENCODING a", "Slot(15495), reads");
        check("OBJECT HELP", "Any");
        check("PING", "Any, reads");
        check("DBSIZE", "Masters(Sum), reads");
        check("SCRIPT EXISTS x", "Masters(LeastEach), reads");
        check("SCRIPT LOAD x", "Masters(First)");
        check("FLUSHALL", "Masters(First)");
        check("WAIT 1 0", "Wait(Least), holds all");
        check("SCAN 0", "Scan, reads");
        check("SSCAN a 0", "Slot(15495), reads");
        check("SPUBLISH a x", "Slot(15495)");
        check("PUBLISH a x", "Any");
        check("SSUBSCRIBE a", "Subscribe(Shards)");
        check("PSUBSCRIBE a", "Subscribe(Plain)");
        check("WATCH a", "Transaction");
        check("AUTH x", "Connection(\"auth\")");
        check("CLIENT TRACKING ON OPTIN", "Connection(\"client|tracking\")");
        check("CLIENT TRACKING ON REDIRECT 5", "refused");
        check("CLIENT CACHING YES", "BeforeNext");
        check("CLIENT ID", "Any");
        check("SHUTDOWN", "refused");
        check("CLUSTER INFO", "Any");
        check("CONFIG SET a b", "Masters(First)");
    }
}
