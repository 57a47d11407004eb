//! What the TOML files beside the data say, laid over the reference a second time.
//!
//! Everything here works from the reference's own sessions (`Calendars::without_overlay`) and from the rows as they are
//! written, with a time-zone database: nothing of it is shared with the crate or with the script that packs the data.

pub(crate) mod rows;

use std::{collections::BTreeMap, error::Error, ops::Range};

use bellwether_calendar::{Calendars, Market, Phase};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

use rows::{Fact, Hours, Layers, Saying};
pub(crate) use rows::{Instant, Profile};

/// A phase between two instants.
pub(crate) type UtcSpan = (Phase, Instant, Instant);
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// One market: its clock, its reference and its rows.
pub(crate) struct Model<'a> {
    pub(crate) name: &'a str,
    pub(crate) layers: &'a Layers,
    pub(crate) days: Range<i64>,
    zone: TimeZone,
    /// Where the clock keeps its offset from the day before to the day after the next, that offset in milliseconds.
    steady: Vec<Option<i64>>,
    day_start: i64,
    /// By day, in days since 1970. A day that is not there is closed.
    reference: BTreeMap<i64, Profile>,
}

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
/// So far around a day its neighbours are looked for that are as usual.
const WEEKS: i64 = 10;

impl<'a> Model<'a> {
    /// The model of a market that the calendars name.
    pub(crate) fn new(layers: &'a Layers, plain: &Calendars<'_>, market: &Market<'a>) -> Outcome<Self> {
        let calendar = layers.calendar_of(market.name);
        let zone = TimeZone::get(market.time_zone)?;
        let minute_of = |instant: Instant| -> Outcome<i64> {
            let civil = zone.to_datetime(Timestamp::from_millisecond(instant)?);
            Ok(civil.duration_since(date(0).at(0, 0, 0, 0)).as_mins())
        };
        // The data begins with a day, at midnight or in the evening before, where sessions begin then.
        let first = minute_of(market.covered_from)?;
        let day_start = (first + DAY_MINUTES / 2).rem_euclid(DAY_MINUTES) - DAY_MINUTES / 2;
        let day_of =
            |instant: Instant| -> Outcome<i64> { Ok((minute_of(instant)? - day_start).div_euclid(DAY_MINUTES)) };
        let days = day_of(market.covered_from)?..day_of(market.horizon)?;
        let offset = |day: i64| -> Outcome<i64> {
            Ok(i64::from(zone.to_offset(Timestamp::from_millisecond(day * DAY_MINUTES * MINUTE_MS)?).seconds()) * 1000)
        };
        let offsets: Vec<i64> = (days.start - 2..days.end + 3).map(offset).collect::<Outcome<_>>()?;
        let steady = offsets.windows(5).map(|five| five.iter().all(|one| five.first() == Some(one)).then_some(five[0]));
        let steady = steady.collect();
        let mut model = Model { name: market.name, layers, days, zone, steady, day_start, reference: BTreeMap::new() };
        model.reference = match layers.own_week(calendar) {
            Some(week) => model.days.clone().filter_map(|day| Some((day, week.get(weekday(day))?.clone()?))).collect(),
            None => model.read_reference(plain, calendar)?,
        };
        Ok(model)
    }

    /// The reference's trading time and breaks, cut into days.
    fn read_reference(&self, plain: &Calendars<'_>, calendar: &str) -> Outcome<BTreeMap<i64, Profile>> {
        let mut found = BTreeMap::new();
        for day in self.days.clone() {
            let mut profile = Vec::new();
            for (phase, from, to) in self.answered(plain, calendar, day, None)? {
                profile.push((phase, self.minute(day, from)?, self.minute(day, to)?));
            }
            if !profile.is_empty() {
                found.insert(day, profile);
            }
        }
        Ok(found)
    }

    /// The instant that is so many minutes of the market's clock after midnight of a day.
    pub(crate) fn instant(&self, day: i64, minute: i64) -> Outcome<Instant> {
        if let Some(offset) = self.offset(day) {
            return Ok((day * DAY_MINUTES + minute) * MINUTE_MS - offset);
        }
        let civil = date(day).at(0, 0, 0, 0).checked_add(minute.minutes())?;
        Ok(self.zone.to_ambiguous_timestamp(civil).compatible()?.as_millisecond())
    }

    /// Minutes of the market's clock from midnight of a day.
    pub(crate) fn minute(&self, day: i64, instant: Instant) -> Outcome<i64> {
        if let Some(offset) = self.offset(day) {
            return Ok((instant + offset).div_euclid(MINUTE_MS) - day * DAY_MINUTES);
        }
        let civil = self.zone.to_datetime(Timestamp::from_millisecond(instant)?);
        Ok(civil.duration_since(date(day).at(0, 0, 0, 0)).as_mins())
    }

    /// Asking the time zone for every minute would be most of the time that the tests take.
    fn offset(&self, day: i64) -> Option<i64> {
        usize::try_from(day - self.days.start).ok().and_then(|index| self.steady.get(index).copied().flatten())
    }

    /// The first instant at which sessions of the day may begin.
    pub(crate) fn bound(&self, day: i64) -> Outcome<Instant> {
        self.instant(day, self.day_start)
    }

    /// What the calendars answer for a day of some market of this clock: all phases but closed.
    pub(crate) fn answered(
        &self,
        calendars: &Calendars<'_>,
        market: &str,
        day: i64,
        known_at: Option<Instant>,
    ) -> Outcome<Vec<UtcSpan>> {
        walk(calendars, market, self.bound(day)?..self.bound(day + 1)?, known_at)
    }

    /// The day's hours by the reference.
    pub(crate) fn reference(&self, day: i64) -> Profile {
        self.reference.get(&day).cloned().unwrap_or_default()
    }

    /// The day's hours by the reference and the rows of hours that one could know, in file order.
    pub(crate) fn regular(&self, day: i64, known_at: Option<Instant>) -> Profile {
        let mut profile = self.reference(day);
        for row in self.hours().filter(|row| row.covers(day) && known_at.is_none_or(|at| row.known <= at)) {
            if let Some(changed) = row.changed(&profile) {
                profile = changed;
            }
        }
        profile
    }

    /// The rows of hours that name this market.
    pub(crate) fn hours(&self) -> impl Iterator<Item = &'a Hours> {
        let name = self.name;
        self.layers.hours.iter().filter(move |row| row.markets.iter().any(|market| market == name))
    }

    /// The facts that are said of a day, in the order in which one could know them.
    pub(crate) fn facts(&self, day: i64) -> Vec<&'a Fact> {
        let said = |fact: &&&Fact| fact.markets.iter().any(|name| name == self.name) && fact.days.contains(&day);
        let mut facts: Vec<&Fact> = self.layers.facts.iter().filter(|fact| said(&fact)).collect();
        facts.sort_by_key(|fact| fact.known);
        facts
    }

    /// What a row says of a day.
    pub(crate) fn said(&self, calendars: &Calendars<'_>, day: i64, saying: &Saying) -> Outcome<Profile> {
        match saying {
            Saying::Closed => Ok(Vec::new()),
            Saying::Sessions(profile) => Ok(profile.clone()),
            Saying::Usual => Ok(self.regular(self.usual_day(calendars, day)?, None)),
        }
    }

    /// The nearest day of the same weekday and under the same rows of hours that nobody calls special.
    fn usual_day(&self, calendars: &Calendars<'_>, day: i64) -> Outcome<i64> {
        let start = self.bound((day - 7 * WEEKS).max(self.days.start))?;
        let special = calendars.special_days(self.name, start, 100)?;
        let rows = |day: i64| self.hours().filter(|row| row.covers(day)).map(std::ptr::from_ref).collect::<Vec<_>>();
        let as_usual = |other: &i64| {
            let text = date(*other).to_string();
            self.days.contains(other)
                && rows(*other) == rows(day)
                && self.facts(*other).is_empty()
                && !special.iter().any(|day| day.date == text)
        };
        let weeks = (1..=WEEKS).flat_map(|week| [day - 7 * week, day + 7 * week]);
        let found = weeks.into_iter().find(as_usual);
        found.ok_or_else(|| format!("{} has no usual day near {}", self.name, date(day)).into())
    }

    /// A profile as spans of time, touching ones of the same phase as one.
    pub(crate) fn spans(&self, day: i64, profile: &Profile) -> Outcome<Vec<UtcSpan>> {
        let mut spans: Vec<UtcSpan> = Vec::new();
        for &(phase, from, to) in profile {
            let (from, to) = (self.instant(day, from)?, self.instant(day, to)?);
            add(&mut spans, (phase, from, to));
        }
        Ok(spans)
    }
}

/// What the calendars answer from one instant to another: all phases but closed.
pub(crate) fn walk(
    calendars: &Calendars<'_>,
    market: &str,
    range: Range<Instant>,
    known_at: Option<Instant>,
) -> Outcome<Vec<UtcSpan>> {
    let mut at = range.start;
    let mut spans = Vec::new();
    while at < range.end {
        let session = calendars.session_at(market, at, known_at)?;
        let to = session.until.min(range.end);
        if session.phase != Phase::Closed {
            spans.push((session.phase, at, to));
        }
        if session.until == session.horizon {
            break;
        }
        at = to;
    }
    Ok(spans)
}

/// Adds a span behind others, as one with the last where it goes on with the same phase.
pub(crate) fn add(spans: &mut Vec<UtcSpan>, (phase, from, to): UtcSpan) {
    match spans.last_mut() {
        Some(last) if last.0 == phase && last.2 == from => last.2 = to,
        _ => spans.push((phase, from, to)),
    }
}

/// The day of a date, in days since 1970.
pub(crate) fn day_of(text: &str) -> Outcome<i64> {
    Ok(i64::from(text.parse::<Date>()?.since(date(0))?.get_days()))
}

/// The date of a day since 1970.
pub(crate) fn date(day: i64) -> Date {
    Date::constant(1970, 1, 1).saturating_add(day.days())
}

/// From Monday, 0. 1970-01-01 was a Thursday.
pub(crate) fn weekday(day: i64) -> usize {
    (day + 3).rem_euclid(7) as usize
}

/// Spans as a failure prints them, in minutes of UTC.
pub(crate) fn shown(spans: &[UtcSpan]) -> Vec<String> {
    let text =
        |instant: Instant| Timestamp::from_millisecond(instant).map_or_else(|_| String::new(), |at| at.to_string());
    spans.iter().map(|(phase, from, to)| format!("{} {}..{}", phase.label(), text(*from), text(*to))).collect()
}
