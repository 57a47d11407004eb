//! What one market does on each of its days: its calendar, the layer over it, and what the operator says over both.

use std::ops::Range;

use crate::{
    DataError,
    clock::Clock,
    date::DAY_MINUTES,
    days::{Calendar, Days, Profiles},
    layer::{Fact, Layer},
    overrides::{Override, UtcSpan, What, paint},
};

/// A market, ready to be laid out. Days are indexes of its calendar's, minutes are UTC.
pub(crate) struct Schedule<'a> {
    pub(crate) name: &'a str,
    pub(crate) calendar: Calendar<'a>,
    pub(crate) clock: Clock,
    pub(crate) profiles: &'a Profiles,
    pub(crate) layer: Layer,
    /// Those for this market, what is said of its exchange before what is said of it alone.
    pub(crate) overrides: Vec<&'a Override>,
    /// The days the market has.
    pub(crate) days: Range<usize>,
    /// The first day that rests on rules carried past published dates.
    pub(crate) projected_from: usize,
    /// Answer with what one could know then; none: with everything.
    pub(crate) known_at: Option<i64>,
}

/// A day that is not as its weekday usually is.
pub(crate) struct Special<'a> {
    pub(crate) index: usize,
    pub(crate) origin: Origin<'a>,
    pub(crate) spans: Vec<UtcSpan>,
}

/// Who says what a day is.
pub(crate) enum Origin<'a> {
    Override(&'a Override),
    Fact(Fact),
    Reference,
}

impl<'a> Schedule<'a> {
    /// The minute at which the sessions of a day may begin.
    pub(crate) fn bound(&self, index: usize) -> i64 {
        self.clock.pass().utc(self.calendar.day_bound(index))
    }

    /// The first minute of the market's data, the first one that is projected, and the first one after it.
    pub(crate) fn bounds(&self) -> [i64; 3] {
        [self.days.start, self.projected_from, self.days.end].map(|index| self.bound(index))
    }

    /// The spans of a range of days that are not closed, in order.
    pub(crate) fn spans(&self, range: &Range<usize>) -> Result<Vec<UtcSpan>, DataError> {
        self.spans_of(range, &self.lay_out(range)?.actual)
    }

    /// The same of days that are laid out.
    fn spans_of(&self, range: &Range<usize>, profiles: &[u16]) -> Result<Vec<UtcSpan>, DataError> {
        let mut spans = Vec::with_capacity(profiles.len() * 2);
        // A session may go on into the day after the range, but not past the data.
        let (mut cursor, end) = (self.bound(range.start), self.bound(self.days.end));
        let mut pass = self.clock.pass();
        for (index, &profile) in range.clone().zip(profiles) {
            let midnight = self.calendar.local_midnight(index);
            for span in self.profiles.get(profile) {
                let from = pass.utc(midnight + span.start);
                let to = pass.utc(midnight + span.end).min(end);
                // Hours that never held together may meet in what an operator says, or in what was known of them.
                if from < cursor && self.known_at.is_none() && self.overrides.is_empty() {
                    return Err(DataError::OutOfOrder("session"));
                }
                let from = from.max(cursor);
                if from < to {
                    spans.push(UtcSpan { phase: span.phase, from, to });
                    cursor = to;
                }
            }
        }
        Ok(self.paint_windows(spans, range))
    }

    /// The first days of a range that are not as their weekday usually is, at most `count`.
    pub(crate) fn special(&self, range: &Range<usize>, count: usize) -> Result<Vec<Special<'a>>, DataError> {
        let days = self.lay_out(range)?;
        let mut found = Vec::new();
        for (index, (actual, usual)) in range.clone().zip(days.actual.iter().zip(&days.usual)) {
            let origin = match self.overrides.iter().rev().find(|line| self.speaks_of(line, index)) {
                Some(line) => Origin::Override(line),
                None => match self.layer.fact(index, self.known_at) {
                    Some(fact) => Origin::Fact(fact),
                    None if actual != usual => Origin::Reference,
                    None => continue,
                },
            };
            if found.len() == count {
                break;
            }
            found.push(Special { index, origin, spans: self.spans_of(&(index..index + 1), &[*actual])? });
        }
        Ok(found)
    }

    /// The day that a minute falls on by UTC, or the nearest there is: a day more or less than by the market's clock.
    pub(crate) fn day_of(&self, minute: i64) -> usize {
        self.calendar.nearest_day(minute).clamp(self.days.start, self.days.end)
    }

    /// The day whose sessions a minute may fall into, by the market's own clock.
    pub(crate) fn first_day_ending_after(&self, minute: i64) -> usize {
        let near = self.day_of(minute);
        // East of Greenwich a date begins while UTC still has the one before.
        let mut days = near.saturating_sub(1).max(self.days.start)..=near + 1;
        days.find(|index| minute < self.bound(index + 1)).unwrap_or(near)
    }

    /// Days since 1970 of the day `index`.
    pub(crate) fn date(&self, index: usize) -> i64 {
        self.calendar.first_day + index as i64
    }

    /// Why a line cannot be for this market, where it cannot.
    pub(crate) fn refusal(&self, line: &Override) -> Result<Option<&'static str>, DataError> {
        let index =
            |day: i64| usize::try_from(day - self.calendar.first_day).ok().filter(|day| self.days.contains(day));
        let (Some(first), Some(last)) = (index(line.first_day), index(line.last_day)) else {
            return Ok(Some("the market's calendar does not cover that"));
        };
        if line.what != What::Usual {
            return Ok(None);
        }
        let usual = self.lay_out(&(first..last + 1))?.usual;
        let none = usual.iter().any(|profile| self.profiles.get(*profile).is_empty());
        Ok(none.then_some("there are no usual hours on that weekday; say the hours, HH:MM-HH:MM"))
    }

    /// Whether an override holds for a date: what is said of an exchange does not where the day of the segment is said.
    fn holds(&self, line: &Override, date: i64) -> bool {
        let is_own = |line: &Override| line.market == self.name;
        let said = |own: &&&Override| is_own(own) && own.is_of_days() && own.holds_on(date);
        line.holds_on(date) && (is_own(line) || !self.overrides.iter().any(|own| said(&own)))
    }

    /// Whether an override changes the sessions of a day; those of the evening before may belong to it.
    fn speaks_of(&self, line: &Override, index: usize) -> bool {
        let date = self.date(index);
        let end = DAY_MINUTES + self.calendar.day_start;
        match line.what {
            What::Window(_, from, to) => {
                (from < end && self.holds(line, date)) || (to > end && self.holds(line, date - 1))
            }
            What::Closed | What::Usual => self.holds(line, date),
        }
    }

    fn lay_out(&self, range: &Range<usize>) -> Result<Days, DataError> {
        let mut days = self.calendar.lay_out(self.profiles, range)?;
        self.layer.lay_over(&mut days, &self.calendar, range, self.known_at);
        for line in &self.overrides {
            for (index, (actual, usual)) in range.clone().zip(days.actual.iter_mut().zip(&days.usual)) {
                if self.holds(line, self.date(index)) {
                    match line.what {
                        What::Closed => *actual = 0,
                        What::Usual => *actual = *usual,
                        What::Window(..) => {}
                    }
                }
            }
        }
        Ok(days)
    }

    fn paint_windows(&self, mut spans: Vec<UtcSpan>, range: &Range<usize>) -> Vec<UtcSpan> {
        let bounds = self.bound(range.start)..self.bound(range.end);
        for line in &self.overrides {
            let What::Window(phase, from, to) = line.what else { continue };
            for day in (line.first_day..=line.last_day).filter(|day| self.holds(line, *day)) {
                let midnight = day * DAY_MINUTES;
                let utc = |minute: i64| self.clock.pass().utc(midnight + minute).clamp(bounds.start, bounds.end);
                let window = UtcSpan { phase, from: utc(from), to: utc(to) };
                if window.from < window.to {
                    spans = paint(&spans, window);
                }
            }
        }
        spans
    }
}
