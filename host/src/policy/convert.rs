//! Between the generated types and the host's own. What a policy answers is checked here: a number out of the
//! contract's range is nonsense, and costs that answer.

use anyhow::ensure;

use super::bindings::lifecycle::exports::bellwether::policy::lifecycle;
use super::bindings::market_hours::exports::bellwether::policy::market_hours as exported;
use super::bindings::namespaces::exports::bellwether::policy::namespaces as rules;
use super::bindings::ttl::bellwether::policy::market_hours as imported;
use super::bindings::ttl::bellwether::policy::types;
use super::bindings::ttl::exports::bellwether::policy::ttl;
use super::log::{clean, cleaned};
use super::{
    DataVersion, Decision, Description, Expiry, Inputs, Market, MarketError, MarketSession, Phase, Span, SpecialDay,
    Transition,
};
use crate::command::Data;
use crate::namespace::{Access, Apply, ClientTtl, MarketSource, Rule, SymbolMatch, SymbolRule, ValueCheck};

/// The last millisecond of the year 9999.
const INSTANT_MAX: i64 = 253_402_300_799_999;
/// Ten years.
const MILLIS_MAX: u64 = 315_576_000_000;
const REASON_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;

/// An instant within the contract's range.
fn instant(name: &str, value: i64) -> anyhow::Result<i64> {
    ensure!((0..=INSTANT_MAX).contains(&value), "{name} is {value}, outside 0 to {INSTANT_MAX}");
    Ok(value)
}

/// A span within the contract's range.
fn millis(name: &str, value: u64) -> anyhow::Result<u64> {
    ensure!(value <= MILLIS_MAX, "{name} is {value} ms, more than ten years");
    Ok(value)
}

pub(super) fn decision(decision: ttl::Decision) -> anyhow::Result<Decision> {
    let expiry = match decision.expiry {
        ttl::Expiry::Keep => Expiry::Keep,
        ttl::Expiry::After(ms) => {
            ensure!(ms > 0, "expiry is 0 ms from now; at least 1 is allowed");
            Expiry::After(millis("expiry", ms)?)
        }
        ttl::Expiry::At(at) => Expiry::At(instant("expiry", at)?),
        ttl::Expiry::Never => Expiry::Never,
    };
    Ok(Decision {
        expiry,
        spread_ms: millis("spread-ms", decision.spread_ms)?,
        valid_until: decision.valid_until.map(|at| instant("valid-until", at)).transpose()?,
        reason: cleaned(decision.reason, REASON_BYTES_MAX),
    })
}

pub(super) fn session(session: types::MarketSession) -> anyhow::Result<MarketSession> {
    let optional = |name, value: Option<i64>| value.map(|at| instant(name, at)).transpose();
    let (since, until) = (instant("since", session.since)?, instant("until", session.until)?);
    ensure!(since < until, "since is {since}, not before until, {until}");
    Ok(MarketSession {
        phase: phase(session.phase),
        since,
        until,
        next_open: optional("next-open", session.next_open)?,
        next_regular_open: optional("next-regular-open", session.next_regular_open)?,
        previous_close: optional("previous-close", session.previous_close)?,
        horizon: instant("horizon", session.horizon)?,
        projected: session.projected,
        data_version: DataVersion { release: session.data_version.release, settings: session.data_version.settings },
    })
}

pub(super) fn session_back(session: &MarketSession) -> types::MarketSession {
    types::MarketSession {
        phase: phase_back(session.phase),
        since: session.since,
        until: session.until,
        next_open: session.next_open,
        next_regular_open: session.next_regular_open,
        previous_close: session.previous_close,
        horizon: session.horizon,
        projected: session.projected,
        data_version: types::DataVersion {
            release: session.data_version.release,
            settings: session.data_version.settings,
        },
    }
}

pub(super) fn market_error(error: types::MarketError) -> MarketError {
    match error {
        types::MarketError::UnknownMarket => MarketError::UnknownMarket,
        types::MarketError::BeyondHorizon(bound) => MarketError::BeyondHorizon(bound),
    }
}

pub(super) fn market_error_back(error: MarketError) -> types::MarketError {
    match error {
        MarketError::UnknownMarket => types::MarketError::UnknownMarket,
        MarketError::BeyondHorizon(bound) => types::MarketError::BeyondHorizon(bound),
    }
}

fn phase(phase: types::Phase) -> Phase {
    match phase {
        types::Phase::Closed => Phase::Closed,
        types::Phase::PreOpen => Phase::PreOpen,
        types::Phase::Open => Phase::Open,
        types::Phase::Break => Phase::Break,
        types::Phase::ClosingAuction => Phase::ClosingAuction,
        types::Phase::PostClose => Phase::PostClose,
        types::Phase::Halted => Phase::Halted,
    }
}

fn phase_back(phase: Phase) -> types::Phase {
    match phase {
        Phase::Closed => types::Phase::Closed,
        Phase::PreOpen => types::Phase::PreOpen,
        Phase::Open => types::Phase::Open,
        Phase::Break => types::Phase::Break,
        Phase::ClosingAuction => types::Phase::ClosingAuction,
        Phase::PostClose => types::Phase::PostClose,
        Phase::Halted => types::Phase::Halted,
    }
}

pub(super) fn transition(transition: exported::Transition) -> anyhow::Result<Transition> {
    Ok(Transition { at: instant("at", transition.at)?, phase: phase(transition.phase) })
}

pub(super) fn transition_back(transition: Transition) -> imported::Transition {
    imported::Transition { at: transition.at, phase: phase_back(transition.phase) }
}

pub(super) fn special_day(day: exported::SpecialDay) -> anyhow::Result<SpecialDay> {
    let span = |span: exported::Span| {
        let (since, until) = (instant("since", span.since)?, instant("until", span.until)?);
        Ok(Span { phase: phase(span.phase), since, until })
    };
    Ok(SpecialDay {
        date: clean(&day.date, NAME_BYTES_MAX),
        spans: day.spans.into_iter().map(span).collect::<anyhow::Result<_>>()?,
        note: clean(&day.note, REASON_BYTES_MAX),
        source: clean(&day.source, REASON_BYTES_MAX),
        known_since: day.known_since.map(|at| instant("known-since", at)).transpose()?,
    })
}

pub(super) fn special_day_back(day: SpecialDay) -> imported::SpecialDay {
    let span = |span: Span| imported::Span { phase: phase_back(span.phase), since: span.since, until: span.until };
    imported::SpecialDay {
        date: day.date,
        spans: day.spans.into_iter().map(span).collect(),
        note: day.note,
        source: day.source,
        known_since: day.known_since,
    }
}

pub(super) fn market(market: exported::Market) -> Market {
    Market {
        name: market.name,
        aliases: market.aliases,
        title: market.title,
        time_zone: market.time_zone,
        covered_from: market.covered_from,
        horizon: market.horizon,
        projected_from: market.projected_from,
    }
}

pub(super) fn market_back(market: Market) -> imported::Market {
    imported::Market {
        name: market.name,
        aliases: market.aliases,
        title: market.title,
        time_zone: market.time_zone,
        covered_from: market.covered_from,
        horizon: market.horizon,
        projected_from: market.projected_from,
    }
}

pub(super) fn data_back(data: Data) -> types::CommandKind {
    match data {
        Data::Value => types::CommandKind::Value,
        Data::Counter => types::CommandKind::Counter,
        Data::Hash => types::CommandKind::Hash,
        Data::SortedSet => types::CommandKind::SortedSet,
        Data::Set => types::CommandKind::Set,
        Data::List => types::CommandKind::List,
        Data::Stream => types::CommandKind::Stream,
        Data::Bits => types::CommandKind::Bits,
        Data::Copy => types::CommandKind::Copy,
        Data::Expiry => types::CommandKind::Expiry,
        Data::Other => types::CommandKind::Other,
    }
}

pub(super) fn description(description: lifecycle::Description) -> Description {
    let reads = |input| description.reads.contains(input);
    Description {
        reads: Inputs {
            key: reads(lifecycle::Inputs::KEY),
            command: reads(lifecycle::Inputs::COMMAND),
            value_bytes: reads(lifecycle::Inputs::VALUE_BYTES),
            client_ttl: reads(lifecycle::Inputs::CLIENT_TTL),
        },
        name: clean(&description.name, NAME_BYTES_MAX),
        version: clean(&description.version, NAME_BYTES_MAX),
        summary: clean(&description.summary, REASON_BYTES_MAX),
    }
}

pub(super) fn rule(rule: rules::Rule) -> anyhow::Result<Rule> {
    let optional = |name, value: Option<u64>| value.map(|ms| millis(name, ms)).transpose();
    Ok(Rule {
        market: match rule.market {
            rules::MarketSource::None => MarketSource::None,
            rules::MarketSource::Fixed(market) => MarketSource::Fixed(market),
            rules::MarketSource::KeyPart(part) => MarketSource::KeyPart(part as usize),
            rules::MarketSource::Symbol(source) => {
                MarketSource::Symbol { part: source.part.map(|part| part as usize), default: source.default_market }
            }
        },
        value: match rule.value {
            rules::ValueCheck::Any => ValueCheck::Any,
            rules::ValueCheck::JsonWarn => ValueCheck::JsonWarn,
            rules::ValueCheck::JsonRefuse => ValueCheck::JsonRefuse,
        },
        access: match rule.access {
            rules::Access::ReadWrite => Access::ReadWrite,
            rules::Access::ReadOnly => Access::ReadOnly,
            rules::Access::Denied => Access::Denied,
        },
        apply: match rule.apply {
            rules::Apply::OnCreate => Apply::OnCreate,
            rules::Apply::EveryWrite => Apply::EveryWrite,
        },
        client_ttl: match rule.client_ttl {
            rules::ClientTtl::Respect => ClientTtl::Respect,
            rules::ClientTtl::Cap => ClientTtl::Cap,
            rules::ClientTtl::Replace => ClientTtl::Replace,
        },
        fallback_ttl_ms: optional("fallback-ttl-ms", rule.fallback_ttl_ms)?,
        near_ms: optional("near-ms", rule.near_ms)?,
        stale_ms: optional("stale-ms", rule.stale_ms)?,
        lease_ms: optional("lease-ms", rule.lease_ms)?,
        lease_wait_ms: optional("lease-wait-ms", rule.lease_wait_ms)?,
        fail_safe_ms: optional("fail-safe-ms", rule.fail_safe_ms)?,
        refresh_ahead_percent: rule.refresh_ahead_percent,
        value_bytes_max: rule.value_bytes_max,
        ttl_policy: rule.ttl_policy,
        name: rule.name,
        prefix: rule.prefix,
        suffix: rule.suffix,
    })
}

pub(super) fn symbol(symbol: rules::SymbolRule) -> SymbolRule {
    SymbolRule {
        match_by: match symbol.match_by {
            rules::SymbolMatch::Exact => SymbolMatch::Exact,
            rules::SymbolMatch::Suffix => SymbolMatch::Suffix,
            rules::SymbolMatch::Prefix => SymbolMatch::Prefix,
        },
        text: symbol.text,
        market: symbol.market,
    }
}
