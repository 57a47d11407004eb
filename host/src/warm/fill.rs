//! Reads values into the near cache once: the keys of some rules, a few at a time, on every worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::sync::{mpsc, oneshot};

use super::ask::{Asking, Tally};
use super::counts::Counts;
use super::{Start, counted_as};
use crate::config::warm::WarmRule;
use crate::policy::PolicySet;
use crate::upstream::{Keys, matches_pattern};
use crate::worker::{Order, Warm};

/// A rule that is due, and the opening that it is for. None: the sidecar's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due<'a> {
    pub(super) rule: &'a WarmRule,
    pub(super) open: Option<i64>,
}

/// One reading, and how far it has come.
pub(super) struct Fill<'a> {
    start: &'a Start,
    counts: &'a Counts,
    bar: &'a ProgressBar,
    begun: Instant,
    /// Keys that were found.
    pub(super) found: usize,
    /// Those whose values every worker has.
    pub(super) kept: usize,
    pub(super) asked: Tally,
}

/// Keys that workers are handed at one time.
const BATCH_KEYS_MAX: u32 = 256;
/// Batches in a second, where the limit allows for less than whole ones.
const BATCHES_PER_SECOND: u32 = 20;

/// Whether a key is one of a rule's.
pub(super) fn takes(rule: &WarmRule, set: &PolicySet, key: &[u8]) -> bool {
    let matches = || rule.patterns.iter().any(|pattern| matches_pattern(pattern.as_bytes(), key));
    let is_of = |name: &String| set.rules.find(key).is_some_and(|(_, of)| of.name == *name);
    (rule.patterns.is_empty() || matches()) && rule.namespace.as_ref().is_none_or(is_of)
}

// === impl Fill ===

impl<'a> Fill<'a> {
    pub(super) fn new(start: &'a Start, counts: &'a Counts, bar: &'a ProgressBar) -> Self {
        Self { start, counts, bar, begun: Instant::now(), found: 0, kept: 0, asked: Tally::default() }
    }

    /// Reads the values of a rule's keys. Those that are about to end are asked for first, where the rule says whom.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub(super) async fn rule(&mut self, due: Due<'_>) -> anyhow::Result<()> {
        let Due { rule, open } = due;
        let set = Arc::clone(&self.start.current.borrow());
        if let Some(name) = &rule.namespace
            && !set.rules.rules().iter().any(|rule| rule.name == *name)
        {
            tracing::warn!("a [[warm]] rule is about the namespace {name}, and no policy has such a rule");
            return Ok(());
        }
        let mut keys = Keys::connect(&self.start.route, self.start.db).await?;
        if rule.top.is_none() {
            for pattern in patterns(rule, &set) {
                self.walk(rule, &set, &pattern, &mut keys).await?;
            }
            return Ok(());
        }
        let ahead_ms = open.map_or(0, |open| open.saturating_sub(self.start.clock.now()));
        let ahead_ms = u64::try_from(ahead_ms).unwrap_or(0);
        let asking = rule.asks.as_ref().map(|asks| Asking::new(asks, ahead_ms, &self.start.metrics));
        let mut asking = asking.transpose()?;
        for batch in self.counts.busiest(&counted_as(rule)).chunks(self.batch_keys()) {
            if let Some(asking) = &mut asking {
                asking.batch(batch, &mut keys).await?;
                self.asked.add(std::mem::take(&mut asking.tally));
            }
            if !self.batch(batch).await {
                break;
            }
        }
        let (Some(asking), since) = (&mut asking, Instant::now()) else { return Ok(()) };
        // Found already: only whether they are kept is another matter now.
        while let Some(come) = asking.come(since, &mut keys).await? {
            for some in come.chunks(self.batch_keys()) {
                let kept = self.read(some).await;
                self.note(some, &kept, false);
            }
        }
        Ok(())
    }

    async fn walk(&mut self, rule: &WarmRule, set: &PolicySet, pattern: &[u8], keys: &mut Keys) -> anyhow::Result<()> {
        let mut from = 0;
        loop {
            let page = keys.page_of(pattern, from, BATCH_KEYS_MAX as usize).await?;
            let named = page.keys.into_iter().filter(|key| rule.namespace.is_none() || takes(rule, set, key));
            for batch in named.collect::<Vec<_>>().chunks(self.batch_keys()) {
                if !self.batch(batch).await {
                    return Ok(());
                }
            }
            let Some(next) = page.next else { return Ok(()) };
            from = next;
        }
    }

    fn rate(&self) -> u32 {
        self.start.keys_per_second_max.max(1)
    }

    fn batch_keys(&self) -> usize {
        (self.rate() / BATCHES_PER_SECOND).clamp(1, BATCH_KEYS_MAX) as usize
    }

    /// Hands keys to all workers, waits until they have read them, and then for the keys' share of time. False: there
    /// have been as many as there may be.
    async fn batch(&mut self, batch: &[Vec<u8>]) -> bool {
        let room = self.start.keys_max.saturating_sub(self.found);
        let batch = batch.get(..room).unwrap_or(batch);
        if batch.is_empty() {
            return false;
        }
        let kept = self.read(batch).await;
        self.note(batch, &kept, true);
        self.bar.set_position(self.found as u64);
        let due = self.begun + Duration::from_secs_f64(self.found as f64 / f64::from(self.rate()));
        tokio::time::sleep_until(due.into()).await;
        true
    }

    /// Has all workers read these keys: which of them all have now.
    async fn read(&self, batch: &[Vec<u8>]) -> Vec<bool> {
        let keys: Arc<[Vec<u8>]> = batch.into();
        let ask = |orders: &mpsc::UnboundedSender<Order>| {
            let (done, answer) = oneshot::channel();
            // A worker that has stopped answers nothing.
            drop(orders.send(Order::Warm(Warm { db: self.start.db, keys: Arc::clone(&keys), done })));
            answer
        };
        // All at once, and then one after the other.
        let answers: Vec<_> = self.start.orders.iter().map(ask).collect();
        let mut kept = vec![true; keys.len()];
        for answer in answers {
            let held = answer.await.unwrap_or_default();
            kept.iter_mut().enumerate().for_each(|(place, kept)| *kept &= held.get(place).copied().unwrap_or(false));
        }
        kept
    }

    /// Counts keys that were read, for the first time or once more.
    fn note(&mut self, keys: &[Vec<u8>], kept: &[bool], first: bool) {
        self.found += if first { keys.len() } else { 0 };
        let set = Arc::clone(&self.start.current.borrow());
        let counters = self.start.metrics.of_rules(&set.rules);
        for (key, kept) in keys.iter().zip(kept) {
            self.kept += usize::from(*kept);
            let rule = set.rules.find(key).and_then(|(id, _)| counters.get(id.index()));
            if let Some(counters) = rule.filter(|_| first || *kept) {
                let counter = if *kept { &counters.warm_kept } else { &counters.warm_left };
                counter.add(0, 1);
            }
        }
    }
}

/// What SCAN is asked for.
fn patterns(rule: &WarmRule, set: &PolicySet) -> Vec<Vec<u8>> {
    if !rule.patterns.is_empty() {
        return rule.patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
    }
    let of = |name: &String| set.rules.rules().iter().find(|of| of.name == *name);
    let named = rule.namespace.as_ref().and_then(of);
    named.map(|of| [literal(&of.prefix), b"*".to_vec(), literal(&of.suffix)].concat()).into_iter().collect()
}

/// A text as a pattern that only it matches.
fn literal(text: &str) -> Vec<u8> {
    let special = |byte: u8| b"*?[]^\\".contains(&byte);
    text.bytes().flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([byte])).collect()
}
