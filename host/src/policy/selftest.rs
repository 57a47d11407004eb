//! A component asked its cases, each on a fresh and on a warm instance: at load, and for its author. It is asked with
//! the settings that the case file has, never with the operator's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};

use super::cases::{self, Case, CaseMarket, Pairs, instant};
use super::engine::{Engine, Facts, Loaded};
use super::instance::{Instance, Request};
use super::log::{Line, one_line};
use super::{Asked, Description, MarketError, MarketSession, Mount, Role};
use crate::command::Data;
use crate::namespace::RuleTable;

/// How many cases passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Passed(pub usize);

/// A component by itself, compiled and linked, to be asked by its author.
pub struct Trial {
    pub(super) name: Arc<str>,
    pub(super) loaded: Loaded,
}

/// One write, for a ttl policy that is asked by itself.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the contract documents every field of a request")]
pub struct Write<'a> {
    pub rule: &'a str,
    pub namespace: &'a str,
    pub key: &'a str,
    pub command: Data,
    pub value_bytes: u64,
    pub client_ttl: Option<u64>,
    pub now: i64,
}

/// What became of all cases.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the file.
    pub outcomes: Vec<Outcome>,
    /// The rules of a namespaces policy, and whether a case's key was under each.
    pub rules: BTreeMap<String, bool>,
}

/// What became of one case.
#[derive(Debug)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// What it expects.
    pub expect: Pairs,
    /// What a fresh instance answered.
    pub got: Pairs,
    /// What one that was asked before answered, where that is something else.
    pub warm: Option<Pairs>,
    /// Instructions of the answer, by the warm instance.
    pub fuel: u64,
    /// How long the answer took, by the warm instance.
    pub time: Duration,
    /// The lines that the policy wrote for it.
    pub lines: Vec<Line>,
}

/// An answer with what it took.
struct Answer {
    pairs: Pairs,
    fuel: u64,
    time: Duration,
    lines: Vec<Line>,
}

/// Runs all cases of a file, as loading does.
///
/// # Errors
/// The file is not one of cases, or a case fails; the message names it and gives both answers.
pub(super) fn run(trial: &Trial, cases: &str) -> anyhow::Result<Passed> {
    let cases = cases::parse(cases)?;
    ensure!(!cases.is_empty(), "the case file has no [[case]]");
    let report = trial.run(&cases)?;
    match report.outcomes.iter().find(|outcome| !outcome.passed()) {
        None => Ok(Passed(cases.len())),
        Some(failed) => Err(anyhow!("case {:?}: {}", failed.name, failed.why())),
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether the case passed.
    pub fn passed(&self) -> bool {
        self.warm.is_none() && self.expect.differing(&self.got).is_empty()
    }

    /// Why it failed, in one line.
    pub fn why(&self) -> String {
        match &self.warm {
            Some(warm) => format!(
                "a fresh instance answers {}, one that was asked before {warm}; a policy must be a pure function",
                self.got
            ),
            None => format!("expected {}, got {}", self.expect, self.got),
        }
    }

    /// Of a case whose settings were refused.
    fn refused(case: &Case, error: &anyhow::Error) -> Self {
        Self {
            name: case.name.clone(),
            expect: case.expect.clone(),
            got: Pairs(vec![("refused", one_line(error))]),
            warm: None,
            fuel: 0,
            time: Duration::ZERO,
            lines: Vec::new(),
        }
    }
}

// === impl Trial ===

impl Trial {
    /// Compiles and links a component.
    ///
    /// # Errors
    /// It does not load; the message says why.
    pub fn load(engine: &Engine, mount: &Mount) -> anyhow::Result<Self> {
        let loaded = engine.load(&mount.component, &mount.limits)?;
        Ok(Self { name: mount.name.as_str().into(), loaded })
    }

    /// What the component says of itself with these settings.
    ///
    /// # Errors
    /// It refuses them.
    pub fn describe(&self, settings: &str) -> anyhow::Result<Description> {
        Ok(Instance::new(&self.name, &self.loaded, settings, None)?.1)
    }

    /// What can be said of the component.
    pub fn facts(&self) -> &Facts {
        &self.loaded.facts
    }

    /// Asks every case: a fresh instance once, a warm one twice, so that the first case meets a warm one too.
    ///
    /// # Errors
    /// A case cannot be asked, such as one for a role that the component does not have; the message names it.
    pub fn run(&self, cases: &[Case]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        // Settings make another policy of a component: each has a warm instance of its own.
        let mut warm: BTreeMap<&str, Instance> = BTreeMap::new();
        for case in cases {
            let ask = |instance: &mut Instance| {
                self.answer(case, instance).map_err(|error| error.context(format!("case {:?}", case.name)))
            };
            let mut fresh = match self.instance(&case.settings) {
                Ok(instance) => instance,
                Err(error) => {
                    report.outcomes.push(Outcome::refused(case, &error));
                    continue;
                }
            };
            let first = ask(&mut fresh)?;
            self.note_rules(case, &mut fresh, &mut report.rules);
            let mut instance = match warm.remove(case.settings.as_str()) {
                Some(instance) => instance,
                None => self.instance(&case.settings)?,
            };
            let mut again = ask(&mut instance)?;
            if again.pairs == first.pairs && !instance.has_trapped() {
                again = ask(&mut instance)?;
            }
            if !instance.has_trapped() {
                warm.insert(&case.settings, instance);
            }
            report.outcomes.push(Outcome {
                name: case.name.clone(),
                expect: case.expect.clone(),
                warm: Some(again.pairs).filter(|warm| *warm != first.pairs),
                got: first.pairs,
                fuel: again.fuel,
                time: again.time,
                lines: first.lines,
            });
        }
        Ok(report)
    }

    /// Asks a fresh instance about one write, with the session of a market where `markets`, a market-hours policy,
    /// is asked for one.
    ///
    /// # Errors
    /// The policy cannot be made, or there is no session to hand it.
    pub fn ask(&self, settings: &str, write: &Write<'_>, market: Option<(&str, &Self)>) -> anyhow::Result<Asked> {
        let session = |(name, markets): (&str, &Self)| -> anyhow::Result<_> {
            Ok((name.to_owned(), markets.instance("{}")?.session_at(name, write.now)?.0))
        };
        let market = market.map(session).transpose()?;
        let mut instance = self.instance(settings)?;
        let handed = market.as_ref().map(|(name, session)| (name.as_str(), session));
        let decision = instance.decide(&write.request(handed));
        let lines = instance.log_lines();
        let policy = self.name.to_string();
        Ok(Asked { policy, market, unknown_symbol: false, market_cost: None, decision, lines })
    }

    pub(super) fn instance(&self, settings: &str) -> anyhow::Result<Instance> {
        Ok(Instance::new(&self.name, &self.loaded, settings, None)?.0)
    }

    fn answer(&self, case: &Case, instance: &mut Instance) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        let (pairs, fuel) = match case.question.asked(&self.loaded.facts.roles)? {
            Role::Ttl => decision(case, instance)?,
            Role::MarketHours => session(case, instance)?,
            Role::Namespaces => rule(case, instance)?,
        };
        Ok(Answer { pairs, fuel, time: begun.elapsed(), lines: instance.log_lines() })
    }

    /// Notes the rules of a namespaces policy, and which of them the case is about.
    fn note_rules(&self, case: &Case, instance: &mut Instance, rules: &mut BTreeMap<String, bool>) {
        if !matches!(case.question.asked(&self.loaded.facts.roles), Ok(Role::Namespaces)) || instance.has_trapped() {
            return;
        }
        // What is wrong with them is the case's answer.
        let Ok(table) = table(instance) else { return };
        let about = table.find(case.question.key.as_bytes()).map(|(id, _)| id.index());
        for (index, rule) in table.rules().iter().enumerate() {
            *rules.entry(rule.name.clone()).or_default() |= about == Some(index);
        }
    }
}

// === impl Report ===

impl Report {
    /// The rules that no case was about.
    pub fn rules_left(&self) -> BTreeSet<&str> {
        self.rules.iter().filter(|(_, covered)| !**covered).map(|(name, _)| name.as_str()).collect()
    }
}

fn decision(case: &Case, instance: &mut Instance) -> anyhow::Result<(Pairs, u64)> {
    let session = case.question.session()?;
    let request = request(case, session.as_ref())?;
    let (decision, cost) = match instance.decide(&request) {
        Err(error) => return Ok((Pairs(vec![("error", one_line(&error))]), instance.fuel_taken())),
        Ok(decided) => decided,
    };
    let Pairs(mut pairs) = Pairs::decided(decision.expiry, decision.spread_ms);
    pairs.extend(decision.valid_until.map(|at| ("valid-until", instant(at))));
    pairs.push(("reason", decision.reason));
    Ok((Pairs(pairs), cost.fuel))
}

/// What a case asks a ttl policy with.
pub(super) fn request<'a>(case: &'a Case, session: Option<&'a (&str, MarketSession)>) -> anyhow::Result<Request<'a>> {
    let question = &case.question;
    let now = question.now()?;
    let recorded = question.handed.as_ref().map(|(name, session)| (name.as_str(), session));
    let error = question.market_error(now)?;
    Ok(Request {
        rule: &question.rule,
        namespace: &question.namespace,
        key: &question.key,
        command: question.data()?,
        value_bytes: question.value_bytes,
        client_ttl: question.client_ttl_ms,
        now,
        market_name: session.map(|(name, _)| *name).or(recorded.map(|(name, _)| name)),
        market: error
            .map(Err)
            .or(session.map(|(_, session)| Ok(session)))
            .or(recorded.map(|(_, session)| session.as_ref().map_err(|error| *error))),
    })
}

fn session(case: &Case, instance: &mut Instance) -> anyhow::Result<(Pairs, u64)> {
    let Some(CaseMarket::Name(market)) = &case.question.market else { bail!("`market` must be a name") };
    let error = |text: String| Pairs(vec![("error", text)]);
    let (session, fuel) = match instance.session_at(market, case.question.now()?) {
        Err(failed) => return Ok((error(one_line(&failed)), instance.fuel_taken())),
        Ok((Err(MarketError::UnknownMarket), fuel)) => return Ok((error("unknown-market".into()), fuel)),
        Ok((Err(MarketError::BeyondHorizon(_)), fuel)) => return Ok((error("beyond-horizon".into()), fuel)),
        Ok((Ok(session), fuel)) => (session, fuel),
    };
    let mut pairs = vec![("phase", session.phase.label().to_owned()), ("until", instant(session.until))];
    pairs.push(("since", instant(session.since)));
    pairs.extend(session.next_open.map(|at| ("next-open", instant(at))));
    pairs.extend(session.next_regular_open.map(|at| ("next-regular-open", instant(at))));
    pairs.extend(session.previous_close.map(|at| ("previous-close", instant(at))));
    Ok((Pairs(pairs), fuel))
}

fn rule(case: &Case, instance: &mut Instance) -> anyhow::Result<(Pairs, u64)> {
    let key = &case.question.key;
    ensure!(!key.is_empty(), "has no `key`");
    let table = match table(instance) {
        Err(failed) => return Ok((Pairs(vec![("error", one_line(&failed))]), 0)),
        Ok(table) => table,
    };
    let fuel = instance.load_fuel_taken();
    let Some((id, rule)) = table.find(key.as_bytes()) else { return Ok((Pairs(vec![("rule", String::new())]), fuel)) };
    let market = table.market(id, key).name.unwrap_or_default().to_owned();
    let mut pairs = vec![("rule", rule.name.clone()), ("market", market)];
    pairs.extend(rule.ttl_policy.clone().map(|name| ("ttl-policy", name)));
    pairs.push(("client-ttl", rule.client_ttl.label().to_owned()));
    pairs.push(("apply", rule.apply.label().to_owned()));
    pairs.extend(rule.fallback_ttl_ms.map(|ms| ("fallback-ttl-ms", ms.to_string())));
    pairs.extend(rule.near_ms.map(|ms| ("near-ms", ms.to_string())));
    Ok((Pairs(pairs), fuel))
}

fn table(instance: &mut Instance) -> anyhow::Result<RuleTable> {
    let (rules, symbols) = instance.rules()?;
    RuleTable::build(rules, symbols)
}
