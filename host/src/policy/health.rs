//! How a policy has been doing: one that only traps is left alone for waits that grow (its breaker is open), and the
//! fallbacks of its rules apply meanwhile. Each worker finds that out by itself, and all count together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a policy has been doing with one worker.
#[derive(Debug, Default)]
pub(super) struct Health {
    condition: Arc<Condition>,
    /// Instances that were lost since the last success.
    failures: u32,
    /// Not asked before this.
    retry_at: i64,
    /// When a failure was last logged.
    logged_at: i64,
    /// It is asked whatever happens, and what happens is not counted.
    is_trial: bool,
}

/// How a policy has been doing with all workers, since it was loaded.
#[derive(Debug, Default)]
pub struct Condition {
    traps: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
}

/// What is to be told of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// A failure is to be logged: not each one is.
    pub(super) failure: bool,
    /// From now on the policy is left alone for some time.
    pub(super) opened: bool,
}

/// A trap costs its own decision and no other; a policy that does nothing but trap, so often in a row, is broken as a
/// whole, and the waits before it is asked again grow.
const FAILURES_FREE: u32 = 16;
const RETRY_MS_FIRST: i64 = 10;
const RETRY_MS_MAX: i64 = 5_000;
const LOG_EVERY_MS: i64 = 1_000;

// === impl Health ===

impl Health {
    /// Of a worker that begins to ask a policy.
    pub(super) fn new(condition: &Arc<Condition>) -> Self {
        Self { condition: Arc::clone(condition), failures: 0, retry_at: 0, logged_at: 0, is_trial: false }
    }

    /// Of somebody who tries a policy out, and wants its answers as they are.
    pub(super) fn of_trial() -> Self {
        let mut health = Self::default();
        health.is_trial = true;
        health
    }

    /// Whether the policy may be asked at all.
    pub(super) fn check(&self, now: i64) -> anyhow::Result<()> {
        // A clock that was set back must not keep a policy out for longer than the longest wait.
        anyhow::ensure!(
            now >= self.retry_at || self.retry_at - now > RETRY_MS_MAX,
            "it failed {} times and is left alone for {} ms",
            self.failures,
            self.retry_at - now
        );
        Ok(())
    }

    /// Counts an answer. True: the policy was left alone until now.
    pub(super) fn succeeded(&mut self) -> bool {
        if self.failures == 0 {
            return false;
        }
        let closes = self.is_open();
        if closes {
            self.condition.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.failures = 0;
        closes
    }

    /// Counts a failure. `lost`: it cost the instance.
    pub(super) fn failed(&mut self, now: i64, lost: bool) -> Told {
        let mut opened = false;
        // A clock that was set back leaves the last wait in the future.
        if lost && !self.is_trial && self.check(now).is_ok() {
            self.condition.traps.fetch_add(1, Ordering::Relaxed);
            let was_open = self.is_open();
            self.failures = self.failures.saturating_add(1);
            if let Some(times) = self.failures.checked_sub(FAILURES_FREE + 1) {
                let wait = RETRY_MS_FIRST.saturating_mul(1 << times.min(16)).min(RETRY_MS_MAX);
                self.retry_at = now.saturating_add(wait);
                opened = !was_open;
            }
        }
        if opened {
            self.condition.opened.fetch_add(1, Ordering::Relaxed);
            self.condition.open.fetch_add(1, Ordering::Relaxed);
        }
        let failure = (now - self.logged_at).abs() >= LOG_EVERY_MS;
        if failure {
            self.logged_at = now;
        }
        Told { failure, opened }
    }

    fn is_open(&self) -> bool {
        self.failures > FAILURES_FREE
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.succeeded();
    }
}

// === impl Condition ===

impl Condition {
    /// Instances that were lost: each trap costs one.
    pub fn traps(&self) -> u64 {
        self.traps.load(Ordering::Relaxed)
    }

    /// How many times a worker began to leave it alone.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The workers that leave it alone now, or have not had an answer since.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Condition, FAILURES_FREE, Health, RETRY_MS_MAX};

    /// Fails so often, each time as soon as it may be asked: when it may be asked again.
    fn fail(health: &mut Health, mut now: i64, times: u32) -> i64 {
        for _ in 0..times {
            health.failed(now, true);
            now = now.max(health.retry_at);
        }
        now
    }

    #[test]
    fn a_breaker_opens_and_closes() {
        let condition = std::sync::Arc::<Condition>::default();
        let counted = || (condition.traps(), condition.opened(), condition.open());
        let mut health = Health::new(&condition);
        assert_eq!((fail(&mut health, 1_000, FAILURES_FREE), counted()), (1_000, (16, 0, 0)));
        assert!(health.check(1_000).is_ok());
        assert!(health.failed(1_000, true).opened);
        assert_eq!(counted(), (17, 1, 1));
        assert!(health.check(1_009).is_err() && health.check(1_010).is_ok());
        // Waits double, up to a bound.
        assert_eq!(fail(&mut health, 1_010, 1), 1_030);
        let now = fail(&mut health, 1_030, 20);
        assert_eq!((fail(&mut health, now, 1), counted()), (now + RETRY_MS_MAX, (39, 1, 1)));
        // What is not asked does not fail, and errors cost no instance.
        health.failed(now, true);
        health.failed(now + RETRY_MS_MAX, false);
        assert_eq!(counted(), (39, 1, 1));
        // A clock that was set back.
        assert!(health.check(0).is_ok());
        assert!(health.succeeded() && !health.succeeded());
        assert_eq!(counted(), (39, 1, 0));
        // A worker that goes takes its part along.
        fail(&mut health, 0, FAILURES_FREE + 1);
        assert_eq!(counted(), (56, 2, 1));
        drop(health);
        assert_eq!(counted(), (56, 2, 0));
        fail(&mut Health::of_trial(), 0, 100);
        assert_eq!(counted(), (56, 2, 0));
    }
}
