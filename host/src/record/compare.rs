//! Recorded decisions beside those of another policy set: what each means for the key, and whether that is the same.

use std::sync::Arc;

use super::Record;
use crate::policy::{Answer, Decider, Expiry, PolicySet, Question};

/// What a decision means for its key. Reasons, and how long a decision may be remembered, do not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule covers the key, or its rule has no policy.
    NoPolicy,
    /// The lifetime, and the span before its end over which keys are spread.
    Decided(Expiry, u64),
    /// The policy failed, and the rule's fallback applies.
    Failed,
}

/// A policy set that recorded decisions are put to, on one thread. It decides anew: under its own rules, with the
/// sessions of its own market hours, at the instant of the record.
pub struct Candidate {
    decider: Decider,
}

// === impl Verdict ===

impl Verdict {
    /// What a decider answered.
    pub fn of(answer: &Answer) -> Self {
        match *answer {
            Answer::NoPolicy => Self::NoPolicy,
            Answer::Decided { expiry, spread_ms, .. } => Self::Decided(expiry, spread_ms),
            Answer::Failed { .. } => Self::Failed,
        }
    }

    /// Whether a key that is written at `now` fares the same by both: a span equals the instant at which it ends.
    pub fn agrees(self, other: Self, now: i64) -> bool {
        match (self, other) {
            (Self::Decided(one, spread), Self::Decided(another, other_spread)) => {
                spread == other_spread && ends(one, now) == ends(another, now)
            }
            (one, another) => one == another,
        }
    }
}

/// A lifetime with its span turned into an instant.
fn ends(expiry: Expiry, now: i64) -> Expiry {
    match expiry {
        Expiry::After(ms) => Expiry::At(now.saturating_add_unsigned(ms)),
        // What has ended has ended.
        Expiry::At(at) => Expiry::At(at.max(now)),
        other => other,
    }
}

// === impl Candidate ===

impl Candidate {
    /// A policy set, with nothing remembered.
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self { decider: Decider::of_trial(set) }
    }

    /// The policy set.
    pub fn set(&self) -> &PolicySet {
        self.decider.set()
    }

    /// What the policy set decides about what was recorded. Decisions that are still valid are remembered, so that the
    /// records must come roughly in their order.
    pub fn ask(&mut self, record: &Record) -> Verdict {
        let set = Arc::clone(self.decider.set());
        match record.question(&set) {
            None => Verdict::NoPolicy,
            Some(question) => Verdict::of(&self.decider.decide(&question)),
        }
    }

    /// As [`Candidate::ask`], with the reason, or with why the policy failed, in one line. Nothing is remembered, so
    /// that it costs a call: for those records that differ.
    pub fn why(&mut self, record: &Record) -> String {
        let set = Arc::clone(self.decider.set());
        let asked = record.question(&set).and_then(|question| self.decider.ask(&question));
        match asked.map(|asked| asked.decision) {
            None => "no rule with a policy covers the key".to_owned(),
            Some(Ok((decision, _))) => decision.reason,
            Some(Err(error)) => crate::policy::one_line(&error),
        }
    }
}

// === impl Record ===

impl Record {
    /// What was decided.
    pub fn verdict(&self) -> Verdict {
        self.decision.as_ref().map_or(Verdict::Failed, |decided| Verdict::Decided(decided.expiry, decided.spread_ms))
    }

    /// The reason of the decision, which is not known of one that was remembered, or why there is none.
    pub fn why(&self) -> &str {
        self.decision.as_ref().map_or_else(String::as_str, |decided| decided.reason.as_str())
    }

    /// What is asked of another policy set. None: none of its rules covers the key.
    pub fn question<'a>(&'a self, set: &PolicySet) -> Option<Question<'a>> {
        let (rule, _) = set.rules.find(self.key.as_bytes())?;
        Some(Question {
            rule,
            key: &self.key,
            command: self.command,
            value_bytes: self.value_bytes,
            client_ttl: self.client_ttl,
            now: self.now,
        })
    }
}
