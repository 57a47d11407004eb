//! SCAN and its kin.
//!
//! A cursor is the position that the next step ends at: a scan goes from the end of the index to its front, and 0, the
//! front, is both where it is done and, as the first cursor, "from the end". Elements move only towards the front, so
//! one that is there during the whole scan is met at least once, however many are added and removed meanwhile.

use std::ops::Range;

use super::{
    call::{Args, Call, Error, integer, is},
    glob, number,
    sorted_set::SortedSet,
    value::{Hash, Set},
};

/// The options behind the cursor.
struct Options<'a> {
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    count: usize,
}

/// The positions of one step, and the cursor of the next.
struct Step {
    positions: Range<usize>,
    next: usize,
}

/// Elements looked at in one step, when the client does not say.
const COUNT: usize = 10;

pub(super) fn scan(call: &mut Call<'_>) -> Result<(), Error> {
    let cursor = cursor(call.arg(1))?;
    let options = Options::parse(call.args_from(2), true)?;
    let step = Step::new(cursor, options.count, call.keys.len());
    let found: Vec<&[u8]> = step
        .positions
        .filter_map(|index| call.keys.at(index))
        .filter(|(key, entry)| options.takes(key) && options.takes_type(entry.value.type_name()))
        .map(|(key, _)| key)
        .collect();
    call.reply.array(2);
    call.reply.bulk(step.next.to_string().as_bytes());
    call.reply.array(found.len());
    found.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

pub(super) fn hscan(call: &mut Call<'_>) -> Result<(), Error> {
    let cursor = cursor(call.arg(2))?;
    let Some(hash) = call.keys.read::<Hash>(call.arg(1))? else {
        return nothing(call);
    };
    let options = Options::parse(call.args_from(3), false)?;
    let step = if hash.is_packed() { Step::all(hash.len()) } else { Step::new(cursor, options.count, hash.len()) };
    let found: Vec<(&[u8], &[u8])> =
        step.positions.filter_map(|index| hash.at(index)).filter(|(field, _)| options.takes(field)).collect();
    call.reply.array(2);
    call.reply.bulk(step.next.to_string().as_bytes());
    call.reply.array(found.len() * 2);
    for (field, value) in found {
        call.reply.bulk(field);
        call.reply.bulk(value);
    }
    Ok(())
}

pub(super) fn sscan(call: &mut Call<'_>) -> Result<(), Error> {
    let cursor = cursor(call.arg(2))?;
    let Some(set) = call.keys.read::<Set>(call.arg(1))? else {
        return nothing(call);
    };
    let options = Options::parse(call.args_from(3), false)?;
    let step = if set.is_packed() { Step::all(set.len()) } else { Step::new(cursor, options.count, set.len()) };
    let found: Vec<&[u8]> =
        step.positions.filter_map(|index| set.at(index)).filter(|member| options.takes(member)).collect();
    call.reply.array(2);
    call.reply.bulk(step.next.to_string().as_bytes());
    call.reply.array(found.len());
    found.iter().for_each(|member| call.reply.bulk(member));
    Ok(())
}

pub(super) fn zscan(call: &mut Call<'_>) -> Result<(), Error> {
    let cursor = cursor(call.arg(2))?;
    let Some(set) = call.keys.read::<SortedSet>(call.arg(1))? else {
        return nothing(call);
    };
    let options = Options::parse(call.args_from(3), false)?;
    let step = if set.is_packed() { Step::all(set.len()) } else { Step::new(cursor, options.count, set.len()) };
    let found: Vec<(&[u8], f64)> = if set.is_packed() {
        set.iter().map(|(member, score)| (member.as_ref(), score)).filter(|(member, _)| options.takes(member)).collect()
    } else {
        step.positions.filter_map(|index| set.at(index)).filter(|(member, _)| options.takes(member)).collect()
    };
    call.reply.array(2);
    call.reply.bulk(step.next.to_string().as_bytes());
    call.reply.array(found.len() * 2);
    for (member, score) in found {
        call.reply.bulk(member);
        // A string in both protocols: the server gives scanned scores as text.
        call.reply.bulk(number::double_text(score).as_bytes());
    }
    Ok(())
}

fn nothing(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.array(2);
    call.reply.bulk(b"0");
    call.reply.array(0);
    Ok(())
}

fn cursor(arg: &[u8]) -> Result<usize, Error> {
    let text = std::str::from_utf8(arg).ok().filter(|text| !text.starts_with('+'));
    let cursor = text.and_then(|text| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() });
    cursor.map(|cursor| usize::try_from(cursor).unwrap_or(usize::MAX)).ok_or(Error::fixed("ERR invalid cursor"))
}

// === impl Options ===

impl<'a> Options<'a> {
    fn parse(mut rest: Args<'a>, of_keys: bool) -> Result<Self, Error> {
        let mut options = Self { pattern: None, type_name: None, count: COUNT };
        while let [word, value, tail @ ..] = rest {
            if is(word, "COUNT") {
                let count = usize::try_from(integer(value)?).ok().filter(|count| *count > 0);
                options.count = count.ok_or(Error::SYNTAX)?;
            } else if is(word, "MATCH") {
                options.pattern = Some(value);
            } else if is(word, "TYPE") && of_keys {
                options.type_name = Some(value);
            } else {
                return Err(Error::SYNTAX);
            }
            rest = tail;
        }
        if rest.is_empty() { Ok(options) } else { Err(Error::SYNTAX) }
    }

    fn takes(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }

    fn takes_type(&self, type_name: &str) -> bool {
        self.type_name.is_none_or(|wanted| is(wanted, type_name))
    }
}

// === impl Step ===

impl Step {
    fn new(cursor: usize, count: usize, length: usize) -> Self {
        let end = if cursor == 0 { length } else { cursor.min(length) };
        let start = end.saturating_sub(count);
        Self { positions: start..end, next: start }
    }

    fn all(length: usize) -> Self {
        Self { positions: 0..length, next: 0 }
    }
}
