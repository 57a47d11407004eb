//! Traces: recorded decisions as text, one JSON object a line. The first line says what the rest is:
//!
//! ```json
//! {"bellwether_trace":1,"version":"0.1.0","now_ms":1795433400000,"generation":3,"sample":"1/100"}
//! {"id":7,"time_ms":…,"generation":3,"policy":"ttl","digest":"sha256:…","rule":"quotes","namespace":"quotes:",
//!  "key":"quotes:A","command":"value","value_bytes":14,"client_ttl_ms":null,"now_ms":…,
//!  "market":{"name":"XNSE","session":{"phase":"open","since_ms":…,"until_ms":…,…}},
//!  "decision":{"after_ms":60000,"spread_ms":0,"valid_until_ms":…,"reason":"…"},"failure":null,
//!  "fuel":1234,"ns":410,"memoized":false,"fallback_ms":null}
//! {"dropped":12}
//! ```
//!
//! (Each is one line.) A lifetime is `after_ms`, `at_ms`, `"keep":true` or `"never":true`. A market without a session
//! has `"error":"unknown-market"`, `"error":"beyond-horizon"` with `bound_ms`, or neither, where it could not be asked.
//! Of `decision` and `failure` one is null; `fuel` and `ns` are null where no policy was asked. `dropped` counts the
//! records since the first line that there was no room for. Whoever reads a trace leaves out what it does not know:
//! fields may be added to version 1, and are never taken away or changed.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Decided, Record, RecordedMarket, Sample};
use crate::command::Data;
use crate::policy::{Cost, DataVersion, Expiry, MarketError, MarketSession, Phase};

/// The version of the format.
pub const TRACE_VERSION: u32 = 1;

/// The first line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    bellwether_trace: u32,
    /// The sidecar's version.
    pub version: String,
    /// When it was begun, by the policies' clock, which may be shifted.
    pub now_ms: i64,
    /// The policy set that was in force then.
    pub generation: u64,
    /// How many of all decisions it has.
    pub sample: String,
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The first.
    Head(Head),
    /// A decision.
    Record(Box<Record>),
    /// So many were dropped up to here.
    Dropped(u64),
    /// Something that a later version knows.
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct RecordLine {
    id: u64,
    time_ms: i64,
    generation: u64,
    policy: String,
    digest: String,
    rule: String,
    namespace: String,
    key: String,
    command: String,
    value_bytes: u64,
    client_ttl_ms: Option<u64>,
    now_ms: i64,
    market: Option<MarketLine>,
    decision: Option<DecisionLine>,
    failure: Option<String>,
    fuel: Option<u64>,
    ns: Option<u64>,
    memoized: bool,
    fallback_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct MarketLine {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct SessionLine {
    phase: String,
    since_ms: i64,
    until_ms: i64,
    next_open_ms: Option<i64>,
    next_regular_open_ms: Option<i64>,
    previous_close_ms: Option<i64>,
    horizon_ms: i64,
    projected: bool,
    data_release: u32,
    data_settings: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct DecisionLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    never: Option<bool>,
    spread_ms: u64,
    valid_until_ms: Option<i64>,
    reason: String,
}

// === impl Head ===

impl Head {
    /// The first line of a trace that begins now.
    pub fn new(now_ms: i64, generation: u64, sample: Sample) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { bellwether_trace: TRACE_VERSION, version, now_ms, generation, sample: sample.to_string() }
    }
}

// === impl Line ===

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// It is none of a trace, or of a trace of another version; the message says which.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text).context("it is not JSON")?;
        if let Some(version) = value.get("bellwether_trace") {
            let known = version.as_u64() == Some(u64::from(TRACE_VERSION));
            ensure!(known, "it is of version {version} of the format; this bellwether reads version {TRACE_VERSION}");
            return Ok(Self::Head(serde_json::from_value(value).context("it is not the first line of a trace")?));
        }
        if let Some(dropped) = value.get("dropped").and_then(serde_json::Value::as_u64) {
            return Ok(Self::Dropped(dropped));
        }
        if value.get("id").is_none() {
            ensure!(value.is_object(), "it is no JSON object");
            return Ok(Self::Unknown);
        }
        let line: RecordLine = serde_json::from_value(value).context("it is not a recorded decision")?;
        Ok(Self::Record(Box::new(line.record()?)))
    }

    /// The line, with its end.
    pub fn write(&self) -> String {
        let mut line = match self {
            Self::Head(head) => serde_json::to_string(head).unwrap_or_default(),
            Self::Record(record) => record.line(),
            Self::Dropped(count) => serde_json::json!({ "dropped": count }).to_string(),
            Self::Unknown => "{}".to_owned(),
        };
        line.push('\n');
        line
    }
}

// === impl Record ===

impl Record {
    /// The record as a line of a trace, without its end.
    pub fn line(&self) -> String {
        let (decision, failure) = match &self.decision {
            Ok(decided) => (Some(DecisionLine::of(decided)), None),
            Err(why) => (None, Some(why.clone())),
        };
        let line = RecordLine {
            id: self.id,
            time_ms: self.time,
            generation: self.generation,
            policy: self.policy.clone(),
            digest: format!("sha256:{}", self.digest),
            rule: self.rule.clone(),
            namespace: self.namespace.clone(),
            key: self.key.clone(),
            command: self.command.label().to_owned(),
            value_bytes: self.value_bytes,
            client_ttl_ms: self.client_ttl,
            now_ms: self.now,
            market: self.market.as_ref().map(MarketLine::of),
            decision,
            failure,
            fuel: self.cost.map(|cost| cost.fuel),
            ns: self.cost.map(|cost| u64::try_from(cost.time.as_nanos()).unwrap_or(u64::MAX)),
            memoized: self.memoized,
            fallback_ms: self.fallback,
        };
        // Nothing in it can fail to be written.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

// === impl RecordLine ===

impl RecordLine {
    fn record(self) -> anyhow::Result<Record> {
        let command = Data::parse(&self.command);
        let decision = match (self.decision, self.failure) {
            (Some(decision), None) => Ok(decision.decided()?),
            (None, Some(failure)) => Err(failure),
            _ => bail!("record {} must have either a decision or a failure", self.id),
        };
        let cost = self.fuel.zip(self.ns).map(|(fuel, ns)| Cost { fuel, time: Duration::from_nanos(ns) });
        Ok(Record {
            id: self.id,
            time: self.time_ms,
            generation: self.generation,
            policy: self.policy,
            digest: self.digest.strip_prefix("sha256:").unwrap_or(&self.digest).to_owned(),
            rule: self.rule,
            namespace: self.namespace,
            key: self.key,
            command: command.with_context(|| format!("there is no kind of command {:?}", self.command))?,
            value_bytes: self.value_bytes,
            client_ttl: self.client_ttl_ms,
            now: self.now_ms,
            market: self.market.map(MarketLine::market).transpose()?,
            decision,
            cost,
            memoized: self.memoized,
            fallback: self.fallback_ms,
        })
    }
}

// === impl MarketLine ===

impl MarketLine {
    fn of(market: &RecordedMarket) -> Self {
        let (session, error, bound_ms) = match &market.session {
            None => (None, None, None),
            Some(Ok(session)) => (Some(SessionLine::of(session)), None, None),
            Some(Err(MarketError::UnknownMarket)) => (None, Some("unknown-market".to_owned()), None),
            Some(Err(MarketError::BeyondHorizon(bound))) => (None, Some("beyond-horizon".to_owned()), Some(*bound)),
        };
        Self { name: market.name.clone(), session, error, bound_ms }
    }

    fn market(self) -> anyhow::Result<RecordedMarket> {
        let session = match (self.session, self.error.as_deref()) {
            (Some(session), _) => Some(Ok(session.session()?)),
            (None, None) => None,
            (None, Some("unknown-market")) => Some(Err(MarketError::UnknownMarket)),
            (None, Some("beyond-horizon")) => {
                Some(Err(MarketError::BeyondHorizon(self.bound_ms.context("beyond-horizon has no bound_ms")?)))
            }
            (None, Some(other)) => bail!("there is no market error {other:?}"),
        };
        Ok(RecordedMarket { name: self.name, session })
    }
}

// === impl SessionLine ===

impl SessionLine {
    fn of(session: &MarketSession) -> Self {
        Self {
            phase: session.phase.label().to_owned(),
            since_ms: session.since,
            until_ms: session.until,
            next_open_ms: session.next_open,
            next_regular_open_ms: session.next_regular_open,
            previous_close_ms: session.previous_close,
            horizon_ms: session.horizon,
            projected: session.projected,
            data_release: session.data_version.release,
            data_settings: session.data_version.settings,
        }
    }

    fn session(self) -> anyhow::Result<MarketSession> {
        Ok(MarketSession {
            phase: Phase::of_label(&self.phase).with_context(|| format!("there is no phase {:?}", self.phase))?,
            since: self.since_ms,
            until: self.until_ms,
            next_open: self.next_open_ms,
            next_regular_open: self.next_regular_open_ms,
            previous_close: self.previous_close_ms,
            horizon: self.horizon_ms,
            projected: self.projected,
            data_version: DataVersion { release: self.data_release, settings: self.data_settings },
        })
    }
}

// === impl DecisionLine ===

impl DecisionLine {
    fn of(decided: &Decided) -> Self {
        let lifetime = match decided.expiry {
            Expiry::After(ms) => Self { after_ms: Some(ms), ..Self::default() },
            Expiry::At(at) => Self { at_ms: Some(at), ..Self::default() },
            Expiry::Keep => Self { keep: Some(true), ..Self::default() },
            Expiry::Never => Self { never: Some(true), ..Self::default() },
        };
        let Decided { spread_ms, valid_until: valid_until_ms, .. } = *decided;
        Self { spread_ms, valid_until_ms, reason: decided.reason.clone(), ..lifetime }
    }

    fn decided(self) -> anyhow::Result<Decided> {
        let expiry = match (self.after_ms, self.at_ms, self.keep, self.never) {
            (Some(ms), None, None, None) => Expiry::After(ms),
            (None, Some(at), None, None) => Expiry::At(at),
            (None, None, Some(true), None) => Expiry::Keep,
            (None, None, None, Some(true)) => Expiry::Never,
            _ => bail!("a decision must have one of after_ms, at_ms, keep and never"),
        };
        let Self { spread_ms, valid_until_ms: valid_until, reason, .. } = self;
        Ok(Decided { expiry, spread_ms, valid_until, reason })
    }
}
