//! A market's own clock against UTC: one table of offsets, made beside the calendar data.
//!
//! It must not know time-zone rules: every change of the clock in the covered years is a row.

use crate::{DataError, reader::Reader};

/// A clock's changes, oldest first.
pub(crate) struct Clock {
    changes: Vec<Change>,
}

/// From `local_from` on, the clock is `offset` minutes ahead of UTC.
struct Change {
    /// In minutes of the clock itself. Local times that a change skips or repeats still belong to the offset before
    /// it, as in Python's `fold=0`, which the data was made with.
    local_from: i64,
    offset: i64,
}

/// Converts local minutes that never go back, so that a whole calendar costs one pass over the changes.
pub(crate) struct ClockPass<'a> {
    changes: &'a [Change],
    offset: i64,
}

/// Real zones have two changes a year, or four; this is room for a century of them.
const CHANGES_MAX: usize = 400;
/// The widest offset of any zone is 14 hours.
const OFFSET_MINUTES_MAX: i64 = 24 * 60;

impl Clock {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        let mut reader = Reader::new(bytes);
        let mut offset = decode_offset(&mut reader)?;
        let count = reader.count("clock changes", CHANGES_MAX)?;
        let mut changes = Vec::with_capacity(count + 1);
        changes.push(Change { local_from: i64::MIN, offset });
        let mut utc = 0i64;
        for _ in 0..count {
            utc += i64::from(reader.number("clock change")?);
            let next = decode_offset(&mut reader)?;
            let local_from = utc + next.max(offset);
            if changes.last().is_some_and(|before| before.local_from >= local_from) {
                return Err(DataError::OutOfOrder("clock change"));
            }
            changes.push(Change { local_from, offset: next });
            offset = next;
        }
        reader.end("clock")?;
        Ok(Clock { changes })
    }

    pub(crate) fn pass(&self) -> ClockPass<'_> {
        ClockPass { changes: &self.changes, offset: 0 }
    }
}

impl ClockPass<'_> {
    /// The UTC minute of a local one, which must not be before the one asked for last.
    pub(crate) fn utc(&mut self, local: i64) -> i64 {
        while let Some((change, later)) = self.changes.split_first()
            && change.local_from <= local
        {
            self.offset = change.offset;
            self.changes = later;
        }
        local - self.offset
    }
}

fn decode_offset(reader: &mut Reader<'_>) -> Result<i64, DataError> {
    let offset = reader.signed("clock offset")?;
    if offset.abs() > OFFSET_MINUTES_MAX { Err(DataError::OutOfRange("clock offset")) } else { Ok(offset) }
}
