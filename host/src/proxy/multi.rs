//! MSETEX: several whole values with one lifetime for all of them, which the command itself carries.

use std::borrow::Cow;

use super::lifetime::Lifetime;
use super::set::{ClientExpiry, ExpiryOptions};
use super::{Plan, Policies, Ruling};
use crate::command::{Command, Data};
use crate::resp::parse_integer;

/// What stands behind the keys and values.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    expiry: ClientExpiry,
    /// Where the expiry's option stands, which has one argument; it may be said several times.
    at: Vec<usize>,
}

// === impl Policies ===

impl Policies {
    /// MSETEX. A lifetime that the client asks for becomes the shortest of those that the keys' rules make of it.
    pub(super) fn decide_multi_set_ex<'a>(&mut self, command: &Command<'a>, now: i64) -> Plan<'a> {
        let Some((count, options)) = read(command, self.server_now(now)) else { return Plan::as_it_came() };
        let client = if let ClientExpiry::Ms(ms) = options.expiry { Some(ms) } else { None };
        let mut plan = Plan::as_it_came();
        let mut shortest = None;
        for index in (2..2 + 2 * count).step_by(2) {
            let (Some(key), Some(value)) = (command.arg(index), command.arg(index + 1)) else { continue };
            let (id, lifetime) = match self.rule_value(key, value, Data::Value, client, now) {
                // All or nothing: one value that does not fit, and none is stored.
                Ruling::Refused(refusal) => return Plan::refused(refusal),
                Ruling::Free => {
                    shortest = shorter(shortest, client);
                    continue;
                }
                Ruling::Ruled(id, lifetime) => (id, lifetime),
            };
            match (client, lifetime) {
                (None, Lifetime::Ms(ms)) => {
                    let only_new = options.expiry == ClientExpiry::KeepTtl || self.only_new(id);
                    plan = plan.then(key, ms, only_new);
                }
                (Some(client), lifetime) => {
                    let ms = match lifetime.beside(client, self.client_ttl(id)) {
                        Lifetime::Ms(ms) => ms,
                        Lifetime::Keep | Lifetime::Never => client,
                    };
                    shortest = shorter(shortest, Some(ms));
                }
                (None, _) => {}
            }
        }
        match shortest {
            None => plan,
            _ if shortest == client => plan,
            Some(ms) => Plan::instead(with_expiry(command, &options.at, ms)),
        }
    }
}

fn shorter(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// The number of keys and the options. None: the server refuses the command, and is to say so in its own words.
fn read(command: &Command<'_>, now: i64) -> Option<(usize, Options)> {
    let count = command.arg(1).and_then(parse_integer).and_then(|count| usize::try_from(count).ok())?;
    let behind = count.checked_mul(2)?.checked_add(2).filter(|behind| count > 0 && *behind <= command.args.len())?;
    let (mut asked, mut all_at) = (ExpiryOptions::None, Vec::new());
    let mut at = behind;
    while let Some(option) = command.arg(at) {
        let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
        if is("NX") || is("XX") {
            at += 1;
        } else {
            asked.take(option, || command.arg(at + 1))?;
            all_at.push(at);
            at += if matches!(asked, ExpiryOptions::Span(..)) { 2 } else { 1 };
        }
    }
    Some((count, Options { expiry: asked.read(now)?, at: all_at }))
}

/// The command with another lifetime in the place of its own.
fn with_expiry<'a>(command: &Command<'a>, at: &[usize], ms: u64) -> Vec<Cow<'a, [u8]>> {
    let arg = |(index, arg): (usize, &'a [u8])| match index {
        index if at.contains(&index) => Cow::Borrowed(&b"PX"[..]),
        index if index > 0 && at.contains(&(index - 1)) => super::number(ms),
        _ => Cow::Borrowed(arg),
    };
    command.rest(0).enumerate().map(arg).collect()
}
