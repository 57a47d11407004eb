//! One decision: which cell of the row, which stretch of the session, and the answer in words.

use bellwether_sdk::{Decision, Instant, MarketError, MarketSession, Millis, Phase, Request};

use crate::hold::{Shape, Stretch};
use crate::table::{Cell, Lifetime, Row};

/// Decides one write by its row.
pub(crate) fn decide(row: &Row, request: &Request) -> Decision {
    if let Some(fixed_ttl_ms) = row.fixed {
        return Decision::after(fixed_ttl_ms, [&row.name, ": ", &row.fixed_reason].concat());
    }
    match &request.market {
        Some(Ok(session)) => in_session(row, session, request.now),
        Some(Err(MarketError::UnknownMarket)) => fallback(row, "unknown market"),
        Some(Err(MarketError::BeyondHorizon(bound))) => {
            let decision = fallback(row, "beyond the calendar");
            // Before its first instant the calendar is only not known yet.
            if *bound > request.now { decision.valid_until(*bound) } else { decision }
        }
        None => fallback(row, "no market"),
    }
}

fn fallback(row: &Row, what: &str) -> Decision {
    Decision::after(row.fallback_ttl_ms, [&row.name, ", ", what, ": ", &row.fallback_reason].concat())
}

fn in_session(row: &Row, session: &MarketSession, now: Instant) -> Decision {
    match session.phase {
        Phase::Open => trading(row, "open", row.open_ttl_ms, &row.open_reason, session, now),
        Phase::ClosingAuction => {
            let Cell { lifetime, reason } = &row.closing_auction;
            let ttl_ms = if let Lifetime::After(ttl_ms) = lifetime { *ttl_ms } else { row.open_ttl_ms };
            trading(row, "closing auction", ttl_ms, reason, session, now)
        }
        Phase::Break => waiting(row, "break", &row.pause, inside_the_day(row, session), session, now),
        Phase::PreOpen => waiting(row, "pre-open", &row.pre_open, inside_the_day(row, session), session, now),
        // When a halt ends is not known, so there is no boundary to keep.
        Phase::Halted => waiting(row, "halted", &row.halted, Boundary { open: None, spread_ms: 0 }, session, now),
        Phase::PostClose => waiting(row, "post-close", &row.post_close, over_night(row, session), session, now),
        Phase::Closed => closed(row, session, now),
    }
}

/// The end that a value may not cross before the market opens.
#[derive(Clone, Copy)]
struct Boundary {
    open: Option<Instant>,
    spread_ms: Millis,
}

fn inside_the_day(row: &Row, session: &MarketSession) -> Boundary {
    Boundary { open: session.next_open, spread_ms: row.session_spread_ms }
}

fn over_night(row: &Row, session: &MarketSession) -> Boundary {
    let open = session.next_regular_open.map(|open| open.saturating_sub_unsigned(row.lead_ms));
    Boundary { open, spread_ms: row.spread_ms }
}

/// While the market trades: the row's promise, cut where closing prices are official.
fn trading(row: &Row, phase: &str, ttl_ms: Millis, reason: &str, session: &MarketSession, now: Instant) -> Decision {
    // Where a break follows, prices stand still and a value may live into it.
    let ends_the_day = session.next_open == session.next_regular_open;
    let settled = session.until.saturating_add_unsigned(row.settle_ms);
    let stretch =
        Stretch { ttl_ms, end: ends_the_day.then_some(settled), spread_ms: row.session_spread_ms, near_ttl_ms: ttl_ms };
    answer(row, phase, stretch, now, session.until, |shape| match shape {
        Shape::Short | Shape::Near => [reason, ""],
        Shape::Cut => [reason, "; ends when closing prices are official"],
    })
}

/// While the market is about to trade, at some time: the cell's lifetime, cut at the opening.
fn waiting(row: &Row, phase: &str, cell: &Cell, boundary: Boundary, session: &MarketSession, now: Instant) -> Decision {
    let ttl_ms = match cell.lifetime {
        Lifetime::After(ttl_ms) => ttl_ms,
        Lifetime::AsOpen => row.open_ttl_ms,
        Lifetime::UntilOpen if boundary.open.is_some() => row.hold_ms_max,
        Lifetime::UntilOpen => return fallback(row, &format!("{phase}, no known opening")),
    };
    let stretch = Stretch { ttl_ms, end: boundary.open, spread_ms: boundary.spread_ms, near_ttl_ms: row.open_ttl_ms };
    answer(row, phase, stretch, now, session.until, |shape| match (shape, cell.lifetime) {
        (Shape::Near, _) => ["the market opens soon", ""],
        (Shape::Short, Lifetime::UntilOpen) => [&cell.reason, "; not longer, for notices come late"],
        (Shape::Short | Shape::Cut, _) => [&cell.reason, ""],
    })
}

/// While the market is closed: as after the close until prices have settled, then the night.
fn closed(row: &Row, session: &MarketSession, now: Instant) -> Decision {
    let settled = session.previous_close.map(|close| close.saturating_add_unsigned(row.settle_ms));
    match settled {
        Some(settled) if now < settled => {
            let decision = waiting(row, "just closed", &row.post_close, over_night(row, session), session, now);
            let until = decision.valid_until.map_or(settled, |until| until.min(settled));
            if until < session.until { decision.valid_until(until) } else { decision }
        }
        _ => waiting(row, "closed", &row.closed, over_night(row, session), session, now),
    }
}

fn answer<'a>(
    row: &Row,
    phase: &str,
    stretch: Stretch,
    now: Instant,
    session_until: Instant,
    reason: impl Fn(Shape) -> [&'a str; 2],
) -> Decision {
    let hold = stretch.at(now);
    let [reason, more] = reason(hold.shape);
    Decision {
        expiry: hold.expiry,
        spread_ms: hold.spread_ms,
        // Past the session's end there is another session, and the host asks again by itself.
        valid_until: hold.until.filter(|until| *until < session_until),
        // Formatting would take longer than the decision.
        reason: [&row.name, ", ", phase, ": ", reason, more].concat(),
    }
}
