//! Changes of phase of one market, in order of time; every question is a search in them.
//!
//! A table holds a range of the market's days, most often the year around now: laying out thirty years for one
//! answer would cost a component more than the rest of its work. It owns what a session's beginning and end are. It
//! must not know names, versions or how the data is written.

use std::ops::Range;

use crate::{DataError, Phase, Transition, days::REACH_DAYS_MAX, schedule::Schedule};

/// A range of a market's days, ready for questions. Minutes are UTC.
pub(crate) struct Table {
    /// The first is the first minute of the range. Empty where the data covers no day.
    changes: Box<[Change]>,
    /// How many changes come before each stretch of days, so that a search looks at one stretch only.
    before: Box<[u32]>,
    /// Between these minutes the changes are those of all days; beyond them a session that reaches into the
    /// range from outside may be missing.
    known: Range<i64>,
    covered_from: i64,
    horizon: i64,
    published_to: i64,
}

/// A minute (27 bits, until 2225), whether a session begins or ends there (1 bit each), and the phase (3 bits):
/// a market's thirty years stay within the processor's cache, and the order of changes is the order of numbers.
#[derive(Clone, Copy)]
struct Change(u32);

/// What a table says of an instant. In milliseconds, as everything that leaves this file.
pub(crate) struct Answer {
    pub(crate) phase: Phase,
    pub(crate) since: i64,
    pub(crate) until: i64,
    pub(crate) next_open: Option<i64>,
    pub(crate) next_regular_open: Option<i64>,
    pub(crate) previous_close: Option<i64>,
    pub(crate) horizon: i64,
    pub(crate) projected: bool,
}

/// Lays changes one after another and knows whether a session is under way.
struct Timeline {
    changes: Vec<Change>,
    /// How many phases were added, those that went on from the one before included.
    spans: usize,
    phase: Option<Phase>,
    in_session: bool,
}

pub(crate) const MINUTE_MS: i64 = 60_000;
/// The busiest market of thirty years has some 35 000 changes of as many spans; a table of this many takes 2 MiB.
const SPANS_MAX: usize = 1 << 19;
const PHASE_BITS: u32 = 3;
const BEGINS: u32 = 1 << 3;
const ENDS: u32 = 1 << 4;
const MINUTE_SHIFT: u32 = 5;
/// A stretch has so many minutes as a power of two: nearly six days, some ten changes.
const STRETCH_SHIFT: u32 = 13;

impl Table {
    /// Lays out a range of days and keeps the changes.
    pub(crate) fn build(schedule: &Schedule<'_>, range: &Range<usize>) -> Result<Self, DataError> {
        let spans = schedule.spans(range)?;
        let mut timeline = Timeline::new(spans.len());
        let (mut cursor, end) = (schedule.bound(range.start), schedule.bound(range.end));
        for span in spans {
            if span.from > cursor {
                timeline.push(cursor, Phase::Closed)?;
            }
            timeline.push(span.from, span.phase)?;
            cursor = span.to;
        }
        if cursor < end {
            timeline.push(cursor, Phase::Closed)?;
        }
        let margin = REACH_DAYS_MAX + 1;
        let [covered_from, published_to, horizon] = schedule.bounds();
        let known_from =
            if range.start == schedule.days.start { i64::MIN } else { schedule.bound(range.start + margin) };
        let known_to = match range.end {
            last if last == schedule.days.end => i64::MAX,
            last => schedule.bound(last.saturating_sub(margin)),
        };
        Ok(Table {
            before: count_before(&timeline.changes),
            changes: timeline.changes.into_boxed_slice(),
            known: known_from..known_to,
            covered_from,
            horizon,
            published_to,
        })
    }

    /// The state at an instant; none where the table does not hold enough days to say. An error carries the bound of
    /// the data that was passed.
    pub(crate) fn at(&self, at: i64) -> Result<Option<Answer>, i64> {
        let (until_now, later) = self.split(at)?;
        let current = until_now.last();
        let next = later.first();
        let next_open = later.iter().find(|change| change.phase() == Phase::Open);
        let next_regular_open = later.iter().find(|change| change.phase() == Phase::Open && change.begins_session());
        let previous_close = until_now.iter().rev().find(|change| change.ends_session());
        let known = self.is_known_before(current)
            && self.is_known_before(previous_close)
            && self.is_known_after(next)
            && self.is_known_after(next_open)
            && self.is_known_after(next_regular_open);
        let Some(current) = current.filter(|_| known) else {
            return Ok(None);
        };
        let until = next.map_or(self.horizon, |change| change.minute());
        Ok(Some(Answer {
            phase: current.phase(),
            since: current.instant(),
            until: until * MINUTE_MS,
            next_open: next_open.map(|change| change.instant()),
            next_regular_open: next_regular_open.map(|change| change.instant()),
            previous_close: previous_close.map(|change| change.instant()),
            horizon: self.horizon * MINUTE_MS,
            projected: until > self.published_to,
        }))
    }

    /// The changes after an instant that the table knows, at most `count`; none of them: the data ends before the
    /// next one. None where the table does not hold enough days to say. An error as `at`.
    pub(crate) fn after(&self, start: i64, count: usize) -> Result<Option<Vec<Transition>>, i64> {
        let (until_now, later) = self.split(start)?;
        let wanted = later.get(..count).unwrap_or(later);
        let known = wanted.partition_point(|change| self.holds(change));
        let wanted = wanted.get(..known).unwrap_or_default();
        let enough = !wanted.is_empty() || count == 0 || (later.is_empty() && self.known.end == i64::MAX);
        if !enough || !self.is_known_before(until_now.last()) {
            return Ok(None);
        }
        Ok(Some(wanted.iter().map(|change| Transition { at: change.instant(), phase: change.phase() }).collect()))
    }

    /// How many bytes the changes take.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of_val::<[Change]>(&self.changes)
    }

    /// The changes up to an instant, and those after it. An error carries the bound of the data that was passed.
    fn split(&self, at: i64) -> Result<(&[Change], &[Change]), i64> {
        let minute = at.div_euclid(MINUTE_MS);
        if let Some(bound) = outside(minute, &(self.covered_from..self.horizon)) {
            return Err(bound);
        }
        let within = self.stretch(minute);
        let first = within.start;
        let stretch = self.changes.get(within).unwrap_or_default();
        let after = first + stretch.partition_point(|change| change.minute() <= minute);
        Ok(self.changes.split_at_checked(after).unwrap_or((&[], &[])))
    }

    /// The changes among which the first one after a minute is, or the one behind them.
    fn stretch(&self, minute: i64) -> Range<usize> {
        let first = self.changes.first().map_or(0, |change| stretch_of(*change));
        let place = usize::try_from((minute >> STRETCH_SHIFT) - first).unwrap_or(0);
        let bound = |place: usize| self.before.get(place).map_or(self.changes.len(), |before| *before as usize);
        bound(place)..bound(place + 1)
    }

    fn holds(&self, change: &Change) -> bool {
        self.known.contains(&change.minute())
    }

    /// Whether this is the whole calendar's answer to a search into the past.
    fn is_known_before(&self, found: Option<&Change>) -> bool {
        found.map_or(self.known.start == i64::MIN, |change| self.holds(change))
    }

    /// Whether this is the whole calendar's answer to a search into the future.
    fn is_known_after(&self, found: Option<&Change>) -> bool {
        found.map_or(self.known.end == i64::MAX, |change| self.holds(change))
    }
}

/// For each stretch from that of the first change on, how many changes come before it.
fn count_before(changes: &[Change]) -> Box<[u32]> {
    let mut before = Vec::new();
    let first = changes.first().map_or(0, |change| stretch_of(*change));
    for (index, change) in (0..).zip(changes) {
        while before.len() as i64 <= stretch_of(*change) - first {
            before.push(index);
        }
    }
    before.into_boxed_slice()
}

fn stretch_of(change: Change) -> i64 {
    change.minute() >> STRETCH_SHIFT
}

/// The bound, in milliseconds, of the data that a minute is outside of, if it is.
pub(crate) fn outside(minute: i64, covered: &Range<i64>) -> Option<i64> {
    let bound = if minute < covered.start { covered.start } else { covered.end };
    (!covered.contains(&minute)).then_some(bound * MINUTE_MS)
}

impl Change {
    fn minute(self) -> i64 {
        i64::from(self.0 >> MINUTE_SHIFT)
    }

    fn instant(self) -> i64 {
        self.minute() * MINUTE_MS
    }

    fn phase(self) -> Phase {
        let number = self.0 & ((1 << PHASE_BITS) - 1);
        Phase::ALL.get(number as usize).copied().unwrap_or(Phase::Closed)
    }

    fn begins_session(self) -> bool {
        self.0 & BEGINS != 0
    }

    fn ends_session(self) -> bool {
        self.0 & ENDS != 0
    }
}

impl Timeline {
    fn new(spans: usize) -> Self {
        // After most spans the market is closed.
        Timeline { changes: Vec::with_capacity(spans * 2), spans: 0, phase: None, in_session: false }
    }

    /// Adds a phase from `minute` on, unless it is the one that already holds: adjacent sessions are one.
    fn push(&mut self, minute: i64, phase: Phase) -> Result<(), DataError> {
        self.spans += 1;
        if self.spans > SPANS_MAX {
            return Err(DataError::OutOfRange("number of sessions"));
        }
        if self.phase == Some(phase) {
            return Ok(());
        }
        let packed = u32::try_from(minute).ok().filter(|minute| minute >> (32 - MINUTE_SHIFT) == 0);
        let packed = packed.ok_or(DataError::OutOfRange("session"))? << MINUTE_SHIFT;
        let (in_session, mark) = self.mark(phase);
        self.changes.push(Change(packed | mark | phase as u32));
        self.phase = Some(phase);
        self.in_session = in_session;
        Ok(())
    }

    /// Whether a session is under way in `phase`, and whether it begins or ends with it. A break and a halt are
    /// inside the session, and so is what leads from there back to trading.
    fn mark(&self, phase: Phase) -> (bool, u32) {
        match phase {
            Phase::Open | Phase::ClosingAuction if self.in_session => (true, 0),
            // What a range begins with may have begun before it.
            Phase::Open | Phase::ClosingAuction | Phase::Break | Phase::Halted if self.phase.is_none() => (true, 0),
            Phase::Open | Phase::ClosingAuction => (true, BEGINS),
            Phase::Break | Phase::Halted => (self.in_session, 0),
            Phase::PreOpen if matches!(self.phase, Some(Phase::Break | Phase::Halted)) => (self.in_session, 0),
            Phase::Closed | Phase::PreOpen | Phase::PostClose if self.in_session => (false, ENDS),
            Phase::Closed | Phase::PreOpen | Phase::PostClose => (false, 0),
        }
    }
}
