//! The public questions, and which market has which calendar.
//!
//! The year around the first instant that is asked of a calendar is laid out then and kept: some 3 to 8 KiB. Only where
//! that does not hold the answer, the whole calendar is: 60 KiB, at most 140.

use std::sync::OnceLock;

use crate::{
    DataError, Market, MarketError, MarketSession, Transition,
    data::{Data, MarketRow, fnv1a},
    table::{MINUTE_MS, Table, bounds},
};

/// Every market of one data file.
pub struct Calendars<'d> {
    data: Data<'d>,
    /// All names and aliases in order of their hash: numbers are found several times faster than texts.
    names: Vec<Name<'d>>,
    /// One for each calendar.
    tables: Vec<Tables>,
}

/// What has been laid out of a calendar. None inside: its bytes are broken, which only unverified data can be.
#[derive(Default)]
struct Tables {
    year: OnceLock<Option<Table>>,
    whole: OnceLock<Option<Table>>,
}

/// A name or an alias, and the index of its market.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name<'d> {
    hash: u64,
    text: &'d str,
    market: usize,
}

static EMBEDDED: &[u8] = include_bytes!("../data/calendars.bin");

/// How much is laid out around an instant: to answer, the last close and the next opening must be among it. The longest
/// closure since 2000 is that of Athens in 2015, five weeks.
const DAYS_BEFORE: usize = 60;
const DAYS_AFTER: usize = 300;
/// The contract's limit for the answer of [`Calendars::transitions`].
const TRANSITIONS_MAX: usize = 1000;
/// All tables of a file together; the embedded ones have 4 MiB.
const TABLES_BYTES_MAX: usize = 64 << 20;

impl Calendars<'static> {
    /// The data this crate was built with. Cheap: calendars are read when they are asked for.
    ///
    /// # Errors
    /// None with the data as it was released: the tests verify it.
    pub fn embedded() -> Result<Self, DataError> {
        Calendars::open(EMBEDDED)
    }
}

impl<'d> Calendars<'d> {
    /// Data from elsewhere, such as an operator's file. Everything in it is verified, which takes milliseconds; after
    /// that no question can fail for the data's sake.
    ///
    /// # Errors
    /// The first thing found wrong with the bytes.
    pub fn from_bytes(bytes: &'d [u8]) -> Result<Self, DataError> {
        let calendars = Calendars::open(bytes)?;
        calendars.data.verify()?;
        let mut tables_bytes = 0;
        for index in 0..calendars.data.calendar_count() {
            tables_bytes += calendars.build_table(index, None)?.size_bytes();
            if tables_bytes > TABLES_BYTES_MAX {
                return Err(DataError::OutOfRange("number of sessions of all calendars"));
            }
        }
        Ok(calendars)
    }

    /// The session of a market at an instant.
    ///
    /// `known_at` leaves out what was announced after that instant. The calendars themselves are undated, so that all
    /// of it counts as known at any time.
    ///
    /// # Errors
    /// `UnknownMarket`; `BeyondHorizon` before the first and after the last instant of the data.
    pub fn session_at<'a>(
        &'a self,
        market: &'a str,
        at: i64,
        _known_at: Option<i64>,
    ) -> Result<MarketSession<'a>, MarketError> {
        let answer = self.ask(market, at, |table| table.at(at))?;
        Ok(MarketSession {
            market,
            phase: answer.phase,
            since: answer.since,
            until: answer.until,
            next_open: answer.next_open,
            next_regular_open: answer.next_regular_open,
            previous_close: answer.previous_close,
            horizon: answer.horizon,
            projected: answer.projected,
            data_version: self.data.version,
        })
    }

    /// The next changes of phase after `start`, in order: at most `count`, at most 1000, fewer where the data ends.
    ///
    /// # Errors
    /// As [`Calendars::session_at`].
    pub fn transitions(&self, market: &str, start: i64, count: u32) -> Result<Vec<Transition>, MarketError> {
        let count = TRANSITIONS_MAX.min(count as usize);
        self.ask(market, start, |table| table.after(start, count))
    }

    /// Every market, in order of name.
    pub fn markets(&self) -> Vec<Market<'d>> {
        self.data.markets.iter().filter_map(|row| self.describe(row).ok()).collect()
    }

    /// The version of the data, as its publisher names it.
    pub fn data_version(&self) -> &'d str {
        self.data.version
    }

    /// Where the facts come from and under which licence.
    pub fn notice(&self) -> &'d str {
        self.data.notice
    }

    fn open(bytes: &'d [u8]) -> Result<Self, DataError> {
        let data = Data::open(bytes)?;
        let mut names = Vec::with_capacity(data.markets.len() * 2);
        for (index, row) in data.markets.iter().enumerate() {
            names.push(Name::new(row.name, index));
            names.extend(row.aliases.iter().map(|alias| Name::new(alias, index)));
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [one, other] if one.text == other.text)) {
            return Err(DataError::Duplicate("market"));
        }
        let tables = (0..data.calendar_count()).map(|_| Tables::default()).collect();
        Ok(Calendars { data, names, tables })
    }

    /// Asks the year's table of a market, and the whole one where that is there already or the year does not say.
    fn ask<T>(
        &self,
        market: &str,
        at: i64,
        question: impl Fn(&Table) -> Result<Option<T>, i64>,
    ) -> Result<T, MarketError> {
        let calendar = self.find(market).ok_or(MarketError::UnknownMarket)?;
        let tables = self.tables.get(calendar).ok_or(MarketError::UnknownMarket)?;
        if tables.whole.get().is_none() {
            let year = tables.year.get_or_init(|| self.build_table(calendar, Some(at)).ok());
            let answer = year.as_ref().map_or(Ok(None), &question).map_err(MarketError::BeyondHorizon)?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        let whole = tables.whole.get_or_init(|| self.build_table(calendar, None).ok());
        let answer = whole.as_ref().map_or(Ok(None), question).map_err(MarketError::BeyondHorizon)?;
        answer.ok_or(MarketError::UnknownMarket)
    }

    /// The index of a market's calendar.
    fn find(&self, market: &str) -> Option<usize> {
        let hash = fnv1a(market.as_bytes());
        let first = self.names.partition_point(|name| name.hash < hash);
        let mut equal = self.names.iter().skip(first).take_while(|name| name.hash == hash);
        let name = equal.find(|name| name.text == market)?;
        self.data.markets.get(name.market).map(|row| row.calendar)
    }

    /// Lays out the year around an instant, or everything.
    fn build_table(&self, calendar: usize, around: Option<i64>) -> Result<Table, DataError> {
        let (calendar, clock) = self.data.calendar(calendar)?;
        let range = match around {
            Some(at) => {
                let day = calendar.nearest_day(at.div_euclid(MINUTE_MS));
                day.saturating_sub(DAYS_BEFORE)..(day + DAYS_AFTER).min(calendar.day_count)
            }
            None => 0..calendar.day_count,
        };
        Table::build(&calendar, &clock, &self.data.profiles, range)
    }

    fn describe(&self, row: &MarketRow<'d>) -> Result<Market<'d>, DataError> {
        let (calendar, clock) = self.data.calendar(row.calendar)?;
        let [covered_from, projected_from, horizon] = bounds(&calendar, &clock);
        Ok(Market {
            name: row.name,
            aliases: row.aliases.clone(),
            title: row.title,
            time_zone: calendar.time_zone,
            covered_from: covered_from * MINUTE_MS,
            horizon: horizon * MINUTE_MS,
            projected_from: projected_from * MINUTE_MS,
        })
    }
}

impl<'d> Name<'d> {
    fn new(text: &'d str, market: usize) -> Self {
        Name { hash: fnv1a(text.as_bytes()), text, market }
    }
}
