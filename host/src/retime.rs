//! Walks the keys that are there already and gives them the lifetimes that are decided for them now: on the order of a
//! person, or by itself after the sessions of a market changed. Which lifetime, [`proxy::retime`](crate::proxy::retime)
//! says.

mod sweep;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use sweep::{Start, Sweeping};

use crate::clock::Clock;
use crate::metrics::{Metrics, Retimed};
use crate::namespace::RuleId;
use crate::proxy::retime::{Change, Left, Retiming, Subject};
use crate::upstream::{End, Found, Keys, Look};

/// A walk over the keys of one database. It may be dropped at any time: what has been changed stays changed.
pub struct Walk<'a> {
    /// The connection to the database.
    pub keys: Keys,
    /// Which keys are looked at, and what becomes of them.
    pub retiming: &'a mut Retiming,
    /// The clock.
    pub clock: Clock,
    /// Keys a second that are looked at, at least 1. They are counted as the server hands them out, picked or not.
    pub keys_per_second_max: u32,
    /// Whether to change nothing, and to keep the first keys that would be changed.
    pub dry_run: bool,
    /// What became of the keys.
    pub counts: &'a mut Counts,
    /// Where they are counted besides.
    pub metrics: Option<Arc<Metrics>>,
    /// Told how many keys have been looked at, again and again.
    pub progress: &'a mut dyn FnMut(u64),
}

/// What became of the keys of a walk.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By rule; none: the keys under no rule.
    pub rules: BTreeMap<Option<RuleId>, RuleCounts>,
    /// The first keys that would be changed, if nothing was to be changed.
    pub examples: Vec<Example>,
}

/// What became of the keys of one rule.
#[derive(Clone, Debug, Default)]
pub struct RuleCounts {
    /// Keys by outcome.
    pub outcomes: BTreeMap<Retimed, u64>,
    /// Of those that were left: why.
    pub left: BTreeMap<Left, u64>,
}

/// A key that would be changed.
#[derive(Clone, Debug)]
pub struct Example {
    /// The key.
    pub key: Vec<u8>,
    /// Milliseconds that are left of its lifetime. None: it has no end.
    pub left_ms: Option<u64>,
    /// What would become of it.
    pub change: Change,
    /// Why, as the policy says it.
    pub reason: String,
}

/// Keys that are kept as examples.
const EXAMPLES_MAX: usize = 10;
/// Keys that are changed in one transaction: it holds up other clients of the server for less than a millisecond, and
/// few are written meanwhile.
const BATCH_KEYS_MAX: usize = 256;
/// Keys asked of the server in one step.
const PAGE_KEYS_MAX: u32 = 500;
/// Steps a second, where the throttle makes them small.
const PAGES_PER_SECOND: u32 = 20;

// === impl Walk ===

impl Walk<'_> {
    /// Walks once over all keys.
    ///
    /// # Errors
    /// The server is lost or says no.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let rate = self.keys_per_second_max.max(1);
        let count = (rate / PAGES_PER_SECOND).clamp(1, PAGE_KEYS_MAX) as usize;
        let (mut from, mut looked) = (0, 0_u64);
        loop {
            let page = self.keys.page(from, count).await?;
            looked += page.keys.len() as u64;
            self.page(page.keys).await?;
            (self.progress)(looked);
            let Some(next) = page.next else { return Ok(()) };
            from = next;
            let due = begun + Duration::from_secs_f64(looked as f64 / f64::from(rate));
            tokio::time::sleep_until(due.into()).await;
        }
    }

    async fn page(&mut self, page: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let mut asked = Vec::with_capacity(page.len());
        for key in page {
            match self.retiming.subject(&key) {
                Subject::Other => {}
                Subject::Left(rule, left) => self.count(rule, Change::Leave(left), None),
                Subject::Asked(rule) => asked.push((self.keys.together(&key), key, rule)),
            }
        }
        asked.sort_by_key(|(together, ..)| *together);
        for asked in asked.chunk_by(|(one, ..), (other, ..)| one == other) {
            for asked in asked.chunks(BATCH_KEYS_MAX) {
                let (keys, rules): (Vec<_>, Vec<_>) = asked.iter().map(|(_, key, rule)| (key.clone(), *rule)).unzip();
                if self.batch(&keys, &rules).await? {
                    continue;
                }
                // Some key of it was written meanwhile; most were not.
                for (key, rule) in keys.chunks(1).zip(rules.chunks(1)) {
                    if !self.batch(key, rule).await? {
                        rule.iter().for_each(|rule| self.tally(Some(*rule), Retimed::WrittenMeanwhile));
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at keys and changes those that need it, all or none. False: one of them was written meanwhile, and nothing
    /// was done or counted.
    async fn batch(&mut self, keys: &[Vec<u8>], rules: &[RuleId]) -> anyhow::Result<bool> {
        let (data, value_bytes) = self.retiming.reads();
        let found = self.keys.look(keys, Look { watch: !self.dry_run, data, value_bytes }).await?;
        let now = self.clock.now();
        let mut changes = Vec::with_capacity(found.len());
        for found in &found {
            changes.push(match found {
                None => Change::Leave(Left::Gone),
                Some(found) => self.retiming.change(found, now),
            });
        }
        if self.dry_run {
            found.iter().zip(&changes).for_each(|(found, change)| self.keep_example(found.as_ref(), *change, now));
        } else {
            let end = |change: &Change| match change {
                Change::Leave(_) => None,
                Change::Set(ms) => Some(End::In(*ms)),
                Change::Persist => Some(End::Never),
            };
            let ends = keys.iter().zip(&changes).filter_map(|(key, change)| Some((key.as_slice(), end(change)?)));
            let ends: Vec<_> = ends.collect();
            if ends.is_empty() {
                self.keys.let_go().await?;
            } else if !self.keys.change(&ends).await? {
                return Ok(false);
            }
        }
        for ((found, change), rule) in found.iter().zip(changes).zip(rules) {
            self.count(Some(*rule), change, found.as_ref().and_then(|found| found.left_ms));
        }
        Ok(true)
    }

    fn keep_example(&mut self, found: Option<&Found>, change: Change, now: i64) {
        let Some(found) = found else { return };
        if matches!(change, Change::Leave(_)) || self.counts.examples.len() >= EXAMPLES_MAX {
            return;
        }
        let reason = self.retiming.reason(found, now);
        self.counts.examples.push(Example { key: found.key.clone(), left_ms: found.left_ms, change, reason });
    }

    fn count(&mut self, rule: Option<RuleId>, change: Change, left_ms: Option<u64>) {
        if let Change::Leave(left) = change {
            *self.counts.rules.entry(rule).or_default().left.entry(left).or_default() += 1;
        }
        self.tally(rule, change.outcome(left_ms));
    }

    fn tally(&mut self, rule: Option<RuleId>, outcome: Retimed) {
        *self.counts.rules.entry(rule).or_default().outcomes.entry(outcome).or_default() += 1;
        let counter = self.metrics.as_ref().and_then(|metrics| metrics.retime_keys.get(outcome as usize));
        if let Some(counter) = counter {
            counter.add(0, 1);
        }
    }
}

// === impl Counts ===

impl Counts {
    /// All rules together.
    pub fn sum(&self) -> RuleCounts {
        let mut sum = RuleCounts::default();
        for counts in self.rules.values() {
            counts.outcomes.iter().for_each(|(outcome, keys)| *sum.outcomes.entry(*outcome).or_default() += keys);
            counts.left.iter().for_each(|(left, keys)| *sum.left.entry(*left).or_default() += keys);
        }
        sum
    }

    /// Forgets the keys that were left, because a walk begins anew and meets them again.
    fn forget_left(&mut self) {
        for counts in self.rules.values_mut() {
            counts.left.clear();
            counts.outcomes.remove(&Retimed::Left);
        }
    }
}

// === impl RuleCounts ===

impl RuleCounts {
    /// The keys of one outcome.
    pub fn of(&self, outcome: Retimed) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// All keys.
    pub fn keys(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// What became of them, in one line.
impl fmt::Display for RuleCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes = self.outcomes.iter().map(|(outcome, keys)| match outcome {
            Retimed::Left => {
                let reasons = self.left.iter().map(|(left, keys)| format!("{keys} {}", left.label()));
                format!("{keys} left ({})", reasons.collect::<Vec<_>>().join(", "))
            }
            Retimed::WrittenMeanwhile => format!("{keys} written meanwhile"),
            other => format!("{keys} {}", other.label()),
        });
        let outcomes: Vec<_> = outcomes.collect();
        out.write_str(if outcomes.is_empty() { "there were none" } else { "" })?;
        out.write_str(&outcomes.join(", "))
    }
}
