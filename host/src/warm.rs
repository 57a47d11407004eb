//! Reads values into the near cache before clients ask for them: the keys of the patterns that the settings name, a few
//! at a time, on every worker. Does not know what clients do.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::policy::{PolicySet, one_line};
use crate::upstream::{Keys, Route};
use crate::worker::{Order, Warm};

/// What values are read with.
pub struct Start {
    /// The way to the server.
    pub route: Route,
    /// The database.
    pub db: u32,
    /// Patterns of keys, separated by blanks.
    pub patterns: String,
    /// Keys that are read.
    pub keys_max: usize,
    /// Keys a second.
    pub keys_per_second_max: u32,
    /// How long it may take.
    pub time_max: Duration,
    /// Ways to ask the workers.
    pub orders: Vec<mpsc::UnboundedSender<Order>>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// The policy set in force.
    pub current: watch::Receiver<Arc<PolicySet>>,
}

/// How far it has come.
#[derive(Debug, Default)]
struct Counts {
    /// Keys that were found.
    found: usize,
    /// Those whose values every worker has.
    kept: usize,
}

/// Keys that workers are handed at one time.
const BATCH_KEYS_MAX: u32 = 256;
/// Batches in a second, where the limit allows for less than whole ones.
const BATCHES_PER_SECOND: u32 = 20;

// === impl Start ===

impl Start {
    /// Reads the values. Returns when they are there, when that cannot be, or when it has taken too long.
    pub async fn run(self) {
        let begun = Instant::now();
        let (mut counts, bar) = (Counts::default(), self.bar());
        let walked = tokio::time::timeout(self.time_max, self.walk(&mut counts, &bar)).await;
        bar.finish_and_clear();
        let Counts { found, kept } = counts;
        let (patterns, ms) = (&self.patterns, begun.elapsed().as_millis());
        match walked {
            Ok(Ok(())) => tracing::info!("warmed the near cache: {kept} of {found} keys of {patterns} in {ms} ms"),
            Ok(Err(error)) => tracing::warn!(
                error = %one_line(&error),
                "the near cache is not warm: {kept} of {found} keys of {patterns}; ready all the same"
            ),
            Err(_) => tracing::warn!(
                "the near cache was not warm within warm_ms_max: {kept} of {found} keys of {patterns} in {ms} ms; \
                 ready all the same"
            ),
        }
    }

    fn bar(&self) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("warming the near cache {spinner} {human_pos} keys {per_sec}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    }

    async fn walk(&self, counts: &mut Counts, bar: &ProgressBar) -> anyhow::Result<()> {
        let begun = Instant::now();
        let rate = self.keys_per_second_max.max(1);
        let batch_keys = (rate / BATCHES_PER_SECOND).clamp(1, BATCH_KEYS_MAX) as usize;
        let mut keys = Keys::connect(&self.route, self.db).await?;
        for pattern in self.patterns.split_whitespace() {
            let mut from = 0;
            loop {
                let page = keys.page_of(pattern.as_bytes(), from, BATCH_KEYS_MAX as usize).await?;
                for batch in page.keys.chunks(batch_keys) {
                    let room = self.keys_max.saturating_sub(counts.found);
                    let batch = batch.get(..room).unwrap_or(batch);
                    if batch.is_empty() {
                        return Ok(());
                    }
                    self.batch(batch, counts).await;
                    bar.set_position(counts.found as u64);
                    let due = begun + Duration::from_secs_f64(counts.found as f64 / f64::from(rate));
                    tokio::time::sleep_until(due.into()).await;
                }
                let Some(next) = page.next else { break };
                from = next;
            }
        }
        Ok(())
    }

    /// Hands keys to all workers and waits until they have read them.
    async fn batch(&self, batch: &[Vec<u8>], counts: &mut Counts) {
        let keys: Arc<[Vec<u8>]> = batch.into();
        let ask = |orders: &mpsc::UnboundedSender<Order>| {
            let (done, answer) = oneshot::channel();
            // A worker that has stopped answers nothing.
            drop(orders.send(Order::Warm(Warm { db: self.db, keys: Arc::clone(&keys), done })));
            answer
        };
        // All at once, and then one after the other.
        let answers: Vec<_> = self.orders.iter().map(ask).collect();
        let mut kept = vec![true; keys.len()];
        for answer in answers {
            let held = answer.await.unwrap_or_default();
            kept.iter_mut().enumerate().for_each(|(place, kept)| *kept &= held.get(place).copied().unwrap_or(false));
        }
        counts.found += keys.len();
        let set = Arc::clone(&self.current.borrow());
        let counters = self.metrics.of_rules(&set.rules);
        for (key, kept) in keys.iter().zip(kept) {
            counts.kept += usize::from(kept);
            let rule = set.rules.find(key).and_then(|(id, _)| counters.get(id.index()));
            if let Some(counters) = rule {
                let counter = if kept { &counters.warm_kept } else { &counters.warm_left };
                counter.add(0, 1);
            }
        }
    }
}
