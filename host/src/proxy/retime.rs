//! Keys that are there already: asks the policies about them, and the policies that were in force before.

mod change;
mod markets;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

pub use change::{Change, Left};

use change::{Before, Held};

use super::POLICY_KEY_BYTES_MAX;
use super::lifetime::Lifetime;
use crate::namespace::{Access, RuleId};
use crate::policy::{Answer, Decider, Expiry, Phase, PolicySet, Question, one_line};
use crate::upstream::Found;

/// The policies that decide anew, and those that did before.
pub struct Retiming {
    decider: Decider,
    before: Vec<Decider>,
    by_itself: bool,
    pick: Pick,
}

/// Which keys are looked at. Without any of these, all are.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// Those under this rule.
    pub rule: Option<RuleId>,
    /// Those that begin with this.
    pub prefix: Option<String>,
    /// Those of markets that go by one of these names.
    pub markets: Option<BTreeSet<String>>,
}

/// What is to be done about a key before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nothing: it was not picked.
    Other,
    /// It is left, whatever its lifetime is.
    Left(Option<RuleId>, Left),
    /// It is to be looked at.
    Asked(RuleId),
}

// === impl Retiming ===

impl Retiming {
    /// What a person orders: the picked keys by this set.
    pub fn ordered(set: Arc<PolicySet>, pick: Pick) -> Self {
        Self { decider: Decider::new(set), before: Vec::new(), by_itself: false, pick }
    }

    /// What a change of policies asks for: the keys of markets whose sessions from `now` on are others in `set` than in
    /// one of those `before`, with the names of these markets. None: no market's are.
    ///
    /// # Errors
    /// The set's market-hours policy failed. An earlier one that does is left out: nothing can be told from it.
    pub fn after(
        set: Arc<PolicySet>,
        before: &[Arc<PolicySet>],
        now: i64,
    ) -> anyhow::Result<Option<(Self, Vec<String>)>> {
        if before.iter().all(|old| has_same_markets(old, &set)) {
            return Ok(None);
        }
        let mut decider = Decider::new(set);
        let mut before: Vec<_> = before.iter().cloned().map(Decider::new).collect();
        let new = markets::known(&mut decider, now)?;
        let mut changed = BTreeMap::<String, BTreeSet<String>>::new();
        for old in &mut before {
            match markets::known(old, now) {
                Ok(old) => markets::changed(&new, &old)
                    .into_iter()
                    .for_each(|(market, names)| changed.entry(market).or_default().extend(names)),
                Err(error) => {
                    let (generation, error) = (old.set().generation, one_line(&error));
                    tracing::warn!(generation, error, "an earlier generation's markets are not known");
                }
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let names = changed.keys().cloned().collect();
        let markets = Some(changed.into_values().flatten().collect());
        Ok(Some((Self { decider, before, by_itself: true, pick: Pick { markets, ..Pick::default() } }, names)))
    }

    /// The set that decides.
    pub fn set(&self) -> &PolicySet {
        self.decider.set()
    }

    /// Whether a policy reads what kind of data a key holds, and how large it is.
    pub fn reads(&self) -> (bool, bool) {
        let sets = std::iter::once(&self.decider).chain(&self.before).map(Decider::set);
        let policies = sets.flat_map(|set| set.policies.iter()).map(|policy| policy.description.reads);
        policies.fold((false, false), |(data, bytes), reads| (data | reads.command, bytes | reads.value_bytes))
    }

    /// What is to be done about a key, as far as its name tells.
    pub fn subject(&self, key: &[u8]) -> Subject {
        let Pick { rule: picked, prefix, markets } = &self.pick;
        if prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix.as_bytes())) {
            return Subject::Other;
        }
        let rules = &self.decider.set().rules;
        let Some((id, rule)) = rules.find(key) else {
            let any = picked.is_none() && markets.is_none();
            return if any { Subject::Left(None, Left::NoRule) } else { Subject::Other };
        };
        if picked.is_some_and(|picked| picked != id) {
            return Subject::Other;
        }
        let text = std::str::from_utf8(key).ok();
        if let Some(markets) = markets {
            let market = text.and_then(|text| rules.market(id, text).name);
            if !market.is_some_and(|market| markets.contains(market)) {
                return Subject::Other;
            }
        }
        if rule.ttl_policy.is_none() {
            Subject::Left(Some(id), Left::NoPolicy)
        } else if rule.access != Access::ReadWrite {
            Subject::Left(Some(id), Left::Access)
        } else if text.is_none() || key.len() > POLICY_KEY_BYTES_MAX {
            Subject::Left(Some(id), Left::Unaskable)
        } else {
            Subject::Asked(id)
        }
    }

    /// What becomes of a key.
    pub fn change(&mut self, found: &Found, now: i64) -> Change {
        let set = Rc::clone(self.decider.set());
        let (Some((_, rule)), Some(question)) = (set.rules.find(&found.key), question(&set, found, now)) else {
            return Change::Leave(Left::NoRule);
        };
        let decided = match self.decider.decide(&question) {
            Answer::NoPolicy => return Change::Leave(Left::NoPolicy),
            Answer::Failed { .. } => return Change::Leave(Left::Failed),
            Answer::Decided { expiry, spread_ms, .. } => Lifetime::decided(expiry, spread_ms, &found.key, now),
        };
        let before: Vec<_> = self.before.iter_mut().filter_map(|old| before(old, found, now)).collect();
        let (client_ttl, left_ms) = (rule.client_ttl, found.left_ms);
        Held { client_ttl, left_ms, decided, by_itself: self.by_itself, before: &before }.change()
    }

    /// Why the policy decides as it does, in its own words.
    pub fn reason(&mut self, found: &Found, now: i64) -> String {
        let set = Rc::clone(self.decider.set());
        let asked = question(&set, found, now).and_then(|question| self.decider.ask(&question));
        let decision = asked.and_then(|asked| asked.decision.ok());
        decision.map_or_else(|| "(not said)".to_owned(), |(decision, _)| decision.reason)
    }
}

/// Whether two sets have one and the same market-hours policy, settings included.
fn has_same_markets(one: &PolicySet, other: &PolicySet) -> bool {
    match (one.market_policy(), other.market_policy()) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The question about a key as a set's rules have it: a write without a lifetime of its own.
fn question<'a>(set: &PolicySet, found: &'a Found, now: i64) -> Option<Question<'a>> {
    let (rule, _) = set.rules.find(&found.key)?;
    let key = std::str::from_utf8(&found.key).ok()?;
    Some(Question { rule, key, command: found.data, value_bytes: found.value_bytes, client_ttl: None, now })
}

/// What an earlier set decides for a key now. None: it decides nothing.
fn before(old: &mut Decider, found: &Found, now: i64) -> Option<Before> {
    let set = Rc::clone(old.set());
    let question = question(&set, found, now)?;
    // Only a lifetime that ends at an instant can be known again.
    let Answer::Decided { expiry: expiry @ Expiry::At(_), spread_ms, .. } = old.decide(&question) else { return None };
    let market = set.rules.market(question.rule, question.key).name;
    let phase = market.and_then(|market| Some(old.session(market, now).ok()?.ok()?.phase));
    let trading = matches!(phase, Some(Phase::Open | Phase::ClosingAuction));
    Some(Before::new(expiry, spread_ms, &found.key, now, trading))
}
