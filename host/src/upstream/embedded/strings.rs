//! Commands on strings, but for SET's family of options (`set.rs`), counters (`counters.rs`) and bits (`bits.rs`).

use super::{
    call::{Args, Call, Error},
    keyspace::Keyspace,
    value::{Kind, Value},
};

/// The longest string: the server's `proto-max-bulk-len` as it comes.
pub(super) const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

pub(super) fn get(call: &mut Call<'_>) -> Result<(), Error> {
    let value = call.keys.read::<Vec<u8>>(call.arg(1))?;
    call.reply.bulk_or_nil(value.map(Vec::as_slice));
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_>) -> Result<(), Error> {
    let key = call.arg(1);
    get(call)?;
    call.keys.take(key);
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, value) = (call.arg(1), call.arg(2));
    get(call)?;
    call.keys.put(key, value.to_vec().into_value(), None);
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_>) -> Result<(), Error> {
    let keys = call.args_from(1);
    call.reply.array(keys.len());
    for key in keys {
        // A key of another kind is nothing to MGET, and no error.
        let value = call.keys.read::<Vec<u8>>(key).unwrap_or_default();
        call.reply.bulk_or_nil(value.map(Vec::as_slice));
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_>) -> Result<(), Error> {
    let pairs = pairs(call)?;
    put_all(call.keys, pairs);
    call.reply.ok();
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_>) -> Result<(), Error> {
    let pairs = pairs(call)?;
    let free = !pairs.iter().step_by(2).any(|key| call.keys.contains(key));
    if free {
        put_all(call.keys, pairs);
    }
    call.reply.boolean(free);
    Ok(())
}

pub(super) fn append(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, tail) = (call.arg(1), call.arg(2));
    let length = call.keys.edit(key, |value: &mut Vec<u8>| {
        if value.len() + tail.len() > STRING_BYTES_MAX {
            return Err(Error::STRING_TOO_LONG);
        }
        value.extend_from_slice(tail);
        Ok((value.len(), true))
    })?;
    call.reply.count(length);
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_>) -> Result<(), Error> {
    let value = call.keys.read::<Vec<u8>>(call.arg(1))?;
    call.reply.count(value.map_or(0, Vec::len));
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_>) -> Result<(), Error> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let value = call.keys.read::<Vec<u8>>(call.arg(1))?.map_or(&[][..], Vec::as_slice);
    let part = byte_range(start, end, value.len()).and_then(|(start, end)| value.get(start..=end));
    call.reply.bulk(part.unwrap_or_default());
    Ok(())
}

pub(super) fn setrange(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, patch) = (call.arg(1), call.arg(3));
    let offset = usize::try_from(call.integer(2)?).map_err(|_| Error::fixed("ERR offset is out of range"))?;
    let room = call.server.limits.memory_bytes_max.saturating_sub(call.keys.used_bytes());
    let length = call.keys.edit(key, |value: &mut Vec<u8>| {
        if patch.is_empty() {
            return Ok((value.len(), false));
        }
        let end = offset.saturating_add(patch.len());
        grow(value, end, room)?;
        if let Some(target) = value.get_mut(offset..end) {
            target.copy_from_slice(patch);
        }
        Ok((value.len(), true))
    })?;
    call.reply.count(length);
    Ok(())
}

/// Makes the value at least that long, with zeros, when the longest string and the memory left allow it.
pub(super) fn grow(value: &mut Vec<u8>, length: usize, room_bytes: usize) -> Result<(), Error> {
    if length > STRING_BYTES_MAX {
        return Err(Error::STRING_TOO_LONG);
    }
    if length.saturating_sub(value.len()) > room_bytes {
        return Err(Error::OUT_OF_MEMORY);
    }
    if length > value.len() {
        value.resize(length, 0);
    }
    Ok(())
}

/// The first and the last position of a range as GETRANGE reads it, negative positions counted from the end.
pub(super) fn byte_range(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let length = i64::try_from(length).ok()?;
    // A range wholly before the front is empty only when it is the wrong way round; else it is the first byte.
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |index: i64| {
        if index < 0 { index.saturating_add(length).max(0) } else { index }
    };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}

/// Keys and values by turns.
fn pairs<'a>(call: &Call<'a>) -> Result<Args<'a>, Error> {
    let pairs = call.args_from(1);
    if pairs.len().is_multiple_of(2) {
        return Ok(pairs);
    }
    Err(Error::about(format!("ERR wrong number of arguments for '{}' command", call.name())))
}

fn put_all(keys: &mut Keyspace, pairs: &[&[u8]]) {
    for pair in pairs.chunks_exact(2) {
        if let [key, value] = pair {
            keys.put(key, Value::String(value.to_vec()), None);
        }
    }
}
