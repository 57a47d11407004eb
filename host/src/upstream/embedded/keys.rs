//! Commands on keys whatever they hold, but for expiry (`expiry.rs`), scans (`scan.rs`) and SORT (`sort.rs`).

use super::{
    call::{Call, Error, integer, is},
    glob,
};

pub(super) fn del(call: &mut Call<'_>) -> Result<(), Error> {
    let removed = call.args_from(1).iter().filter(|key| call.keys.take(key).is_some()).count();
    call.reply.count(removed);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_>) -> Result<(), Error> {
    let found = call.args_from(1).iter().filter(|key| call.keys.contains(key)).count();
    call.reply.count(found);
    Ok(())
}

pub(super) fn touch(call: &mut Call<'_>) -> Result<(), Error> {
    let now_ms = call.keys.now_ms;
    let found = call.args_from(1).iter().filter_map(|key| call.keys.entry(key));
    let count = found.inspect(|entry| entry.touch(now_ms)).count();
    call.reply.count(count);
    Ok(())
}

pub(super) fn type_of(call: &mut Call<'_>) -> Result<(), Error> {
    let name = call.keys.entry(call.arg(1)).map_or("none", |entry| entry.value.type_name());
    call.reply.simple(name);
    Ok(())
}

pub(super) fn rename(call: &mut Call<'_>) -> Result<(), Error> {
    let (source, target) = (call.arg(1), call.arg(2));
    if !call.keys.contains(source) {
        return Err(Error::NO_SUCH_KEY);
    }
    rename_present(call, source, target);
    call.reply.ok();
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_>) -> Result<(), Error> {
    let (source, target) = (call.arg(1), call.arg(2));
    if !call.keys.contains(source) {
        return Err(Error::NO_SUCH_KEY);
    }
    let free = !call.keys.contains(target);
    if free {
        rename_present(call, source, target);
    }
    call.reply.boolean(free);
    Ok(())
}

pub(super) fn copy(call: &mut Call<'_>) -> Result<(), Error> {
    let (source, target) = (call.arg(1), call.arg(2));
    let mut rest = call.args_from(3);
    let mut replace = false;
    while let [word, tail @ ..] = rest {
        rest = match tail {
            _ if is(word, "REPLACE") => {
                replace = true;
                tail
            }
            [index, tail @ ..] if is(word, "DB") => {
                database(index)?;
                tail
            }
            _ => return Err(Error::SYNTAX),
        };
    }
    if source == target {
        return Err(Error::fixed("ERR source and destination objects are the same"));
    }
    let found = call.keys.entry(source).map(|entry| (entry.value.clone(), entry.expires_at_ms));
    let copied = found.filter(|_| replace || !call.keys.contains(target));
    call.reply.boolean(copied.is_some());
    if let Some((value, expires_at_ms)) = copied {
        call.keys.put(target, value, expires_at_ms);
    }
    Ok(())
}

pub(super) fn randomkey(call: &mut Call<'_>) -> Result<(), Error> {
    // The first that is not expired, from a position drawn: a key in front of which many expired is drawn more often.
    let length = call.keys.len();
    let start = call.server.random.below(length);
    let key = (start..length).chain(0..start).find_map(|index| call.keys.at(index)).map(|(key, _)| key);
    call.reply.bulk_or_nil(key);
    Ok(())
}

pub(super) fn keys(call: &mut Call<'_>) -> Result<(), Error> {
    let pattern = call.arg(1);
    let names = (0..call.keys.len()).filter_map(|index| call.keys.at(index)).map(|(key, _)| key);
    let found: Vec<&[u8]> = names.filter(|key| glob::matches(pattern, key)).collect();
    call.reply.array(found.len());
    found.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.count(call.keys.len());
    Ok(())
}

pub(super) fn flush(call: &mut Call<'_>) -> Result<(), Error> {
    match call.args_from(1) {
        [] => {}
        [mode] if is(mode, "ASYNC") || is(mode, "SYNC") => {}
        _ => return Err(Error::SYNTAX),
    }
    call.keys.clear();
    call.reply.ok();
    Ok(())
}

pub(super) fn object_encoding(call: &mut Call<'_>) -> Result<(), Error> {
    let encoding = call.keys.entry(call.arg(2)).map(|entry| entry.value.encoding().as_bytes());
    call.reply.bulk_or_nil(encoding);
    Ok(())
}

pub(super) fn object_refcount(call: &mut Call<'_>) -> Result<(), Error> {
    match call.keys.contains(call.arg(2)) {
        true => call.reply.count(1),
        false => call.reply.nil(),
    }
    Ok(())
}

pub(super) fn object_idletime(call: &mut Call<'_>) -> Result<(), Error> {
    match call.keys.entry(call.arg(2)) {
        Some(entry) => call.reply.integer(entry.idle_seconds(call.keys.now_ms)),
        None => call.reply.nil(),
    }
    Ok(())
}

pub(super) fn memory_usage(call: &mut Call<'_>) -> Result<(), Error> {
    match call.args_from(3) {
        [] => {}
        [word, samples] if is(word, "SAMPLES") => match integer(samples)? {
            0.. => {}
            _ => return Err(Error::SYNTAX),
        },
        _ => return Err(Error::SYNTAX),
    }
    match call.keys.entry(call.arg(2)) {
        Some(entry) => call.reply.count(entry.bytes()),
        None => call.reply.nil(),
    }
    Ok(())
}

/// Checks that the argument names the one database.
pub(super) fn database(index: &[u8]) -> Result<(), Error> {
    match integer(index)? {
        0 => Ok(()),
        _ => Err(Error::fixed("ERR DB index is out of range")),
    }
}

fn rename_present(call: &mut Call<'_>, source: &[u8], target: &[u8]) {
    if source == target {
        return;
    }
    if let Some(entry) = call.keys.take(source) {
        call.keys.put(target, entry.value, entry.expires_at_ms);
    }
}
