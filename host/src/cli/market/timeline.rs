//! A week of one market, Monday to Sunday by its own calendar, and how it is drawn: a line a day, over the hours in
//! which the market does anything. Pure; the answers come from outside.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::Paint;
use crate::policy::Phase;

/// A span of one phase. None: outside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) phase: Option<Phase>,
    pub(super) since: i64,
    pub(super) until: i64,
}

/// Monday to Sunday.
#[derive(Debug)]
pub(super) struct Week {
    pub(super) days: Vec<Day>,
}

/// One day on the market's own clock.
#[derive(Debug)]
pub(super) struct Day {
    pub(super) date: Date,
    /// First instant.
    pub(super) since: i64,
    /// First instant after it.
    pub(super) until: i64,
    /// What happens in it. What is closed is left out.
    pub(super) parts: Vec<Part>,
    /// Why it is not as other days are.
    pub(super) note: String,
}

/// A stretch, cut to its day.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) stretch: Stretch,
    /// Minutes of the day, by the clock on the wall.
    from: i64,
    to: i64,
}

/// The hours that are drawn.
struct Scale {
    hour_first: i64,
    hour_end: i64,
    column_minutes: i64,
}

/// A line has the date, the hours and the words; with so many columns for the hours, most fit on 100.
const COLUMNS_MAX: i64 = 48;
const COLUMN_MINUTES: [i64; 6] = [5, 10, 15, 20, 30, 60];
const DAY_MINUTES: i64 = 24 * 60;
/// An hour as it stands above the columns, and a space.
const HOUR_COLUMNS: i64 = 6;

// === impl Week ===

impl Week {
    /// The first and the last instant of the seven days around `at`, by a market's own calendar.
    pub(super) fn bounds(at: i64, zone: &TimeZone) -> anyhow::Result<(i64, i64)> {
        let monday = monday(at, zone)?;
        Ok((midnight(monday, zone)?, midnight(monday.checked_add(7.days())?, zone)?))
    }

    /// The seven days around `at`, from stretches that cover them.
    pub(super) fn new(at: i64, zone: &TimeZone, stretches: &[Stretch]) -> anyhow::Result<Self> {
        let mut days = Vec::new();
        let mut date = monday(at, zone)?;
        for _ in 0..7 {
            let next = date.tomorrow()?;
            let (since, until) = (midnight(date, zone)?, midnight(next, zone)?);
            let minute = |instant: i64| match instant {
                instant if instant <= since => 0,
                instant if instant >= until => DAY_MINUTES,
                instant => wall_minute(instant, zone),
            };
            let here = stretches.iter().filter(|stretch| stretch.phase != Some(Phase::Closed));
            let here = here.filter(|stretch| stretch.since < until && stretch.until > since);
            let part = |stretch: &Stretch| Part {
                stretch: Stretch { since: stretch.since.max(since), until: stretch.until.min(until), ..*stretch },
                from: minute(stretch.since),
                to: minute(stretch.until),
            };
            days.push(Day { date, since, until, parts: here.map(part).collect(), note: String::new() });
            date = next;
        }
        Ok(Self { days })
    }

    /// Draws it, a line each: the hours, the days, a mark under today where now is, the legend.
    pub(super) fn draw(&self, now: i64, zone: &TimeZone, paint: Paint) -> Vec<String> {
        let scale = Scale::of(&self.days);
        let mut lines = vec![format!("  {:<18}{}", "this week", scale.as_ref().map_or(String::new(), Scale::ruler))];
        for day in &self.days {
            let today = (day.since..day.until).contains(&now);
            let date =
                format!("{} {:<16}", if today { ">" } else { " " }, day.date.strftime("%a %Y-%m-%d").to_string());
            let date = if today { paint.strong(&date) } else { date };
            let strip = scale.as_ref().map_or(String::new(), |scale| scale.strip(day, paint) + "  ");
            lines.push(format!("{date}  {strip}{}", day.words()));
            if today && let Some(scale) = &scale {
                lines.push(format!("{:20}{}", "", scale.mark(wall_minute(now, zone))));
            }
        }
        if scale.is_some() {
            lines.push(format!("{:20}{}", "", self.legend(paint)));
        }
        lines.iter().map(|line| line.trim_end().to_owned()).collect()
    }

    fn legend(&self, paint: Paint) -> String {
        let there = |phase: &Option<Phase>| {
            *phase == Some(Phase::Closed)
                || self.days.iter().flat_map(|day| &day.parts).any(|part| part.stretch.phase == *phase)
        };
        let sign = |phase: Option<Phase>| {
            format!("{} {}", paint.phase(phase, sign(phase)), phase.map_or("no data", Phase::label))
        };
        ORDER.into_iter().filter(there).map(sign).collect::<Vec<_>>().join("   ")
    }
}

/// Phases as the legend has them.
const ORDER: [Option<Phase>; 8] = [
    Some(Phase::PreOpen),
    Some(Phase::Open),
    Some(Phase::Break),
    Some(Phase::ClosingAuction),
    Some(Phase::PostClose),
    Some(Phase::Halted),
    Some(Phase::Closed),
    None,
];

// === impl Day ===

impl Day {
    /// Whether all of it is in the data.
    pub(super) fn is_known(&self) -> bool {
        self.parts.iter().all(|part| part.stretch.phase.is_some())
    }

    /// What happens, in words.
    fn words(&self) -> String {
        let word = |part: &Part| {
            let label = part.stretch.phase.map_or("no data", Phase::label);
            if (part.from, part.to) == (0, DAY_MINUTES) {
                return format!("{label} all day");
            }
            format!("{label} {}–{}", wall_clock(part.from), wall_clock(part.to))
        };
        let words: Vec<_> = self.parts.iter().map(word).collect();
        let words = if words.is_empty() { "closed".to_owned() } else { words.join(", ") };
        if self.note.is_empty() { words } else { format!("{words} ({})", self.note) }
    }
}

// === impl Scale ===

impl Scale {
    /// The hours in which anything happens. None: nothing does.
    fn of(days: &[Day]) -> Option<Self> {
        let parts = || days.iter().flat_map(|day| &day.parts).filter(|part| part.stretch.phase.is_some());
        let hour_first = parts().map(|part| part.from).min()? / 60;
        let hour_end = (parts().map(|part| part.to).max()? + 59) / 60;
        let minutes = (hour_end - hour_first) * 60;
        let column_minutes = COLUMN_MINUTES.into_iter().find(|column| minutes / column <= COLUMNS_MAX)?;
        Some(Self { hour_first, hour_end, column_minutes })
    }

    fn columns(&self) -> i64 {
        (self.hour_end - self.hour_first) * 60 / self.column_minutes
    }

    fn ruler(&self) -> String {
        let hour_columns = 60 / self.column_minutes;
        let step = [1, 2, 3, 4, 6].into_iter().find(|hours| hours * hour_columns >= HOUR_COLUMNS).unwrap_or(6);
        let mut ruler = String::new();
        for hour in (self.hour_first..=self.hour_end).step_by(usize::try_from(step).unwrap_or(1)) {
            let column = usize::try_from((hour - self.hour_first) * hour_columns).unwrap_or_default();
            ruler = format!("{ruler:<column$}{}", wall_clock(hour * 60));
        }
        ruler
    }

    fn strip(&self, day: &Day, paint: Paint) -> String {
        let column = |index: i64| {
            let from = self.hour_first * 60 + index * self.column_minutes;
            let phase = day.mostly(from, from + self.column_minutes);
            paint.phase(phase, sign(phase))
        };
        (0..self.columns()).map(column).collect()
    }

    /// A mark under the column of a minute; at the edge where it is not drawn.
    fn mark(&self, minute: i64) -> String {
        let (clock, width) = (wall_clock(minute), usize::try_from(self.columns()).unwrap_or_default());
        match usize::try_from((minute - self.hour_first * 60).div_euclid(self.column_minutes)) {
            Err(_) => format!("< now {clock}"),
            Ok(column) if column >= width => format!("{:>width$}", format!("now {clock} >")),
            Ok(column) => format!("{:column$}^ now {clock}", ""),
        }
    }
}

impl Day {
    /// The phase that most of a span of minutes has. What is closed only stands where nothing else does; of two that
    /// have as much, the one that is out of order, then the one that trades, then the later.
    fn mostly(&self, from: i64, to: i64) -> Option<Phase> {
        let mut most = (0, 0, Some(Phase::Closed));
        for part in &self.parts {
            let minutes = part.to.min(to) - part.from.max(from);
            let phase = part.stretch.phase;
            let weight = match phase {
                Some(Phase::Halted) => 2,
                Some(Phase::Open | Phase::ClosingAuction) => 1,
                _ => 0,
            };
            if minutes > 0 && (minutes, weight) >= (most.0, most.1) {
                most = (minutes, weight, phase);
            }
        }
        most.2
    }
}

/// One column of a phase.
fn sign(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::PreOpen) => "░",
        Some(Phase::Open) => "█",
        Some(Phase::Break) => "-",
        Some(Phase::ClosingAuction) => "▓",
        Some(Phase::PostClose) => "▒",
        Some(Phase::Halted) => "x",
        Some(Phase::Closed) => "·",
        None => "?",
    }
}

fn monday(at: i64, zone: &TimeZone) -> anyhow::Result<Date> {
    let date = Timestamp::from_millisecond(at)?.to_zoned(zone.clone()).date();
    let since_monday = date.weekday().since(Weekday::Monday);
    Ok(date.checked_sub(i64::from(since_monday).days())?)
}

fn midnight(date: Date, zone: &TimeZone) -> anyhow::Result<i64> {
    Ok(date.to_zoned(zone.clone())?.timestamp().as_millisecond())
}

/// The minute of its day that a clock on the wall shows.
fn wall_minute(at: i64, zone: &TimeZone) -> i64 {
    let time = Timestamp::from_millisecond(at).map(|at| at.to_zoned(zone.clone()).time()).unwrap_or_default();
    i64::from(time.hour()) * 60 + i64::from(time.minute())
}

fn wall_clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{Paint, Stretch, Week};
    use crate::policy::Phase;

    fn instant(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    /// Draws the week of `now` in a zone, from the changes of phase (`-`: the data ends) since long before.
    fn check(zone: &str, now: &str, changes: &[(&str, &str)], expect: &[&str]) {
        let zone = TimeZone::get(zone).unwrap();
        let ends = changes.iter().skip(1).map(|(at, _)| instant(at)).chain([instant("2030-01-01T00:00:00Z")]);
        let mut stretches = vec![Stretch {
            phase: Some(Phase::Closed),
            since: instant("2020-01-01T00:00:00Z"),
            until: instant(changes.first().unwrap().0),
        }];
        let stretch = |((at, label), until): (&(&str, &str), i64)| Stretch {
            phase: Phase::of_label(label),
            since: instant(at),
            until,
        };
        stretches.extend(changes.iter().zip(ends).map(stretch));
        let now = instant(now);
        let lines = Week::new(now, &zone, &stretches).unwrap().draw(now, &zone, Paint::NONE);
        assert_eq!(lines, expect, "\n{}", lines.join("\n"));
    }

    #[test]
    fn a_day_of_many_phases() {
        check(
            "Asia/Hong_Kong",
            "2026-11-24T08:02:00Z",
            &[
                ("2026-11-24T09:00:00+08:00", "pre-open"),
                ("2026-11-24T09:30:00+08:00", "open"),
                ("2026-11-24T12:00:00+08:00", "break"),
                ("2026-11-24T13:00:00+08:00", "open"),
                ("2026-11-24T14:10:00+08:00", "halted"),
                ("2026-11-24T14:15:00+08:00", "open"),
                ("2026-11-24T16:00:00+08:00", "closing-auction"),
                ("2026-11-24T16:08:00+08:00", "post-close"),
                ("2026-11-24T16:30:00+08:00", "closed"),
            ],
            &[
                "  this week         09:00 10:00 11:00 12:00 13:00 14:00 15:00 16:00 17:00",
                "  Mon 2026-11-23    ················································  closed",
                "> Tue 2026-11-24    ░░░███████████████------███████x██████████▓▒▒···  pre-open 09:00–09:30, \
                 open 09:30–12:00, break 12:00–13:00, open 13:00–14:10, halted 14:10–14:15, open 14:15–16:00, \
                 closing-auction 16:00–16:08, post-close 16:08–16:30",
                "                                                              ^ now 16:02",
                "  Wed 2026-11-25    ················································  closed",
                "  Thu 2026-11-26    ················································  closed",
                "  Fri 2026-11-27    ················································  closed",
                "  Sat 2026-11-28    ················································  closed",
                "  Sun 2026-11-29    ················································  closed",
                "                    ░ pre-open   █ open   - break   ▓ closing-auction   ▒ post-close   x halted   \
                 · closed",
            ],
        );
    }

    #[test]
    fn nights_and_the_end_of_the_data() {
        check(
            "America/Chicago",
            "2026-11-24T05:59:00-06:00",
            &[
                ("2026-11-22T17:00:00-06:00", "open"),
                ("2026-11-23T16:00:00-06:00", "closed"),
                ("2026-11-23T17:00:00-06:00", "open"),
                ("2026-11-24T16:00:00-06:00", "closed"),
                ("2026-11-25T00:00:00-06:00", "open"),
                ("2026-11-26T00:00:00-06:00", "-"),
            ],
            &[
                "  this week         00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 24:00",
                "  Mon 2026-11-23    ████████████████████████████████··██████████████  open 00:00–16:00, \
                 open 17:00–24:00",
                "> Tue 2026-11-24    ████████████████████████████████················  open 00:00–16:00",
                "                               ^ now 05:59",
                "  Wed 2026-11-25    ████████████████████████████████████████████████  open all day",
                "  Thu 2026-11-26    ????????????????????????????????????????????????  no data all day",
                "  Fri 2026-11-27    ????????????????????????????????????????????????  no data all day",
                "  Sat 2026-11-28    ????????????????????????????????????????????????  no data all day",
                "  Sun 2026-11-29    ????????????????????????????????????????????????  no data all day",
                "                    █ open   · closed   ? no data",
            ],
        );
    }

    #[test]
    fn the_day_on_which_clocks_are_set_forward() {
        check(
            "America/New_York",
            "2026-03-08T20:00:00-04:00",
            &[
                ("2026-03-06T09:30:00-05:00", "open"),
                ("2026-03-06T16:00:00-05:00", "closed"),
                ("2026-03-08T09:30:00-04:00", "open"),
                ("2026-03-08T16:00:00-04:00", "closed"),
            ],
            &[
                "  this week         09:00 10:00 11:00 12:00 13:00 14:00 15:00 16:00",
                "  Mon 2026-03-02    ··········································  closed",
                "  Tue 2026-03-03    ··········································  closed",
                "  Wed 2026-03-04    ··········································  closed",
                "  Thu 2026-03-05    ··········································  closed",
                "  Fri 2026-03-06    ···███████████████████████████████████████  open 09:30–16:00",
                "  Sat 2026-03-07    ··········································  closed",
                "> Sun 2026-03-08    ···███████████████████████████████████████  open 09:30–16:00",
                "                                                   now 20:00 >",
                "                    █ open   · closed",
            ],
        );
    }

    #[test]
    fn a_week_without_a_session() {
        check(
            "Asia/Shanghai",
            "2026-10-01T07:00:00+08:00",
            &[("2026-10-09T09:30:00+08:00", "open")],
            &[
                "  this week",
                "  Mon 2026-09-28    closed",
                "  Tue 2026-09-29    closed",
                "  Wed 2026-09-30    closed",
                "> Thu 2026-10-01    closed",
                "  Fri 2026-10-02    closed",
                "  Sat 2026-10-03    closed",
                "  Sun 2026-10-04    closed",
            ],
        );
    }
}
