//! What an operator says over the data: lines such as `XNSE closed 2026-12-03`.
//!
//! It owns how such a line is written and painting a window over spans. It must not know profiles or how days are laid
//! out.

use std::fmt;

use crate::{
    Phase,
    date::{self, DAY_MINUTES},
};

/// A line that is not one, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideError {
    line: String,
    reason: String,
}

/// One line, understood.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pub(crate) market: String,
    /// First and last day, in days since 1970 of the market's own calendar.
    pub(crate) first_day: i64,
    pub(crate) last_day: i64,
    pub(crate) what: What,
    /// Why, as the operator wrote it behind `#`; may be empty.
    pub(crate) note: String,
}

/// What holds on those days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The sessions of the date are left out.
    Closed,
    /// The sessions of the date are those that its weekday usually has.
    Usual,
    /// Between two minutes of the market's clock there is this phase, whatever else there is around it.
    Window(Phase, i64, i64),
}

/// A phase between two minutes of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtcSpan {
    pub(crate) phase: Phase,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// The contract's limit for the note of a special day.
const NOTE_BYTES_MAX: usize = 256;
const FORM: &str = "write MARKET open|closed|halted DATE [HH:MM-HH:MM] [# why], such as `XNSE closed 2026-12-03` or \
                    `XNSE open 2026-12-06 11:45-12:40`";

impl Override {
    /// Reads a line. The market is still the name that was written.
    pub(crate) fn parse(line: &str) -> Result<Self, OverrideError> {
        let refused = |reason: &str| OverrideError::new(line, reason);
        let (text, note) = line.split_once('#').map_or((line, ""), |(text, note)| (text, note.trim_ascii()));
        if note.len() > NOTE_BYTES_MAX {
            return Err(refused(&format!("what stands behind # has at most {NOTE_BYTES_MAX} bytes")));
        }
        let mut words = text.split_ascii_whitespace();
        let (Some(market), Some(phase), Some(dates)) = (words.next(), words.next(), words.next()) else {
            return Err(refused(FORM));
        };
        let phase = Phase::of_label(phase).ok_or_else(|| refused(FORM))?;
        let (first, last) = dates.split_once('.').unwrap_or((dates, dates));
        let last = last.strip_prefix('.').unwrap_or(last);
        let (Some(first_day), Some(last_day)) = (date::parse(first), date::parse(last)) else {
            return Err(refused("a date is written 2026-12-03, several days 2026-12-03..2026-12-05"));
        };
        if last_day < first_day {
            return Err(refused("the last day is before the first"));
        }
        let what = match (words.next(), phase) {
            (None, Phase::Closed) => What::Closed,
            (None, Phase::Open) => What::Usual,
            (None, _) => {
                return Err(refused("only `open` and `closed` are for a whole day; say the hours, HH:MM-HH:MM"));
            }
            (Some(window), _) => {
                let (from, to) = parse_window(window)
                    .ok_or_else(|| refused("hours are written 11:45-12:40, up to 24:00, the earlier one first"))?;
                What::Window(phase, from, to)
            }
        };
        if words.next().is_some() {
            return Err(refused(FORM));
        }
        Ok(Override { market: market.to_owned(), first_day, last_day, what, note: note.to_owned() })
    }

    /// Whether it says what the whole of a day is.
    pub(crate) fn is_of_days(&self) -> bool {
        !matches!(self.what, What::Window(..))
    }

    pub(crate) fn holds_on(&self, day: i64) -> bool {
        (self.first_day..=self.last_day).contains(&day)
    }

    /// The line that says this, as short as it can be written.
    pub(crate) fn refused(&self, reason: &str) -> OverrideError {
        let last =
            if self.last_day == self.first_day { String::new() } else { format!("..{}", date::text(self.last_day)) };
        OverrideError::new(&format!("{} … {}{last}", self.market, date::text(self.first_day)), reason)
    }
}

fn parse_window(text: &str) -> Option<(i64, i64)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (parse_minute(from)?, parse_minute(to)?);
    (from < to).then_some((from, to))
}

fn parse_minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| is_number(text).then(|| text.parse::<i64>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

/// Lays a window over spans that stand in order: what it covers of them is cut away.
pub(crate) fn paint(spans: &[UtcSpan], window: UtcSpan) -> Vec<UtcSpan> {
    let mut out = Vec::with_capacity(spans.len() + 2);
    let before = spans.iter().take_while(|span| span.from < window.from);
    out.extend(before.map(|span| UtcSpan { to: span.to.min(window.from), ..*span }));
    if window.phase != Phase::Closed {
        out.push(window);
    }
    let after = spans.iter().skip_while(|span| span.to <= window.to);
    out.extend(after.map(|span| UtcSpan { from: span.from.max(window.to), ..*span }));
    out
}

// === impl OverrideError ===

impl OverrideError {
    #[cold]
    #[inline(never)]
    fn new(line: &str, reason: &str) -> Self {
        OverrideError { line: line.to_owned(), reason: reason.to_owned() }
    }
}

impl fmt::Display for OverrideError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "override \"{}\": {}", self.line, self.reason)
    }
}

impl std::error::Error for OverrideError {}
