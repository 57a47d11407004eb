//! Commands on one set, and SMOVE. Those that combine sets: `set_combine.rs`.

use super::{
    call::{self, Call, Error},
    value::Set,
};

pub(super) fn sadd(call: &mut Call<'_>) -> Result<(), Error> {
    let members = call.args_from(2);
    let added = call.keys.edit(call.arg(1), |set: &mut Set| {
        let added = members.iter().filter(|member| set.insert(member)).count();
        Ok((added, added > 0))
    })?;
    call.reply.count(added);
    Ok(())
}

pub(super) fn srem(call: &mut Call<'_>) -> Result<(), Error> {
    let members = call.args_from(2);
    let removed = call.keys.edit_present(call.arg(1), |set: &mut Set| {
        let removed = members.iter().filter(|member| set.remove(member)).count();
        Ok((removed, removed > 0))
    })?;
    call.reply.count(removed.unwrap_or(0));
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_>) -> Result<(), Error> {
    let set = call.keys.read::<Set>(call.arg(1))?;
    call.reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        call.reply.bulk(member);
    }
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>) -> Result<(), Error> {
    let set = call.keys.read::<Set>(call.arg(1))?;
    call.reply.boolean(set.is_some_and(|set| set.contains(call.arg(2))));
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_>) -> Result<(), Error> {
    let members = call.args_from(2);
    let set = call.keys.read::<Set>(call.arg(1))?;
    call.reply.array(members.len());
    for member in members {
        call.reply.boolean(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_>) -> Result<(), Error> {
    let set = call.keys.read::<Set>(call.arg(1))?;
    call.reply.count(set.map_or(0, Set::len));
    Ok(())
}

pub(super) fn spop(call: &mut Call<'_>) -> Result<(), Error> {
    let count = match call.args_from(2) {
        [] => None,
        [count] => Some(call::count(count)?),
        _ => return Err(Error::SYNTAX),
    };
    let (key, random) = (call.arg(1), &mut call.server.random);
    let popped = call.keys.edit_present(key, |set: &mut Set| {
        let take = |_| {
            let index = random.below(set.len());
            set.take_at(index)
        };
        let popped: Vec<_> = (0..count.unwrap_or(1)).map_while(take).collect();
        let changed = !popped.is_empty();
        Ok((popped, changed))
    })?;
    let popped = popped.unwrap_or_default();
    match count {
        None => call.reply.bulk_or_nil(popped.first().map(AsRef::as_ref)),
        Some(_) => {
            call.reply.set(popped.len());
            popped.iter().for_each(|member| call.reply.bulk(member));
        }
    }
    Ok(())
}

pub(super) fn srandmember(call: &mut Call<'_>) -> Result<(), Error> {
    let count = match call.args_from(2) {
        [] => None,
        [count] => Some(call::random_count(count)?),
        _ => return Err(Error::SYNTAX),
    };
    let set = call.keys.read::<Set>(call.arg(1))?;
    let Some(count) = count else {
        let index = call.server.random.below(set.map_or(0, Set::len));
        call.reply.bulk_or_nil(set.and_then(|set| set.at(index)));
        return Ok(());
    };
    let picks = call.server.random.picks(count, set.map_or(0, Set::len))?;
    call.reply.array(picks.len());
    for index in picks.iter(&mut call.server.random) {
        let Some(member) = set.and_then(|set| set.at(index)) else {
            continue;
        };
        if call.reply.is_full {
            break;
        }
        call.reply.bulk(member);
    }
    Ok(())
}

pub(super) fn smove(call: &mut Call<'_>) -> Result<(), Error> {
    let (source, target, member) = (call.arg(1), call.arg(2), call.arg(3));
    let Some(set) = call.keys.read::<Set>(source)? else {
        call.reply.boolean(false);
        return Ok(());
    };
    let present = set.contains(member);
    // The target's kind is checked before anything is taken.
    call.keys.read::<Set>(target)?;
    if present && source != target {
        call.keys.edit_present(source, |set: &mut Set| Ok((set.remove(member), true)))?;
        call.keys.edit(target, |set: &mut Set| Ok((set.insert(member), true)))?;
    }
    call.reply.boolean(present);
    Ok(())
}
