//! Commands on the members of one sorted set. Ranges: `sorted_set_ranges.rs`; several sets: `sorted_set_combine.rs`.

use super::{
    call::{self, Call, Error, is},
    list_moves,
    sorted_set::{Scored, SortedSet},
};

/// The options of ZADD.
#[derive(Default)]
struct Options {
    absent_only: bool,
    present_only: bool,
    greater_only: bool,
    less_only: bool,
    count_changed: bool,
    increment: bool,
}

/// What adding one member did.
#[derive(Clone, Copy, PartialEq)]
enum Added {
    No,
    New(f64),
    Changed(f64),
    Same(f64),
}

pub(super) fn zadd(call: &mut Call<'_>) -> Result<(), Error> {
    let mut options = Options::default();
    let mut pairs = call.args_from(2);
    while let [word, tail @ ..] = pairs
        && options.take(word)
    {
        pairs = tail;
    }
    add(call, &options, pairs)
}

pub(super) fn zincrby(call: &mut Call<'_>) -> Result<(), Error> {
    add(call, &Options { increment: true, ..Options::default() }, call.args_from(2))
}

pub(super) fn zrem(call: &mut Call<'_>) -> Result<(), Error> {
    let members = call.args_from(2);
    let removed = call.keys.edit_present(call.arg(1), |set: &mut SortedSet| {
        let removed = members.iter().filter(|member| set.remove(member)).count();
        Ok((removed, removed > 0))
    })?;
    call.reply.count(removed.unwrap_or(0));
    Ok(())
}

pub(super) fn zscore(call: &mut Call<'_>) -> Result<(), Error> {
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    call.reply.double_or_nil(set.and_then(|set| set.score(call.arg(2))));
    Ok(())
}

pub(super) fn zmscore(call: &mut Call<'_>) -> Result<(), Error> {
    let members = call.args_from(2);
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    call.reply.array(members.len());
    for member in members {
        call.reply.double_or_nil(set.and_then(|set| set.score(member)));
    }
    Ok(())
}

pub(super) fn zcard(call: &mut Call<'_>) -> Result<(), Error> {
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    call.reply.count(set.map_or(0, SortedSet::len));
    Ok(())
}

pub(super) fn zrank(call: &mut Call<'_>) -> Result<(), Error> {
    rank(call, false)
}

pub(super) fn zrevrank(call: &mut Call<'_>) -> Result<(), Error> {
    rank(call, true)
}

pub(super) fn zpopmin(call: &mut Call<'_>) -> Result<(), Error> {
    pop(call, false)
}

pub(super) fn zpopmax(call: &mut Call<'_>) -> Result<(), Error> {
    pop(call, true)
}

pub(super) fn zmpop(call: &mut Call<'_>) -> Result<(), Error> {
    let (keys, rest) = list_moves::numbered_keys(call.args_from(1))?;
    let (last, options) = match rest {
        [word, options @ ..] if is(word, "MIN") => (false, options),
        [word, options @ ..] if is(word, "MAX") => (true, options),
        _ => return Err(Error::SYNTAX),
    };
    let count = list_moves::pop_count(options)?;
    for key in keys {
        if let Some(popped) = take(call, key, last, count)? {
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.array(popped.len());
            for (member, score) in &popped {
                call.reply.array(2);
                call.reply.bulk(member);
                call.reply.double(*score);
            }
            return Ok(());
        }
    }
    call.reply.nil_array();
    Ok(())
}

pub(super) fn zrandmember(call: &mut Call<'_>) -> Result<(), Error> {
    let count = if call.args.len() > 2 { Some(call::random_count(call.arg(2))?) } else { None };
    let with_scores = match call.args_from(3) {
        [] => false,
        [word] if is(word, "WITHSCORES") => true,
        _ => return Err(Error::SYNTAX),
    };
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    let Some(count) = count else {
        let index = call.server.random.below(set.map_or(0, SortedSet::len));
        call.reply.bulk_or_nil(set.and_then(|set| set.at(index)).map(|(member, _)| member));
        return Ok(());
    };
    let picks = call.server.random.picks(count, set.map_or(0, SortedSet::len))?;
    match with_scores {
        true => call.reply.pairs(picks.len()),
        false => call.reply.array(picks.len()),
    }
    for index in picks.iter(&mut call.server.random) {
        let Some((member, score)) = set.and_then(|set| set.at(index)) else {
            continue;
        };
        if call.reply.is_full {
            break;
        }
        if with_scores {
            call.reply.pair();
            call.reply.bulk(member);
            call.reply.double(score);
        } else {
            call.reply.bulk(member);
        }
    }
    Ok(())
}

fn add(call: &mut Call<'_>, options: &Options, pairs: &[&[u8]]) -> Result<(), Error> {
    options.check(pairs)?;
    let scored = pairs
        .chunks_exact(2)
        .map(|pair| match pair {
            [score, member] => Ok((*member, call::double(score)?)),
            _ => Err(Error::SYNTAX),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut done = Vec::with_capacity(scored.len());
    call.keys.edit(call.arg(1), |set: &mut SortedSet| {
        for (member, score) in scored {
            done.push(options.apply(set, member, score)?);
        }
        Ok(((), done.iter().any(|added| matches!(added, Added::New(_) | Added::Changed(_)))))
    })?;
    if options.increment {
        let score = match done.first() {
            Some(Added::New(score) | Added::Changed(score) | Added::Same(score)) => Some(*score),
            Some(Added::No) | None => None,
        };
        call.reply.double_or_nil(score);
    } else {
        let counts = |added: &&Added| match added {
            Added::New(_) => true,
            Added::Changed(_) => options.count_changed,
            Added::No | Added::Same(_) => false,
        };
        call.reply.count(done.iter().filter(counts).count());
    }
    Ok(())
}

fn rank(call: &mut Call<'_>, reverse: bool) -> Result<(), Error> {
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    match set.and_then(|set| set.rank(call.arg(2), reverse)) {
        Some(rank) => call.reply.count(rank),
        None => call.reply.nil(),
    }
    Ok(())
}

fn pop(call: &mut Call<'_>, last: bool) -> Result<(), Error> {
    let count = match call.args_from(2) {
        [] => None,
        [count] => Some(call::count(count)?),
        _ => return Err(Error::SYNTAX),
    };
    let popped = take(call, call.arg(1), last, count.unwrap_or(1))?.unwrap_or_default();
    // Without a count the one pair is flat in RESP3, too.
    match count {
        None => call.reply.array(popped.len() * 2),
        Some(_) => call.reply.pairs(popped.len()),
    }
    for (member, score) in &popped {
        if count.is_some() {
            call.reply.pair();
        }
        call.reply.bulk(member);
        call.reply.double(*score);
    }
    Ok(())
}

fn take(call: &mut Call<'_>, key: &[u8], last: bool, count: usize) -> Result<Option<Vec<Scored>>, Error> {
    call.keys.edit_present(key, |set: &mut SortedSet| {
        let popped: Vec<_> = std::iter::from_fn(|| set.pop(last)).take(count).collect();
        let changed = !popped.is_empty();
        Ok((popped, changed))
    })
}

// === impl Options ===

impl Options {
    /// Notes the option, when the word is one.
    fn take(&mut self, word: &[u8]) -> bool {
        let option = match word.to_ascii_uppercase().as_slice() {
            b"NX" => &mut self.absent_only,
            b"XX" => &mut self.present_only,
            b"GT" => &mut self.greater_only,
            b"LT" => &mut self.less_only,
            b"CH" => &mut self.count_changed,
            b"INCR" => &mut self.increment,
            _ => return false,
        };
        *option = true;
        true
    }

    fn check(&self, pairs: &[&[u8]]) -> Result<(), Error> {
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(Error::SYNTAX);
        }
        if self.absent_only && self.present_only {
            return Err(Error::fixed("ERR XX and NX options at the same time are not compatible"));
        }
        if u8::from(self.absent_only) + u8::from(self.greater_only) + u8::from(self.less_only) > 1 {
            return Err(Error::fixed("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && pairs.len() > 2 {
            return Err(Error::fixed("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    fn apply(&self, set: &mut SortedSet, member: &[u8], score: f64) -> Result<Added, Error> {
        let Some(old) = set.score(member) else {
            if self.present_only {
                return Ok(Added::No);
            }
            set.insert(member, score);
            return Ok(Added::New(score));
        };
        if self.absent_only {
            return Ok(Added::No);
        }
        let score = if self.increment { old + score } else { score };
        if score.is_nan() {
            return Err(Error::fixed("ERR resulting score is not a number (NaN)"));
        }
        if (self.less_only && score >= old) || (self.greater_only && score <= old) {
            return Ok(Added::No);
        }
        if score == old {
            return Ok(Added::Same(score));
        }
        set.insert(member, score);
        Ok(Added::Changed(score))
    }
}
