//! What commands have to do with the near cache: which keys one may change, and which it only asks for.

use crate::command::{Command, KeyUse, Kind, Row};
use crate::namespace::RuleId;
use crate::near::Touched;
use crate::upstream::Expect;

use super::Policies;

/// The commands of a transaction that the server has been sent.
#[derive(Debug, Default)]
pub struct Queued {
    /// What is done with each reply of EXEC.
    pub expects: Vec<Expect>,
    /// What they may change.
    pub touched: Touched,
}

/// The keys that a command asks for and that may be near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The value of one key.
    One,
    /// The values of all its arguments.
    Many,
}

/// What a rule says of serving values from memory.
#[derive(Clone, Copy, Debug)]
pub struct NearRule {
    id: RuleId,
    /// For how long a value may be served.
    pub near_ms: u64,
    /// For how long while there is no server.
    pub fail_safe_ms: Option<u64>,
    /// In which last part of its lifetime one client recomputes it, in hundredths.
    pub ahead_percent: Option<u8>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearResult {
    /// From memory.
    Hit,
    /// From the server, which has to be asked.
    Miss,
    /// From memory, since there is no server.
    LeftOver,
}

/// What a command may change.
pub fn touched(command: &Command<'_>, row: &Row) -> Touched {
    match row.kind {
        Kind::Read => Touched::Nothing,
        // Scripts may reach keys that they do not name.
        Kind::Script if !row.name.ends_with("_ro") => Touched::All,
        Kind::Server if WHOLE.contains(&row.name.as_ref()) => Touched::All,
        _ => match row.keys.as_slice() {
            [] => Touched::Nothing,
            keys => {
                let changed = keys.iter().filter(|keys| keys.used() != KeyUse::Read);
                let positions = changed.flat_map(|keys| keys.positions(command));
                Touched::keys(positions.filter_map(|index| command.arg(index)))
            }
        },
    }
}

/// Commands about the server after which no value can be relied on.
const WHOLE: [&str; 11] = [
    "flushall",
    "flushdb",
    "swapdb",
    "debug",
    "replicaof",
    "slaveof",
    "failover",
    "shutdown",
    "restore-asking",
    "cluster|reset",
    "cluster|flushslots",
];

// === impl Asks ===

impl Asks {
    /// What a command asks for. None: it is of another kind.
    pub fn of(command: &Command<'_>, row: &Row) -> Option<Self> {
        match row.name.as_ref() {
            "get" if command.args.len() == 2 => Some(Self::One),
            "mget" => Some(Self::Many),
            _ => None,
        }
    }
}

// === impl Policies ===

impl Policies {
    /// What a key's rule says of serving its value from memory. None: it may not be.
    pub fn near(&self, key: &[u8]) -> Option<NearRule> {
        let (id, rule) = self.decider.set().rules.find(key)?;
        let ahead_percent = rule.refresh_ahead_percent;
        Some(NearRule { id, near_ms: rule.near_ms?, fail_safe_ms: rule.fail_safe_ms, ahead_percent })
    }

    /// The place of a key's rule among those of the generation.
    pub fn rule_of(&self, key: &[u8]) -> Option<usize> {
        self.decider.set().rules.find(key).map(|(id, _)| id.index())
    }

    /// The generation of the policies.
    pub fn generation(&self) -> u64 {
        self.decider.set().generation
    }

    /// Whether any key's value may be.
    pub fn is_near(&self) -> bool {
        self.near
    }

    /// Counts that a value was, or was not, in memory.
    pub fn count_near(&self, rule: NearRule, result: NearResult) {
        if let Some(counters) = self.counters.get(rule.id.index()) {
            let counter = match result {
                NearResult::Hit => &counters.near_hits,
                NearResult::Miss => &counters.near_misses,
                NearResult::LeftOver => &counters.near_left_over,
            };
            counter.add(self.worker, 1);
        }
    }
}

// === impl Queued ===

impl Queued {
    /// One more command: what is done with its reply, and what it may change.
    pub fn push(&mut self, expect: Expect, touched: Touched) {
        self.expects.push(expect);
        self.touched = std::mem::take(&mut self.touched).and(touched);
    }
}
