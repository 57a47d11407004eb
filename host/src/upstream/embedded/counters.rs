//! INCR and its kin.

use super::{
    call::{Call, Error, integer},
    number::{self, IncrementError},
};

/// What a sum beyond 64 bits answers.
pub(super) const OVERFLOW: Error = Error::fixed("ERR increment or decrement would overflow");

pub(super) fn incr(call: &mut Call<'_>) -> Result<(), Error> {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Result<(), Error> {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Result<(), Error> {
    let by = call.integer(2)?;
    add(call, by)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Result<(), Error> {
    let by = call.integer(2)?.checked_neg().ok_or(Error::fixed("ERR decrement would overflow"))?;
    add(call, by)
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Error> {
    let old = call.keys.read::<Vec<u8>>(call.arg(1))?.map_or(&b"0"[..], Vec::as_slice);
    let sum = number::add_decimals(old, call.arg(2)).map_err(|error| match error {
        IncrementError::NotANumber => Error::FLOAT,
        IncrementError::NotFinite => Error::fixed("ERR increment would produce NaN or Infinity"),
    })?;
    store(call, sum.as_bytes())?;
    call.reply.bulk(sum.as_bytes());
    Ok(())
}

fn add(call: &mut Call<'_>, by: i64) -> Result<(), Error> {
    let old = match call.keys.read::<Vec<u8>>(call.arg(1))? {
        Some(value) => integer(value)?,
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(OVERFLOW)?;
    store(call, itoa::Buffer::new().format(sum).as_bytes())?;
    call.reply.integer(sum);
    Ok(())
}

/// Sets the counter and leaves its expiry.
fn store(call: &mut Call<'_>, sum: &[u8]) -> Result<(), Error> {
    call.keys.edit(call.arg(1), |value: &mut Vec<u8>| {
        *value = sum.to_vec();
        Ok(((), true))
    })
}
