//! When markets trade: sessions, breaks, holidays and half days of 71 calendars, and the questions asked of them.
//!
//! A plain library: no clock, no time-zone database, no host. It owns the facts and the
//! arithmetic; it must not know WebAssembly, Redis or JSON. Instants are milliseconds since 1970-01-01T00:00:00Z.
//!
//! ```
//! use bellwether_calendar::{Calendars, Phase};
//!
//! let calendars = Calendars::embedded()?;
//! let monday_10_00_in_mumbai = 1_795_408_200_000;
//! let session = calendars.session_at("XNSE", monday_10_00_in_mumbai, None).map_err(|error| error.to_string())?;
//! assert_eq!(session.phase, Phase::Open);
//! let closing_auction = monday_10_00_in_mumbai + 5 * 3_600_000 + 15 * 60_000;
//! assert_eq!(session.until, closing_auction);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `calendars`: the public questions, and which market has which calendar
//! - `schedule`: what one market does on its days: calendar, layer and overrides, one over the other
//! - `layer`: what is known of a market beyond its calendar, row by row with its source
//! - `overrides`: what an operator says over the data
//! - `data`: the layout of the data file, checked on the way in
//! - `days`: one calendar's eras and exceptions, laid out to one profile a day
//! - `clock`: a market's own clock against UTC
//! - `table`: changes of phase of one calendar, in order of time; every question is a search in them
//! - `date`: dates as days since 1970
//! - `reader`: numbers and texts out of bytes that are not trusted

mod calendars;
mod clock;
mod data;
mod date;
mod days;
mod layer;
mod overrides;
mod reader;
mod schedule;
mod table;

pub use calendars::Calendars;
pub use data::{CalendarData, DataError};
pub use overrides::OverrideError;

use std::fmt;

/// What a market is doing. Only `Open` and `ClosingAuction` trade; what is none of the others is `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No session: night, weekend, holiday.
    Closed,
    /// Orders are taken, nothing trades yet.
    PreOpen,
    /// Continuous trading.
    Open,
    /// A scheduled pause inside the day's session.
    Break,
    /// The closing price is being formed.
    ClosingAuction,
    /// After the close: trading at the closing price, corrections.
    PostClose,
    /// An unscheduled stop.
    Halted,
}

/// A market, as a question names it: by its name, by an alias, or by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketKey<'k> {
    /// A name or an alias.
    Name(&'k str),
    /// What [`Calendars::find`] told.
    Number(MarketNumber),
}

/// The number of a market among those of the same data. Any number may be asked for; most are of no market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarketNumber(pub u32);

/// One market's state over a span of time: everything a decision about a lifetime needs, in one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketSession<'a> {
    /// The market's name.
    pub market: &'a str,
    /// The phase during the whole span.
    pub phase: Phase,
    /// First instant of the span, or of the data where that begins inside the span.
    pub since: i64,
    /// First instant after the span. Never past `horizon`.
    pub until: i64,
    /// The next instant at or after `until` at which the phase becomes `Open`, a re-opening after a break included.
    pub next_open: Option<i64>,
    /// As `next_open`, but only the first opening of a session counts.
    pub next_regular_open: Option<i64>,
    /// The last instant at or before `since` at which a session ended.
    pub previous_close: Option<i64>,
    /// First instant the data says nothing about.
    pub horizon: i64,
    /// True where any part of the span rests on rules carried past the published calendar.
    pub projected: bool,
    /// The version of the calendar data.
    pub data_version: &'a str,
}

/// Why there is no market session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketError {
    /// No market of this name.
    UnknownMarket,
    /// The data says nothing about that instant. Carries the bound that was passed: the first instant of the data, or
    /// the first instant after it.
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
pub struct SpecialDay<'a> {
    /// Its date by the market's own calendar, `YYYY-MM-DD`.
    pub date: String,
    /// Its phases in order, those that are `Closed` left out. Empty: there is no session.
    pub spans: Vec<Span>,
    /// What happens. Empty: it is not said, as for most holidays.
    pub note: &'a str,
    /// Who says so.
    pub source: &'a str,
    /// From when on one could know. None: it is not dated.
    pub known_since: Option<i64>,
}

/// A span of one phase inside a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// First instant.
    pub since: i64,
    /// First instant after it.
    pub until: i64,
}

/// One market the data knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Market<'a> {
    /// The name that [`Calendars::session_at`] takes.
    pub name: &'a str,
    /// Other names it takes for the same market.
    pub aliases: Vec<&'a str>,
    /// A name for people.
    pub title: &'a str,
    /// The IANA time zone of the market's own clock.
    pub time_zone: &'a str,
    /// First instant of the data.
    pub covered_from: i64,
    /// First instant after the data.
    pub horizon: i64,
    /// First instant of what rests on rules carried past the published calendar; the horizon where nothing does.
    pub projected_from: i64,
}

// === impl MarketKey ===

impl<'k> From<&'k str> for MarketKey<'k> {
    fn from(name: &'k str) -> Self {
        MarketKey::Name(name)
    }
}

impl From<MarketNumber> for MarketKey<'_> {
    fn from(number: MarketNumber) -> Self {
        MarketKey::Number(number)
    }
}

// === impl MarketError ===

impl fmt::Display for MarketError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MarketError::UnknownMarket => write!(out, "no market of this name"),
            MarketError::BeyondHorizon(bound) => write!(out, "the calendar data is bounded by the instant {bound} ms"),
        }
    }
}

impl std::error::Error for MarketError {}

// === impl Phase ===

impl Phase {
    /// The contract's word for it.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::PreOpen => "pre-open",
            Phase::Open => "open",
            Phase::Break => "break",
            Phase::ClosingAuction => "closing-auction",
            Phase::PostClose => "post-close",
            Phase::Halted => "halted",
        }
    }

    /// The phase of a word.
    pub fn of_label(label: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.label() == label)
    }

    /// Every phase, in the order of the contract. The data file counts them in this order.
    pub const ALL: [Phase; 7] = [
        Phase::Closed,
        Phase::PreOpen,
        Phase::Open,
        Phase::Break,
        Phase::ClosingAuction,
        Phase::PostClose,
        Phase::Halted,
    ];
}
