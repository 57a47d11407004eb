//! RESTORE: a key made of a dump, with its lifetime in the command itself.

use std::borrow::Cow;
use std::rc::Rc;

use super::lifetime::Lifetime;
use super::{Asked, Plan, Policies, Ruling, number, set};
use crate::command::{Command, Data, ExpireForm};
use crate::resp::parse_integer;

/// What stands behind the dump where the lifetime is an instant.
const ABSOLUTE: &[u8] = b"ABSTTL";

// === impl Policies ===

impl Policies {
    pub(super) fn decide_restore<'a>(&mut self, command: &Command<'a>, now: i64) -> Plan<'a> {
        let (Some(key), Some(dump)) = (command.arg(1), command.arg(3)) else { return Plan::as_it_came() };
        let client = match asked_ms(command, self.server_now(now)) {
            Some(ms) if ms >= 0 => u64::try_from(ms).ok().filter(|ms| *ms > 0),
            // The server refuses it, or nothing is left of it.
            _ => return Plan::as_it_came(),
        };
        let policies = Rc::clone(self.decider.set());
        let Some((id, rule)) = policies.rules.find(key) else { return Plan::as_it_came() };
        if let Some(refusal) = self.too_large(id, rule, key, dump.len()) {
            return Plan::refused(refusal);
        }
        let asked = Asked { key, data: Data::Copy, value_bytes: command.bytes.len() as u64, client, now };
        let lifetime = match self.ruling(id, rule, &asked) {
            Ruling::Free => return Plan::as_it_came(),
            Ruling::Refused(refusal) => return Plan::refused(refusal),
            Ruling::Ruled(id, lifetime) => client.map_or(lifetime, |ms| lifetime.beside(ms, self.client_ttl(id))),
        };
        let ms = match lifetime {
            Lifetime::Keep => return Plan::as_it_came(),
            Lifetime::Never => 0,
            Lifetime::Ms(ms) => ms,
        };
        let head: [Cow<'a, [u8]>; 4] = [command.name().into(), key.into(), number(ms), dump.into()];
        let options = command.rest(4).filter(|option| !option.eq_ignore_ascii_case(ABSOLUTE)).map(Cow::from);
        Plan::instead(head.into_iter().chain(options).collect())
    }
}

/// The milliseconds from `now` that it asks for, which may be over. 0: no end. None: not a number.
pub fn asked_ms(command: &Command<'_>, now: i64) -> Option<i64> {
    let text = command.arg(2)?;
    let absolute = command.rest(4).any(|option| option.eq_ignore_ascii_case(ABSOLUTE));
    match parse_integer(text)? {
        0 => Some(0),
        // An instant that is now is over.
        _ => {
            set::span_ms(ExpireForm { milliseconds: true, absolute }, text, now).map(|ms| if ms == 0 { -1 } else { ms })
        }
    }
}
