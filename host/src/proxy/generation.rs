//! A worker's policies of a generation, and what goes on from one generation to the next.

use std::sync::Arc;

use super::{Policies, scripts};
use crate::config::{Config, KeyChoice};
use crate::metrics::Metrics;
use crate::policy::{Decider, PolicySet};
use crate::record::Records;

// === impl Policies ===

impl Policies {
    /// A worker's policies of a generation.
    pub fn new(set: Arc<PolicySet>, metrics: Arc<Metrics>, worker: usize, config: &Config) -> Self {
        let counters = metrics.of_rules(&set.rules);
        // No rule covers any key of a plain proxy.
        let unmatched = if set.is_bypass { KeyChoice::Forward } else { config.unmatched_keys };
        Self {
            near: config.near_bytes_max > 0 && set.rules.is_near(),
            scripts: scripts::opted_in(config.script_rules.as_deref(), &set, worker),
            decider: Decider::new(set),
            counters,
            metrics,
            tap: Arc::<Records>::default().tap(0),
            worker,
            unmatched,
            non_utf8: config.non_utf8_keys,
            clock_offset_ms: config.clock_offset.ms,
            not_json_logged_at: None,
        }
    }

    /// The same, going on with what these have that another generation changes nothing of.
    #[must_use]
    pub fn after(mut self, before: &mut Self) -> Self {
        self.decider.take_over(&mut before.decider);
        self
    }
}
