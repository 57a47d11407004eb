//! The ZRANGE family: by rank, by score, by bytes; given, stored, counted or removed.

use super::{
    call::{Call, Error, integer},
    number,
    sorted_set::{LexBound, LexRange, Query, ScoreRange, Scored, Selection, SortedSet},
    value::{Kind, Value},
};

/// What a range's two bounds are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// What stands behind the bounds.
struct Options {
    by: By,
    reverse: bool,
    with_scores: bool,
    limit: Option<(i64, i64)>,
}

/// Which options a command takes: the older ones have theirs in their name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// ZRANGE: all.
    Unified,
    /// ZRANGESTORE: all but WITHSCORES.
    Storing,
    /// The older ones.
    Named { by: By, reverse: bool },
}

pub(super) fn zrange(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Unified)
}

pub(super) fn zrevrange(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Named { by: By::Rank, reverse: true })
}

pub(super) fn zrangebyscore(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Named { by: By::Score, reverse: false })
}

pub(super) fn zrevrangebyscore(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Named { by: By::Score, reverse: true })
}

pub(super) fn zrangebylex(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Named { by: By::Lex, reverse: false })
}

pub(super) fn zrevrangebylex(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Form::Named { by: By::Lex, reverse: true })
}

pub(super) fn zrangestore(call: &mut Call<'_>) -> Result<(), Error> {
    let options = Options::parse(Form::Storing, call.args_from(5))?;
    let query = options.query(call.arg(3), call.arg(4))?;
    let found = call.keys.read::<SortedSet>(call.arg(2))?.map_or_else(Vec::new, |set| set.select(&query));
    let count = found.len();
    store(call, found);
    call.reply.count(count);
    Ok(())
}

pub(super) fn zcount(call: &mut Call<'_>) -> Result<(), Error> {
    let range = ScoreRange::parse(call.arg(2), call.arg(3))?;
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    call.reply.count(set.map_or(0, |set| set.count_scores(&range)));
    Ok(())
}

pub(super) fn zlexcount(call: &mut Call<'_>) -> Result<(), Error> {
    let range = LexRange::parse(call.arg(2), call.arg(3))?;
    let set = call.keys.read::<SortedSet>(call.arg(1))?;
    call.reply.count(set.map_or(0, |set| set.count_lex(&range)));
    Ok(())
}

pub(super) fn zremrangebyrank(call: &mut Call<'_>) -> Result<(), Error> {
    remove(call, By::Rank)
}

pub(super) fn zremrangebyscore(call: &mut Call<'_>) -> Result<(), Error> {
    remove(call, By::Score)
}

pub(super) fn zremrangebylex(call: &mut Call<'_>) -> Result<(), Error> {
    remove(call, By::Lex)
}

/// Stores members under the first argument, or removes that key when there are none.
pub(super) fn store(call: &mut Call<'_>, members: Vec<Scored>) {
    let target = call.arg(1);
    if members.is_empty() {
        call.keys.take(target);
        return;
    }
    let mut set = SortedSet::default();
    for (member, score) in members {
        set.insert(&member, score);
    }
    let value: Value = set.into_value();
    call.keys.put(target, value, None);
}

/// Gives members, with their scores when those are asked for.
pub(super) fn give_members(call: &mut Call<'_>, members: &[Scored], with_scores: bool) {
    match with_scores {
        true => call.reply.pairs(members.len()),
        false => call.reply.array(members.len()),
    }
    for (member, score) in members {
        if with_scores {
            call.reply.pair();
            call.reply.bulk(member);
            call.reply.double(*score);
        } else {
            call.reply.bulk(member);
        }
    }
}

fn give(call: &mut Call<'_>, form: Form) -> Result<(), Error> {
    let options = Options::parse(form, call.args_from(4))?;
    let query = options.query(call.arg(2), call.arg(3))?;
    let found = call.keys.read::<SortedSet>(call.arg(1))?.map_or_else(Vec::new, |set| set.select(&query));
    give_members(call, &found, options.with_scores);
    Ok(())
}

fn remove(call: &mut Call<'_>, by: By) -> Result<(), Error> {
    let options = Options { by, reverse: false, with_scores: false, limit: None };
    let query = options.query(call.arg(2), call.arg(3))?;
    let removed = call.keys.edit_present(call.arg(1), |set: &mut SortedSet| {
        let members = set.select(&query);
        let removed = members.iter().filter(|(member, _)| set.remove(member)).count();
        Ok((removed, removed > 0))
    })?;
    call.reply.count(removed.unwrap_or(0));
    Ok(())
}

// === impl Options ===

impl Options {
    fn parse(form: Form, mut rest: &[&[u8]]) -> Result<Self, Error> {
        let (by, reverse) = match form {
            Form::Unified | Form::Storing => (By::Rank, false),
            Form::Named { by, reverse } => (by, reverse),
        };
        let mut options = Self { by, reverse, with_scores: false, limit: None };
        let free = !matches!(form, Form::Named { .. });
        while let [word, tail @ ..] = rest {
            rest = tail;
            match (word.to_ascii_uppercase().as_slice(), tail) {
                (b"WITHSCORES", _) if form != Form::Storing => options.with_scores = true,
                (b"LIMIT", [offset, count, tail @ ..]) => {
                    options.limit = Some((integer(offset)?, integer(count)?));
                    rest = tail;
                }
                (b"REV", _) if free && !options.reverse => options.reverse = true,
                (b"BYSCORE", _) if free && options.by == By::Rank => options.by = By::Score,
                (b"BYLEX", _) if free && options.by == By::Rank => options.by = By::Lex,
                _ => return Err(Error::SYNTAX),
            }
        }
        options.check()
    }

    fn check(self) -> Result<Self, Error> {
        // A count of -1 is none, as if LIMIT had not been said.
        if self.limit.is_some_and(|(_, count)| count != -1) && self.by == By::Rank {
            return Err(Error::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if self.with_scores && self.by == By::Lex {
            return Err(Error::fixed("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        Ok(self)
    }

    fn query<'a>(&self, first: &'a [u8], last: &'a [u8]) -> Result<Query<'a>, Error> {
        // In reverse, the larger bound of scores and bytes comes first.
        let (min, max) = if self.reverse { (last, first) } else { (first, last) };
        let selection = match self.by {
            By::Rank => Selection::Ranks(integer(first)?, integer(last)?),
            By::Score => Selection::Scores(ScoreRange::parse(min, max)?),
            By::Lex => Selection::Lex(LexRange::parse(min, max)?),
        };
        let limit = self.limit.filter(|_| self.by != By::Rank);
        Ok(Query { selection, reverse: self.reverse, limit })
    }
}

// === impl ScoreRange ===

impl ScoreRange {
    fn parse(min: &[u8], max: &[u8]) -> Result<Self, Error> {
        let bound = |arg: &[u8]| {
            let (text, excluded) = match arg.strip_prefix(b"(") {
                Some(text) => (text, true),
                None => (arg, false),
            };
            let value = number::parse_bound(text).ok_or(Error::fixed("ERR min or max is not a float"))?;
            Ok::<_, Error>((value, excluded))
        };
        let ((min, min_excluded), (max, max_excluded)) = (bound(min)?, bound(max)?);
        Ok(Self { min, min_excluded, max, max_excluded })
    }
}

// === impl LexRange ===

impl<'a> LexRange<'a> {
    fn parse(min: &'a [u8], max: &'a [u8]) -> Result<Self, Error> {
        let bound = |arg: &'a [u8]| match arg {
            b"-" => Ok(LexBound::First),
            b"+" => Ok(LexBound::Last),
            [b'[', member @ ..] => Ok(LexBound::Included(member)),
            [b'(', member @ ..] => Ok(LexBound::Excluded(member)),
            _ => Err(Error::fixed("ERR min or max not valid string range item")),
        };
        Ok(Self { min: bound(min)?, max: bound(max)? })
    }
}
