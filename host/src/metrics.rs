//! Counters: written by the workers without waiting for each other, read when someone asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::command::Kind;
use crate::namespace::RuleTable;
use crate::policy::Cost;

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

/// The counters of one rule, one for each outcome.
#[derive(Debug, Default)]
pub struct RuleCounters([Counter; Outcome::ALL.len()]);

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
    rules: Mutex<BTreeMap<String, Arc<RuleCounters>>>,
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

// === impl RuleCounters ===

impl RuleCounters {
    /// Counts one.
    pub fn count(&self, worker: usize, outcome: Outcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.add(worker, 1);
        }
    }

    /// The counters with their outcomes.
    pub fn all(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(&self.0).map(|(outcome, counter)| (outcome, counter.get()))
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
