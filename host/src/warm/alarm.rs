//! When a rule is due before an opening: once for each, however the sessions shift, and late rather than not at all
//! where something else was going on. Pure.

/// One rule's openings.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// How long before an opening it is due.
    before_ms: i64,
    /// The opening that is waited for.
    target: Option<i64>,
    /// The one that was last dealt with.
    done: Option<i64>,
}

/// An opening that is longer ago is none to prepare for any more.
const LATE_MS_MAX: i64 = 5 * 60 * 1000;

// === impl Alarm ===

impl Alarm {
    /// Due so long before each opening.
    pub(super) fn new(before_ms: u64) -> Self {
        Self { before_ms: i64::try_from(before_ms).unwrap_or(i64::MAX), ..Self::default() }
    }

    /// The next opening is known to be then: the opening that is to be dealt with now, if one is.
    pub(super) fn due(&mut self, now: i64, next_open: Option<i64>) -> Option<i64> {
        // What is ahead may be moved; what has come stays until it has been dealt with, although the next is another.
        if self.target.is_none_or(|target| now < target) {
            self.target = next_open;
        }
        let open = self.target.filter(|open| now >= open.saturating_sub(self.before_ms))?;
        self.target = None;
        if self.done == Some(open) || now.saturating_sub(open) > LATE_MS_MAX {
            return None;
        }
        self.done = Some(open);
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarm, LATE_MS_MAX};

    /// Looks in turn: the time, the next opening, and what is due.
    fn check(before_ms: u64, looks: &[(i64, Option<i64>, Option<i64>)]) {
        let mut alarm = Alarm::new(before_ms);
        for (place, (now, next_open, expect)) in looks.iter().enumerate() {
            assert_eq!(alarm.due(*now, *next_open), *expect, "look {place}");
        }
    }

    #[test]
    fn openings() {
        let (first, second) = (Some(1_000), Some(9_000));
        check(100, &[(0, first, None), (899, first, None), (900, first, first), (950, first, None)]);
        check(100, &[(900, first, first), (1_000, second, None), (8_950, second, second)]);
        // As it opens: by then the next opening is another.
        check(0, &[(999, first, None), (1_010, second, first), (1_020, second, None), (9_000, None, second)]);
        // Moved before it came, and taken away.
        check(100, &[(0, first, None), (500, second, None), (900, second, None), (8_900, second, second)]);
        check(100, &[(0, first, None), (500, None, None), (1_500, None, None)]);
        // Late, and too late.
        check(100, &[(0, first, None), (1_000 + LATE_MS_MAX, Some(i64::MAX), first)]);
        check(100, &[(0, first, None), (1_001 + LATE_MS_MAX, Some(i64::MAX), None)]);
        check(100, &[(0, None, None)]);
        check(u64::MAX, &[(0, first, first), (10, first, None)]);
    }
}
