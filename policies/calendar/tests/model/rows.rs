//! The rows of overlay.toml, hours.toml and markets.toml as they are written. It must not know calendars.

#![allow(dead_code, reason = "overlay.rs reads more of a fact than hours.rs does")]

use std::collections::BTreeMap;

use bellwether_calendar::Phase;
use toml::{Table, Value};

use super::Outcome;

/// Milliseconds since 1970.
pub(crate) type Instant = i64;
/// The phases of a day in order, in minutes of the market's clock from midnight.
pub(crate) type Profile = Vec<(Phase, i64, i64)>;

/// The three files.
pub(crate) struct Layers {
    pub(crate) hours: Vec<Hours>,
    pub(crate) facts: Vec<Fact>,
    markets: Vec<Table>,
    weeks: BTreeMap<String, [Option<Profile>; 7]>,
}

/// A row of hours.toml.
pub(crate) struct Hours {
    pub(crate) markets: Vec<String>,
    /// First and last day, in days since 1970.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// From Monday.
    weekdays: [bool; 7],
    pub(crate) change: Change,
    /// Midnight of the day, UTC.
    pub(crate) known: Instant,
    pub(crate) note: String,
    pub(crate) source: String,
}

/// What a row of hours makes of a day.
pub(crate) enum Change {
    /// Days that trade so have these phases.
    Whole(Vec<(i64, i64)>, Profile),
    /// Days that open then, or close then, have this phase too.
    Added(Option<i64>, Option<i64>, (Phase, i64, i64)),
}

/// A row of overlay.toml.
pub(crate) struct Fact {
    pub(crate) markets: Vec<String>,
    /// In days since 1970.
    pub(crate) days: Vec<i64>,
    pub(crate) saying: Saying,
    /// The first full hour at which one could know it: the data counts hours.
    pub(crate) known: Instant,
    pub(crate) believed: Believed,
    pub(crate) note: String,
    pub(crate) source: String,
}

/// What a day is said to be.
pub(crate) enum Saying {
    Closed,
    Usual,
    Sessions(Profile),
}

/// What was believed before a fact was known.
pub(crate) enum Believed {
    /// What the reference and the hours of then say.
    Reference,
    Said(Saying),
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Layers {
    pub(crate) fn read() -> Outcome<Self> {
        let markets: Table = include_str!("../../data/markets.toml").parse()?;
        let hours: Table = include_str!("../../data/hours.toml").parse()?;
        let overlay: Table = include_str!("../../data/overlay.toml").parse()?;
        let mut weeks = BTreeMap::new();
        for row in tables(&markets, "calendar")? {
            let week = row.get("week").and_then(Value::as_table).ok_or("a calendar has a week")?;
            let day = |name| week.get(name).map(profile).transpose();
            let mut days = [const { None }; 7];
            for (place, name) in days.iter_mut().zip(WEEKDAYS) {
                *place = day(name)?;
            }
            weeks.insert(text(&row, "name")?, days);
        }
        Ok(Layers {
            hours: tables(&hours, "hours")?.iter().map(read_hours).collect::<Outcome<_>>()?,
            facts: tables(&overlay, "fact")?.iter().map(read_fact).collect::<Outcome<_>>()?,
            markets: tables(&markets, "market")?,
            weeks,
        })
    }

    /// The calendar that a market keeps.
    pub(crate) fn calendar_of<'a>(&'a self, market: &'a str) -> &'a str {
        let named = |row: &&Table| row.get("name").and_then(Value::as_str) == Some(market);
        self.markets.iter().find(named).and_then(|row| row.get("calendar")).and_then(Value::as_str).unwrap_or(market)
    }

    /// The week of a calendar that the reference does not have.
    pub(crate) fn own_week(&self, calendar: &str) -> Option<&[Option<Profile>; 7]> {
        self.weeks.get(calendar)
    }
}

impl Hours {
    pub(crate) fn covers(&self, day: i64) -> bool {
        (self.from..=self.to).contains(&day) && self.weekdays.get(super::weekday(day)) == Some(&true)
    }

    /// What the row makes of a day, where it applies.
    pub(crate) fn changed(&self, profile: &Profile) -> Option<Profile> {
        let trades: Vec<_> =
            profile.iter().filter(|span| span.0 == Phase::Open).map(|&(_, from, to)| (from, to)).collect();
        match &self.change {
            Change::Whole(wanted, phases) => (trades == *wanted).then(|| phases.clone()),
            Change::Added(opens, closes, span) => {
                let (first, last) = (trades.first()?, trades.last()?);
                let fits = opens.is_none_or(|opens| opens == first.0) && closes.is_none_or(|closes| closes == last.1);
                let mut changed = profile.clone();
                changed.push(*span);
                changed.sort_by_key(|span| span.1);
                fits.then_some(changed)
            }
        }
    }
}

fn read_hours(row: &Table) -> Outcome<Hours> {
    let from = day(row.get("from").ok_or("hours have a first day")?)?;
    let mut weekdays = [!row.contains_key("weekdays"); 7];
    for name in texts(row, "weekdays")? {
        let place = WEEKDAYS.iter().position(|weekday| *weekday == name).ok_or("no such weekday")?;
        *weekdays.get_mut(place).ok_or("a week has seven days")? = true;
    }
    let clock = |name: &str| row.get(name).and_then(Value::as_str).map(minute).transpose();
    let change = match row.get("phases") {
        Some(phases) => {
            let trades = texts(row, "trades")?.iter().map(|text| window(text)).collect::<Outcome<_>>()?;
            Change::Whole(trades, profile(phases)?)
        }
        None => Change::Added(clock("opens")?, clock("closes")?, span(&text(row, "add")?)?),
    };
    Ok(Hours {
        markets: texts(row, "markets")?,
        from,
        to: row.get("to").map_or(Ok(i64::MAX), day)?,
        weekdays,
        change,
        known: row.get("known").map_or(Ok(from), day)? * DAY_MS,
        note: row.get("note").and_then(Value::as_str).unwrap_or_default().to_owned(),
        source: text(row, "source")?,
    })
}

fn read_fact(row: &Table) -> Outcome<Fact> {
    let dates = match row.get("dates").and_then(Value::as_array) {
        Some(dates) => dates.clone(),
        None => vec![row.get("date").ok_or("a fact has a date")?.clone()],
    };
    let saying = match row.get("sessions") {
        Some(sessions) => Saying::Sessions(profile(sessions)?),
        None if row.contains_key("closed") => Saying::Closed,
        None => Saying::Usual,
    };
    let believed = match row.get("before") {
        None => Believed::Reference,
        Some(Value::String(word)) => match word.as_str() {
            "reference" => Believed::Reference,
            "closed" => Believed::Said(Saying::Closed),
            "usual" => Believed::Said(Saying::Usual),
            other => return Err(format!("before = {other:?}").into()),
        },
        Some(list) => Believed::Said(Saying::Sessions(profile(list)?)),
    };
    Ok(Fact {
        markets: texts(row, "markets")?,
        days: dates.iter().map(day).collect::<Outcome<_>>()?,
        saying,
        known: known(row.get("known").ok_or("a fact is known since a day")?)?,
        believed,
        note: text(row, "note")?,
        source: text(row, "source")?,
    })
}

/// A date is its midnight in UTC, an instant the next full hour.
fn known(value: &Value) -> Outcome<Instant> {
    match day(value) {
        Ok(day) => Ok(day * DAY_MS),
        Err(_) => {
            let instant: jiff::Timestamp = value.to_string().parse()?;
            Ok((instant.as_millisecond() + HOUR_MS - 1).div_euclid(HOUR_MS) * HOUR_MS)
        }
    }
}

fn day(value: &Value) -> Outcome<i64> {
    match value.as_datetime() {
        Some(date) if date.time.is_none() => super::day_of(&date.to_string()),
        _ => Err(format!("{value} is not a date").into()),
    }
}

fn tables(file: &Table, name: &str) -> Outcome<Vec<Table>> {
    let rows = file.get(name).and_then(Value::as_array).ok_or("no rows")?;
    rows.iter().map(|row| row.as_table().cloned().ok_or_else(|| "not a table".into())).collect()
}

fn text(row: &Table, name: &str) -> Outcome<String> {
    Ok(row.get(name).and_then(Value::as_str).ok_or_else(|| format!("no {name}: {row:?}"))?.to_owned())
}

fn texts(row: &Table, name: &str) -> Outcome<Vec<String>> {
    let Some(list) = row.get(name) else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or("not a list")?;
    list.iter().map(|text| Ok(text.as_str().ok_or("not a text")?.to_owned())).collect()
}

fn profile(list: &Value) -> Outcome<Profile> {
    let list = list.as_array().ok_or("not a list of phases")?;
    list.iter().map(|text| span(text.as_str().ok_or("not a phase")?)).collect()
}

/// `open 09:15-15:30`.
fn span(text: &str) -> Outcome<(Phase, i64, i64)> {
    let (phase, hours) = text.split_once(' ').ok_or("not a phase with its hours")?;
    let (from, to) = window(hours)?;
    Ok((Phase::of_label(phase).ok_or_else(|| format!("no phase {phase}"))?, from, to))
}

/// `yesterday 17:00-16:00`.
pub(crate) fn window(text: &str) -> Outcome<(i64, i64)> {
    let (from, to) = text.split_once('-').ok_or("not a window")?;
    Ok((minute(from)?, minute(to)?))
}

fn minute(text: &str) -> Outcome<i64> {
    let (days, clock) = match text.split_once(' ') {
        Some(("yesterday", clock)) => (-1, clock),
        Some(("tomorrow", clock)) => (1, clock),
        _ => (0, text),
    };
    let (hours, minutes) = clock.split_once(':').ok_or("not a time of day")?;
    Ok(days * 24 * 60 + hours.parse::<i64>()? * 60 + minutes.parse::<i64>()?)
}
