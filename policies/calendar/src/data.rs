//! The layout of the data file, checked on the way in.
//!
//! It owns the order of things in the file and its limits; what a calendar's own bytes mean is in `days` and `clock`.
//! A second layer of cited facts will be a section of its own: a row of it says of a market and a day which profile
//! holds instead, since when that was known and by what source; `Calendar::lay_out` is where it goes on top.
//!
//! ```text
//! file      = "BWCAL" format:u8 checksum:u64-little-endian body       checksum: FNV-1a 64 of the body
//! body      = version:text notice:text clocks:sized profiles:sized calendars:sized markets:sized
//! clocks    = n { sized: offset:s n { step offset:s } }               UTC offsets; step: UTC minutes since the last
//! profiles  = n { n { phase start:s length } }                        start: minutes from the last end, or midnight
//! calendars = n { sized: zone:text clock day-start:s first-day days published-days eras closed special }
//! eras      = n { step×7+weekday profile }                            step: days since the last era
//! closed    = n { step }                                              days without their usual session
//! special   = n { step profile }                                      days with another than their usual profile
//! markets   = n { name:text title:text n { alias:text } calendar }    in order of name
//! ```
//! Numbers are LEB128 of at most 32 bits, `:s` zigzag; `text` and `sized` begin with their length in bytes.

use std::fmt;

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

/// The parts of a data file. Calendars and clocks stay bytes until one is asked for.
pub(crate) struct Data<'d> {
    pub(crate) version: &'d str,
    pub(crate) notice: &'d str,
    pub(crate) profiles: Profiles,
    pub(crate) markets: Vec<MarketRow<'d>>,
    clocks: Vec<&'d [u8]>,
    calendars: Vec<&'d [u8]>,
    body: &'d [u8],
    checksum: u64,
}

/// One market and which calendar it keeps.
pub(crate) struct MarketRow<'d> {
    pub(crate) name: &'d str,
    pub(crate) title: &'d str,
    pub(crate) aliases: Vec<&'d str>,
    pub(crate) calendar: usize,
}

const MAGIC: &[u8] = b"BWCAL";
const FORMAT: u8 = 1;
const CLOCKS_MAX: usize = 1024;
const CALENDARS_MAX: usize = 1024;
const MARKETS_MAX: usize = 4096;
const ALIASES_MAX: usize = 64;
/// The contract's own limit for a market's name, and for a description's version.
const NAME_BYTES_MAX: usize = 64;
const TITLE_BYTES_MAX: usize = 256;
const NOTICE_BYTES_MAX: usize = 16 * 1024;

impl<'d> Data<'d> {
    /// Reads all but the calendars themselves.
    pub(crate) fn open(bytes: &'d [u8]) -> Result<Self, DataError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DataError::NotCalendarData)?;
        let (&format, rest) = rest.split_first().ok_or(DataError::Truncated("format"))?;
        if format != FORMAT {
            return Err(DataError::UnknownFormat(format));
        }
        let (checksum, body) = rest.split_first_chunk().ok_or(DataError::Truncated("checksum"))?;
        let mut reader = Reader::new(body);
        let version = reader.text("data version", NAME_BYTES_MAX)?;
        let notice = reader.text("notice", NOTICE_BYTES_MAX)?;
        let clocks = decode_parts(reader.sized("clocks")?, "clocks", CLOCKS_MAX)?;
        let profiles = Profiles::decode(reader.sized("profiles")?)?;
        let calendars = decode_parts(reader.sized("calendars")?, "calendars", CALENDARS_MAX)?;
        let markets = decode_markets(reader.sized("markets")?, calendars.len())?;
        reader.end("data")?;
        let checksum = u64::from_le_bytes(*checksum);
        Ok(Data { version, notice, profiles, markets, clocks, calendars, body, checksum })
    }

    /// Whether the body is the one the checksum was made of.
    pub(crate) fn verify(&self) -> Result<(), DataError> {
        if fnv1a(self.body) == self.checksum { Ok(()) } else { Err(DataError::Damaged) }
    }

    pub(crate) fn calendar_count(&self) -> usize {
        self.calendars.len()
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

fn decode_markets<'d>(bytes: &'d [u8], calendars: usize) -> Result<Vec<MarketRow<'d>>, DataError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("markets", MARKETS_MAX)?;
    let mut markets: Vec<MarketRow<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("market name", NAME_BYTES_MAX)?;
        let title = reader.text("market title", TITLE_BYTES_MAX)?;
        let alias_count = reader.count("market aliases", ALIASES_MAX)?;
        let mut aliases = Vec::with_capacity(alias_count);
        for _ in 0..alias_count {
            aliases.push(reader.text("market alias", NAME_BYTES_MAX)?);
        }
        let calendar = reader.number("calendar of a market")? as usize;
        if calendar >= calendars {
            return Err(DataError::OutOfRange("calendar of a market"));
        }
        if markets.last().is_some_and(|before| before.name >= name) {
            return Err(DataError::OutOfOrder("market name"));
        }
        markets.push(MarketRow { name, title, aliases, calendar });
    }
    reader.end("markets")?;
    Ok(markets)
}

/// FNV-1a of 64 bits: the file's checksum, and how market names are looked up.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest, &byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
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
