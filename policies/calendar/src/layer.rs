//! One market's layer over its calendar: hours that changed, and days that were announced.
//!
//! Rows of hours say which profile holds instead of another from a day on; facts say what one day is, since when one
//! could know it and who says so. It must not know what profiles hold, nor who asks.
//!
//! A row of hours is `known weekdays from days old new`: known in days since 1970, weekdays as bits from Monday, from
//! and days counted in days of the calendar. A fact is `step known profile note source`: step in days since the last,
//! known in hours since 1970, note and source by number. Several facts of a day stand in the order in which they were
//! known; one known at 0 is what was believed before the others.

use std::ops::Range;

use crate::{
    DataError,
    days::{Calendar, Days, Profiles, decode_profile},
    reader::Reader,
};

/// A market's layer, decoded.
#[derive(Default)]
pub(crate) struct Layer {
    hours: Vec<Hours>,
    facts: Vec<Fact>,
}

/// From a day on, some weekdays have the profile `new` where they had `old`.
struct Hours {
    known_day: i64,
    weekdays: u32,
    days: Range<usize>,
    old: u16,
    new: u16,
}

/// What one day is.
#[derive(Clone, Copy)]
pub(crate) struct Fact {
    index: usize,
    known_hour: i64,
    profile: u16,
    pub(crate) note: usize,
    pub(crate) source: usize,
}

/// Each row is laid over every day, so that few of them may be many.
const HOURS_MAX: usize = 1024;
const FACTS_MAX: usize = 1 << 15;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Layer {
    pub(crate) fn decode(bytes: &[u8], calendar: &Calendar<'_>, profiles: &Profiles) -> Result<Self, DataError> {
        let mut reader = Reader::new(bytes);
        let mut layer = Layer::default();
        for _ in 0..reader.count("hours", HOURS_MAX)? {
            let known_day = i64::from(reader.number("first day known")?);
            let weekdays = reader.bounded("weekdays", 0x7f)?;
            let from = reader.number("first day of hours")? as usize;
            let days = from..from.saturating_add(reader.number("days of hours")? as usize);
            let (old, new) = (decode_profile(&mut reader, profiles)?, decode_profile(&mut reader, profiles)?);
            layer.hours.push(Hours { known_day, weekdays, days, old, new });
        }
        let (mut index, mut known_before) = (0usize, 0);
        for _ in 0..reader.count("facts", FACTS_MAX)? {
            let step = reader.number("day of a fact")? as usize;
            let known_hour = i64::from(reader.number("first hour known")?);
            if step == 0 && known_hour < known_before {
                return Err(DataError::OutOfOrder("fact"));
            }
            index = index.saturating_add(step);
            known_before = known_hour;
            if index >= calendar.day_count {
                return Err(DataError::OutOfRange("day of a fact"));
            }
            let profile = decode_profile(&mut reader, profiles)?;
            let (note, source) = (reader.number("note")? as usize, reader.number("source")? as usize);
            layer.facts.push(Fact { index, known_hour, profile, note, source });
        }
        reader.end("layer")?;
        Ok(layer)
    }

    /// Lays the layer over the days of a range, as one could have known it at an instant; none: with all of it.
    pub(crate) fn lay_over(
        &self,
        days: &mut Days,
        calendar: &Calendar<'_>,
        range: &Range<usize>,
        known_at: Option<i64>,
    ) {
        for hours in &self.hours {
            if known_at.is_some_and(|known_at| known_at < hours.known_day * DAY_MS) {
                continue;
            }
            let from = hours.days.start.clamp(range.start, range.end);
            let to = hours.days.end.clamp(from, range.end);
            for index in from..to {
                if hours.weekdays & (1 << calendar.weekday(index)) == 0 {
                    continue;
                }
                let place = index - range.start;
                for profile in [days.actual.get_mut(place), days.usual.get_mut(place)].into_iter().flatten() {
                    if *profile == hours.old {
                        *profile = hours.new;
                    }
                }
            }
        }
        for fact in self.facts_of(range).filter(|fact| fact.is_known(known_at)) {
            if let Some(profile) = days.actual.get_mut(fact.index - range.start) {
                *profile = fact.profile;
            }
        }
    }

    /// The fact that holds on a day. None: nothing is said of it, or only what was believed before.
    pub(crate) fn fact(&self, index: usize, known_at: Option<i64>) -> Option<Fact> {
        let known = |fact: &&Fact| fact.known_hour > 0 && fact.is_known(known_at);
        self.facts_of(&(index..index + 1)).filter(known).last().copied()
    }

    /// Whether an answer with what was known then can be another than one with everything.
    pub(crate) fn has_later_than(&self, known_at: i64) -> bool {
        self.hours.iter().any(|hours| known_at < hours.known_day * DAY_MS)
            || self.facts.iter().any(|fact| !fact.is_known(Some(known_at)))
    }

    fn facts_of(&self, range: &Range<usize>) -> impl Iterator<Item = &Fact> + use<'_> {
        let first = self.facts.partition_point(|fact| fact.index < range.start);
        let end = range.end;
        self.facts.iter().skip(first).take_while(move |fact| fact.index < end)
    }
}

impl Fact {
    /// Since when one could know it.
    pub(crate) fn known_since(&self) -> i64 {
        self.known_hour * HOUR_MS
    }

    fn is_known(&self, known_at: Option<i64>) -> bool {
        known_at.is_none_or(|known_at| self.known_since() <= known_at)
    }
}
