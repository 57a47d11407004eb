//! Numbers and texts out of bytes that are not trusted.
//!
//! Every length is checked against what is left before anything is allocated or sliced. It must not know what the
//! numbers mean.

use crate::DataError;

/// A place in a run of bytes.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// A LEB128 number has at most five bytes, since no number in the data is wider than 32 bits.
const NUMBER_BYTES_MAX: usize = 5;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// An unsigned LEB128 number.
    pub(crate) fn number(&mut self, what: &'static str) -> Result<u32, DataError> {
        let mut value = 0u64;
        for index in 0..NUMBER_BYTES_MAX {
            let (&byte, rest) = self.rest.split_first().ok_or(DataError::Truncated(what))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DataError::OutOfRange(what));
            }
        }
        Err(DataError::OutOfRange(what))
    }

    /// A number of either sign, zigzag in LEB128.
    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, DataError> {
        let value = i64::from(self.number(what)?);
        Ok(if value & 1 == 0 { value >> 1 } else { -(value >> 1) - 1 })
    }

    /// A number that is at most `max`.
    pub(crate) fn bounded(&mut self, what: &'static str, max: u32) -> Result<u32, DataError> {
        let value = self.number(what)?;
        if value > max { Err(DataError::OutOfRange(what)) } else { Ok(value) }
    }

    /// How many items follow: at most `max`, and no more than there are bytes left, as each takes at least one.
    pub(crate) fn count(&mut self, what: &'static str, max: usize) -> Result<usize, DataError> {
        let count = self.number(what)? as usize;
        if count > max {
            return Err(DataError::OutOfRange(what));
        }
        if count > self.rest.len() {
            return Err(DataError::Truncated(what));
        }
        Ok(count)
    }

    /// A length and as many bytes.
    pub(crate) fn sized(&mut self, what: &'static str) -> Result<&'a [u8], DataError> {
        let length = self.count(what, usize::MAX)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DataError::Truncated(what))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length and as many bytes of UTF-8, at most `bytes_max`.
    pub(crate) fn text(&mut self, what: &'static str, bytes_max: usize) -> Result<&'a str, DataError> {
        let bytes = self.sized(what)?;
        if bytes.len() > bytes_max {
            return Err(DataError::OutOfRange(what));
        }
        std::str::from_utf8(bytes).map_err(|_| DataError::OutOfRange(what))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), DataError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DataError::TrailingBytes(what)) }
    }
}
