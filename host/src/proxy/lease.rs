//! Old values and leases: what a write leaves of them, what is asked about a key that is not there, and what becomes of
//! those who asked. Pure, but for sending what was decided.
//!
//! What the design took from FusionCache (<https://github.com/ZiggyCreatures/FusionCache>, docs/FailSafe.md and
//! docs/CacheStampede.md), which has the application's own code in hand and a sidecar has not:
//! - Two lifetimes, as `Duration` and `FailSafeMaxDuration`: the key's own, which the policy decides and which is all
//!   that TTL, EXISTS, NX and scripts see, and the old value's, longer by `stale-ms`.
//! - One of all who miss recomputes, also across processes, as with its distributed locker: here whoever is told that
//!   the key is not there. `lease-ms` is both the time it has and `FailSafeThrottleDuration`: if it fails, nobody else
//!   is asked to recompute before that time is over.
//! - Others are given the old value at once; there, only after a soft timeout. Without one they wait, for as long as
//!   `lease-wait-ms` says, as for its lock timeout.
//! - `refresh-ahead-percent` is `EagerRefreshThreshold`, counted from the end, and as there it is an access that begins
//!   it. How much is left is known of values in memory only; so a rule with it has those, and what is read from the
//!   server lives to its end.
//! - Not as there: who recomputes is never given the old value because recomputing fails, since nobody knows that it
//!   failed; and nothing refuses the value of one whose lease is over, also after a DEL.

use std::borrow::Cow;
use std::rc::Rc;

use super::lifetime::Lifetime;
use super::set::{self, ClientExpiry, ExpiryOptions, Set};
use super::{Plan, Policies, What, number};
use crate::command::{Command, Data, KeyUse, Kind, Row};
use crate::lease::{Look, copy_of, lease_of, span_of};
use crate::metrics::Leased;
use crate::namespace::RuleId;
use crate::resp::parse_integer;
use crate::resp::reply::{self, kind};
use crate::resp::write;
use crate::upstream::{Expect, Kept, Lane, Outbox};

/// What a write leaves of a key's old value and its lease: neither, and then perhaps a new copy.
#[derive(Debug, PartialEq, Eq)]
pub struct Copies<'a> {
    key: &'a [u8],
    /// What is removed.
    gone: Vec<Vec<u8>>,
    /// The copy that is made, and how long it lives.
    made: Option<(Vec<u8>, u64)>,
    /// Where it is kept how long the key lives, and how long that is.
    span: Option<(Vec<u8>, u64)>,
    /// The key may have ended before all this is done.
    is_brief: bool,
    /// The end of the key was moved, and the copy's is to be moved with it: in these words.
    moved: Option<Vec<Cow<'a, [u8]>>>,
}

/// What is sent behind a write has been done after that time, unless the server hangs between two commands.
const BRIEF_MS: u64 = 1_000;

/// What becomes of those who asked for a key that was not there.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is there by now, or reading it failed: all are given this reply.
    There(&'a [u8]),
    /// One of them has the lease, and is told that the key is not there. The others are given the old value.
    Won(Option<&'a [u8]>),
    /// Another client has the lease. All are given the old value.
    Lost(Option<&'a [u8]>),
    /// The server does not let anyone have the lease: all are told that the key is not there.
    Refused,
}

/// What becomes of them, by the server's replies to the attempt to take the lease, to reading the key behind that, and
/// to reading the copy.
pub fn verdict<'a>(lease: &[u8], value: &'a [u8], copy: &'a [u8]) -> Verdict<'a> {
    // In that order: whoever writes the key gives the lease back afterwards.
    let copy = Some(copy).filter(|copy| copy.first() == Some(&kind::BULK) && !reply::is_nil(copy));
    match lease.first() {
        _ if !reply::is_nil(value) => Verdict::There(value),
        Some(b'+') => Verdict::Won(copy),
        Some(&kind::ERROR) | None => Verdict::Refused,
        Some(_) => Verdict::Lost(copy),
    }
}

/// Whether a command cannot change what a string key holds, nor remove it: it is about another type.
fn leaves_strings(row: &Row) -> bool {
    match row.kind {
        Kind::Write => matches!(row.name.as_bytes().first(), Some(b'h' | b'l' | b'r' | b's' | b'x' | b'z')),
        Kind::Create(Data::Hash | Data::SortedSet | Data::Set | Data::List | Data::Stream) => {
            // These put theirs in the place of what was there.
            !row.name.contains("store") && !row.name.starts_with("georadius") && row.name != "sort"
        }
        Kind::Block(_) | Kind::BlockOption | Kind::Persist => true,
        _ => false,
    }
}

// === impl Copies ===

impl<'a> Copies<'a> {
    /// Gives each command to `send`.
    pub fn write(&self, mut send: impl FnMut(&[u8])) {
        let mut command = |args: &[&[u8]]| {
            let mut out = Vec::new();
            write::array(&mut out, args.len());
            args.iter().for_each(|arg| write::bulk(&mut out, arg));
            send(&out);
        };
        if !self.gone.is_empty() {
            let unlink: Vec<&[u8]> = [&b"UNLINK"[..]].into_iter().chain(self.gone.iter().map(Vec::as_slice)).collect();
            command(&unlink);
        }
        if let Some((copy, ms)) = &self.made {
            command(&[b"COPY", self.key, copy]);
            command(&[b"PEXPIRE", copy, ms.to_string().as_bytes()]);
        }
        if let Some((name, ms)) = &self.span {
            let ms = ms.to_string();
            command(&[b"SET", name, ms.as_bytes(), b"PX", ms.as_bytes()]);
        }
        if let Some(words) = &self.moved {
            command(&words.iter().map(|word| &**word).collect::<Vec<_>>());
        }
    }

    /// How many commands that is.
    fn count(&self) -> usize {
        let single = [!self.gone.is_empty(), self.span.is_some(), self.moved.is_some()];
        single.into_iter().map(usize::from).sum::<usize>() + 2 * usize::from(self.made.is_some())
    }
}

/// How many commands are sent.
pub(super) fn count(all: &[Copies<'_>]) -> usize {
    all.iter().map(Copies::count).sum()
}

/// Whether the client has its reply only when what is behind the command has been done, too: whoever is told that a key
/// is gone, or finds that it has ended, does not find an older value. A transaction is of one moment anyway.
pub(super) fn is_told_later(all: &[Copies<'_>], expect: &Expect, in_transaction: bool) -> bool {
    let may_be_gone = |copies: &Copies<'_>| copies.gone.len() > 1 && (copies.made.is_none() || copies.is_brief);
    !in_transaction && *expect == Expect::Forward && all.iter().any(may_be_gone)
}

/// Sends them behind the command itself, whose reply may have been kept until then.
pub(super) fn send(all: &[Copies<'_>], mut kept: Option<Rc<Kept>>, lane: &Lane, outbox: &Rc<Outbox>) {
    let mut left = count(all);
    for copies in all {
        copies.write(|command| {
            left -= 1;
            let last = if left == 0 { kept.take() } else { None };
            let expect = last.map_or(Expect::Swallow, Expect::Give);
            lane.send(outbox, expect, |out| out.extend_from_slice(command));
        });
    }
}

// === impl Policies ===

impl Policies {
    /// Whether any rule has leases.
    pub fn is_leased(&self) -> bool {
        self.decider.set().rules.is_leased()
    }

    /// Whether any rule has values recomputed ahead of their end.
    pub fn is_ahead(&self) -> bool {
        self.decider.set().rules.is_ahead()
    }

    /// Takes the lease on a key whose value is near its end, in the place of reading it. None: it has no lease.
    pub fn refresh_ahead(&self, key: &[u8], value: &[u8]) -> Option<Plan<'static>> {
        let (id, rule) = self.decider.set().rules.find(key)?;
        self.count_leased(id, Leased::Ahead);
        let words = ["1", "NX", "PX"].map(|word| Cow::Borrowed(word.as_bytes()));
        let name = [Cow::Borrowed(&b"SET"[..]), Cow::Owned(lease_of(key)?)];
        let args = name.into_iter().chain(words).chain([number(rule.lease_ms?)]).collect();
        Some(Plan { expect: Expect::Ahead(value.into()), ..Plan::instead(args) })
    }

    /// What is to be done if a key that is asked for is not there; `stamp` tells its version. None: that is its reply.
    pub fn look(&self, db: u32, key: &[u8], stamp: impl FnOnce() -> u64) -> Option<Rc<Look>> {
        let (id, rule) = self.decider.set().rules.find(key)?;
        let (lease_ms, wait_ms) = (rule.lease_ms?, rule.lease_wait_ms.unwrap_or(0));
        let keeps_copy = rule.stale_ms.is_some();
        // Without either, everyone would be told the same.
        if (!keeps_copy && wait_ms == 0) || lease_of(key).is_none() {
            return None;
        }
        Some(Rc::new(Look { key: key.into(), db, stamp: stamp(), rule: id, lease_ms, wait_ms, keeps_copy }))
    }

    /// Counts what became of one who asked.
    pub fn count_leased(&self, rule: RuleId, result: Leased) {
        if let Some(counters) = self.counters.get(rule.index()) {
            counters.count_leased(self.worker, result);
        }
    }

    /// Adds to a plan what the write leaves of old values and leases. A SET that its condition kept from happening
    /// leaves a copy of what is there, which lives as if that had been written now.
    pub(super) fn with_copies<'a>(&self, mut plan: Plan<'a>, command: &Command<'a>, row: &Row, now: i64) -> Plan<'a> {
        if matches!(plan.what, What::Refused(_)) || leaves_strings(row) {
            return plan;
        }
        let server_now = self.server_now(now);
        if let Kind::Expire(_) | Kind::GetEx = row.kind
            && !ends_at_once(command, row, server_now)
        {
            plan.copies.extend(self.moved(&plan, command, row, server_now));
            return plan;
        }
        for keys in row.keys.iter().filter(|keys| keys.used() != KeyUse::Read) {
            for key in keys.positions(command).filter_map(|index| command.arg(index)) {
                let lives = self.written(&plan, command, row, key, server_now);
                plan.copies.extend(self.copies(key, lives));
            }
        }
        plan
    }

    /// What a write to a key leaves, if the key's rule has leases. `lives` is how long the string lives that was
    /// written.
    fn copies<'a>(&self, key: &'a [u8], lives: Option<u64>) -> Option<Copies<'a>> {
        let (_, rule) = self.decider.set().rules.find(key)?;
        rule.lease_ms?;
        let mut gone = vec![lease_of(key)?];
        let copy = copy_of(key).zip(rule.stale_ms);
        gone.extend(copy.as_ref().map(|(copy, _)| copy.clone()));
        let made = copy.zip(lives).map(|((copy, stale_ms), lives)| (copy, lives.saturating_add(stale_ms)));
        let name = rule.refresh_ahead_percent.and_then(|_| span_of(key));
        gone.extend(name.clone());
        let is_brief = lives.is_some_and(|ms| ms < BRIEF_MS);
        Some(Copies { key, gone, made, span: name.zip(lives), is_brief, moved: None })
    }

    /// What EXPIRE or GETEX leaves: a copy that ends as long behind the key as before. It lives longer than the key by
    /// the same all the time, so that what EXPIRE's options say of the key they say of the copy.
    fn moved<'a>(&self, plan: &Plan<'a>, command: &Command<'a>, row: &Row, now: i64) -> Option<Copies<'a>> {
        let key = command.arg(1)?;
        let (_, rule) = self.decider.set().rules.find(key)?;
        rule.lease_ms?;
        let copy = copy_of(key)?;
        let decided = |words: &[Cow<'_, [u8]>]| {
            let at = if row.kind == Kind::GetEx { 3 } else { 2 };
            words.get(at).and_then(|text| parse_integer(text))
        };
        let ms = match &plan.what {
            What::AsItCame => span_of_client(command, row, now)?,
            What::Instead(words) => decided(words)?,
            What::Set(..) | What::Refused(_) => return None,
        };
        let ms = u64::try_from(ms).ok()?.saturating_add(rule.stale_ms?);
        let options = if row.kind == Kind::GetEx { None } else { Some(command.rest(3).map(Cow::Borrowed)) };
        let words = [Cow::Borrowed(&b"PEXPIRE"[..]), Cow::Owned(copy), number(ms)];
        let moved = Some(words.into_iter().chain(options.into_iter().flatten()).collect());
        Some(Copies { key, gone: Vec::new(), made: None, span: None, is_brief: false, moved })
    }

    /// How long a string lives that the SET family writes. None: for ever, or it is another command.
    fn written(&self, plan: &Plan<'_>, command: &Command<'_>, row: &Row, key: &[u8], now: i64) -> Option<u64> {
        let follows = || plan.follows.iter().find(|follow| follow.key == key).map(|follow| follow.ms);
        match (row.kind, &plan.what) {
            (Kind::Set(_), What::Set(_, Lifetime::Ms(ms))) => Some(*ms),
            (Kind::Set(form), What::AsItCame) => match Set::read(form, command, now)?.expiry {
                ClientExpiry::Ms(ms) => Some(ms),
                ClientExpiry::None | ClientExpiry::KeepTtl => follows(),
            },
            (Kind::MultiSet, _) => follows(),
            _ => None,
        }
    }
}

/// Whether EXPIRE or a relative, or GETEX, names an instant that is over.
fn ends_at_once(command: &Command<'_>, row: &Row, now: i64) -> bool {
    span_of_client(command, row, now).is_some_and(|ms| ms <= 0)
}

/// The span that EXPIRE or a relative, or GETEX, names.
fn span_of_client(command: &Command<'_>, row: &Row, now: i64) -> Option<i64> {
    let (form, text) = match row.kind {
        Kind::Expire(form) => (form, command.arg(2)?),
        _ => {
            let (mut args, mut asked) = (command.rest(2), ExpiryOptions::None);
            while let Some(option) = args.next() {
                asked.take(option, || args.next())?;
            }
            let ExpiryOptions::Span(form, text) = asked else { return None };
            (form, text)
        }
    };
    set::span_ms(form, text, now)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, verdict};

    #[test]
    fn verdicts() {
        let check = |lease: &str, value: &str, copy: &'static str, expect: Verdict<'_>| {
            let verdict = verdict(lease.as_bytes(), value.as_bytes(), copy.as_bytes());
            assert_eq!(verdict, expect, "{lease} {value} {copy}");
        };
        const OLD: &str = "$3\r\nold\r\n";
        check("+OK\r\n", "$-1\r\n", OLD, Verdict::Won(Some(OLD.as_bytes())));
        check("+OK\r\n", "$-1\r\n", "$-1\r\n", Verdict::Won(None));
        check("$-1\r\n", "$-1\r\n", OLD, Verdict::Lost(Some(OLD.as_bytes())));
        check("$-1\r\n", "$-1\r\n", "-WRONGTYPE x\r\n", Verdict::Lost(None));
        check("$-1\r\n", "$1\r\nx\r\n", OLD, Verdict::There(b"$1\r\nx\r\n"));
        check("+OK\r\n", "$1\r\nx\r\n", OLD, Verdict::There(b"$1\r\nx\r\n"));
        check("-READONLY x\r\n", "$-1\r\n", OLD, Verdict::Refused);
        check("-LOADING x\r\n", "-LOADING x\r\n", "-LOADING x\r\n", Verdict::There(b"-LOADING x\r\n"));
    }
}
