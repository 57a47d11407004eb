//! Counters: written by the workers without waiting for each other, read when someone asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::command::Kind;
use crate::namespace::RuleTable;
use crate::policy::{Cost, Horizon};

/// A counter that each worker adds to in a place of its own.
#[derive(Debug, Default)]
pub struct Counter {
    shards: [Shard; SHARDS],
}

/// A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(AtomicU64);

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The policy was asked.
    Decided,
    /// An earlier decision was still valid.
    Remembered,
    /// The client's own lifetime stood.
    Client,
    /// The policy failed, and the rule's fallback was used.
    Fallback,
    /// The command was refused.
    Refused,
    /// The value is not JSON, and the rule only warns.
    NotJson,
}

/// What became of a key that was there already, when its lifetime was decided anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retimed {
    /// It lives shorter.
    Shortened,
    /// It lives longer.
    Lengthened,
    /// It had no end, and has one now.
    Given,
    /// It had an end, and has none now.
    Persisted,
    /// It lives as before.
    Left,
    /// A client wrote it while it was looked at, so that it lives by the new policies already.
    WrittenMeanwhile,
}

/// What became of one who asked for a key that was not there, under a rule with leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// It was told so, and has the right to recompute the value.
    Won,
    /// It was given the old value.
    Stale,
    /// It was given the new one.
    New,
    /// It was told so, although another has the right to recompute the value.
    Missed,
    /// The key was there, near its end: it tried for the right to recompute the value.
    Ahead,
}

/// What became of a key that the application was to be asked for before clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmAsked {
    /// It was asked, and said yes.
    Answered,
    /// It said no, nothing, or was not there.
    Failed,
    /// Another sidecar asks for it, or has lately.
    Elsewhere,
}

/// The counters of one rule.
#[derive(Debug, Default)]
pub struct RuleCounters {
    outcomes: [Counter; Outcome::ALL.len()],
    /// Decisions about keys whose symbol is missing or unknown, under a rule that takes the market from a symbol.
    pub unknown_symbols: Counter,
    /// Values that were served from memory.
    pub near_hits: Counter,
    /// Values that might have been, and were not there.
    pub near_misses: Counter,
    /// Values that were served from memory because there was no server.
    pub near_left_over: Counter,
    /// Keys whose values were read before clients asked for them, and are kept.
    pub warm_kept: Counter,
    /// Keys whose values were to be, and are not kept: the rule keeps none, or the value is gone or too large.
    pub warm_left: Counter,
    leased: [Counter; Leased::ALL.len()],
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Commands by what [`Kind::LABELS`] says.
    pub commands: [Counter; Kind::LABELS.len()],
    /// Client connections, since the start.
    pub clients_accepted: Counter,
    /// Client connections that have ended.
    pub clients_ended: Counter,
    /// Client connections refused, because there were too many.
    pub clients_refused: Counter,
    /// Calls of policies.
    pub calls: CallTimes,
    /// Policy sets that were put in force.
    pub generations: Counter,
    /// Policy sets that were refused.
    pub generations_refused: Counter,
    /// Walks over the keys that were there already, after the sessions of markets changed.
    pub retime_sweeps: Counter,
    /// Keys that such walks looked at, by what [`Retimed::ALL`] says.
    pub retime_keys: [Counter; Retimed::ALL.len()],
    /// Times that values were read into the near cache before clients asked for them.
    pub warm_runs: Counter,
    /// 1 while that is going on.
    pub warm_running: AtomicU64,
    /// Keys that were to be asked for, by what [`WarmAsked::ALL`] says.
    pub warm_asked: [Counter; WarmAsked::ALL.len()],
    rules: Mutex<BTreeMap<String, Arc<RuleCounters>>>,
    /// Where the calendars of markets in use end.
    horizons: Mutex<BTreeMap<Box<str>, i64>>,
}

/// A histogram of call times.
#[derive(Debug, Default)]
pub struct CallTimes {
    buckets: [Counter; CALL_NS.len() + 1],
    sum_ns: Counter,
}

/// The upper bounds of the histogram's buckets in nanoseconds: calls take hundreds of them.
pub const CALL_NS: [u64; 14] =
    [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 409_600, 1_638_400, 6_553_600, 104_857_600];

const SHARDS: usize = 8;
/// Markets whose horizon is told. Those that rules name come first; names of others come from keys: hence the bound.
const HORIZONS_MAX: usize = 256;

// === impl Counter ===

impl Counter {
    /// Adds, in the place of that worker.
    pub fn add(&self, worker: usize, count: u64) {
        if let Some(shard) = self.shards.get(worker % SHARDS) {
            shard.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}

// === impl Outcome ===

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Decided, Self::Remembered, Self::Client, Self::Fallback, Self::Refused, Self::NotJson];

    /// What metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Remembered => "remembered",
            Self::Client => "client",
            Self::Fallback => "fallback",
            Self::Refused => "refused",
            Self::NotJson => "not-json",
        }
    }
}

// === impl Leased ===

impl Leased {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::Won, Self::Stale, Self::New, Self::Missed, Self::Ahead];

    /// What metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Stale => "stale",
            Self::New => "new",
            Self::Missed => "missed",
            Self::Ahead => "ahead",
        }
    }
}

// === impl Retimed ===

impl Retimed {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Shortened, Self::Lengthened, Self::Given, Self::Persisted, Self::Left, Self::WrittenMeanwhile];

    /// What metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Shortened => "shortened",
            Self::Lengthened => "lengthened",
            Self::Given => "given",
            Self::Persisted => "persisted",
            Self::Left => "left",
            Self::WrittenMeanwhile => "written-meanwhile",
        }
    }
}

// === impl WarmAsked ===

impl WarmAsked {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Answered, Self::Failed, Self::Elsewhere];

    /// What metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Elsewhere => "elsewhere",
        }
    }
}

// === impl RuleCounters ===

impl RuleCounters {
    /// Counts one.
    pub fn count(&self, worker: usize, outcome: Outcome) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.add(worker, 1);
        }
    }

    /// Counts what became of one who asked for a key that was not there.
    pub fn count_leased(&self, worker: usize, result: Leased) {
        if let Some(counter) = self.leased.get(result as usize) {
            counter.add(worker, 1);
        }
    }

    /// The counters of those who asked for a key that was not there.
    pub fn leased(&self) -> impl Iterator<Item = (Leased, u64)> {
        Leased::ALL.into_iter().zip(&self.leased).map(|(result, counter)| (result, counter.get()))
    }

    /// The reads of keys of the rule of this name, by where their values came from.
    pub fn near_reads(&self, rule: &str) -> [(String, &'static str, u64); 3] {
        [("hit", &self.near_hits), ("miss", &self.near_misses), ("left-over", &self.near_left_over)]
            .map(|(result, counter)| (rule.to_owned(), result, counter.get()))
    }

    /// What became of the keys of the rule of this name that were read before clients asked.
    pub fn warmed(&self, rule: &str) -> [(String, &'static str, u64); 2] {
        [("kept", &self.warm_kept), ("left", &self.warm_left)]
            .map(|(result, counter)| (rule.to_owned(), result, counter.get()))
    }

    /// The counters with their outcomes.
    pub fn all(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(&self.outcomes).map(|(outcome, counter)| (outcome, counter.get()))
    }
}

// === impl Metrics ===

impl Metrics {
    /// The counters of all rules of a table, in its order. A rule of the same name goes on counting.
    pub fn of_rules(&self, table: &RuleTable) -> Vec<Arc<RuleCounters>> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        table.rules().iter().map(|rule| Arc::clone(known.entry(rule.name.clone()).or_default())).collect()
    }

    /// The counters of every rule there has been, by name.
    pub fn rules(&self) -> Vec<(String, Arc<RuleCounters>)> {
        let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
    }

    /// Keeps where a market's calendar ends. Of at most 256 markets.
    pub fn learn_horizon(&self, horizon: &Horizon) {
        let mut known = self.horizons.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < HORIZONS_MAX || known.contains_key(&horizon.market) {
            known.insert(horizon.market.clone(), horizon.at);
        }
    }

    /// A new generation: the markets that its rules name, and what it knows of those that have been asked about. A
    /// market that it does not know is forgotten.
    pub fn renew_horizons(&self, named: Vec<Horizon>, find: impl Fn(&str) -> Option<i64>) {
        let mut known = self.horizons.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = std::mem::take(&mut *known).into_keys();
        let asked = asked.filter_map(|market| find(&market).map(|at| Horizon { market, at }));
        for Horizon { market, at } in named.into_iter().chain(asked) {
            if known.len() < HORIZONS_MAX {
                known.insert(market, at);
            }
        }
    }

    /// Where the calendars of markets in use end, by name.
    pub fn horizons(&self) -> BTreeMap<Box<str>, i64> {
        self.horizons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl CallTimes ===

impl CallTimes {
    /// Counts one call.
    pub fn count(&self, worker: usize, cost: Cost) {
        let ns = u64::try_from(cost.time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = CALL_NS.iter().position(|bound| ns <= *bound).unwrap_or(CALL_NS.len());
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(worker, 1);
        }
        self.sum_ns.add(worker, ns);
    }

    /// The counts of the buckets and the sum of all times in nanoseconds.
    pub fn read(&self) -> (Vec<u64>, u64) {
        (self.buckets.iter().map(Counter::get).collect(), self.sum_ns.get())
    }
}

#[cfg(test)]
mod tests {
    use super::{HORIZONS_MAX, Horizon, Metrics};

    fn horizon(market: &str, at: i64) -> Horizon {
        Horizon { market: market.into(), at }
    }

    #[test]
    fn horizons_are_bounded_and_renewed() {
        let metrics = Metrics::default();
        metrics.renew_horizons(vec![horizon("named", 1)], |_| None);
        (0..HORIZONS_MAX + 10).for_each(|index| metrics.learn_horizon(&horizon(&format!("asked {index:04}"), 2)));
        let known = metrics.horizons();
        assert_eq!((known.len(), known.get("named")), (HORIZONS_MAX, Some(&1)));
        assert_eq!((known.get("asked 0000"), known.get("asked 0260")), (Some(&2), None));
        // What is known is kept up to date, where there is no more room too.
        metrics.learn_horizon(&horizon("asked 0000", 3));
        assert_eq!(metrics.horizons().get("asked 0000"), Some(&3));
        // A new generation names another market, and knows one that was asked about.
        metrics.renew_horizons(vec![horizon("other", 4)], |market| (market == "asked 0001").then_some(5));
        let known: Vec<_> = metrics.horizons().into_iter().collect();
        assert_eq!(known, [("asked 0001".into(), 5), ("other".into(), 4)]);
    }
}
