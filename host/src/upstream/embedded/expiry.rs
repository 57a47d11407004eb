//! When keys expire: EXPIRE, TTL and their kin.

use super::{
    call::{Call, Error, is, shown},
    set::{Base, Deadline, Unit},
};

/// When EXPIRE applies.
#[derive(Default)]
struct Condition {
    unset_only: bool,
    set_only: bool,
    later_only: bool,
    earlier_only: bool,
}

pub(super) fn expire(call: &mut Call<'_>) -> Result<(), Error> {
    set(call, Unit::Seconds, Base::Now)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Result<(), Error> {
    set(call, Unit::Milliseconds, Base::Now)
}

pub(super) fn expireat(call: &mut Call<'_>) -> Result<(), Error> {
    set(call, Unit::Seconds, Base::Epoch)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Result<(), Error> {
    set(call, Unit::Milliseconds, Base::Epoch)
}

pub(super) fn ttl(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Unit::Seconds, Base::Now)
}

pub(super) fn pttl(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Unit::Milliseconds, Base::Now)
}

pub(super) fn expiretime(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Unit::Seconds, Base::Epoch)
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Unit::Milliseconds, Base::Epoch)
}

pub(super) fn persist(call: &mut Call<'_>) -> Result<(), Error> {
    let key = call.arg(1);
    let expires = call.keys.entry(key).is_some_and(|entry| entry.expires_at_ms.is_some());
    if expires {
        call.keys.set_expiry(key, None);
    }
    call.reply.boolean(expires);
    Ok(())
}

fn set(call: &mut Call<'_>, unit: Unit, base: Base) -> Result<(), Error> {
    let (key, text, now_ms) = (call.arg(1), call.arg(2), call.keys.now_ms);
    let condition = Condition::parse(call.args_from(3))?;
    let at_ms = Deadline { text, unit, base }
        .instant(call.integer(2)?, now_ms)
        .ok_or_else(|| Error::about(format!("ERR invalid expire time in '{}' command", call.name())))?;
    let applies = call.keys.entry(key).is_some_and(|entry| condition.holds(entry.expires_at_ms, at_ms));
    if applies && at_ms <= now_ms {
        call.keys.take(key);
    } else if applies {
        call.keys.set_expiry(key, Some(at_ms));
    }
    call.reply.boolean(applies);
    Ok(())
}

fn give(call: &mut Call<'_>, unit: Unit, base: Base) -> Result<(), Error> {
    let now_ms = call.keys.now_ms;
    let answer = match call.keys.entry(call.arg(1)).map(|entry| entry.expires_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => {
            let value_ms = if base == Base::Now { at_ms.saturating_sub(now_ms).max(0) } else { at_ms };
            match unit {
                Unit::Milliseconds => value_ms,
                Unit::Seconds => value_ms.saturating_add(500) / 1000,
            }
        }
    };
    call.reply.integer(answer);
    Ok(())
}

// === impl Condition ===

impl Condition {
    fn parse(words: &[&[u8]]) -> Result<Self, Error> {
        let mut condition = Self::default();
        for word in words {
            let option = match word {
                word if is(word, "NX") => &mut condition.unset_only,
                word if is(word, "XX") => &mut condition.set_only,
                word if is(word, "GT") => &mut condition.later_only,
                word if is(word, "LT") => &mut condition.earlier_only,
                word => return Err(Error::about(format!("ERR Unsupported option {}", shown(word)))),
            };
            *option = true;
        }
        if condition.unset_only && (condition.set_only || condition.later_only || condition.earlier_only) {
            return Err(Error::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if condition.later_only && condition.earlier_only {
            return Err(Error::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// A key without expiry counts as one that expires last.
    fn holds(&self, current: Option<i64>, at_ms: i64) -> bool {
        !(self.unset_only && current.is_some()
            || self.set_only && current.is_none()
            || self.later_only && current.is_none_or(|current| at_ms <= current)
            || self.earlier_only && current.is_some_and(|current| at_ms >= current))
    }
}
