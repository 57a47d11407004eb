//! Commands that take from one of several lists: LMOVE, RPOPLPUSH, LMPOP.

use super::{
    call::{Args, Call, Error, integer, is},
    value::{End, List},
};

pub(super) fn lmove(call: &mut Call<'_>) -> Result<(), Error> {
    let (from, to) = (end(call.arg(3))?, end(call.arg(4))?);
    move_one(call, from, to)
}

pub(super) fn rpoplpush(call: &mut Call<'_>) -> Result<(), Error> {
    move_one(call, End::Tail, End::Head)
}

pub(super) fn lmpop(call: &mut Call<'_>) -> Result<(), Error> {
    let (keys, rest) = numbered_keys(call.args_from(1))?;
    let Some((word, options)) = rest.split_first() else {
        return Err(Error::SYNTAX);
    };
    let from = end(word)?;
    let count = pop_count(options)?;
    for key in keys {
        let popped = call.keys.edit_present(key, |list: &mut List| {
            Ok((std::iter::from_fn(|| list.pop(from)).take(count).collect::<Vec<_>>(), true))
        })?;
        if let Some(popped) = popped {
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.array(popped.len());
            popped.iter().for_each(|element| call.reply.bulk(element));
            return Ok(());
        }
    }
    call.reply.nil_array();
    Ok(())
}

/// The keys behind their number, and what stands behind them.
pub(super) fn numbered_keys<'a>(args: Args<'a>) -> Result<(Args<'a>, Args<'a>), Error> {
    let error = Error::fixed("ERR numkeys should be greater than 0");
    let Some((count, rest)) = args.split_first() else {
        return Err(Error::SYNTAX);
    };
    let count = integer(count).ok().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    rest.split_at_checked(count.ok_or(error)?).ok_or(Error::SYNTAX)
}

/// The count at the end of LMPOP and ZMPOP.
pub(super) fn pop_count(options: &[&[u8]]) -> Result<usize, Error> {
    match options {
        [] => Ok(1),
        [word, count] if is(word, "COUNT") => integer(count)
            .ok()
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count > 0)
            .ok_or(Error::fixed("ERR count should be greater than 0")),
        _ => Err(Error::SYNTAX),
    }
}

fn end(word: &[u8]) -> Result<End, Error> {
    if is(word, "LEFT") {
        Ok(End::Head)
    } else if is(word, "RIGHT") {
        Ok(End::Tail)
    } else {
        Err(Error::SYNTAX)
    }
}

fn move_one(call: &mut Call<'_>, from: End, to: End) -> Result<(), Error> {
    let (source, target) = (call.arg(1), call.arg(2));
    if call.keys.read::<List>(source)?.is_none() {
        call.reply.nil();
        return Ok(());
    }
    // The target's kind is checked before anything is taken.
    call.keys.read::<List>(target)?;
    let popped = call.keys.edit_present(source, |list: &mut List| {
        let popped = list.pop(from);
        if let Some(element) = popped.as_deref().filter(|_| source == target) {
            list.push(to, element);
        }
        Ok((popped, true))
    })?;
    let Some(element) = popped.flatten() else {
        return Err(Error::NO_SUCH_KEY);
    };
    if source != target {
        call.keys.edit(target, |list: &mut List| Ok((list.push(to, &element), true)))?;
    }
    call.reply.bulk(&element);
    Ok(())
}
