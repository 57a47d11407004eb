//! Commands on one list: its ends, its positions, its ranges. Those that move elements between lists: `list_moves.rs`.

use super::{
    call::{self, Call, Error, integer, is},
    sorted_set::positions,
    value::{End, List},
};

/// Which equal elements LPOS gives.
struct Search {
    /// The first match given, from 1; negative: from the tail.
    rank: i64,
    /// How many matches, 0 being all; none: only the first, not as an array.
    count: Option<usize>,
    /// How many elements are compared, 0 being all.
    length_max: usize,
}

pub(super) fn lpush(call: &mut Call<'_>) -> Result<(), Error> {
    push(call, End::Head)
}

pub(super) fn rpush(call: &mut Call<'_>) -> Result<(), Error> {
    push(call, End::Tail)
}

pub(super) fn lpushx(call: &mut Call<'_>) -> Result<(), Error> {
    push_present(call, End::Head)
}

pub(super) fn rpushx(call: &mut Call<'_>) -> Result<(), Error> {
    push_present(call, End::Tail)
}

pub(super) fn lpop(call: &mut Call<'_>) -> Result<(), Error> {
    pop(call, End::Head)
}

pub(super) fn rpop(call: &mut Call<'_>) -> Result<(), Error> {
    pop(call, End::Tail)
}

pub(super) fn llen(call: &mut Call<'_>) -> Result<(), Error> {
    let list = call.keys.read::<List>(call.arg(1))?;
    call.reply.count(list.map_or(0, List::len));
    Ok(())
}

pub(super) fn lrange(call: &mut Call<'_>) -> Result<(), Error> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let list = call.keys.read::<List>(call.arg(1))?;
    let (start, count) = positions(start, end, list.map_or(0, List::len)).unwrap_or((0, 0));
    call.reply.array(count);
    for element in list.into_iter().flat_map(List::iter).skip(start).take(count) {
        call.reply.bulk(element);
    }
    Ok(())
}

pub(super) fn lindex(call: &mut Call<'_>) -> Result<(), Error> {
    let list = call.keys.read::<List>(call.arg(1))?;
    let Some(list) = list else {
        call.reply.nil();
        return Ok(());
    };
    let index = position(integer(call.arg(2))?, list.len());
    call.reply.bulk_or_nil(index.and_then(|index| list.get(index)));
    Ok(())
}

pub(super) fn lset(call: &mut Call<'_>) -> Result<(), Error> {
    let (index, element) = (call.arg(2), call.arg(3));
    let set = call.keys.edit_present(call.arg(1), |list: &mut List| {
        let index = position(integer(index)?, list.len());
        match index.is_some_and(|index| list.set(index, element)) {
            true => Ok(((), true)),
            false => Err(Error::fixed("ERR index out of range")),
        }
    })?;
    set.ok_or(Error::NO_SUCH_KEY)?;
    call.reply.ok();
    Ok(())
}

pub(super) fn linsert(call: &mut Call<'_>) -> Result<(), Error> {
    let (pivot, element) = (call.arg(3), call.arg(4));
    let behind = match call.arg(2) {
        place if is(place, "BEFORE") => 0,
        place if is(place, "AFTER") => 1,
        _ => return Err(Error::SYNTAX),
    };
    let length = call.keys.edit_present(call.arg(1), |list: &mut List| {
        let found = list.iter().position(|other| other == pivot);
        let Some(index) = found else { return Ok((-1, false)) };
        list.insert(index + behind, element);
        Ok((i64::try_from(list.len()).unwrap_or(i64::MAX), true))
    })?;
    call.reply.integer(length.unwrap_or(0));
    Ok(())
}

pub(super) fn lrem(call: &mut Call<'_>) -> Result<(), Error> {
    let (count, element) = (call.integer(2)?, call.arg(3));
    let from = if count < 0 { End::Tail } else { End::Head };
    let count_max = match count {
        0 => usize::MAX,
        count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let removed = call.keys.edit_present(call.arg(1), |list: &mut List| {
        let removed = list.remove_equal(element, from, count_max);
        Ok((removed, removed > 0))
    })?;
    call.reply.count(removed.unwrap_or(0));
    Ok(())
}

pub(super) fn ltrim(call: &mut Call<'_>) -> Result<(), Error> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    call.keys.edit_present(call.arg(1), |list: &mut List| {
        let (start, count) = positions(start, end, list.len()).unwrap_or((0, 0));
        list.keep_range(start, count);
        Ok(((), true))
    })?;
    call.reply.ok();
    Ok(())
}

pub(super) fn lpos(call: &mut Call<'_>) -> Result<(), Error> {
    let element = call.arg(2);
    let search = Search::parse(call.args_from(3))?;
    let list = call.keys.read::<List>(call.arg(1))?;
    let found = list.map_or_else(Vec::new, |list| search.find(list, element));
    match search.count {
        Some(_) => {
            call.reply.array(found.len());
            found.iter().for_each(|index| call.reply.count(*index));
        }
        None => match found.first() {
            Some(index) => call.reply.count(*index),
            None => call.reply.nil(),
        },
    }
    Ok(())
}

fn push(call: &mut Call<'_>, end: End) -> Result<(), Error> {
    let elements = call.args_from(2);
    let length = call.keys.edit(call.arg(1), |list: &mut List| Ok((push_all(list, end, elements), true)))?;
    call.reply.count(length);
    Ok(())
}

fn push_present(call: &mut Call<'_>, end: End) -> Result<(), Error> {
    let elements = call.args_from(2);
    let length = call.keys.edit_present(call.arg(1), |list: &mut List| Ok((push_all(list, end, elements), true)))?;
    call.reply.count(length.unwrap_or(0));
    Ok(())
}

fn push_all(list: &mut List, end: End, elements: &[&[u8]]) -> usize {
    elements.iter().for_each(|element| list.push(end, element));
    list.len()
}

fn pop(call: &mut Call<'_>, end: End) -> Result<(), Error> {
    let count = match call.args_from(2) {
        [] => None,
        [count] => Some(call::count(count)?),
        _ => {
            return Err(Error::about(format!("ERR wrong number of arguments for '{}' command", call.name())));
        }
    };
    let popped = call.keys.edit_present(call.arg(1), |list: &mut List| {
        let popped: Vec<_> = std::iter::from_fn(|| list.pop(end)).take(count.unwrap_or(1)).collect();
        let changed = !popped.is_empty();
        Ok((popped, changed))
    })?;
    match (count, popped) {
        (None, popped) => call.reply.bulk_or_nil(popped.iter().flatten().next().map(AsRef::as_ref)),
        (Some(_), None) => call.reply.nil_array(),
        (Some(_), Some(popped)) => {
            call.reply.array(popped.len());
            popped.iter().for_each(|element| call.reply.bulk(element));
        }
    }
    Ok(())
}

/// A position, negative ones counted from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

// === impl Search ===

impl Search {
    fn parse(mut rest: &[&[u8]]) -> Result<Self, Error> {
        let mut search = Self { rank: 1, count: None, length_max: 0 };
        let positive = |value: &[u8], error| call::count(value).map_err(|_| Error::fixed(error));
        while let [word, value, tail @ ..] = rest {
            match word.to_ascii_uppercase().as_slice() {
                b"RANK" => search.rank = rank(value)?,
                b"COUNT" => search.count = Some(positive(value, "ERR COUNT can't be negative")?),
                b"MAXLEN" => search.length_max = positive(value, "ERR MAXLEN can't be negative")?,
                _ => return Err(Error::SYNTAX),
            }
            rest = tail;
        }
        if rest.is_empty() { Ok(search) } else { Err(Error::SYNTAX) }
    }

    fn find(&self, list: &List, element: &[u8]) -> Vec<usize> {
        let all_if_zero = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        let skip = usize::try_from(self.rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
        let take = all_if_zero(self.count.unwrap_or(1));
        let compared = all_if_zero(self.length_max);
        let equal = |(index, other): (usize, &[u8])| (other == element).then_some(index);
        if self.rank > 0 {
            list.iter().enumerate().take(compared).filter_map(equal).skip(skip).take(take).collect()
        } else {
            list.iter().enumerate().rev().take(compared).filter_map(equal).skip(skip).take(take).collect()
        }
    }
}

fn rank(value: &[u8]) -> Result<i64, Error> {
    match integer(value)? {
        0 => Err(Error::fixed(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to \
             start from the end of the list",
        )),
        i64::MIN => Err(Error::RANGE),
        rank => Ok(rank),
    }
}
