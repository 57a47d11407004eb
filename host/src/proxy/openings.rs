//! When markets open, for what is done before they do. Asks the market-hours policy about markets, never about a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Decider, MarketSession, Phase, PolicySet};

/// The markets of a policy set.
pub struct Openings {
    decider: Decider,
    /// The last session of each market that was asked about.
    known: BTreeMap<String, MarketSession>,
}

/// What a market is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trading {
    /// It is not closed.
    pub active: bool,
    /// When its next session opens; that it goes on after a break is none.
    pub next_open: Option<i64>,
    /// When it closed last: the same for all of one day's session.
    pub previous_close: Option<i64>,
}

// === impl Openings ===

impl Openings {
    /// The markets of a policy set.
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self { decider: Decider::new(set), known: BTreeMap::new() }
    }

    /// What a market is doing. A few are asked about: those that settings name.
    ///
    /// # Errors
    /// There is no market-hours policy, it failed, or it knows nothing of that market at that instant.
    pub fn at(&mut self, market: &str, now: i64) -> anyhow::Result<Trading> {
        let session = match self.known.get(market) {
            Some(session) if (session.since..session.until).contains(&now) => session,
            _ => {
                let session = self.decider.session(market, now)?;
                let session = session.map_err(|error| anyhow::anyhow!("market {market}: {error}"))?;
                self.known.entry(market.to_owned()).insert_entry(session).into_mut()
            }
        };
        let MarketSession { phase, next_regular_open, previous_close, .. } = *session;
        Ok(Trading { active: phase != Phase::Closed, next_open: next_regular_open, previous_close })
    }
}
