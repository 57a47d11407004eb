//! The public questions, and which market has which calendar.
//!
//! The year of an instant that is asked of a market is laid out then and kept: some 3 to 10 KiB. Only where that does
//! not hold the answer, as for a market that never closes, all days of the market are.

use std::ops::Range;
use std::sync::OnceLock;

use crate::{
    CalendarData, DataError, Market, MarketError, MarketKey, MarketNumber, MarketSession, OverrideError, Span,
    SpecialDay, Transition,
    data::{Data, MarketRow, fnv1a_on},
    date::{self, DAY_MINUTES},
    layer::Layer,
    overrides::{Override, What},
    schedule::{Origin, Schedule, Special},
    table::{Answer, MINUTE_MS, Table, outside},
};

/// Every market of one data file.
pub struct Calendars<'d> {
    data: Data<'d>,
    /// Whether the layers over the reference are laid out.
    overlay: bool,
    /// As the operator wrote them.
    overrides: Vec<Override>,
    /// The data's own version, and what of it is left out or said over it.
    version: String,
    /// One for each market.
    tables: Vec<Tables>,
}

/// What has been laid out of a market. None inside: its bytes are broken, which only unverified data can be.
#[derive(Default)]
struct Tables {
    years: OnceLock<Option<Years>>,
    whole: OnceLock<Option<Table>>,
}

/// Tables by years of 365 days since 1970.
struct Years {
    first: i64,
    tables: Box<[OnceLock<Option<Table>>]>,
}

/// How much is laid out around a year: to answer, the last close and the next opening must be among it. The longest
/// closure since 2000 is that of Athens in 2015, five weeks.
const MARGIN_DAYS: usize = 60;
/// How much is looked through at a time for special days.
const SEARCH_DAYS: usize = 365;
const YEAR_MINUTES: i64 = 365 * DAY_MINUTES;
/// No data reaches past 2200.
const YEAR_MAX: i64 = 300;
/// The contract's limits for the answers of [`Calendars::transitions`] and [`Calendars::special_days`].
const TRANSITIONS_MAX: usize = 1000;
const SPECIAL_DAYS_MAX: usize = 100;
/// All tables of a file together; the embedded ones stay below a sixth of it.
const TABLES_BYTES_MAX: usize = 64 << 20;
/// Every one is looked at for every day that is laid out.
const OVERRIDES_MAX: usize = 256;
const OVERRIDE_DAYS_MAX: i64 = 366;

impl Calendars<'static> {
    /// The data this crate was built with. Cheap: calendars are read when they are asked for.
    ///
    /// # Errors
    /// None with the data as it was released: the tests verify it.
    pub fn embedded() -> Result<Self, DataError> {
        Calendars::new(CalendarData::embedded()?)
    }
}

impl<'d> Calendars<'d> {
    /// The calendars of some data. Cheap: each is read when it is asked for, and one that is broken is unknown then.
    ///
    /// # Errors
    /// The first thing found wrong with the data's own parts.
    pub fn new(data: &'d CalendarData) -> Result<Self, DataError> {
        let data = Data::open(data)?;
        let (tables, version) = (empty_tables(&data), data.version.to_owned());
        Ok(Calendars { data, overlay: true, overrides: Vec::new(), version, tables })
    }

    /// Lays out every day of every market and forgets it again, which takes some 20 ms. After that no question can fail
    /// for the data's sake.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self) -> Result<(), DataError> {
        let mut tables_bytes = 0;
        for row in &self.data.markets {
            let schedule = self.schedule(row, None)?;
            tables_bytes += Table::build(&schedule, &schedule.days)?.size_bytes();
            if tables_bytes > TABLES_BYTES_MAX {
                return Err(DataError::OutOfRange("number of sessions of all markets"));
            }
        }
        Ok(())
    }

    /// Without the layers over the reference: no phases but open and break, no corrections, and only the markets that
    /// the reference has. For comparing with it.
    #[must_use]
    pub fn without_overlay(self) -> Self {
        let version = format!("{}+reference", self.version);
        Calendars { overlay: false, version, tables: empty_tables(&self.data), ..self }
    }

    /// With an operator's lines over the data: `MARKET open|closed|halted DATE [HH:MM-HH:MM] [# why]`.
    ///
    /// `XNSE closed 2026-12-03` leaves out the sessions of that date, `XNSE open 2026-12-03` gives it those that its
    /// weekday usually has, `XNSE open 2026-12-06 11:45-12:40` opens that window of the date, by the market's clock,
    /// and leaves the rest of the day as it was. A date may be several, `2026-12-03..2026-12-05`. A window wins over a
    /// day; of two windows, and of two days, the later line wins; lines of an earlier call stand before these. What is
    /// said of an exchange holds for its segments (`XNSE` for `XNSE.derivatives`), but for days that a line of their
    /// own closes or opens; their own windows win. At most 256 lines, of at most 366 days each, or 31 with a window.
    ///
    /// # Errors
    /// The first line that is not written so, or names a market or a day that the data does not have.
    pub fn with_overrides<T: AsRef<str>>(self, lines: &[T]) -> Result<Self, OverrideError> {
        if lines.is_empty() {
            return Ok(self);
        }
        let mut overrides = self.overrides.clone();
        for line in lines {
            overrides.push(self.read_override(line.as_ref())?);
        }
        if let Some(line) = overrides.get(OVERRIDES_MAX) {
            return Err(line.refused(&format!("there are at most {OVERRIDES_MAX} overrides")));
        }
        let digest = lines.iter().fold(0, |digest, line| fnv1a_on(fnv1a_on(digest, line.as_ref().as_bytes()), b"\n"));
        let version = format!("{}+override.{:08x}", self.version, digest >> 32);
        Ok(Calendars { overrides, version, tables: empty_tables(&self.data), ..self })
    }

    /// The number of a market, by its name or an alias: for whoever asks often, and for the same data only. None: there
    /// is no such market.
    pub fn find(&self, name: &str) -> Option<MarketNumber> {
        let (index, _) = self.row(name.into()).ok()?;
        u32::try_from(index).ok().map(MarketNumber)
    }

    /// The session of a market at an instant.
    ///
    /// `known_at` leaves out what was announced after that instant. The reference and an operator's overrides are
    /// undated, so that all of them counts as known at any time.
    ///
    /// # Errors
    /// `UnknownMarket`; `BeyondHorizon` before the first and after the last instant of the data.
    pub fn session_at<'k>(
        &self,
        market: impl Into<MarketKey<'k>>,
        at: i64,
        known_at: Option<i64>,
    ) -> Result<MarketSession<'_>, MarketError> {
        let (index, row) = self.row(market.into())?;
        let as_known = match known_at {
            Some(known_at) => self.at_as_known(row, at, known_at)?,
            None => None,
        };
        let answer = match as_known {
            Some(answer) => answer,
            None => self.ask((index, row), at, |table| table.at(at))?,
        };
        let Answer { phase, since, until, next_open, next_regular_open, previous_close, horizon, projected } = answer;
        let data_version = &self.version;
        Ok(MarketSession {
            market: row.name,
            phase,
            since,
            until,
            next_open,
            next_regular_open,
            previous_close,
            horizon,
            projected,
            data_version,
        })
    }

    /// The next changes of phase after `start`, in order: at most `count`, at most 1000, fewer where the data ends.
    ///
    /// # Errors
    /// As [`Calendars::session_at`].
    pub fn transitions<'k>(
        &self,
        market: impl Into<MarketKey<'k>>,
        start: i64,
        count: u32,
    ) -> Result<Vec<Transition>, MarketError> {
        let row = self.row(market.into())?;
        let count = TRANSITIONS_MAX.min(count as usize);
        let mut found: Vec<Transition> = Vec::new();
        // A year holds fewer changes of most markets than one may ask for.
        loop {
            let start = found.last().map_or(start, |last| last.at);
            let more = self.ask(row, start, |table| table.after(start, count - found.len()))?;
            found.extend_from_slice(&more);
            if more.is_empty() || found.len() == count {
                return Ok(found);
            }
        }
    }

    /// The next days from the date of `start` on that are not as their weekday usually is, with who says so: at most
    /// `count`, at most 100.
    ///
    /// # Errors
    /// As [`Calendars::session_at`].
    pub fn special_days<'k>(
        &self,
        market: impl Into<MarketKey<'k>>,
        start: i64,
        count: u32,
    ) -> Result<Vec<SpecialDay<'_>>, MarketError> {
        let (_, row) = self.row(market.into())?;
        let broken = |_| MarketError::UnknownMarket;
        let schedule = self.schedule(row, None).map_err(broken)?;
        let [covered_from, _, horizon] = schedule.bounds();
        let minute = start.div_euclid(MINUTE_MS);
        if let Some(bound) = outside(minute, &(covered_from..horizon)) {
            return Err(MarketError::BeyondHorizon(bound));
        }
        let mut first = schedule.first_day_ending_after(minute);
        let mut found = Vec::new();
        let count = SPECIAL_DAYS_MAX.min(count as usize);
        while found.len() < count && first < schedule.days.end {
            let range = first..(first + SEARCH_DAYS).min(schedule.days.end);
            let more = schedule.special(&range, count - found.len()).map_err(broken)?;
            found.extend(more.into_iter().map(|special| self.special_day(&schedule, special)));
            first = range.end;
        }
        Ok(found)
    }

    /// Every market, in order of name.
    pub fn markets(&self) -> Vec<Market<'d>> {
        let known = self.data.markets.iter().filter(|row| self.overlay || !row.own);
        known.filter_map(|row| self.describe(row).ok()).collect()
    }

    /// The version of the data, as its publisher names it, and what of it is left out or said over it.
    pub fn data_version(&self) -> &str {
        &self.version
    }

    /// Where the facts come from and under which licence.
    pub fn notice(&self) -> &'d str {
        self.data.notice
    }

    /// Asks the year's table of a market, and the whole one where the year does not say.
    fn ask<T>(
        &self,
        (index, row): (usize, &MarketRow<'d>),
        at: i64,
        question: impl Fn(&Table) -> Result<Option<T>, i64>,
    ) -> Result<T, MarketError> {
        let of = |table: Option<&Table>| table.map_or(Ok(None), &question).map_err(MarketError::BeyondHorizon);
        match of(self.table(index, row, Some(at)))? {
            Some(answer) => Ok(answer),
            None => of(self.table(index, row, None))?.ok_or(MarketError::UnknownMarket),
        }
    }

    /// The table of the year of an instant, or of everything; laid out when it is first asked for.
    fn table(&self, index: usize, row: &MarketRow<'d>, around: Option<i64>) -> Option<&Table> {
        let tables = self.tables.get(index)?;
        let build = || self.build_table(row, around, None).ok();
        let Some(at) = around else { return tables.whole.get_or_init(build).as_ref() };
        let years = || self.schedule(row, None).ok().map(|schedule| Years::of(&schedule));
        tables.years.get_or_init(years).as_ref()?.get(at)?.get_or_init(build).as_ref()
    }

    /// A session as one could have known it, laid out for this one answer. None: all of the market was known by then.
    fn at_as_known(&self, row: &MarketRow<'d>, at: i64, known_at: i64) -> Result<Option<Answer>, MarketError> {
        let broken = |_| MarketError::UnknownMarket;
        if !self.schedule(row, Some(known_at)).map_err(broken)?.layer.has_later_than(known_at) {
            return Ok(None);
        }
        for around in [Some(at), None] {
            let table = self.build_table(row, around, Some(known_at)).map_err(broken)?;
            if let Some(answer) = table.at(at).map_err(MarketError::BeyondHorizon)? {
                return Ok(Some(answer));
            }
        }
        Err(MarketError::UnknownMarket)
    }

    /// A market, with its index.
    fn row(&self, market: MarketKey<'_>) -> Result<(usize, &MarketRow<'d>), MarketError> {
        let index = match market {
            MarketKey::Name(name) => self.data.find(name),
            MarketKey::Number(MarketNumber(number)) => usize::try_from(number).ok(),
        };
        let known = index.and_then(|index| Some((index, self.data.markets.get(index)?)));
        known.filter(|(_, row)| self.overlay || !row.own).ok_or(MarketError::UnknownMarket)
    }

    fn schedule<'a>(&'a self, row: &MarketRow<'d>, known_at: Option<i64>) -> Result<Schedule<'a>, DataError> {
        let (calendar, clock) = self.data.calendar(row.calendar)?;
        let (mut days, mut published, mut layer) = (0..calendar.day_count, calendar.published_days, Layer::default());
        if self.overlay {
            days = row.skipped_days..row.skipped_days.saturating_add(row.day_count);
            published = row.skipped_days.saturating_add(row.published_days);
            layer = Layer::decode(row.layer, &calendar, &self.data.profiles)?;
        }
        if days.end > calendar.day_count || published > days.end {
            return Err(DataError::OutOfRange("days of a market"));
        }
        let own = |line: &&Override| line.market == row.name;
        let whole = self.overrides.iter().filter(|line| is_segment(row.name, &line.market));
        let overrides = whole.chain(self.overrides.iter().filter(own)).collect();
        let profiles = &self.data.profiles;
        Ok(Schedule {
            name: row.name,
            calendar,
            clock,
            profiles,
            layer,
            overrides,
            days,
            projected_from: published,
            known_at,
        })
    }

    /// Lays out the year of an instant, or everything.
    fn build_table(&self, row: &MarketRow<'d>, around: Option<i64>, known_at: Option<i64>) -> Result<Table, DataError> {
        let schedule = self.schedule(row, known_at)?;
        let range = match around {
            Some(at) => {
                let year = year_of(at).clamp(0, YEAR_MAX) * YEAR_MINUTES;
                let Range { start, end } = schedule.days;
                let first = schedule.day_of(year).saturating_sub(MARGIN_DAYS).max(start);
                first..(schedule.day_of(year + YEAR_MINUTES) + MARGIN_DAYS).min(end)
            }
            None => schedule.days.clone(),
        };
        Table::build(&schedule, &range)
    }

    fn describe(&self, row: &MarketRow<'d>) -> Result<Market<'d>, DataError> {
        let schedule = self.schedule(row, None)?;
        let [covered_from, projected_from, horizon] = schedule.bounds();
        Ok(Market {
            name: row.name,
            aliases: self.aliases(row),
            title: row.title,
            time_zone: self.data.calendar(row.calendar)?.0.time_zone,
            covered_from: covered_from * MINUTE_MS,
            horizon: horizon * MINUTE_MS,
            projected_from: projected_from * MINUTE_MS,
        })
    }

    /// A market's other names, in order.
    fn aliases(&self, row: &MarketRow<'d>) -> Vec<&'d str> {
        let mut aliases: Vec<&'d str> = Vec::new();
        for name in self.data.names.iter().filter(|name| name.text != row.name) {
            if self.data.markets.get(name.market).is_some_and(|market| market.name == row.name) {
                aliases.insert(aliases.partition_point(|alias| *alias < name.text), name.text);
            }
        }
        aliases
    }

    fn special_day<'a>(&'a self, schedule: &Schedule<'a>, special: Special<'a>) -> SpecialDay<'a> {
        let Special { index, origin, spans } = special;
        let spans = spans.into_iter();
        let spans =
            spans.map(|span| Span { phase: span.phase, since: span.from * MINUTE_MS, until: span.to * MINUTE_MS });
        let text = |number: usize| self.data.texts.get(number).copied().unwrap_or_default();
        let (note, source, known_since) = match origin {
            Origin::Override(line) => (line.note.as_str(), "an override in the settings", None),
            Origin::Fact(fact) => (text(fact.note), text(fact.source), Some(fact.known_since())),
            Origin::Reference => ("", self.data.reference, None),
        };
        SpecialDay { date: date::text(schedule.date(index)), spans: spans.collect(), note, source, known_since }
    }

    /// Reads an operator's line and finds what it speaks of.
    fn read_override(&self, line: &str) -> Result<Override, OverrideError> {
        let mut line = Override::parse(line)?;
        let Ok((_, row)) = self.row(line.market.as_str().into()) else {
            return Err(line.refused("there is no market of this name"));
        };
        line.market = row.name.to_owned();
        let days_max = if line.what == What::Closed || line.what == What::Usual { OVERRIDE_DAYS_MAX } else { 31 };
        if line.last_day - line.first_day >= days_max {
            return Err(line.refused(&format!("a line is of at most {days_max} days")));
        }
        let refusal = self.schedule(row, None).and_then(|schedule| schedule.refusal(&line));
        match refusal {
            Ok(None) => Ok(line),
            Ok(Some(reason)) => Err(line.refused(reason)),
            Err(error) => Err(line.refused(&error.to_string())),
        }
    }
}

impl Years {
    fn of(schedule: &Schedule<'_>) -> Self {
        let [covered_from, _, horizon] = schedule.bounds();
        let (first, last) = (year_of(covered_from * MINUTE_MS), year_of(horizon * MINUTE_MS));
        Years { first, tables: (first..=last).map(|_| OnceLock::new()).collect() }
    }

    fn get(&self, at: i64) -> Option<&OnceLock<Option<Table>>> {
        let place = usize::try_from(year_of(at) - self.first).unwrap_or(0);
        self.tables.get(place).or(self.tables.last())
    }
}

/// Years of 365 days since 1970.
fn year_of(at: i64) -> i64 {
    at.div_euclid(YEAR_MINUTES * MINUTE_MS)
}

fn empty_tables(data: &Data<'_>) -> Vec<Tables> {
    data.markets.iter().map(|_| Tables::default()).collect()
}

/// Whether `market` is a segment of `whole`, as `XNSE.derivatives` is of `XNSE`.
fn is_segment(market: &str, whole: &str) -> bool {
    market.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'))
}
