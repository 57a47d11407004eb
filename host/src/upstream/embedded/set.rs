//! SET with its options, its older kin, and GETEX, which shares the options about expiry.

use super::{
    call::{Args, Call, Error, integer, is},
    value::{Kind, Value},
};

/// When SET sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
}

/// What becomes of the expiry.
#[derive(Clone, Copy)]
enum Expiry<'a> {
    /// Nothing was said: SET removes it, GETEX keeps it.
    Unsaid,
    Keep,
    Remove,
    At(Deadline<'a>),
}

/// An expiry as the client writes it.
#[derive(Clone, Copy)]
pub(super) struct Deadline<'a> {
    pub(super) text: &'a [u8],
    pub(super) unit: Unit,
    pub(super) base: Base,
}

/// What an expiry counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// Where an expiry counts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Now,
    Epoch,
}

/// Everything behind SET's value.
struct Options<'a> {
    condition: Condition,
    get: bool,
    expiry: Expiry<'a>,
}

pub(super) fn set(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, value) = (call.arg(1), call.arg(2));
    let options = Options::parse(call.args_from(3))?;
    let expires_at_ms = options.expiry.at_ms("set", call.keys.now_ms)?;
    if options.get {
        let old = call.keys.read::<Vec<u8>>(key)?;
        call.reply.bulk_or_nil(old.map(Vec::as_slice));
    }
    let applies = match options.condition {
        Condition::Always => true,
        Condition::Absent => !call.keys.contains(key),
        Condition::Present => call.keys.contains(key),
    };
    if applies {
        let kept = match options.expiry {
            Expiry::Keep => call.keys.entry(key).and_then(|entry| entry.expires_at_ms),
            _ => None,
        };
        call.keys.put(key, Value::String(value.to_vec()), expires_at_ms.or(kept));
    }
    match (options.get, applies) {
        (true, _) => {}
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.nil(),
    }
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_>) -> Result<(), Error> {
    let (key, value) = (call.arg(1), call.arg(2));
    let free = !call.keys.contains(key);
    if free {
        call.keys.put(key, Value::String(value.to_vec()), None);
    }
    call.reply.boolean(free);
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_>) -> Result<(), Error> {
    set_for(call, "setex", Unit::Seconds)
}

pub(super) fn psetex(call: &mut Call<'_>) -> Result<(), Error> {
    set_for(call, "psetex", Unit::Milliseconds)
}

pub(super) fn getex(call: &mut Call<'_>) -> Result<(), Error> {
    let key = call.arg(1);
    let expiry = parse_getex(call.args_from(2))?;
    let Some(value) = call.keys.read::<Vec<u8>>(key)? else {
        call.reply.nil();
        return Ok(());
    };
    let expires_at_ms = expiry.at_ms("getex", call.keys.now_ms)?;
    call.reply.bulk(value);
    match (expiry, expires_at_ms) {
        (Expiry::At(Deadline { base: Base::Epoch, .. }), Some(at_ms)) if at_ms <= call.keys.now_ms => {
            call.keys.take(key);
        }
        (Expiry::At(_), at_ms) => {
            call.keys.set_expiry(key, at_ms);
        }
        (Expiry::Remove, _) if call.keys.entry(key).is_some_and(|entry| entry.expires_at_ms.is_some()) => {
            call.keys.set_expiry(key, None);
        }
        _ => {}
    }
    Ok(())
}

fn set_for(call: &mut Call<'_>, command: &str, unit: Unit) -> Result<(), Error> {
    let (key, value) = (call.arg(1), call.arg(3));
    let deadline = Deadline { text: call.arg(2), unit, base: Base::Now };
    let at_ms = deadline.at_ms(command, call.keys.now_ms)?;
    call.keys.put(key, value.to_vec().into_value(), Some(at_ms));
    call.reply.ok();
    Ok(())
}

fn parse_getex<'a>(mut rest: Args<'a>) -> Result<Expiry<'a>, Error> {
    let mut expiry = Expiry::Unsaid;
    while let [word, tail @ ..] = rest {
        let (next, tail) = match Deadline::parse(word, tail) {
            Some((deadline, tail)) => (Expiry::At(deadline), tail),
            None if is(word, "PERSIST") => (Expiry::Remove, tail),
            None => return Err(Error::SYNTAX),
        };
        expiry = expiry.then(next)?;
        rest = tail;
    }
    Ok(expiry)
}

// === impl Options ===

impl<'a> Options<'a> {
    fn parse(mut rest: Args<'a>) -> Result<Self, Error> {
        let mut options = Self { condition: Condition::Always, get: false, expiry: Expiry::Unsaid };
        while let [word, tail @ ..] = rest {
            rest = tail;
            if is(word, "NX") && options.condition != Condition::Present {
                options.condition = Condition::Absent;
            } else if is(word, "XX") && options.condition != Condition::Absent {
                options.condition = Condition::Present;
            } else if is(word, "GET") {
                options.get = true;
            } else if is(word, "KEEPTTL") {
                options.expiry = options.expiry.then(Expiry::Keep)?;
            } else if let Some((deadline, tail)) = Deadline::parse(word, tail) {
                options.expiry = options.expiry.then(Expiry::At(deadline))?;
                rest = tail;
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(options)
    }
}

// === impl Expiry ===

impl<'a> Expiry<'a> {
    /// What another option about expiry makes of it: the same kind may be said again, another kind may not.
    fn then(self, next: Self) -> Result<Self, Error> {
        match (self, next) {
            (Self::Unsaid, _) | (Self::Keep, Self::Keep) | (Self::Remove, Self::Remove) => Ok(next),
            (Self::At(one), Self::At(other)) if one.unit == other.unit && one.base == other.base => Ok(next),
            _ => Err(Error::SYNTAX),
        }
    }

    fn at_ms(&self, command: &str, now_ms: i64) -> Result<Option<i64>, Error> {
        match self {
            Self::At(deadline) => deadline.at_ms(command, now_ms).map(Some),
            Self::Unsaid | Self::Keep | Self::Remove => Ok(None),
        }
    }
}

// === impl Deadline ===

impl<'a> Deadline<'a> {
    /// An option with its value, and what stands behind them.
    fn parse(word: &[u8], tail: Args<'a>) -> Option<(Self, Args<'a>)> {
        let (text, tail) = tail.split_first()?;
        let (unit, base) = match word.to_ascii_uppercase().as_slice() {
            b"EX" => (Unit::Seconds, Base::Now),
            b"PX" => (Unit::Milliseconds, Base::Now),
            b"EXAT" => (Unit::Seconds, Base::Epoch),
            b"PXAT" => (Unit::Milliseconds, Base::Epoch),
            _ => return None,
        };
        Some((Self { text, unit, base }, tail))
    }

    /// The instant. `command` is who says so when there is none.
    fn at_ms(&self, command: &str, now_ms: i64) -> Result<i64, Error> {
        let value = integer(self.text)?;
        Some(value)
            .filter(|value| *value > 0)
            .and_then(|value| self.instant(value, now_ms))
            .ok_or_else(|| Error::about(format!("ERR invalid expire time in '{command}' command")))
    }

    /// The instant that a value stands for, which may be in the past. None: beyond what is counted.
    pub(super) fn instant(&self, value: i64, now_ms: i64) -> Option<i64> {
        let value_ms = match self.unit {
            Unit::Seconds => value.checked_mul(1000)?,
            Unit::Milliseconds => value,
        };
        match self.base {
            Base::Now => value_ms.checked_add(now_ms),
            Base::Epoch => Some(value_ms),
        }
    }
}
