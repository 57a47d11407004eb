//! The walk that the sidecar begins by itself after a market's sessions changed: a surprise session must not find
//! values that live until the old opening. On a thread of its own, beside the traffic.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::{Counts, Walk};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::{PolicySet, one_line};
use crate::proxy::retime::Retiming;
use crate::upstream::{Keys, Route, is_refusal};

/// What walks are begun with.
pub struct Start {
    /// The way to the server.
    pub route: Route,
    /// The clock.
    pub clock: Clock,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// The policy set in force.
    pub current: watch::Receiver<Arc<PolicySet>>,
    /// Keys a second that are looked at.
    pub keys_per_second_max: u32,
}

/// Walks when it is needed, until it is dropped.
#[derive(Debug)]
pub struct Sweeping {
    /// Closed when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Markets that a line of the log names.
const SHOWN_MARKETS_MAX: usize = 8;
/// Earlier sets whose lifetimes are still known again. More come together only where the folder changes faster than
/// keys can be walked.
const BEFORE_MAX: usize = 4;

// === impl Sweeping ===

impl Sweeping {
    /// Waits for changes of the policy set on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(mut start: Start) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // What is in force now is what keys live by. Taken here, so that no later set is mistaken for the first.
        let first = Arc::clone(&start.current.borrow_and_update());
        std::thread::Builder::new().name("retime".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = start.follow(first) => {}
                }
            });
        })?;
        Ok(Self { _stop: stop })
    }
}

// === impl Start ===

impl Start {
    /// Walks after each change that asks for it, until no more sets can come.
    async fn follow(self, first: Arc<PolicySet>) {
        let mut current = self.current.clone();
        // The sets that keys may live by: the last one that a walk was finished for, or that needed none, and all that
        // were in force since.
        let mut before = vec![first];
        while current.changed().await.is_ok() {
            while self.settle(&mut current, &mut before).await {}
        }
    }

    /// Walks for the set in force. True: another came meanwhile.
    async fn settle(&self, current: &mut watch::Receiver<Arc<PolicySet>>, before: &mut Vec<Arc<PolicySet>>) -> bool {
        let set = Arc::clone(&current.borrow_and_update());
        if set.is_bypass {
            // Keys live by what was in force before, and by nothing that is written now.
            return false;
        }
        let mut superseded = false;
        match Retiming::after(Arc::clone(&set), before, self.clock.now()) {
            Ok(None) => before.clear(),
            Ok(Some((retiming, markets))) => {
                let markets = shown(&markets);
                let oldest = before.first().map_or(0, |set| set.generation);
                tracing::info!(
                    "retiming keys of {markets}: sessions changed, generation {oldest} → {}",
                    set.generation
                );
                tokio::select! {
                    swept = self.sweep(retiming, &markets) => if swept { before.clear() },
                    changed = current.changed() => superseded = changed.is_ok(),
                }
            }
            // What changed is not known. The next set is compared with those before this one, too.
            Err(error) => {
                tracing::error!(error = %one_line(&error), "the markets' sessions are not known; no key is retimed")
            }
        }
        if superseded {
            let newer = current.borrow().generation;
            tracing::info!("generation {newer} came before all keys were retimed; beginning again");
        }
        before.push(set);
        if before.len() > BEFORE_MAX {
            before.remove(1);
        }
        superseded
    }

    /// Walks over all databases until it is done, however often the server is lost. False: the server does not let us.
    async fn sweep(&self, mut retiming: Retiming, markets: &str) -> bool {
        let begun = Instant::now();
        let mut counts = Counts::default();
        self.metrics.retime_sweeps.add(0, 1);
        let mut attempt = 0;
        while let Err(error) = self.walk(&mut retiming, &mut counts).await {
            if is_refusal(&error) {
                tracing::error!(error = %one_line(&error), "keys of {markets} cannot be retimed");
                return false;
            }
            if attempt == 0 {
                tracing::warn!(error = %one_line(&error), "retiming keys of {markets} was interrupted; trying again");
            }
            tokio::time::sleep(self.route.back_off.after(attempt)).await;
            attempt += 1;
            counts.forget_left();
        }
        let sum = counts.sum();
        tracing::info!("retimed {} keys of {markets} in {} ms: {sum}", sum.keys(), begun.elapsed().as_millis());
        true
    }

    async fn walk(&self, retiming: &mut Retiming, counts: &mut Counts) -> anyhow::Result<()> {
        let databases = Keys::connect(&self.route, 0).await?.databases().await?;
        for db in databases {
            let walk = Walk {
                keys: Keys::connect(&self.route, db).await?,
                retiming: &mut *retiming,
                clock: self.clock,
                keys_per_second_max: self.keys_per_second_max,
                dry_run: false,
                counts: &mut *counts,
                metrics: Some(Arc::clone(&self.metrics)),
                progress: &mut |_| {},
            };
            walk.run().await?;
        }
        Ok(())
    }
}

/// The names of markets; of many, the first.
fn shown(markets: &[String]) -> String {
    let first = markets.iter().take(SHOWN_MARKETS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match markets.len().checked_sub(SHOWN_MARKETS_MAX) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}
