//! What stands behind an answer, for those who record decisions.

use std::sync::Arc;

use super::super::log::one_line;
use super::super::{Decision, MarketError, MarketSession, Policy};
use super::{Cost, Outcome, Remembered};

/// What stands behind an answer, for those who record decisions.
#[derive(Default)]
pub struct Noted {
    /// The policy that decides for the rule.
    pub policy: Option<Arc<Policy>>,
    /// The key's market, and its session unless it could not be asked for one.
    pub market: Option<(String, Option<Result<MarketSession, MarketError>>)>,
    /// The decision, or why there is none, in one line. Of one that was remembered the reason is not known, and
    /// `valid_until` is as long as it was remembered for.
    pub decision: Option<Result<Decision, String>>,
    /// What asking took, where the policy was asked; of a failure too.
    pub cost: Option<Cost>,
}

// === impl Noted ===

impl Noted {
    pub(super) fn remembered(
        &mut self,
        policy: &Arc<Policy>,
        market: Option<&str>,
        session: Option<Result<MarketSession, MarketError>>,
        known: &Remembered,
    ) {
        let &Remembered { expiry, spread_ms, until, .. } = known;
        let valid_until = Some(until).filter(|until| *until < i64::MAX);
        self.policy = Some(Arc::clone(policy));
        self.market = market.map(|name| (name.to_owned(), session));
        self.decision = Some(Ok(Decision { expiry, spread_ms, valid_until, reason: String::new() }));
    }

    pub(super) fn asked(&mut self, policy: &Arc<Policy>, market: Option<&str>, outcome: &Outcome) {
        self.policy = Some(Arc::clone(policy));
        self.market = market.map(|name| (name.to_owned(), outcome.market.clone()));
        (self.decision, self.cost) = match &outcome.decision {
            Ok((decision, cost)) => (Some(Ok(decision.clone())), Some(*cost)),
            Err(failure) => (Some(Err(one_line(&failure.error))), failure.cost),
        };
    }
}
