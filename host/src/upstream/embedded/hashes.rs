//! Commands on hashes.

use super::{
    call::{Call, Error, integer, is, random_count},
    counters,
    number::{self, IncrementError},
    value::Hash,
};

/// Which part of its fields a command gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Fields,
    Values,
}

pub(super) fn hset(call: &mut Call<'_>) -> Result<(), Error> {
    let added = put_all(call)?;
    call.reply.count(added);
    Ok(())
}

pub(super) fn hmset(call: &mut Call<'_>) -> Result<(), Error> {
    put_all(call)?;
    call.reply.ok();
    Ok(())
}

pub(super) fn hsetnx(call: &mut Call<'_>) -> Result<(), Error> {
    let (field, value) = (call.arg(2), call.arg(3));
    let added = call.keys.edit(call.arg(1), |hash: &mut Hash| {
        let free = hash.get(field).is_none();
        if free {
            hash.insert(field, value);
        }
        Ok((free, free))
    })?;
    call.reply.boolean(added);
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_>) -> Result<(), Error> {
    let value = call.keys.read::<Hash>(call.arg(1))?.and_then(|hash| hash.get(call.arg(2)));
    call.reply.bulk_or_nil(value);
    Ok(())
}

pub(super) fn hmget(call: &mut Call<'_>) -> Result<(), Error> {
    let fields = call.args_from(2);
    let hash = call.keys.read::<Hash>(call.arg(1))?;
    call.reply.array(fields.len());
    for field in fields {
        call.reply.bulk_or_nil(hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

pub(super) fn hgetall(call: &mut Call<'_>) -> Result<(), Error> {
    let hash = call.keys.read::<Hash>(call.arg(1))?;
    call.reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        call.reply.bulk(field);
        call.reply.bulk(value);
    }
    Ok(())
}

pub(super) fn hkeys(call: &mut Call<'_>) -> Result<(), Error> {
    list(call, Part::Fields)
}

pub(super) fn hvals(call: &mut Call<'_>) -> Result<(), Error> {
    list(call, Part::Values)
}

pub(super) fn hdel(call: &mut Call<'_>) -> Result<(), Error> {
    let fields = call.args_from(2);
    let removed = call.keys.edit_present(call.arg(1), |hash: &mut Hash| {
        let removed = fields.iter().filter(|field| hash.remove(field)).count();
        Ok((removed, removed > 0))
    })?;
    call.reply.count(removed.unwrap_or(0));
    Ok(())
}

pub(super) fn hexists(call: &mut Call<'_>) -> Result<(), Error> {
    let value = call.keys.read::<Hash>(call.arg(1))?.and_then(|hash| hash.get(call.arg(2)));
    call.reply.boolean(value.is_some());
    Ok(())
}

pub(super) fn hlen(call: &mut Call<'_>) -> Result<(), Error> {
    let hash = call.keys.read::<Hash>(call.arg(1))?;
    call.reply.count(hash.map_or(0, Hash::len));
    Ok(())
}

pub(super) fn hstrlen(call: &mut Call<'_>) -> Result<(), Error> {
    let value = call.keys.read::<Hash>(call.arg(1))?.and_then(|hash| hash.get(call.arg(2)));
    call.reply.count(value.map_or(0, <[u8]>::len));
    Ok(())
}

pub(super) fn hincrby(call: &mut Call<'_>) -> Result<(), Error> {
    let (field, by) = (call.arg(2), call.integer(3)?);
    let sum = call.keys.edit(call.arg(1), |hash: &mut Hash| {
        let old = match hash.get(field) {
            Some(value) => integer(value).map_err(|_| Error::fixed("ERR hash value is not an integer"))?,
            None => 0,
        };
        let sum = old.checked_add(by).ok_or(counters::OVERFLOW)?;
        hash.insert(field, itoa::Buffer::new().format(sum).as_bytes());
        Ok((sum, true))
    })?;
    call.reply.integer(sum);
    Ok(())
}

pub(super) fn hincrbyfloat(call: &mut Call<'_>) -> Result<(), Error> {
    let (field, by) = (call.arg(2), call.arg(3));
    match number::parse_double(by) {
        None => return Err(Error::FLOAT),
        Some(by) if by.is_infinite() => return Err(Error::fixed("ERR value is NaN or Infinity")),
        Some(_) => {}
    }
    let sum = call.keys.edit(call.arg(1), |hash: &mut Hash| {
        let sum = number::add_decimals(hash.get(field).unwrap_or(b"0"), by).map_err(|error| match error {
            IncrementError::NotANumber => Error::fixed("ERR hash value is not a float"),
            IncrementError::NotFinite => Error::fixed("ERR increment would produce NaN or Infinity"),
        })?;
        hash.insert(field, sum.as_bytes());
        Ok((sum, true))
    })?;
    call.reply.bulk(sum.as_bytes());
    Ok(())
}

pub(super) fn hrandfield(call: &mut Call<'_>) -> Result<(), Error> {
    let count = if call.args.len() > 2 { Some(random_count(call.arg(2))?) } else { None };
    let with_values = match call.args_from(3) {
        [] => false,
        [word] if is(word, "WITHVALUES") => true,
        _ => return Err(Error::SYNTAX),
    };
    let hash = call.keys.read::<Hash>(call.arg(1))?;
    let Some(count) = count else {
        let index = call.server.random.below(hash.map_or(0, Hash::len));
        let field = hash.and_then(|hash| hash.at(index)).map(|(field, _)| field);
        call.reply.bulk_or_nil(field);
        return Ok(());
    };
    let picks = call.server.random.picks(count, hash.map_or(0, Hash::len))?;
    match with_values {
        true => call.reply.pairs(picks.len()),
        false => call.reply.array(picks.len()),
    }
    for index in picks.iter(&mut call.server.random) {
        let Some((field, value)) = hash.and_then(|hash| hash.at(index)) else {
            continue;
        };
        if call.reply.is_full {
            break;
        }
        if with_values {
            call.reply.pair();
            call.reply.bulk(field);
            call.reply.bulk(value);
        } else {
            call.reply.bulk(field);
        }
    }
    Ok(())
}

fn put_all(call: &mut Call<'_>) -> Result<usize, Error> {
    let pairs = call.args_from(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(Error::about(format!("ERR wrong number of arguments for '{}' command", call.name())));
    }
    call.keys.edit(call.arg(1), |hash: &mut Hash| {
        let mut added = 0;
        for pair in pairs.chunks_exact(2) {
            if let [field, value] = pair {
                added += usize::from(hash.insert(field, value));
            }
        }
        Ok((added, true))
    })
}

fn list(call: &mut Call<'_>, part: Part) -> Result<(), Error> {
    let hash = call.keys.read::<Hash>(call.arg(1))?;
    call.reply.array(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        call.reply.bulk(if part == Part::Fields { field } else { value });
    }
    Ok(())
}
