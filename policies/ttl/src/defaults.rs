//! The default table: five namespaces of a stock-market application, their `:persist` keys, and everything else.
//!
//! Each lifetime stands with its reason, which is also what `bellwether explain` prints.

use std::borrow::Cow;

use bellwether_sdk::Millis;

use crate::table::{Cell, DEFAULT, Lifetime, Row, Rows};

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;

/// The National Stock Exchange publishes official closes within this time: its post-close session ends 30 minutes after
/// continuous trading. Others are quicker.
const SETTLE_MS: Millis = 30 * MINUTE;

/// The default table.
pub(crate) fn rows() -> Rows {
    Rows { default: rest(), named: vec![general(), historical(), scores(), levels(), context(), persist()] }
}

/// The row of everything that no other row is for, and the ground the others stand on: as cautious as quotes.
fn rest() -> Row {
    Row {
        name: Cow::Borrowed(DEFAULT),
        fixed: None,
        fixed_reason: Cow::Borrowed("lives by its own clock, whatever the market does"),
        open_ttl_ms: MINUTE,
        open_reason: Cow::Borrowed("what the market does now may change it"),
        fallback_ttl_ms: 30 * SECOND,
        fallback_reason: Cow::Borrowed("nothing is known of the market, so it may be trading"),
        closing_auction: cell(Lifetime::AsOpen, "the closing price is being formed"),
        pause: cell(Lifetime::UntilOpen, "nothing trades before the break ends"),
        pre_open: cell(Lifetime::AsOpen, "orders are collected and the opening price is taking shape"),
        post_close: cell(Lifetime::After(5 * MINUTE), "closing prices are still being corrected"),
        halted: cell(Lifetime::AsOpen, "trading may resume at any moment"),
        closed: cell(Lifetime::UntilOpen, "nothing changes before the market opens"),
        lead_ms: 15 * MINUTE,
        hold_ms_max: 12 * HOUR,
        spread_ms: 10 * MINUTE,
        session_spread_ms: MINUTE,
        settle_ms: SETTLE_MS,
    }
}

/// Quotes, and the application's cache as a whole. The lead is the length of the pre-open session of NSE and BSE, so
/// that yesterday's prices are gone when the first indicative ones appear.
fn general() -> Row {
    Row {
        name: Cow::Borrowed("fyntrix:general"),
        open_reason: Cow::Borrowed("prices move by the second, and a minute is what a page may lag"),
        pre_open: cell(Lifetime::After(30 * SECOND), "indicative prices change with every order"),
        closed: cell(Lifetime::UntilOpen, "prices stand still until the market opens"),
        ..rest()
    }
}

/// OHLC history: of a whole series only the last bar moves.
fn historical() -> Row {
    Row {
        name: Cow::Borrowed("fyntrix:historical"),
        open_ttl_ms: 15 * MINUTE,
        open_reason: Cow::Borrowed("only the last bar moves, the others are history"),
        fallback_ttl_ms: 5 * MINUTE,
        pre_open: cell(Lifetime::UntilOpen, "there is no new bar before the open"),
        post_close: cell(Lifetime::After(5 * MINUTE), "the day's last bar is still being corrected"),
        closed: cell(Lifetime::UntilOpen, "there is no new bar before the open"),
        lead_ms: 5 * MINUTE,
        hold_ms_max: 24 * HOUR,
        spread_ms: 15 * MINUTE,
        ..rest()
    }
}

/// Scores: computed from prices, dear to compute, and no use more often than a person looks.
fn scores() -> Row {
    Row {
        name: Cow::Borrowed("fyntrix:scores"),
        open_ttl_ms: 5 * MINUTE,
        open_reason: Cow::Borrowed("scores follow prices, and are dear to compute"),
        fallback_ttl_ms: MINUTE,
        closed: cell(Lifetime::UntilOpen, "scores stand still as prices do"),
        ..rest()
    }
}

/// Support and resistance: drawn from days of bars. The one default row whose values would outlive a close by an hour;
/// they end once the day's last bar is official, for tomorrow's levels are drawn with it.
fn levels() -> Row {
    Row {
        name: Cow::Borrowed("fyntrix:support_resistance"),
        open_ttl_ms: HOUR,
        open_reason: Cow::Borrowed("levels are drawn from days of bars, and an hour moves them little"),
        fallback_ttl_ms: 5 * MINUTE,
        pre_open: cell(Lifetime::UntilOpen, "levels do not move before the first trade"),
        post_close: cell(Lifetime::After(5 * MINUTE), "the day's last bar is still being corrected"),
        closed: cell(Lifetime::UntilOpen, "levels do not move before the first trade"),
        lead_ms: 5 * MINUTE,
        hold_ms_max: 24 * HOUR,
        spread_ms: 15 * MINUTE,
        session_spread_ms: 5 * MINUTE,
        ..rest()
    }
}

/// Agent context and memory: a conversation ages by its own use. Two hours outlast a pause for lunch and not a day.
fn context() -> Row {
    Row {
        name: Cow::Borrowed("fyntrix:context"),
        fixed: Some(2 * HOUR),
        fixed_reason: Cow::Borrowed("a conversation ages by its own use, whatever the market does"),
        ..rest()
    }
}

/// Keys that end in `:persist`, in any namespace: the 24 hours that the application counts on.
fn persist() -> Row {
    Row {
        name: Cow::Borrowed(":persist"),
        fixed: Some(24 * HOUR),
        fixed_reason: Cow::Borrowed("persistent keys live a day, whatever the market does"),
        ..rest()
    }
}

fn cell(lifetime: Lifetime, reason: &'static str) -> Cell {
    Cell { lifetime, reason: Cow::Borrowed(reason) }
}
