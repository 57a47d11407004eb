//! The cases shipped beside a component: questions with the answers its author expects. Run at load, each on a fresh
//! and on a warm instance, with the default settings.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::engine::{Engine, Loaded};
use super::instance::{Instance, Request};
use super::{DataVersion, Expiry, MarketError, MarketSession, Phase, Role};
use crate::command::Data;
use crate::namespace::RuleTable;

/// How many cases passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Passed(pub usize);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(rename = "case", default)]
    cases: Vec<Case>,
}

/// One case. Which fields it has decides which role it is for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Case {
    name: String,
    expect: Expect,
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    key: String,
    now: Option<jiff::Timestamp>,
    at: Option<jiff::Timestamp>,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    value_bytes: u64,
    client_ttl_ms: Option<u64>,
    market: Option<CaseMarket>,
    market_error: Option<String>,
}

/// A market's name, or its whole session.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CaseMarket {
    Name(String),
    Session(Box<CaseSession>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CaseSession {
    name: String,
    phase: String,
    since: jiff::Timestamp,
    until: jiff::Timestamp,
    next_open: Option<jiff::Timestamp>,
    next_regular_open: Option<jiff::Timestamp>,
    previous_close: Option<jiff::Timestamp>,
    horizon: jiff::Timestamp,
    #[serde(default)]
    projected: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expect {
    after_ms: Option<u64>,
    at: Option<jiff::Timestamp>,
    keep: Option<bool>,
    never: Option<bool>,
    spread_ms: Option<u64>,
    phase: Option<String>,
    until: Option<jiff::Timestamp>,
    next_open: Option<jiff::Timestamp>,
    next_regular_open: Option<jiff::Timestamp>,
    error: Option<String>,
    rule: Option<String>,
    market: Option<String>,
}

/// Runs all cases of a file.
///
/// # Errors
/// The file is not one of cases, or a case fails; the message names it and gives both answers.
pub(super) fn run(engine: &Engine, name: &str, loaded: &Loaded, cases: &str) -> anyhow::Result<Passed> {
    let file: File = toml::from_str(cases).context("the case file")?;
    ensure!(!file.cases.is_empty(), "the case file has no [[case]]");
    let fresh = || Ok::<_, anyhow::Error>(Instance::new(engine, name, loaded, "{}", None)?.0);
    let mut warm = fresh()?;
    for case in &file.cases {
        let mut check = || -> anyhow::Result<()> {
            let answer = case.answer(&mut fresh()?, loaded)?;
            let again = case.answer(&mut warm, loaded)?;
            ensure!(
                answer == again,
                "a fresh instance answers {answer}, one that was asked before {again}; a policy must be a pure function"
            );
            let expect = case.expect.text();
            ensure!(expect.is_subset(&answer), "expected {expect}, got {answer}");
            Ok(())
        };
        check().with_context(|| format!("case {:?}", case.name))?;
    }
    Ok(Passed(file.cases.len()))
}

/// An answer as `name = value` pairs, so that a case may ask for some of them.
#[derive(Debug, PartialEq, Eq)]
struct Text(Vec<(&'static str, String)>);

// === impl Case ===

impl Case {
    fn answer(&self, instance: &mut Instance, loaded: &Loaded) -> anyhow::Result<Text> {
        let has = |role| loaded.facts.roles.contains(&role);
        if has(Role::Ttl) && self.now.is_some() {
            self.decision(instance)
        } else if has(Role::MarketHours) && self.at.is_some() {
            self.session(instance)
        } else if has(Role::Namespaces) && !self.key.is_empty() {
            self.rule(instance)
        } else {
            bail!("has neither `now` (for ttl) nor `at` (for market-hours) nor only `key` (for namespaces)")
        }
    }

    fn decision(&self, instance: &mut Instance) -> anyhow::Result<Text> {
        let session = match &self.market {
            Some(CaseMarket::Session(session)) => Some(session.session()?),
            Some(CaseMarket::Name(_)) => bail!("`market` must be a table with the whole session"),
            None => None,
        };
        let now = millis(self.now.context("no `now`")?);
        let market = match &self.market_error {
            Some(error) => Some(Err(market_error(error, now)?)),
            None => session.as_ref().map(Ok),
        };
        let request = Request {
            rule: self.rule.as_deref().unwrap_or_default(),
            namespace: &self.namespace,
            key: &self.key,
            command: self.command.as_deref().map_or(Ok(Data::Other), data)?,
            value_bytes: self.value_bytes,
            client_ttl: self.client_ttl_ms,
            now,
            market_name: match &self.market {
                Some(CaseMarket::Session(session)) => Some(&session.name),
                _ => None,
            },
            market,
        };
        let (decision, _) = instance.decide(&request)?;
        let expiry = match decision.expiry {
            Expiry::Keep => ("keep", "true".into()),
            Expiry::Never => ("never", "true".into()),
            Expiry::After(ms) => ("after-ms", ms.to_string()),
            Expiry::At(at) => ("at", instant(at)),
        };
        Ok(Text(vec![expiry, ("spread-ms", decision.spread_ms.to_string())]))
    }

    fn session(&self, instance: &mut Instance) -> anyhow::Result<Text> {
        let Some(CaseMarket::Name(market)) = &self.market else { bail!("`market` must be a name") };
        let (session, _) = instance.session_at(market, millis(self.at.context("no `at`")?))?;
        Ok(match session {
            Err(MarketError::UnknownMarket) => Text(vec![("error", "unknown-market".into())]),
            Err(MarketError::BeyondHorizon(_)) => Text(vec![("error", "beyond-horizon".into())]),
            Ok(session) => {
                let mut text = vec![("phase", session.phase.label().into()), ("until", instant(session.until))];
                text.extend(session.next_open.map(|at| ("next-open", instant(at))));
                text.extend(session.next_regular_open.map(|at| ("next-regular-open", instant(at))));
                Text(text)
            }
        })
    }

    fn rule(&self, instance: &mut Instance) -> anyhow::Result<Text> {
        let (rules, symbols) = instance.rules()?;
        let table = RuleTable::build(rules, symbols)?;
        let found = table.find(self.key.as_bytes());
        if let Some(CaseMarket::Name(expect)) = &self.market {
            let market = found.and_then(|(_, rule)| table.market(rule, &self.key).name).unwrap_or_default();
            ensure!(market == expect, "expected market {expect:?}, got {market:?}");
        }
        let mut text = vec![("rule", found.map_or(String::new(), |(_, rule)| rule.name.clone()))];
        text.extend(
            found.map(|(_, rule)| ("market", table.market(rule, &self.key).name.unwrap_or_default().to_owned())),
        );
        Ok(Text(text))
    }
}

// === impl CaseSession ===

impl CaseSession {
    fn session(&self) -> anyhow::Result<MarketSession> {
        Ok(MarketSession {
            phase: phase(&self.phase)?,
            since: millis(self.since),
            until: millis(self.until),
            next_open: self.next_open.map(millis),
            next_regular_open: self.next_regular_open.map(millis),
            previous_close: self.previous_close.map(millis),
            horizon: millis(self.horizon),
            projected: self.projected,
            data_version: DataVersion::default(),
        })
    }
}

// === impl Expect ===

impl Expect {
    fn text(&self) -> Text {
        let all = [
            ("after-ms", self.after_ms.map(|ms| ms.to_string())),
            ("at", self.at.map(|at| instant(millis(at)))),
            ("keep", self.keep.map(|keep| keep.to_string())),
            ("never", self.never.map(|never| never.to_string())),
            ("spread-ms", self.spread_ms.map(|ms| ms.to_string())),
            ("phase", self.phase.clone()),
            ("until", self.until.map(|at| instant(millis(at)))),
            ("next-open", self.next_open.map(|at| instant(millis(at)))),
            ("next-regular-open", self.next_regular_open.map(|at| instant(millis(at)))),
            ("error", self.error.clone()),
            ("rule", self.rule.clone()),
            ("market", self.market.clone()),
        ];
        Text(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

// === impl Text ===

impl Text {
    fn is_subset(&self, other: &Self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|pair| other.0.contains(pair))
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        write!(out, "{{ {} }}", pairs.join(", "))
    }
}

fn millis(at: jiff::Timestamp) -> i64 {
    at.as_millisecond()
}

fn instant(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

fn phase(text: &str) -> anyhow::Result<Phase> {
    Phase::of_label(text).with_context(|| format!("there is no phase {text:?}"))
}

fn market_error(text: &str, now: i64) -> anyhow::Result<MarketError> {
    match text {
        "unknown-market" => Ok(MarketError::UnknownMarket),
        "beyond-horizon" => Ok(MarketError::BeyondHorizon(now)),
        other => bail!("there is no market error {other:?}"),
    }
}

fn data(text: &str) -> anyhow::Result<Data> {
    Data::parse(text).with_context(|| format!("there is no kind of command {text:?}"))
}
