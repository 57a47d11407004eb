//! SORT, without patterns: BY and GET read other keys, and are not here.

use std::cmp::Ordering;

use super::{
    call::{Args, Call, Error, integer, is},
    number,
    value::{End, Kind, List, Value},
};

/// What SORT is asked for.
#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alphabetic: bool,
    limit: Option<(i64, i64)>,
    target: Option<&'a [u8]>,
}

pub(super) fn sort(call: &mut Call<'_>) -> Result<(), Error> {
    let options = Options::parse(call.args_from(2))?;
    let elements: Vec<&[u8]> = match call.keys.entry(call.arg(1)).map(|entry| &entry.value) {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter().collect(),
        Some(Value::Set(set)) => set.iter().collect(),
        Some(Value::SortedSet(set)) => set.iter().map(|(member, _)| member.as_ref()).collect(),
        Some(Value::String(_) | Value::Hash(_)) => return Err(Error::WRONG_TYPE),
    };
    let sorted = options.sort(elements)?;
    let Some(target) = options.target else {
        call.reply.array(sorted.len());
        sorted.iter().for_each(|element| call.reply.bulk(element));
        return Ok(());
    };
    let mut list = List::default();
    sorted.iter().for_each(|element| list.push(End::Tail, element));
    let count = list.len();
    match count {
        0 => drop(call.keys.take(target)),
        _ => call.keys.put(target, list.into_value(), None),
    }
    call.reply.count(count);
    Ok(())
}

// === impl Options ===

impl<'a> Options<'a> {
    fn parse(mut rest: Args<'a>) -> Result<Self, Error> {
        let mut options = Self::default();
        while let [word, tail @ ..] = rest {
            rest = tail;
            match (word.to_ascii_uppercase().as_slice(), tail) {
                (b"ASC", _) => options.descending = false,
                (b"DESC", _) => options.descending = true,
                (b"ALPHA", _) => options.alphabetic = true,
                (b"LIMIT", [offset, count, tail @ ..]) => {
                    options.limit = Some((integer(offset)?, integer(count)?));
                    rest = tail;
                }
                (b"STORE", [target, tail @ ..]) => {
                    options.target = Some(target);
                    rest = tail;
                }
                (b"BY", [_, ..]) => return Err(Error::absent("SORT BY")),
                (b"GET", [_, ..]) => return Err(Error::absent("SORT GET")),
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(options)
    }

    fn sort<'b>(&self, elements: Vec<&'b [u8]>) -> Result<Vec<&'b [u8]>, Error> {
        let weight = |element: &[u8]| match self.alphabetic || is(element, "") {
            true => Some(0.0),
            false => number::parse_double(element),
        };
        let mut weighed = elements
            .into_iter()
            .map(|element| weight(element).map(|weight| (weight, element)))
            .collect::<Option<Vec<_>>>()
            .ok_or(Error::fixed("ERR One or more scores can't be converted into double"))?;
        weighed.sort_by(|(one_weight, one), (other_weight, other)| {
            let order = one_weight.partial_cmp(other_weight).unwrap_or(Ordering::Equal).then_with(|| one.cmp(other));
            if self.descending { order.reverse() } else { order }
        });
        let (offset, count) = self.limit.unwrap_or((0, -1));
        let skip = usize::try_from(offset).unwrap_or(0);
        let take = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(weighed.into_iter().skip(skip).take(take).map(|(_, element)| element).collect())
    }
}
