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
    /// What a call that failed took. None: it did not, or there was none.
    pub failed_cost: Option<Cost>,
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
    /// Remembered sessions, by the market's place.
    sessions: Vec<Option<Result<MarketSession, MarketError>>>,
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
#[derive(Default)]
struct Warm {
    instance: Option<Instance>,
    health: Health,
}

/// What came of a call.
struct Called {
    decision: anyhow::Result<(Decision, Cost)>,
    failed_cost: Option<Cost>,
    lines: Vec<Line>,
}

/// What a remembered decision depends on. Inputs that the policy did not declare are blank.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MemoKey {
    rule: RuleId,
    market: Option<u32>,
    command: Data,
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

/// Markets that one worker remembers. Names come from keys, so they are bounded.
const MARKETS_MAX: usize = 4096;
/// Ends of calendars that wait to be taken: more would be of names that came from keys.
const LEARNED_MAX: usize = 64;

// === impl Decider ===

impl Decider {
    /// A worker's policies of a generation. Instances are made when they are first asked.
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self {
            warm: set.policies.iter().map(|_| Warm::default()).collect(),
            set: Rc::new(set),
            market: Rc::new(RefCell::new(None)),
            market_health: Health::default(),
            sessions: Vec::new(),
            places: FxHashMap::default(),
            memo: FxHashMap::default(),
            learned: Vec::new(),
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
    pub fn decide_noting(&mut self, question: &Question<'_>, mut note: Option<&mut Noted>) -> Answer {
        let Some(index) = self.set.ttl_of_rule.get(question.rule.index()).copied().flatten() else {
            return Answer::NoPolicy;
        };
        let set = Rc::clone(&self.set);
        let Some(policy) = set.policies.get(index) else { return Answer::NoPolicy };
        let market = key_market(&set, question);
        let unknown_symbol = market.unknown_symbol;
        let place = self.place(market.name);
        let key = memo_key(policy.description.reads, question, place);
        if let Some(known) = self.memo.get(&key)
            && (known.since..known.until).contains(&question.now)
        {
            if let Some(note) = &mut note {
                note.remembered(policy, market.name, self.known_session(place), known);
            }
            return Answer::Decided { expiry: known.expiry, spread_ms: known.spread_ms, cost: None, unknown_symbol };
        }
        let asked = self.ask_policy(policy, index, question, market, place);
        if let Some(note) = &mut note {
            note.asked(policy, market.name, &asked);
        }
        match asked.decision {
            Err(error) => {
                self.failed(index, policy, question, &error);
                Answer::Failed { unknown_symbol }
            }
            Ok((decision, cost)) => {
                let until = valid_until(&decision, asked.market.as_ref().map(|(_, session)| session), question.now);
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
        let market = key_market(&set, question);
        let place = self.place(market.name);
        Some(self.ask_policy(set.policies.get(index)?, index, question, market, place))
    }

    /// Ends of calendars that were learned since this was last asked, from sessions of keys' markets.
    pub fn take_horizons(&mut self) -> Vec<Horizon> {
        std::mem::take(&mut self.learned)
    }

    /// The place of a key's market. None: it has none, or no more can be remembered.
    fn place(&mut self, name: Option<&str>) -> Option<u32> {
        let name = name?;
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.sessions.len() >= MARKETS_MAX {
            self.places.clear();
            self.sessions.clear();
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
    ) -> Asked {
        let set = Rc::clone(&self.set);
        let rule = set.rules.rules().get(question.rule.index());
        let name = market.name.unwrap_or_default();
        let mut asked = Asked {
            policy: policy.name.clone(),
            market: None,
            unknown_symbol: market.unknown_symbol,
            market_cost: None,
            decision: Err(anyhow::anyhow!("not asked")),
            failed_cost: None,
            lines: Vec::new(),
        };
        if let Some(place) = place {
            match self.remembered_session(name, place, question.now) {
                Ok((session, cost)) => (asked.market, asked.market_cost) = (Some((name.to_owned(), session)), cost),
                Err(error) => {
                    asked.decision = Err(error.context(format!("no session of market {name:?}")));
                    return asked;
                }
            }
        }
        let Some(rule) = rule else { return asked };
        let reads = policy.description.reads;
        let request = Request {
            rule: &rule.name,
            namespace: &rule.prefix,
            key: if reads.key { question.key } else { "" },
            command: if reads.command { question.command } else { Data::Other },
            value_bytes: if reads.value_bytes { question.value_bytes } else { 0 },
            client_ttl: if reads.client_ttl { question.client_ttl } else { None },
            now: question.now,
            market_name: asked.market.as_ref().map(|(name, _)| name.as_str()),
            market: asked.market.as_ref().map(|(_, session)| session.as_ref().map_err(|error| *error)),
        };
        let called = self.call(policy, index, &request);
        (asked.decision, asked.failed_cost, asked.lines) = (called.decision, called.failed_cost, called.lines);
        asked
    }

    /// Asks a warm instance, or a fresh one where there is none.
    fn call(&mut self, policy: &Policy, index: usize, request: &Request<'_>) -> Called {
        let instance = match self.ready(policy, index, request.now) {
            Ok(instance) => instance,
            Err(error) => return Called { decision: Err(error), failed_cost: None, lines: Vec::new() },
        };
        let begun = std::time::Instant::now();
        let decision = instance.decide(request);
        let failed = || Cost { fuel: instance.fuel_taken(), time: begun.elapsed() };
        let (failed_cost, lines) = (decision.is_err().then(failed), instance.log_lines());
        if decision.is_ok()
            && let Some(warm) = self.warm.get_mut(index)
        {
            warm.health.failures = 0;
        }
        Called { decision, failed_cost, lines }
    }

    /// The instance that is asked next.
    fn ready(&mut self, policy: &Policy, index: usize, now: i64) -> anyhow::Result<&mut Instance> {
        // A ttl policy may ask about other markets at any time, so the instance that knows them is there first.
        if policy.facts.imports.iter().any(|import| import.contains("/market-hours@")) {
            self.with_market(now, |_| Ok(()))?;
        }
        let market = Rc::clone(&self.market);
        let warm = self.warm.get_mut(index).context("no such policy")?;
        warm.health.check(now)?;
        // After a trap the store refuses every call.
        if warm.instance.as_ref().is_none_or(|instance| instance.is_spent() || instance.has_trapped()) {
            let before = warm.instance.take();
            let (mut instance, _) =
                Instance::new(&self.set.engine, &policy.name, &policy.loaded, &policy.settings, Some(market))?;
            if let Some(before) = before {
                instance.continue_log(before);
            }
            warm.instance = Some(instance);
        }
        warm.instance.as_mut().context("no instance")
    }

    fn failed(&mut self, index: usize, policy: &Policy, question: &Question<'_>, error: &anyhow::Error) {
        let Some(warm) = self.warm.get_mut(index) else { return };
        // An instance that answered is asked on: what it cannot decide is no reason to leave its other keys undecided.
        let lost = warm.instance.as_ref().is_none_or(Instance::has_trapped);
        if warm.health.failed(question.now, lost) {
            let rule = self.set.rules.rules().get(question.rule.index());
            tracing::warn!(
                policy = %policy.name,
                generation = self.set.generation,
                prefix = rule.map_or("", |rule| &rule.prefix),
                error = %one_line(error),
                "policy failed; the rule's fallback applies",
            );
        }
    }
}

fn key_market<'a>(set: &'a PolicySet, question: &Question<'a>) -> KeyMarket<'a> {
    let rule = set.rules.rules().get(question.rule.index());
    rule.map_or(KeyMarket::default(), |rule| set.rules.market(rule, question.key))
}

fn memo_key(reads: Inputs, question: &Question<'_>, market: Option<u32>) -> MemoKey {
    MemoKey {
        rule: question.rule,
        market,
        command: if reads.command { question.command } else { Data::Other },
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
