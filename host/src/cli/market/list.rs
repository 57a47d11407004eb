//! All markets: one line each, as a table or as JSON.

use std::io::Write;

use jiff::tz::TimeZone;
use serde_json::json;

use super::Paint;
use super::one;
use crate::cli::format;
use crate::policy::{Decider, Market, MarketError, MarketSession, Phase, Transition};

/// A market and what it does.
pub(super) struct Row {
    market: Market,
    zone: Option<TimeZone>,
    state: Result<MarketSession, MarketError>,
    /// The next change of phase. None: there is none in the data.
    next: Option<Transition>,
}

// === impl Row ===

impl Row {
    /// Every market at an instant, in order of name.
    pub(super) fn all(decider: &mut Decider, at: i64) -> anyhow::Result<Vec<Self>> {
        let markets = decider.markets()?;
        let row = |market: Market| {
            let zone = TimeZone::get(&market.time_zone).ok();
            let mut row = Self { market, zone, state: Err(MarketError::UnknownMarket), next: None };
            row.ask(decider, at)?;
            Ok(row)
        };
        markets.into_iter().map(row).collect()
    }

    /// Asks anew where the last answer is not for that instant.
    pub(super) fn renew(&mut self, decider: &mut Decider, at: i64) -> anyhow::Result<()> {
        match &self.state {
            Ok(session) if (session.since..session.until).contains(&at) => Ok(()),
            _ => self.ask(decider, at),
        }
    }

    fn ask(&mut self, decider: &mut Decider, at: i64) -> anyhow::Result<()> {
        self.state = decider.session(&self.market.name, at)?;
        let next = decider.transitions(&self.market.name, at, 1)?;
        self.next = next.ok().and_then(|next| next.first().copied());
        Ok(())
    }

    /// Markets that trade come first, then those that do next; of each, those that change soonest.
    pub(super) fn order(&self) -> (u8, i64, String) {
        let (rank, until) = match &self.state {
            Err(_) => (7, i64::MAX),
            Ok(session) => (rank(session.phase), session.until),
        };
        (rank, until, self.market.name.clone())
    }

    /// Whether it trades.
    pub(super) fn trades(&self) -> bool {
        self.state.as_ref().is_ok_and(|session| rank(session.phase) < 2)
    }

    /// The line of the table.
    pub(super) fn line(&self, at: i64, paint: Paint) -> String {
        let (phase, label) = match &self.state {
            Ok(session) => (Some(session.phase), session.phase.label()),
            Err(_) => (None, "no data"),
        };
        let zone = self.zone.as_ref();
        let change = match (&self.state, self.next) {
            (Ok(_), Some(next)) => {
                let (to, when) = (next.phase.label(), format::local_minute(next.at, zone));
                format!("{to:<16}{when:<29}{:<17}", format::ahead(next.at - at))
            }
            (Ok(_), None) => format!("{:<62}", "(none in the data)"),
            (Err(MarketError::BeyondHorizon(bound)), _) => {
                let which = if *bound > at { "begins" } else { "ended" };
                format!("{:<62}", format!("the data {which} {}", format::local_minute(*bound, zone)))
            }
            (Err(error), _) => format!("{:<62}", error.to_string()),
        };
        let label = paint.phase(phase, &format!("{label:<17}"));
        format!("{:<22}{label}{change}{}", self.market.name, self.market.title)
    }

    fn json(&self, at: i64) -> serde_json::Value {
        match &self.state {
            Err(error) => json!({ "market": self.market.name, "error": error.to_string() }),
            Ok(session) => one::session_json(session, &self.market, self.next.as_slice(), at),
        }
    }
}

/// The heads of the table's columns.
pub(super) fn head() -> String {
    format!("{:<22}{:<17}{:<62}{}", "market", "phase", "next change, on the market's own clock", "title")
}

/// Prints all markets.
pub(super) fn print(
    decider: &mut Decider,
    at: i64,
    json: bool,
    paint: Paint,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let rows = Row::all(decider, at)?;
    if json {
        let list: Vec<_> = rows.iter().map(|row| row.json(at)).collect();
        writeln!(out, "{:#}", serde_json::Value::from(list))?;
        return Ok(());
    }
    writeln!(out, "{}", paint.strong(&head()))?;
    for row in rows {
        writeln!(out, "{}", row.line(at, paint))?;
    }
    Ok(())
}

fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Open => 0,
        Phase::ClosingAuction => 1,
        Phase::Halted => 2,
        Phase::Break => 3,
        Phase::PreOpen => 4,
        Phase::PostClose => 5,
        Phase::Closed => 6,
    }
}
