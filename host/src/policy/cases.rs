//! The case file's format: questions to a component with the answers its author expects, and tables of them. Reads and
//! lays out; asking is the self-test's.
//!
//! ```toml
//! now = "2026-11-23T10:00:00+05:30"      # the clock of every case that has none of its own
//! [settings]                             # the policy's settings, `{}` where the file has none
//! open_ttl_ms = 5000
//! [[case]]
//! name = "a quote"
//! rule = "quotes"
//! rows = [                               # each row's fields stand over the case's
//!     { key = "quotes:A", expect = { after-ms = 5000 } },
//!     { key = "quotes:B", settings = { open_ttl_ms = 7 }, expect = { after-ms = 7 } },
//! ]
//! ```

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::alone::Handed;
use super::selftest::Write;
use super::{DataVersion, Expiry, MarketError, MarketSession, Phase, Role, settings};
use crate::command::Data;

/// One question with its answer: a case without rows, or a row of one.
#[derive(Clone, Debug)]
pub struct Case {
    /// What its author calls it; a row has its case's name before its own.
    pub name: String,
    /// Its settings, a JSON object.
    pub(super) settings: String,
    pub(super) question: Question,
    /// What is expected of the answer.
    pub expect: Pairs,
}

/// What is asked. Which fields it has decides which role it is for, unless `role` says so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Question {
    name: String,
    expect: Expect,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    pub(super) rule: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) key: String,
    now: Option<jiff::Timestamp>,
    at: Option<jiff::Timestamp>,
    command: Option<String>,
    #[serde(default)]
    pub(super) value_bytes: u64,
    pub(super) client_ttl_ms: Option<u64>,
    pub(super) market: Option<CaseMarket>,
    market_error: Option<String>,
    settings: Option<Map<String, Value>>,
    /// The clock of the file.
    #[serde(skip)]
    clock: Option<i64>,
    /// The market's session as it was recorded.
    #[serde(skip)]
    pub(super) handed: Option<(String, Result<MarketSession, MarketError>)>,
}

/// A market's name, or its whole session.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum CaseMarket {
    Name(String),
    Session(Box<CaseSession>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CaseSession {
    pub(super) name: String,
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expect {
    after_ms: Option<u64>,
    at: Option<jiff::Timestamp>,
    keep: Option<bool>,
    never: Option<bool>,
    spread_ms: Option<u64>,
    valid_until: Option<jiff::Timestamp>,
    reason: Option<String>,
    phase: Option<String>,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    next_open: Option<jiff::Timestamp>,
    next_regular_open: Option<jiff::Timestamp>,
    previous_close: Option<jiff::Timestamp>,
    error: Option<String>,
    rule: Option<String>,
    market: Option<String>,
    ttl_policy: Option<String>,
    client_ttl: Option<String>,
    apply: Option<String>,
    fallback_ttl_ms: Option<u64>,
    near_ms: Option<u64>,
    refused: Option<String>,
}

/// An answer as `name = value` pairs, so that a case may ask for some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(&'static str, String)>);

/// What a case file may have beside its cases.
const FILE_KEYS: [&str; 3] = ["case", "now", "settings"];
/// Of all rows of a file, so that no file costs a load more than seconds.
const CASES_MAX: usize = 100_000;

/// Reads a case file.
///
/// # Errors
/// It is not one; the message names the case.
pub fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    let mut file = settings::object(toml::from_str(text).context("the case file")?);
    if let Some(key) = file.keys().find(|key| !FILE_KEYS.contains(&key.as_str())) {
        bail!("the case file has {key:?}; it takes {}", FILE_KEYS.join(", "));
    }
    let clock: Option<jiff::Timestamp> = field(&mut file, "now").context("the case file's now")?;
    let of_file: Option<Map<String, Value>> = field(&mut file, "settings").context("the case file's settings")?;
    let tables: Option<Vec<Map<String, Value>>> = field(&mut file, "case").context("the case file's [[case]]")?;
    let of_file = Value::Object(of_file.unwrap_or_default()).to_string();
    let mut cases = Vec::new();
    for (number, table) in tables.unwrap_or_default().into_iter().enumerate() {
        let name = match table.get("name") {
            Some(Value::String(name)) => name.clone(),
            _ => bail!("case number {} has no name", number + 1),
        };
        let rows = laid_out(table, &name).with_context(|| format!("case {name:?}"))?;
        ensure!(cases.len() + rows.len() <= CASES_MAX, "the case file has more than {CASES_MAX} cases");
        for row in rows {
            let name = row.get("name").and_then(Value::as_str).unwrap_or(&name).to_owned();
            let case = Case::of(row, &of_file, clock).with_context(|| format!("case {name:?}"))?;
            cases.push(case);
        }
    }
    Ok(cases)
}

/// A field of a table, taken out of it. A field that is not there is none.
fn field<T: serde::de::DeserializeOwned>(table: &mut Map<String, Value>, name: &str) -> anyhow::Result<Option<T>> {
    Ok(table.remove(name).map(serde_json::from_value).transpose()?)
}

/// The rows of a case, each with the case's fields under its own; a case without rows is its own.
fn laid_out(mut case: Map<String, Value>, name: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let Some(rows) = field::<Vec<Map<String, Value>>>(&mut case, "rows").context("its rows")? else {
        return Ok(vec![case]);
    };
    ensure!(!rows.is_empty(), "its rows are none");
    let lay = |(number, row): (usize, Map<String, Value>)| {
        let text = |field: &str| row.get(field).and_then(Value::as_str);
        let own = text("name").or_else(|| text("key")).map_or(format!("row {}", number + 1), ToOwned::to_owned);
        let mut all = case.clone();
        all.extend(row);
        all.insert("name".into(), format!("{name}: {own}").into());
        all
    };
    Ok(rows.into_iter().enumerate().map(lay).collect())
}

// === impl Case ===

impl Case {
    /// A recorded write to a ttl policy, with the lifetime that was decided.
    pub fn recorded(
        name: &str,
        settings: &str,
        write: Write<'_>,
        market: Option<Handed<'_>>,
        (expiry, spread_ms): (Expiry, u64),
    ) -> Self {
        let question = Question {
            role: Some(Role::Ttl.interface().to_owned()),
            rule: write.rule.to_owned(),
            namespace: write.namespace.to_owned(),
            key: write.key.to_owned(),
            command: Some(write.command.label().to_owned()),
            value_bytes: write.value_bytes,
            client_ttl_ms: write.client_ttl,
            clock: Some(write.now),
            handed: market.map(|(name, session)| (name.to_owned(), session.clone())),
            ..Question::default()
        };
        let expect = Pairs::decided(expiry, spread_ms);
        Self { name: name.to_owned(), settings: settings.to_owned(), expect, question }
    }

    fn of(row: Map<String, Value>, settings: &str, clock: Option<jiff::Timestamp>) -> anyhow::Result<Self> {
        let mut question: Question = serde_json::from_value(Value::Object(row))?;
        question.clock = clock.map(millis);
        question.role()?;
        let settings = question.settings.take().map_or(settings.to_owned(), |own| Value::Object(own).to_string());
        let mut expect = question.expect.pairs();
        // A market that is only a name is asked about where sessions are, and expected where rules are.
        if let (Some(CaseMarket::Name(market)), None, None) = (&question.market, question.at, question.now)
            && question.expect.rule.is_some()
        {
            expect.0.push(("market", market.clone()));
        }
        ensure!(!expect.0.is_empty(), "expects nothing");
        Ok(Self { name: question.name.clone(), settings, expect, question })
    }
}

// === impl Question ===

impl Question {
    /// The role that the case names.
    fn role(&self) -> anyhow::Result<Option<Role>> {
        let Some(name) = &self.role else { return Ok(None) };
        let all = [Role::Namespaces, Role::Ttl, Role::MarketHours];
        let role = all.into_iter().find(|role| role.interface() == name);
        Ok(Some(role.with_context(|| format!("there is no role {name:?}; there are namespaces, ttl, market-hours"))?))
    }

    /// The role that is asked, of those that the component has.
    pub(super) fn asked(&self, roles: &[Role]) -> anyhow::Result<Role> {
        let has = |role| roles.contains(&role);
        match (self.role()?, roles) {
            (Some(role), _) if has(role) => Ok(role),
            (Some(role), _) => bail!("is for {}, which the component does not export", role.interface()),
            (None, [only]) => Ok(*only),
            (None, _) if has(Role::Ttl) && self.now.is_some() => Ok(Role::Ttl),
            (None, _) if has(Role::MarketHours) && self.at.is_some() => Ok(Role::MarketHours),
            (None, _) if has(Role::Namespaces) && !self.key.is_empty() => Ok(Role::Namespaces),
            (None, _) => bail!("has neither `now` (for ttl) nor `at` (for market-hours) nor `key` (for namespaces)"),
        }
    }

    /// Its instant, or the file's.
    pub(super) fn now(&self) -> anyhow::Result<i64> {
        let own = self.now.or(self.at).map(millis);
        own.or(self.clock).context("has no `now`, and neither has the file")
    }

    pub(super) fn data(&self) -> anyhow::Result<Data> {
        let Some(text) = &self.command else { return Ok(Data::Other) };
        Data::parse(text).with_context(|| format!("there is no kind of command {text:?}"))
    }

    /// The session of its market, by name; none where the case has no market.
    pub(super) fn session(&self) -> anyhow::Result<Option<(&str, MarketSession)>> {
        match &self.market {
            Some(CaseMarket::Session(session)) => Ok(Some((&session.name, session.session()?))),
            Some(CaseMarket::Name(_)) => bail!("`market` must be a table with the whole session"),
            None => Ok(None),
        }
    }

    pub(super) fn market_error(&self, now: i64) -> anyhow::Result<Option<MarketError>> {
        match self.market_error.as_deref() {
            None => Ok(None),
            Some("unknown-market") => Ok(Some(MarketError::UnknownMarket)),
            Some("beyond-horizon") => Ok(Some(MarketError::BeyondHorizon(now))),
            Some(other) => bail!("there is no market error {other:?}"),
        }
    }
}

// === impl CaseSession ===

impl CaseSession {
    fn session(&self) -> anyhow::Result<MarketSession> {
        Ok(MarketSession {
            phase: Phase::of_label(&self.phase).with_context(|| format!("there is no phase {:?}", self.phase))?,
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
    fn pairs(&self) -> Pairs {
        let at = |at: Option<jiff::Timestamp>| at.map(|at| instant(millis(at)));
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let truth = |truth: Option<bool>| truth.map(|truth| truth.to_string());
        let all = [
            ("after-ms", number(self.after_ms)),
            ("at", at(self.at)),
            ("keep", truth(self.keep)),
            ("never", truth(self.never)),
            ("spread-ms", number(self.spread_ms)),
            ("valid-until", at(self.valid_until)),
            ("reason", self.reason.clone()),
            ("phase", self.phase.clone()),
            ("since", at(self.since)),
            ("until", at(self.until)),
            ("next-open", at(self.next_open)),
            ("next-regular-open", at(self.next_regular_open)),
            ("previous-close", at(self.previous_close)),
            ("error", self.error.clone()),
            ("rule", self.rule.clone()),
            ("market", self.market.clone()),
            ("ttl-policy", self.ttl_policy.clone()),
            ("client-ttl", self.client_ttl.clone()),
            ("apply", self.apply.clone()),
            ("fallback-ttl-ms", number(self.fallback_ttl_ms)),
            ("near-ms", number(self.near_ms)),
            ("refused", self.refused.clone()),
        ];
        Pairs(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

// === impl Pairs ===

impl Pairs {
    /// A decided lifetime.
    pub(super) fn decided(expiry: Expiry, spread_ms: u64) -> Self {
        let expiry = match expiry {
            Expiry::Keep => ("keep", "true".into()),
            Expiry::Never => ("never", "true".into()),
            Expiry::After(ms) => ("after-ms", ms.to_string()),
            Expiry::At(at) => ("at", instant(at)),
        };
        Self(vec![expiry, ("spread-ms", spread_ms.to_string())])
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }

    /// The names of `self` for which `got` has another value or none. Of a message its words are enough.
    pub fn differing(&self, got: &Self) -> Vec<&'static str> {
        let holds = |name: &str, expected: &str| match got.get(name) {
            None => false,
            Some(got) if ["error", "refused", "reason"].contains(&name) => got.contains(expected),
            Some(got) => got == expected,
        };
        self.0.iter().filter(|(name, value)| !holds(name, value)).map(|(name, _)| *name).collect()
    }
}

impl std::fmt::Display for Pairs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        write!(out, "{{ {} }}", pairs.join(", "))
    }
}

fn millis(at: jiff::Timestamp) -> i64 {
    at.as_millisecond()
}

pub(super) fn instant(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}
