//! The layout of the data file, checked on the way in.
//!
//! It owns the order of things in the file and its limits; what a calendar's own bytes mean is in `days` and `clock`,
//! what a market's are in `layer`.
//!
//! ```text
//! file      = "BWCAL" format:u8 checksum:u64-little-endian length:u32-little-endian packed
//!                                                                     checksum: FNV-1a 64 of the body; packed: the
//!                                                                     body, of so many bytes, as an LZ4 block
//! body      = version:text notice:text reference:text
//!             clocks:sized profiles:sized calendars:sized texts:sized names:sized markets:sized
//! clocks    = n { sized: offset:s n { step offset:s } }               UTC offsets; step: UTC minutes since the last
//! profiles  = n { n { phase start:s length } }                        start: minutes from the last end, or midnight
//! calendars = n { sized: zone:text clock day-start:s first-day days published-days eras closed special }
//! eras      = n { step×7+weekday profile }                            step: days since the last era
//! closed    = n { step }                                              days without their usual session
//! special   = n { step profile }                                      days with another than their usual profile
//! texts     = n { text }                                              what layers say; number 0 is empty
//! names     = n { name:text market }                                  and aliases, in order of their FNV-1a 64
//! markets   = n { name title:text calendar own skipped days published layer:sized }
//!                                                                     in order of name, each by number; own: 1 where
//!                                                                     the reference has no such market; days: of the
//!                                                                     calendar's, after so many skipped
//! layer     = n { known weekdays from days old new } n { step known profile note source }
//!                                                                     see `layer`
//! ```
//! Numbers are LEB128 of at most 32 bits, `:s` zigzag; `text` and `sized` begin with their length in bytes.

use std::{fmt, sync::OnceLock};

use crate::{
    clock::Clock,
    days::{Calendar, Profiles},
    reader::Reader,
};

/// Why bytes are not calendar data. Each names the part that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataError {
    /// The bytes do not begin as calendar data does.
    NotCalendarData,
    /// The data is in a format of this number, which this version does not read.
    UnknownFormat(u8),
    /// The checksum does not fit: the bytes were damaged or cut on their way.
    Damaged,
    /// The bytes end inside this part.
    Truncated(&'static str),
    /// This part has bytes after its end.
    TrailingBytes(&'static str),
    /// A number or text of this part is not one it can have.
    OutOfRange(&'static str),
    /// This begins before the one before it ends.
    OutOfOrder(&'static str),
    /// The same name twice, in this part.
    Duplicate(&'static str),
}

/// The bytes of a data file, unpacked.
///
/// ```
/// use bellwether_calendar::{CalendarData, Calendars};
///
/// assert!(CalendarData::read(b"something else").is_err());
/// let calendars = Calendars::new(CalendarData::embedded()?)?;
/// assert!(calendars.markets().len() > 71);
/// # Ok::<(), bellwether_calendar::DataError>(())
/// ```
pub struct CalendarData {
    body: Vec<u8>,
}

/// The parts of a data file. Calendars and clocks stay bytes until one is asked for.
pub(crate) struct Data<'d> {
    pub(crate) version: &'d str,
    pub(crate) notice: &'d str,
    /// Who says what no layer says.
    pub(crate) reference: &'d str,
    pub(crate) profiles: Profiles,
    pub(crate) texts: Vec<&'d str>,
    pub(crate) names: Vec<Name<'d>>,
    /// Where a name is: at its hash, or at the next places up to an empty one. Each is one more than the name's index.
    /// At most half full, and a power of two long.
    slots: Box<[u32]>,
    pub(crate) markets: Vec<MarketRow<'d>>,
    clocks: Vec<&'d [u8]>,
    calendars: Vec<&'d [u8]>,
}

/// A name or an alias, and the index of its market.
pub(crate) struct Name<'d> {
    pub(crate) hash: u64,
    pub(crate) text: &'d str,
    pub(crate) market: usize,
}

/// One market and which calendar it keeps.
pub(crate) struct MarketRow<'d> {
    pub(crate) name: &'d str,
    pub(crate) title: &'d str,
    pub(crate) calendar: usize,
    /// Whether it is a market that the reference does not have.
    pub(crate) own: bool,
    /// How many of its calendar's first days it leaves out.
    pub(crate) skipped_days: usize,
    /// How many it has after those, and how many of them rest on published dates.
    pub(crate) day_count: usize,
    pub(crate) published_days: usize,
    pub(crate) layer: &'d [u8],
}

static EMBEDDED: &[u8] = include_bytes!("../data/calendars.bin");

const MAGIC: &[u8] = b"BWCAL";
const FORMAT: u8 = 2;
/// The embedded data has 61 KB.
const BODY_BYTES_MAX: u32 = 16 << 20;
const CLOCKS_MAX: usize = 1024;
const CALENDARS_MAX: usize = 1024;
const MARKETS_MAX: usize = 4096;
const NAMES_MAX: usize = 1 << 16;
/// The contract's own limit for a market's name, and for a description's version.
const NAME_BYTES_MAX: usize = 64;
const TITLE_BYTES_MAX: usize = 256;
const NOTICE_BYTES_MAX: usize = 16 * 1024;
const TEXTS_MAX: usize = 1 << 16;
/// The contract's limit for a note or a source.
const TEXT_BYTES_MAX: usize = 256;

impl CalendarData {
    /// The data this crate was built with. Unpacked when it is first asked for.
    ///
    /// # Errors
    /// None with the data as it was released: the tests verify it.
    pub fn embedded() -> Result<&'static CalendarData, DataError> {
        static UNPACKED: OnceLock<Result<CalendarData, DataError>> = OnceLock::new();
        UNPACKED.get_or_init(|| CalendarData::unpack(EMBEDDED).map(|(data, _)| data)).as_ref().map_err(|error| *error)
    }

    /// Data from elsewhere, such as an operator's file.
    ///
    /// # Errors
    /// It is not calendar data, or was damaged on its way.
    pub fn read(file: &[u8]) -> Result<CalendarData, DataError> {
        let (data, checksum) = CalendarData::unpack(file)?;
        if fnv1a(&data.body) == checksum { Ok(data) } else { Err(DataError::Damaged) }
    }

    /// The data, and what its checksum should be.
    fn unpack(file: &[u8]) -> Result<(CalendarData, u64), DataError> {
        let rest = file.strip_prefix(MAGIC).ok_or(DataError::NotCalendarData)?;
        let (&format, rest) = rest.split_first().ok_or(DataError::Truncated("format"))?;
        if format != FORMAT {
            return Err(DataError::UnknownFormat(format));
        }
        let (checksum, rest) = rest.split_first_chunk().ok_or(DataError::Truncated("checksum"))?;
        let (length, packed) = rest.split_first_chunk().ok_or(DataError::Truncated("length"))?;
        let length = u32::from_le_bytes(*length);
        if length > BODY_BYTES_MAX {
            return Err(DataError::OutOfRange("length"));
        }
        let mut body = vec![0; length as usize];
        match lz4_flex::block::decompress_into(packed, &mut body) {
            Ok(written) if written == body.len() => Ok((CalendarData { body }, u64::from_le_bytes(*checksum))),
            _ => Err(DataError::Damaged),
        }
    }
}

impl<'d> Data<'d> {
    /// Reads all but the calendars themselves.
    pub(crate) fn open(data: &'d CalendarData) -> Result<Self, DataError> {
        let mut reader = Reader::new(&data.body);
        let version = reader.text("data version", NAME_BYTES_MAX)?;
        let notice = reader.text("notice", NOTICE_BYTES_MAX)?;
        let reference = reader.text("reference", TEXT_BYTES_MAX)?;
        let clocks = decode_parts(reader.sized("clocks")?, "clocks", CLOCKS_MAX)?;
        let profiles = Profiles::decode(reader.sized("profiles")?)?;
        let calendars = decode_parts(reader.sized("calendars")?, "calendars", CALENDARS_MAX)?;
        let texts = decode_texts(reader.sized("texts")?)?;
        let names = decode_names(reader.sized("names")?)?;
        let markets = decode_markets(reader.sized("markets")?, &names, calendars.len())?;
        if names.iter().any(|name| name.market >= markets.len()) {
            return Err(DataError::OutOfRange("market of a name"));
        }
        reader.end("data")?;
        let slots = place(&names);
        Ok(Data { version, notice, reference, profiles, texts, names, slots, markets, clocks, calendars })
    }

    /// The index of the market that has this name or alias.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let mut slot = fnv1a(name.as_bytes()) as usize;
        loop {
            let index = self.slots.get(slot & (self.slots.len() - 1))?.checked_sub(1)?;
            let found = self.names.get(index as usize)?;
            if found.text == name {
                return Some(found.market);
            }
            slot += 1;
        }
    }

    pub(crate) fn calendar(&self, index: usize) -> Result<(Calendar<'d>, Clock), DataError> {
        let bytes = self.calendars.get(index).ok_or(DataError::OutOfRange("calendar of a market"))?;
        let calendar = Calendar::decode(bytes, self.clocks.len())?;
        let clock = self.clocks.get(calendar.clock).ok_or(DataError::OutOfRange("clock of a calendar"))?;
        Ok((calendar, Clock::decode(clock)?))
    }
}

fn decode_parts<'d>(bytes: &'d [u8], what: &'static str, max: usize) -> Result<Vec<&'d [u8]>, DataError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(what, max)?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        parts.push(reader.sized(what)?);
    }
    reader.end(what)?;
    Ok(parts)
}

fn decode_texts(bytes: &[u8]) -> Result<Vec<&str>, DataError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("texts", TEXTS_MAX)?;
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        texts.push(reader.text("text", TEXT_BYTES_MAX)?);
    }
    reader.end("texts")?;
    Ok(texts)
}

fn decode_names(bytes: &[u8]) -> Result<Vec<Name<'_>>, DataError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("names", NAMES_MAX)?;
    let mut names: Vec<Name<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        let text = reader.text("name", NAME_BYTES_MAX)?;
        let hash = fnv1a(text.as_bytes());
        let market = reader.number("market of a name")? as usize;
        if names.last().is_some_and(|before| before.text == text) {
            return Err(DataError::Duplicate("market"));
        }
        if names.last().is_some_and(|before| before.hash >= hash) {
            return Err(DataError::OutOfOrder("name"));
        }
        names.push(Name { hash, text, market });
    }
    reader.end("names")?;
    Ok(names)
}

/// A place for each name, found by its hash.
fn place(names: &[Name<'_>]) -> Box<[u32]> {
    let mut slots = vec![0; (names.len() * 2).next_power_of_two()].into_boxed_slice();
    let mask = slots.len() - 1;
    for (number, name) in (1..).zip(names) {
        let mut slot = name.hash as usize & mask;
        while slots.get(slot).is_some_and(|taken| *taken > 0) {
            slot = (slot + 1) & mask;
        }
        if let Some(free) = slots.get_mut(slot) {
            *free = number;
        }
    }
    slots
}

fn decode_markets<'d>(bytes: &'d [u8], names: &[Name<'d>], calendars: usize) -> Result<Vec<MarketRow<'d>>, DataError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("markets", MARKETS_MAX)?;
    let mut markets: Vec<MarketRow<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = names.get(reader.number("market name")? as usize).ok_or(DataError::OutOfRange("market name"))?.text;
        let title = reader.text("market title", TITLE_BYTES_MAX)?;
        let calendar = reader.number("calendar of a market")? as usize;
        if calendar >= calendars {
            return Err(DataError::OutOfRange("calendar of a market"));
        }
        if markets.last().is_some_and(|before| before.name >= name) {
            return Err(DataError::OutOfOrder("market name"));
        }
        markets.push(MarketRow {
            name,
            title,
            calendar,
            own: reader.bounded("kind of a market", 1)? == 1,
            skipped_days: reader.number("skipped days")? as usize,
            day_count: reader.number("days of a market")? as usize,
            published_days: reader.number("published days of a market")? as usize,
            layer: reader.sized("layer")?,
        });
    }
    reader.end("markets")?;
    Ok(markets)
}

/// FNV-1a of 64 bits: the file's checksum, and how market names are looked up.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// The digest of what `digest` is of, and these bytes behind it.
pub(crate) fn fnv1a_on(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, &byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

// === impl DataError ===

impl fmt::Display for DataError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::NotCalendarData => write!(out, "not calendar data: it must begin with \"BWCAL\""),
            DataError::UnknownFormat(format) => {
                write!(out, "calendar data of format {format}; this version reads format {FORMAT}")
            }
            DataError::Damaged => write!(out, "calendar data is damaged: the checksum does not fit"),
            DataError::Truncated(what) => write!(out, "calendar data ends inside: {what}"),
            DataError::TrailingBytes(what) => write!(out, "calendar data has bytes after the end of: {what}"),
            DataError::OutOfRange(what) => write!(out, "calendar data has an impossible value for: {what}"),
            DataError::OutOfOrder(what) => write!(out, "calendar data is out of order at: {what}"),
            DataError::Duplicate(what) => write!(out, "calendar data has the same name twice: {what}"),
        }
    }
}

impl std::error::Error for DataError {}
