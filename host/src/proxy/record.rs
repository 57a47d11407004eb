//! What becomes of a decision that somebody wants to see.

use std::sync::Arc;

use super::Policies;
use crate::namespace::Rule;
use crate::policy::{Answer, Decision, Noted, Question};
use crate::record::{Decided, Record, RecordedMarket, Records};

// === impl Policies ===

impl Policies {
    /// The same, telling those who listen what was decided.
    #[must_use]
    pub fn recorded(mut self, records: &Arc<Records>) -> Self {
        self.tap = records.tap(self.worker as u64);
        self
    }

    /// Decides, and hands on the decision with all that it was made from.
    #[cold]
    pub(super) fn decide_recorded(&mut self, question: &Question<'_>, rule: &Rule) -> Answer {
        let mut noted = Noted::default();
        let answer = self.decider.decide_noting(question, Some(&mut noted));
        // Of a rule without a policy nothing was decided.
        let (Some(policy), Some(decision)) = (&noted.policy, noted.decision) else { return answer };
        let decided =
            |Decision { expiry, spread_ms, valid_until, reason }| Decided { expiry, spread_ms, valid_until, reason };
        let record = Record {
            id: 0,
            time: self.server_now(question.now),
            generation: self.decider.set().generation,
            policy: policy.name.clone(),
            digest: policy.facts.digest.clone(),
            rule: rule.name.clone(),
            namespace: rule.prefix.clone(),
            key: question.key.to_owned(),
            command: question.command,
            value_bytes: question.value_bytes,
            client_ttl: question.client_ttl,
            now: question.now,
            market: noted.market.map(|(name, session)| RecordedMarket { name, session }),
            decision: decision.map(decided),
            cost: noted.cost,
            memoized: matches!(answer, Answer::Decided { cost: None, .. }),
            fallback: if let Answer::Failed { .. } = answer { rule.fallback_ttl_ms } else { None },
        };
        self.tap.push(record);
        answer
    }
}
