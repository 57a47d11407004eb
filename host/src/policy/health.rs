//! How a policy has been doing: one that only fails is left alone for waits that grow.

/// How a policy has been doing.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Not asked before this.
    retry_at: i64,
    /// When a failure was last logged.
    logged_at: i64,
}

/// A trap costs its own decision and no other; a policy that does nothing but trap, so often in a row, is broken as a
/// whole, and the waits before it is asked again grow.
const FAILURES_FREE: u32 = 16;
const RETRY_MS_FIRST: i64 = 10;
const RETRY_MS_MAX: i64 = 5_000;
const LOG_EVERY_MS: i64 = 1_000;

// === impl Health ===

impl Health {
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

    /// Counts a failure that cost the instance; whether it is to be logged.
    pub(super) fn failed(&mut self, now: i64, lost: bool) -> bool {
        if lost && now >= self.retry_at {
            self.failures = self.failures.saturating_add(1);
            if let Some(times) = self.failures.checked_sub(FAILURES_FREE + 1) {
                let wait = RETRY_MS_FIRST.saturating_mul(1 << times.min(16)).min(RETRY_MS_MAX);
                self.retry_at = now.saturating_add(wait);
            }
        }
        let due = (now - self.logged_at).abs() >= LOG_EVERY_MS;
        if due {
            self.logged_at = now;
        }
        due
    }
}
