//! Intersections, unions and differences of sets.

use super::{
    call::{Args, Call, Error, integer, is},
    keyspace::Keyspace,
    value::{Kind, Set},
};

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

pub(super) fn sinter(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Intersection)
}

pub(super) fn sunion(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Union)
}

pub(super) fn sdiff(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Difference)
}

pub(super) fn sinterstore(call: &mut Call<'_>) -> Result<(), Error> {
    store(call, Operation::Intersection)
}

pub(super) fn sunionstore(call: &mut Call<'_>) -> Result<(), Error> {
    store(call, Operation::Union)
}

pub(super) fn sdiffstore(call: &mut Call<'_>) -> Result<(), Error> {
    store(call, Operation::Difference)
}

pub(super) fn sintercard(call: &mut Call<'_>) -> Result<(), Error> {
    let (keys, rest) = input_keys(call.args_from(1))?;
    let limit = parse_limit(rest)?;
    let found = combine(call.keys, keys, Operation::Intersection)?;
    call.reply.count(if limit == 0 { found.len() } else { found.len().min(limit) });
    Ok(())
}

/// The limit of SINTERCARD and ZINTERCARD; 0 is none.
pub(super) fn parse_limit(mut rest: &[&[u8]]) -> Result<usize, Error> {
    let mut limit = 0;
    while let [word, value, tail @ ..] = rest
        && is(word, "LIMIT")
    {
        let value = integer(value).ok().and_then(|value| usize::try_from(value).ok());
        limit = value.ok_or(Error::fixed("ERR LIMIT can't be negative"))?;
        rest = tail;
    }
    if rest.is_empty() { Ok(limit) } else { Err(Error::SYNTAX) }
}

/// The keys behind their number, and what stands behind them.
fn input_keys<'a>(args: Args<'a>) -> Result<(Args<'a>, Args<'a>), Error> {
    let Some((count, rest)) = args.split_first() else {
        return Err(Error::SYNTAX);
    };
    let count = integer(count).ok().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or(Error::fixed("ERR numkeys should be greater than 0"))?;
    rest.split_at_checked(count).ok_or(Error::fixed("ERR Number of keys can't be greater than number of args"))
}

fn give(call: &mut Call<'_>, operation: Operation) -> Result<(), Error> {
    let found = combine(call.keys, call.args_from(1), operation)?;
    call.reply.set(found.len());
    found.iter().for_each(|member| call.reply.bulk(member));
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation) -> Result<(), Error> {
    let found = combine(call.keys, call.args_from(2), operation)?;
    let count = found.len();
    match count {
        0 => drop(call.keys.take(call.arg(1))),
        _ => call.keys.put(call.arg(1), found.into_value(), None),
    }
    call.reply.count(count);
    Ok(())
}

/// A missing key is an empty set; a key of another kind is an error, wherever it stands.
fn combine(keys: &Keyspace, names: &[&[u8]], operation: Operation) -> Result<Set, Error> {
    let sets = names.iter().map(|name| keys.read::<Set>(name)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Set::default();
    let Some((first, others)) = sets.split_first() else {
        return Ok(found);
    };
    let contains = |set: &Option<&Set>, member: &[u8]| set.is_some_and(|set| set.contains(member));
    if operation == Operation::Union {
        for member in sets.iter().flatten().flat_map(|set| set.iter()) {
            found.insert(member);
        }
        return Ok(found);
    }
    for member in first.iter().flat_map(|set| set.iter()) {
        let stays = match operation {
            Operation::Intersection => others.iter().all(|other| contains(other, member)),
            Operation::Difference | Operation::Union => !others.iter().any(|other| contains(other, member)),
        };
        if stays {
            found.insert(member);
        }
    }
    Ok(found)
}
