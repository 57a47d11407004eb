//! Policies: loading components, asking them, remembering their answers. The only folder that knows wasmtime; it knows
//! neither Redis nor the runtime that sessions live on.

mod alone;
mod apart;
mod bindings;
mod bounds;
pub mod cases;
mod compiled;
pub mod componentize;
pub mod contract;
mod convert;
mod decider;
mod engine;
mod health;
mod instance;
mod limits;
mod log;
mod measure;
pub mod reach;
mod selftest;
mod set;
pub mod settings;
pub mod standard;
mod wasi;

pub use alone::{Alone, Handed};
pub use compiled::Compiled;
pub use decider::{Answer, Asked, Cost, Decider, Horizon, Noted, Question};
pub use engine::{Engine, Facts, Needs, Role};
pub use health::Condition;
pub use limits::OwnLimits;
pub use log::{Line, one_line};
pub use measure::{Measured, measure};
pub use selftest::{Outcome, Passed, Report, Trial, Write};
pub use set::{Mount, Origin, Policy, PolicySet, Rejected, Stage};

/// A market's state over a span of time. The fields mean what the contract's `market-session` says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct MarketSession {
    pub phase: Phase,
    pub since: i64,
    pub until: i64,
    pub next_open: Option<i64>,
    pub next_regular_open: Option<i64>,
    pub previous_close: Option<i64>,
    pub horizon: i64,
    pub projected: bool,
    pub data_version: DataVersion,
}

/// The version of a calendar's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct DataVersion {
    pub release: u32,
    pub settings: u32,
}

/// What a market is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every case")]
pub enum Phase {
    Closed,
    PreOpen,
    Open,
    Break,
    ClosingAuction,
    PostClose,
    Halted,
}

/// Why there is no market session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketError {
    /// No such market.
    UnknownMarket,
    /// The data says nothing about that instant; the bound that was passed.
    BeyondHorizon(i64),
}

/// One change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The instant of the change.
    pub at: i64,
    /// The phase from then on.
    pub phase: Phase,
}

/// A day that is not as its weekday usually is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct SpecialDay {
    pub date: String,
    pub spans: Vec<Span>,
    pub note: String,
    pub source: String,
    pub known_since: Option<i64>,
}

/// A span of one phase inside a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct Span {
    pub phase: Phase,
    pub since: i64,
    pub until: i64,
}

/// One market that a policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct Market {
    pub name: String,
    pub aliases: Vec<String>,
    pub title: String,
    pub time_zone: String,
    pub covered_from: i64,
    pub horizon: i64,
    pub projected_from: i64,
}

/// How long a key may live, as a policy says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// As the client wrote it.
    Keep,
    /// So many milliseconds from now.
    After(u64),
    /// Until that instant.
    At(i64),
    /// Without end.
    Never,
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The lifetime.
    pub expiry: Expiry,
    /// The span before its end over which keys are spread.
    pub spread_ms: u64,
    /// How long the answer may be remembered.
    pub valid_until: Option<i64>,
    /// Why.
    pub reason: String,
}

/// What a policy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub summary: String,
    /// What its decisions read.
    pub reads: Inputs,
}

/// The inputs of a decision that a policy declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the contract documents every flag")]
pub struct Inputs {
    pub key: bool,
    pub command: bool,
    pub value_bytes: bool,
    pub client_ttl: bool,
}

// === impl Phase ===

impl Phase {
    /// Every phase, in the order of the contract.
    pub const ALL: [Self; 7] =
        [Self::Closed, Self::PreOpen, Self::Open, Self::Break, Self::ClosingAuction, Self::PostClose, Self::Halted];

    /// The phase of the contract's word.
    pub fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.label() == label)
    }

    /// The contract's word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::PreOpen => "pre-open",
            Self::Open => "open",
            Self::Break => "break",
            Self::ClosingAuction => "closing-auction",
            Self::PostClose => "post-close",
            Self::Halted => "halted",
        }
    }
}

// === impl DataVersion ===

impl std::fmt::Display for DataVersion {
    /// `2026-11-23`, `2026-11-23.2`, `2026-11-23+1f3c5a2b`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (date, number) = (self.release / 100, self.release % 100);
        write!(out, "{:04}-{:02}-{:02}", date / 10_000, date / 100 % 100, date % 100)?;
        if number > 0 {
            write!(out, ".{number}")?;
        }
        if self.settings > 0 { write!(out, "+{:08x}", self.settings) } else { Ok(()) }
    }
}

// === impl MarketError ===

impl std::fmt::Display for MarketError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownMarket => out.write_str("unknown market"),
            Self::BeyondHorizon(bound) => match jiff::Timestamp::from_millisecond(*bound) {
                Ok(bound) => write!(out, "beyond the calendar's data, which ends or begins at {bound}"),
                Err(_) => out.write_str("beyond the calendar's data"),
            },
        }
    }
}

// === impl Inputs ===

impl std::fmt::Display for Inputs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            (self.key, "key"),
            (self.command, "command"),
            (self.value_bytes, "value-bytes"),
            (self.client_ttl, "client-ttl"),
        ];
        let read: Vec<_> = all.into_iter().filter_map(|(reads, name)| reads.then_some(name)).collect();
        out.write_str(if read.is_empty() { "rule, market session" } else { "rule, market session, " })?;
        out.write_str(&read.join(", "))
    }
}
