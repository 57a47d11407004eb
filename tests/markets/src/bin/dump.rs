//! `dump FILE|embedded|exchange-hours [FIRST LAST]`: the sessions of every market as lines of text, for scripts that
//! compare them.
//!
//! ```text
//! # data-version 2026-11-22
//! # XTKS from 2000-01-01 published-to 2027-12-31 to 2030-12-31 zone Asia/Tokyo aliases JPX,TSE
//! XTKS 2026-11-24 pre-open 08:00-09:00 open 09:00-11:30 break 11:30-12:30 open 12:30-15:30
//! XTKS 2026-11-25 unknown
//! ```
//! Times are the market's own clock; a phase stands on the day it begins on, `+1` is the day after. `-*` is the end of
//! the data. A day without a line is closed; `unknown` is what only `exchange-hours` says.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use bellwether_calendar::{CalendarData, Calendars, Market, Phase};
use chrono::{DateTime, Utc};
use exchange_hours::{DateCoverage, ExchangeCalendar, SessionKind, calendar_for_exchange};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use market_peers::{VENUES, Venue};

type Failure = Box<dyn Error>;

/// A span of one phase. No end: it goes on where the data ends.
struct Span {
    phase: &'static str,
    from: Zoned,
    to: Option<Zoned>,
}

/// Which days are written.
#[derive(Clone, Copy)]
struct Days {
    first: Date,
    last: Date,
}

const USAGE: &str = "usage: dump FILE|embedded|exchange-hours [FIRST LAST], where FILE is calendar data";
const TRANSITIONS: u32 = 1000;
/// `exchange-hours` answers nothing before.
const SUPPORT_FLOOR: Date = date(2010, 1, 1);

impl Days {
    fn parse(texts: &[String]) -> Result<Self, Failure> {
        match texts {
            [] => Ok(Days { first: date(1900, 1, 1), last: date(2200, 1, 1) }),
            [first, last] => Ok(Days { first: first.parse()?, last: last.parse()? }),
            _ => Err(USAGE.into()),
        }
    }

    fn contain(self, day: Date) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match run(&arguments, &mut BufWriter::new(std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(std::io::stderr(), "dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String], out: &mut impl Write) -> Result<(), Failure> {
    let (source, days) = arguments.split_first().ok_or(USAGE)?;
    let days = Days::parse(days)?;
    match source.as_str() {
        "embedded" => dump_calendars(&Calendars::embedded()?, days, out)?,
        "exchange-hours" => {
            for venue in VENUES {
                dump_venue(venue, days, out)?;
            }
        }
        file => {
            let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            let data = CalendarData::read(&bytes).map_err(|error| format!("{file}: {error}"))?;
            let calendars = Calendars::new(&data)?;
            calendars.verify().map_err(|error| format!("{file}: {error}"))?;
            dump_calendars(&calendars, days, out)?;
        }
    }
    Ok(out.flush()?)
}

fn dump_calendars(calendars: &Calendars<'_>, days: Days, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "# data-version {}", calendars.data_version())?;
    for market in calendars.markets() {
        let zone = TimeZone::get(market.time_zone)?;
        let day = |at: i64| Ok::<_, Failure>(local(at, &zone)?.date());
        writeln!(
            out,
            "# {} from {} published-to {} to {} zone {} aliases {}",
            market.name,
            day(market.covered_from)?,
            day(market.projected_from - 1)?,
            day(market.horizon - 1)?,
            market.time_zone,
            market.aliases.join(",")
        )?;
        write_days(market.name, &spans(calendars, &market, &zone)?, days, out)?;
    }
    Ok(())
}

/// Everything of a market but the time in which it is closed.
fn spans(calendars: &Calendars<'_>, market: &Market<'_>, zone: &TimeZone) -> Result<Vec<Span>, Failure> {
    let mut at = market.covered_from;
    let mut phase = calendars.session_at(market.name, at, None)?.phase;
    let mut spans = Vec::new();
    loop {
        let changes = calendars.transitions(market.name, at, TRANSITIONS)?;
        for change in &changes {
            if phase != Phase::Closed {
                spans.push(Span { phase: phase.label(), from: local(at, zone)?, to: Some(local(change.at, zone)?) });
            }
            (at, phase) = (change.at, change.phase);
        }
        if changes.len() < TRANSITIONS as usize {
            break;
        }
    }
    if phase != Phase::Closed {
        spans.push(Span { phase: phase.label(), from: local(at, zone)?, to: None });
    }
    Ok(spans)
}

/// The regular sessions of a venue of `exchange-hours`.
fn dump_venue(venue: Venue, days: Days, out: &mut impl Write) -> Result<(), Failure> {
    let calendar = calendar_for_exchange(venue.exchange);
    let zone = TimeZone::get(calendar.tz().name())?;
    let mut day = days.first.max(SUPPORT_FLOOR);
    while day <= days.last {
        match day_of_venue(calendar, day, &zone) {
            Some(spans) => write_days(venue.market, &spans, days, out)?,
            None => writeln!(out, "{} {day} unknown", venue.market)?,
        }
        day = day.tomorrow()?;
    }
    Ok(())
}

/// One day's sessions. None: it does not say.
fn day_of_venue(calendar: ExchangeCalendar, day: Date, zone: &TimeZone) -> Option<Vec<Span>> {
    let civil =
        chrono::NaiveDate::from_ymd_opt(day.year().into(), day.month().try_into().ok()?, day.day().try_into().ok()?)?;
    let midnight = day.to_zoned(zone.clone()).ok()?.timestamp();
    let noon = DateTime::from_timestamp(midnight.as_second() + 12 * 3600, 0)?;
    // A day without a complete answer is asked all the same; what it refuses is not known.
    if calendar.coverage().coverage_on(civil) != DateCoverage::Covered && calendar.is_open_regular(noon).is_err() {
        return None;
    }
    let mut spans = Vec::new();
    let mut at = DateTime::from_timestamp(midnight.as_second() - 1, 0)?;
    // The search goes on past the day, and may come to days that it has no answer for; this one is over by then.
    while let Ok(Some((open, close))) = calendar.next_session_after_with(at, SessionKind::Regular) {
        let (from, to) = (zoned(open, zone)?, zoned(close, zone)?);
        if from.date() != day {
            break;
        }
        spans.push(Span { phase: "open", from, to: Some(to) });
        at = open;
    }
    // Without a session found, the day must be known to have none.
    let known = !spans.is_empty() || calendar.is_closed_all_day_on(civil, SessionKind::Regular).ok()?;
    known.then_some(spans)
}

/// One line for each day on which something begins.
fn write_days(market: &str, spans: &[Span], days: Days, out: &mut impl Write) -> std::io::Result<()> {
    for day in spans.chunk_by(|one, other| one.from.date() == other.from.date()) {
        let Some(date) = day.first().map(|span| span.from.date()).filter(|date| days.contain(*date)) else { continue };
        write!(out, "{market} {date}")?;
        for Span { phase, from, to } in day {
            write!(out, " {phase} {}-{}", from.strftime("%H:%M"), end(from.date(), to.as_ref()))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn end(day: Date, to: Option<&Zoned>) -> String {
    let Some(to) = to else { return "*".to_owned() };
    let days = day.until(to.date()).map_or(0, |span| span.get_days());
    let days = if days == 0 { String::new() } else { format!("+{days}") };
    format!("{}{days}", to.strftime("%H:%M"))
}

fn local(at: i64, zone: &TimeZone) -> Result<Zoned, Failure> {
    Ok(Timestamp::from_millisecond(at)?.to_zoned(zone.clone()))
}

fn zoned(at: DateTime<Utc>, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_second(at.timestamp()).ok()?.to_zoned(zone.clone()))
}
