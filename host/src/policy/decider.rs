//! One worker's view of a generation: warm instances, remembered market sessions, remembered decisions.

mod markets;
mod noted;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
pub use noted::Noted;
use rustc_hash::FxHashMap;

use super::health::Health;
use super::instance::{Instance, Request, SharedInstance};
use super::log::one_line;
use super::{Decision, Expiry, Inputs, Line, MarketError, MarketSession, Policy, PolicySet};
use crate::command::Data;
use crate::namespace::{KeyMarket, RuleId};

/// What is asked about one write.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The rule the key is under.
    pub rule: RuleId,
    /// The key.
    pub key: &'a str,
    /// What the write does.
    pub command: Data,
    /// The size of the value.
    pub value_bytes: u64,
    /// The lifetime the client asked for.
    pub client_ttl: Option<u64>,
    /// The sidecar's clock.
    pub now: i64,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The rule has no policy: lifetimes are left alone.
    NoPolicy,
    /// A decision.
    Decided {
        /// The lifetime.
        expiry: Expiry,
        /// The span before its end over which keys are spread.
        spread_ms: u64,
        /// What asking took; none: it was remembered.
        cost: Option<Cost>,
        /// The key's symbol is missing or unknown, and its rule asks for one.
        unknown_symbol: bool,
    },
    /// The policy failed, and the rule's fallback applies.
    Failed {
        /// As of a decision.
        unknown_symbol: bool,
    },
}

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Instructions, in wasmtime's units of fuel.
    pub fuel: u64,
    /// Wall-clock time.
    pub time: Duration,
}

/// A question put to the policies themselves, step by step.
#[derive(Debug)]
pub struct Asked {
    /// The policy that decides.
    pub policy: String,
    /// The key's market and its session.
    pub market: Option<(String, Result<MarketSession, MarketError>)>,
    /// The key's symbol is missing or unknown, and its rule asks for one: the market is the rule's default, if any.
    pub unknown_symbol: bool,
    /// What finding the session took; none: it was remembered, or there is no market.
    pub market_cost: Option<Cost>,
    /// The decision.
    pub decision: anyhow::Result<(Decision, Cost)>,
    /// What the policy wrote to its log.
    pub lines: Vec<Line>,
}

/// One worker's policies.
pub struct Decider {
    /// Counted once for the worker, so that a decision does not touch a counter that all workers share.
    #[expect(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
    set: Rc<Arc<PolicySet>>,
    /// Beside `set.policies`.
    warm: Vec<Warm>,
    market: SharedInstance,
    market_health: Health,
    /// Remembered sessions, by the market's place: those that rules and symbols name by their numbers, then the others.
    sessions: Vec<Option<Result<MarketSession, MarketError>>>,
    /// The places of the others, which keys name.
    places: FxHashMap<Box<str>, u32>,
    memo: FxHashMap<MemoKey, Remembered>,
    /// Ends of calendars that sessions told, until someone takes them.
    learned: Vec<Horizon>,
}

/// Where a market's calendar ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The market, as it was asked for.
    pub market: Box<str>,
    /// First instant that the data says nothing about.
    pub at: i64,
}

/// The instance of a policy, made when it is first asked.
struct Warm {
    instance: Option<Instance>,
    health: Health,
    /// It may ask the market-hours policy at any time.
    asks_markets: bool,
}

/// What became of one question.
struct Outcome {
    market: Option<Result<MarketSession, MarketError>>,
    /// None: the session was remembered, or there is no market.
    market_cost: Option<Cost>,
    decision: Result<(Decision, Cost), Failure>,
}

/// Why there is no decision.
struct Failure {
    error: anyhow::Error,
    /// The market-hours policy is at fault, and has been counted.
    of_market: bool,
    /// What the call took. None: it did not come to one.
    cost: Option<Cost>,
}

/// What a remembered decision depends on. Inputs that the policy did not declare are blank.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MemoKey {
    /// The rule, the place of the market and one more, and the command, in one number that is hashed at once.
    of: u64,
    value_bytes: u64,
    client_ttl: Option<u64>,
    key: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    expiry: Expiry,
    spread_ms: u64,
    /// First instant at which it is not valid.
    until: i64,
    /// The clock may be set back: it is not valid before it was made.
    since: i64,
}

/// What is logged once a breaker opens.
const LEFT_ALONE: &str = "policy does nothing but fail, and is left alone for waits that grow to 5 s; fallbacks apply";
/// Markets that one worker remembers. Names come from keys, so they are bounded.
const MARKETS_MAX: usize = 4096;
/// Ends of calendars that wait to be taken: more would be of names that came from keys.
const LEARNED_MAX: usize = 64;

// === impl Decider ===

impl Decider {
    /// A worker's policies of a generation. Instances are made when they are first asked.
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self::of(set, |policy| Health::new(&policy.condition))
    }

    /// The same for somebody who tries a generation out: policies are asked however often they fail, and what they do
    /// is not counted.
    pub fn of_trial(set: Arc<PolicySet>) -> Self {
        Self::of(set, |_| Health::of_trial())
    }

    fn of(set: Arc<PolicySet>, health: fn(&Policy) -> Health) -> Self {
        let market_health = set.market_policy().map_or_else(Health::default, |policy| health(policy));
        let warm =
            |policy: &Arc<Policy>| Warm { instance: None, health: health(policy), asks_markets: policy.asks_markets() };
        Self {
            warm: set.policies.iter().map(warm).collect(),
            sessions: vec![None; set.rules.markets_len()],
            set: Rc::new(set),
            market: Rc::new(RefCell::new(None)),
            market_health,
            places: FxHashMap::default(),
            memo: FxHashMap::default(),
            learned: Vec::new(),
        }
    }

    /// Takes over the instances of policies that are the same as in the generation before. To make and configure one
    /// takes longer than a thousand decisions, and all clients of the worker wait for it.
    pub fn take_over(&mut self, before: &mut Self) {
        let same_market = match (self.set.market_policy(), before.set.market_policy()) {
            (Some(policy), Some(before)) => Arc::ptr_eq(policy, before),
            (None, None) => true,
            _ => false,
        };
        // The others ask the one that knows the markets, and were made with it.
        if !same_market {
            return;
        }
        self.market = Rc::clone(&before.market);
        std::mem::swap(&mut self.market_health, &mut before.market_health);
        for (policy, warm) in self.set.policies.iter().zip(&mut self.warm) {
            let known = before.set.policies.iter().position(|known| Arc::ptr_eq(known, policy));
            if let Some(known) = known.and_then(|index| before.warm.get_mut(index)) {
                std::mem::swap(warm, known);
            }
        }
    }

    /// The generation.
    pub fn set(&self) -> &Rc<Arc<PolicySet>> {
        &self.set
    }

    /// Decides one write, from memory where a remembered decision is still valid.
    pub fn decide(&mut self, question: &Question<'_>) -> Answer {
        self.decide_noting(question, None)
    }

    /// The same, noting what stands behind the answer where somebody wants to know.
    pub fn decide_noting(&mut self, question: &Question<'_>, note: Option<&mut Noted>) -> Answer {
        let Some(index) = self.set.ttl_of_rule.get(question.rule.index()).copied().flatten() else {
            return Answer::NoPolicy;
        };
        let set = Rc::clone(&self.set);
        let Some(policy) = set.policies.get(index) else { return Answer::NoPolicy };
        let market = set.rules.market(question.rule, question.key);
        let unknown_symbol = market.unknown_symbol;
        let place = self.place(&market);
        let key = memo_key(policy.description.reads, question, place);
        if let Some(known) = self.memo.get(&key)
            && (known.since..known.until).contains(&question.now)
        {
            if let Some(note) = note {
                note.remembered(policy, market.name, self.known_session(place), known);
            }
            return Answer::Decided { expiry: known.expiry, spread_ms: known.spread_ms, cost: None, unknown_symbol };
        }
        let outcome = self.ask_policy(policy, index, question, market, place, &mut Vec::new());
        if let Some(note) = note {
            note.asked(policy, market.name, &outcome);
        }
        match outcome.decision {
            Err(failure) => {
                self.failed(index, policy, question, &failure);
                Answer::Failed { unknown_symbol }
            }
            Ok((decision, cost)) => {
                let until = valid_until(&decision, outcome.market.as_ref(), question.now);
                if self.memo.len() >= self.set.engine.limits.memo_entries_max {
                    // Rare, and cheaper than keeping an order on every use.
                    self.memo.clear();
                }
                let Decision { expiry, spread_ms, .. } = decision;
                self.memo.insert(key, Remembered { expiry, spread_ms, until, since: question.now });
                Answer::Decided { expiry, spread_ms, cost: Some(cost), unknown_symbol }
            }
        }
    }

    /// Puts one write to the policies and remembers nothing of it. None: its rule has no policy.
    pub fn ask(&mut self, question: &Question<'_>) -> Option<Asked> {
        let index = self.set.ttl_of_rule.get(question.rule.index()).copied().flatten()?;
        let set = Rc::clone(&self.set);
        let market = set.rules.market(question.rule, question.key);
        let place = self.place(&market);
        let policy = set.policies.get(index)?;
        let mut lines = Vec::new();
        let outcome = self.ask_policy(policy, index, question, market, place, &mut lines);
        Some(Asked {
            policy: policy.name.clone(),
            market: market.name.map(str::to_owned).zip(outcome.market),
            unknown_symbol: market.unknown_symbol,
            market_cost: outcome.market_cost,
            decision: outcome.decision.map_err(|failure| failure.error),
            lines,
        })
    }

    /// Ends of calendars that were learned since this was last asked, from sessions of keys' markets.
    pub fn take_horizons(&mut self) -> Vec<Horizon> {
        std::mem::take(&mut self.learned)
    }

    /// The place of a key's market. None: it has none, or no more can be remembered.
    fn place(&mut self, market: &KeyMarket<'_>) -> Option<u32> {
        let name = market.name?;
        if let Some(id) = market.id {
            return u32::try_from(id.index()).ok();
        }
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.places.len() >= MARKETS_MAX {
            self.places.clear();
            self.sessions.truncate(self.set.rules.markets_len());
            self.memo.clear();
        }
        let place = u32::try_from(self.sessions.len()).ok()?;
        self.sessions.push(None);
        self.places.insert(name.into(), place);
        Some(place)
    }

    fn ask_policy(
        &mut self,
        policy: &Policy,
        index: usize,
        question: &Question<'_>,
        market: KeyMarket<'_>,
        place: Option<u32>,
        lines: &mut Vec<Line>,
    ) -> Outcome {
        let set = Rc::clone(&self.set);
        let session = market.name.zip(place).map(|(name, place)| self.remembered_session(name, place, question.now));
        let (session, market_cost) = match session {
            None => (None, None),
            Some(Ok((session, cost))) => (Some(session), cost),
            Some(Err(error)) => {
                let name = market.name.unwrap_or_default();
                let error = error.context(format!("no session of market {name:?}"));
                let failure = Failure { error, of_market: true, cost: None };
                return Outcome { market: None, market_cost: None, decision: Err(failure) };
            }
        };
        let rule = set.rules.rules().get(question.rule.index());
        let reads = policy.description.reads;
        let request = Request {
            rule: rule.map_or("", |rule| &rule.name),
            namespace: rule.map_or("", |rule| &rule.prefix),
            key: if reads.key { question.key } else { "" },
            command: if reads.command { question.command } else { Data::Other },
            value_bytes: if reads.value_bytes { question.value_bytes } else { 0 },
            client_ttl: if reads.client_ttl { question.client_ttl } else { None },
            now: question.now,
            market_name: market.name.filter(|_| session.is_some()),
            market: session.as_ref().map(|session| session.as_ref().map_err(|error| *error)),
        };
        let decision = self.call(policy, index, &request, lines);
        Outcome { market: session, market_cost, decision }
    }

    /// Asks a warm instance, or a fresh one where there is none.
    fn call(
        &mut self,
        policy: &Policy,
        index: usize,
        request: &Request<'_>,
        lines: &mut Vec<Line>,
    ) -> Result<(Decision, Cost), Failure> {
        let instance = self.ready(policy, index, request.now)?;
        let decided = instance.decide(request);
        lines.extend(instance.log_lines());
        match decided {
            Ok(decided) => {
                if self.warm.get_mut(index).is_some_and(|warm| warm.health.succeeded()) {
                    tracing::info!(policy = %policy.name, generation = self.set.generation, "policy decides again");
                }
                Ok(decided)
            }
            Err(error) => {
                let (of_market, cost) = (instance.market_failed(), Some(instance.last_cost()));
                if of_market {
                    self.market_failed(request.now, &error);
                }
                Err(Failure { error, of_market, cost })
            }
        }
    }

    /// The instance that is asked next.
    fn ready(&mut self, policy: &Policy, index: usize, now: i64) -> Result<&mut Instance, Failure> {
        // The instance that knows the other markets is there first. Where it is not, only what asks it fails.
        if self.set.market.is_some() && self.warm.get(index).is_some_and(|warm| warm.asks_markets) {
            drop(self.ready_market(now));
        }
        self.ready_own(policy, index, now).map_err(|error| Failure { error, of_market: false, cost: None })
    }

    fn ready_own(&mut self, policy: &Policy, index: usize, now: i64) -> anyhow::Result<&mut Instance> {
        let market = self.set.market.map(|_| Rc::clone(&self.market));
        let warm = self.warm.get_mut(index).context("no such policy")?;
        warm.health.check(now)?;
        // After a trap the store refuses every call.
        if warm.instance.as_ref().is_none_or(|instance| instance.is_spent() || instance.has_trapped()) {
            let before = warm.instance.take();
            let (mut instance, _) = Instance::new(&policy.name, &policy.loaded, &policy.settings, market)?;
            if let Some(before) = before {
                instance.continue_log(before);
            }
            warm.instance = Some(instance);
        }
        warm.instance.as_mut().context("no instance")
    }

    fn failed(&mut self, index: usize, policy: &Policy, question: &Question<'_>, failure: &Failure) {
        let Some(warm) = self.warm.get_mut(index) else { return };
        // An instance that answered is asked on: what it cannot decide is no reason to leave its other keys undecided.
        let lost = !failure.of_market && warm.instance.as_ref().is_none_or(Instance::has_trapped);
        let told = warm.health.failed(question.now, lost);
        if told.opened {
            tracing::warn!(policy = %policy.name, generation = self.set.generation, "{LEFT_ALONE}");
        }
        if told.failure {
            let rule = self.set.rules.rules().get(question.rule.index());
            tracing::warn!(
                policy = %policy.name,
                generation = self.set.generation,
                prefix = rule.map_or("", |rule| &rule.prefix),
                error = %one_line(&failure.error),
                "policy failed; the rule's fallback applies",
            );
        }
    }
}

fn memo_key(reads: Inputs, question: &Question<'_>, market: Option<u32>) -> MemoKey {
    let command = if reads.command { question.command } else { Data::Other };
    let market = market.map_or(0, |place| u64::from(place) + 1);
    MemoKey {
        of: question.rule.index() as u64 | market << 16 | (command as u64) << 56,
        value_bytes: if reads.value_bytes { question.value_bytes } else { 0 },
        client_ttl: if reads.client_ttl { question.client_ttl } else { None },
        key: reads.key.then(|| question.key.into()),
    }
}

/// How long a decision may be remembered: as the policy says, and no longer than the market session it was made in.
fn valid_until(decision: &Decision, market: Option<&Result<MarketSession, MarketError>>, now: i64) -> i64 {
    let session = match market {
        None | Some(Err(MarketError::UnknownMarket)) => i64::MAX,
        Some(Ok(session)) => session.until,
        // Either the data begins later, or it has ended.
        Some(Err(MarketError::BeyondHorizon(bound))) if *bound > now => *bound,
        Some(Err(MarketError::BeyondHorizon(_))) => i64::MAX,
    };
    decision.valid_until.unwrap_or(i64::MAX).min(session)
}
