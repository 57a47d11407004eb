//! One calendar's rules, and the daily profiles that all calendars share.
//!
//! Rules are eras (what a weekday usually is, from a day on) and exceptions (what one day is instead). Laid out they
//! are one profile number a day. It must not know UTC: days and minutes here are the market's own.

use std::ops::Range;

use crate::{DataError, Phase, date::DAY_MINUTES, reader::Reader};

/// A part of a session's day, in minutes from local midnight of its date; it may begin before or end after that date.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) phase: Phase,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// All daily profiles. Number 0 is the day without a session.
pub(crate) struct Profiles {
    spans: Vec<Span>,
    /// Profile n is `spans[ends[n - 1]..ends[n]]`.
    ends: Vec<usize>,
}

/// One calendar as it stands in the data.
pub(crate) struct Calendar<'d> {
    pub(crate) time_zone: &'d str,
    /// Which of the data's clocks it runs by.
    pub(crate) clock: usize,
    /// Minutes from local midnight at which a date's sessions may begin: negative where they begin the day before.
    pub(crate) day_start: i64,
    /// Days since 1970-01-01.
    pub(crate) first_day: i64,
    pub(crate) day_count: usize,
    /// How many of the days rest on published dates; the others follow from rules.
    pub(crate) published_days: usize,
    rules: Reader<'d>,
}

/// The profile numbers of a range of days.
pub(crate) struct Days {
    /// What each day is.
    pub(crate) actual: Vec<u16>,
    /// What its weekday usually is at the time.
    pub(crate) usual: Vec<u16>,
}

/// From the day `index` on, a weekday usually has this profile.
struct Era {
    index: usize,
    weekday: usize,
    profile: u16,
}

/// One day that is not as usual.
struct Exception {
    index: usize,
    profile: u16,
}

/// How far a session may reach away from its date.
pub(crate) const REACH_DAYS_MAX: usize = 7;
/// 2200-01-01. Later minutes would not fit a packed change (see `table`).
const DAY_MAX: u32 = 84_006;
const PROFILES_MAX: usize = u16::MAX as usize;
const SPANS_MAX: usize = 1 << 16;
const REACH_MINUTES_MAX: i64 = REACH_DAYS_MAX as i64 * DAY_MINUTES;
const NAME_BYTES_MAX: usize = 64;

impl Profiles {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count("profiles", PROFILES_MAX)?;
        let mut profiles = Profiles { spans: Vec::new(), ends: Vec::with_capacity(count) };
        for _ in 0..count {
            let mut cursor = None;
            for _ in 0..reader.count("profile spans", SPANS_MAX)? {
                let span = decode_span(&mut reader, cursor)?;
                cursor = Some(span.end);
                profiles.spans.push(span);
            }
            profiles.ends.push(profiles.spans.len());
        }
        reader.end("profiles")?;
        if profiles.ends.first() != Some(&0) {
            return Err(DataError::OutOfRange("profile of the day without a session"));
        }
        Ok(profiles)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The spans of a profile, in order. A number that does not exist has none.
    pub(crate) fn get(&self, profile: u16) -> &[Span] {
        let number = usize::from(profile);
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(number).and_then(|&end| self.spans.get(start..end)).unwrap_or(&[])
    }
}

impl<'d> Calendar<'d> {
    pub(crate) fn decode(bytes: &'d [u8], clocks: usize) -> Result<Self, DataError> {
        let mut reader = Reader::new(bytes);
        let time_zone = reader.text("time zone", NAME_BYTES_MAX)?;
        let clock = reader.number("clock of a calendar")? as usize;
        let day_start = reader.signed("start of day")?;
        let first_day = reader.bounded("first day", DAY_MAX)?;
        let day_count = reader.bounded("number of days", DAY_MAX - first_day)? as usize;
        let published_days = reader.number("published days")? as usize;
        if clock >= clocks {
            return Err(DataError::OutOfRange("clock of a calendar"));
        }
        if day_start.abs() > DAY_MINUTES || i64::from(first_day) * DAY_MINUTES + day_start < DAY_MINUTES {
            return Err(DataError::OutOfRange("start of day"));
        }
        if published_days > day_count {
            return Err(DataError::OutOfRange("published days"));
        }
        let first_day = i64::from(first_day);
        Ok(Calendar { time_zone, clock, day_start, first_day, day_count, published_days, rules: reader })
    }

    /// The local minute at which the sessions of the day `index` may begin.
    pub(crate) fn day_bound(&self, index: usize) -> i64 {
        self.local_midnight(index) + self.day_start
    }

    /// Local midnight of the day `index`, in minutes since 1970-01-01 of the market's clock.
    pub(crate) fn local_midnight(&self, index: usize) -> i64 {
        (self.first_day + index as i64) * DAY_MINUTES
    }

    /// The index of the day that a local minute falls on, or of the nearest day there is.
    pub(crate) fn nearest_day(&self, local: i64) -> usize {
        let index = local.div_euclid(DAY_MINUTES) - self.first_day;
        usize::try_from(index.max(0)).map_or(self.day_count, |index| index.min(self.day_count))
    }

    /// The profile numbers of a range of days.
    pub(crate) fn lay_out(&self, profiles: &Profiles, range: &Range<usize>) -> Result<Days, DataError> {
        let mut reader = self.rules.clone();
        let eras = self.decode_eras(&mut reader, profiles)?;
        let usual = self.usual_days(&eras, range);
        let mut days = usual.clone();
        for listed in [None, Some(profiles)] {
            for exception in decode_days(&mut reader, self.day_count, listed)? {
                let place = exception.index.checked_sub(range.start);
                if let Some(day) = place.and_then(|place| days.get_mut(place)) {
                    *day = exception.profile;
                }
            }
        }
        reader.end("calendar")?;
        Ok(Days { actual: days, usual })
    }

    /// Which day of the week the day `index` is, from Monday, 0.
    pub(crate) fn weekday(&self, index: usize) -> usize {
        // 1970-01-01 was a Thursday.
        (self.first_day + index as i64 + 3).rem_euclid(7) as usize
    }

    fn decode_eras(&self, reader: &mut Reader<'_>, profiles: &Profiles) -> Result<Vec<Era>, DataError> {
        let count = reader.count("eras", self.day_count)?;
        let mut eras = Vec::with_capacity(count);
        let mut index = 0;
        for _ in 0..count {
            let step = reader.number("era")? as usize;
            index += step / 7;
            if index >= self.day_count {
                return Err(DataError::OutOfRange("era"));
            }
            eras.push(Era { index, weekday: step % 7, profile: decode_profile(reader, profiles)? });
        }
        Ok(eras)
    }

    fn usual_days(&self, eras: &[Era], range: &Range<usize>) -> Vec<u16> {
        let mut usual = [0u16; 7];
        let mut days = Vec::with_capacity(range.len());
        let mut eras = eras.iter().peekable();
        let mut weekday = self.weekday(range.start);
        for index in range.clone() {
            while let Some(era) = eras.next_if(|era| era.index <= index) {
                if let Some(profile) = usual.get_mut(era.weekday) {
                    *profile = era.profile;
                }
            }
            days.push(usual.get(weekday).copied().unwrap_or(0));
            weekday = (weekday + 1) % 7;
        }
        days
    }
}

/// Exceptions: with a profile each, or, where `profiles` is none, all without a session.
fn decode_days(
    reader: &mut Reader<'_>,
    day_count: usize,
    profiles: Option<&Profiles>,
) -> Result<Vec<Exception>, DataError> {
    let count = reader.count("exceptions", day_count)?;
    let mut exceptions = Vec::with_capacity(count);
    let mut index = 0usize;
    for _ in 0..count {
        index = index.saturating_add(reader.number("exception")? as usize);
        if index >= day_count {
            return Err(DataError::OutOfRange("exception"));
        }
        let profile = match profiles {
            Some(profiles) => decode_profile(reader, profiles)?,
            None => 0,
        };
        exceptions.push(Exception { index, profile });
    }
    Ok(exceptions)
}

pub(crate) fn decode_profile(reader: &mut Reader<'_>, profiles: &Profiles) -> Result<u16, DataError> {
    let number = reader.number("profile number")?;
    if number as usize >= profiles.len() {
        return Err(DataError::OutOfRange("profile number"));
    }
    u16::try_from(number).map_err(|_| DataError::OutOfRange("profile number"))
}

/// A span whose start is counted from the end of the one before, or from midnight.
fn decode_span(reader: &mut Reader<'_>, before: Option<i64>) -> Result<Span, DataError> {
    let phase = reader.number("phase")? as usize;
    let phase = Phase::ALL.get(phase).copied().ok_or(DataError::OutOfRange("phase"))?;
    let step = reader.signed("start of a span")?;
    let start = before.unwrap_or(0) + step;
    let end = start + i64::from(reader.number("length of a span")?);
    if before.is_some() && step < 0 {
        return Err(DataError::OutOfOrder("span"));
    }
    if end <= start || start < -REACH_MINUTES_MAX || end > REACH_MINUTES_MAX {
        return Err(DataError::OutOfRange("span"));
    }
    Ok(Span { phase, start, end })
}
