//! Single bits of strings.

use crate::resp::parse_integer;

use super::{
    call::{Call, Error, is},
    strings::{self, STRING_BYTES_MAX},
};

pub(super) fn setbit(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, (byte, mask)) = (call.arg(1), offset(call.arg(2))?);
    let bit = match call.arg(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::fixed("ERR bit is not an integer or out of range")),
    };
    let room = call.server.limits.memory_bytes_max.saturating_sub(call.keys.used_bytes());
    let old = call.keys.edit(key, |value: &mut Vec<u8>| {
        strings::grow(value, byte + 1, room)?;
        let Some(target) = value.get_mut(byte) else {
            return Err(Error::STRING_TOO_LONG);
        };
        let old = *target & mask != 0;
        *target = if bit { *target | mask } else { *target & !mask };
        Ok((old, true))
    })?;
    call.reply.boolean(old);
    Ok(())
}

pub(super) fn getbit(call: &mut Call<'_>) -> Result<(), Error> {
    let (byte, mask) = offset(call.arg(2))?;
    let value = call.keys.read::<Vec<u8>>(call.arg(1))?;
    call.reply.boolean(value.and_then(|value| value.get(byte)).is_some_and(|byte| byte & mask != 0));
    Ok(())
}

pub(super) fn bitcount(call: &mut Call<'_>) -> Result<(), Error> {
    let Some(value) = call.keys.read::<Vec<u8>>(call.arg(1))? else {
        call.reply.count(0);
        return Ok(());
    };
    let range = match call.args_from(2) {
        [] => None,
        [_] => return Err(Error::SYNTAX),
        [_, _, rest @ ..] => {
            let (start, end) = (call.integer(2)?, call.integer(3)?);
            if start < 0 && end < 0 && start > end {
                call.reply.count(0);
                return Ok(());
            }
            let in_bits = match rest {
                [] => false,
                [unit] if is(unit, "BYTE") => false,
                [unit] if is(unit, "BIT") => true,
                _ => return Err(Error::SYNTAX),
            };
            Some((start, end, in_bits))
        }
    };
    let ones = match range {
        None => count_ones(value),
        Some((start, end, false)) => strings::byte_range(start, end, value.len())
            .and_then(|(start, end)| value.get(start..=end))
            .map_or(0, count_ones),
        Some((start, end, true)) => strings::byte_range(start, end, value.len().saturating_mul(8))
            .map_or(0, |(start, end)| count_ones_in_bits(value, start, end)),
    };
    call.reply.count(ones);
    Ok(())
}

/// The byte that a bit is in, and the bit in it; bits are counted from the highest.
fn offset(arg: &[u8]) -> Result<(usize, u8), Error> {
    parse_integer(arg)
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| offset / 8 < STRING_BYTES_MAX)
        .map(|offset| (offset / 8, 0x80 >> (offset % 8)))
        .ok_or(Error::fixed("ERR bit offset is not an integer or out of range"))
}

fn count_ones(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| byte.count_ones() as usize).sum()
}

/// The ones from bit `start` to bit `end`, which are both in `bytes`.
fn count_ones_in_bits(bytes: &[u8], start: usize, end: usize) -> usize {
    let whole = count_ones(bytes.get(start / 8..=end / 8).unwrap_or_default());
    let ones = |index: usize, mask: u8| bytes.get(index).map_or(0, |byte| (byte & mask).count_ones() as usize);
    let before = ones(start / 8, !(0xff >> (start % 8)));
    let behind = ones(end / 8, 0x7f >> (end % 8));
    whole - before - behind
}
