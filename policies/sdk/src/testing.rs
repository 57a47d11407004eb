//! For unit tests of policies, which run natively: requests and sessions to decide on, and the host's side of
//! [`log`](crate::log) and [`market_hours`](crate::market_hours).
//!
//! Everything here belongs to the calling thread, so that tests do not see each other. Not there in a component.

use std::cell::RefCell;

use crate::log::Level;
use crate::{CommandKind, DataVersion, Instant, MarketError, MarketSession, Phase, Request};

type Sessions = dyn Fn(&str, Instant, Option<Instant>) -> Result<MarketSession, MarketError>;

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static SESSIONS: RefCell<Option<Box<Sessions>>> = const { RefCell::new(None) };
}

/// An instant, written in RFC 3339 (`2026-11-23T10:00:00+05:30`).
///
/// # Panics
///
/// When it is not written so.
#[must_use]
#[expect(clippy::panic, reason = "for tests, where a panic is how a wrong literal is reported")]
pub fn instant(rfc3339: &str) -> Instant {
    crate::instant::parse(rfc3339).unwrap_or_else(|| panic!("not an instant in RFC 3339: {rfc3339}"))
}

/// A plain write of one byte at `now`, without a lifetime of its own and without a market. The namespace is the key up
/// to its last colon.
#[must_use]
pub fn request(rule: &str, key: &str, now: Instant) -> Request {
    Request {
        rule: rule.to_owned(),
        namespace: key.rfind(':').map(|end| key[..=end].to_owned()).unwrap_or_default(),
        key: key.to_owned(),
        command: CommandKind::Value,
        value_bytes: 1,
        client_ttl: None,
        now,
        market_name: None,
        market: None,
    }
}

/// A session of that span, in data that ends with it and knows no other.
#[must_use]
pub fn session(phase: Phase, since: Instant, until: Instant) -> MarketSession {
    MarketSession {
        phase,
        since,
        until,
        next_open: None,
        next_regular_open: None,
        previous_close: None,
        horizon: until,
        projected: false,
        data_version: DataVersion { release: 0, settings: 0 },
    }
}

/// Answers [`market_hours::session_at`](crate::market_hours::session_at) from now on.
pub fn answer_sessions(
    answer: impl Fn(&str, Instant, Option<Instant>) -> Result<MarketSession, MarketError> + 'static,
) {
    SESSIONS.with_borrow_mut(|sessions| *sessions = Some(Box::new(answer)));
}

/// Takes the lines that were logged since the last call.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    LOG.take()
}

pub(crate) fn capture(level: Level, message: &str) {
    LOG.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
}

pub(crate) fn session_at(market: &str, at: Instant, known_at: Option<Instant>) -> Result<MarketSession, MarketError> {
    SESSIONS.with_borrow(|sessions| match sessions {
        Some(answer) => answer(market, at, known_at),
        None => Err(MarketError::UnknownMarket),
    })
}
