//! What becomes of the lifetime of a key that is there already. Pure: the decisions have been asked for.

use crate::metrics::Retimed;
use crate::namespace::ClientTtl;
use crate::policy::Expiry;
use crate::proxy::lifetime::Lifetime;

/// One key's lifetime, and all that bears on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// What its rule does with lifetimes that clients ask for.
    pub(super) client_ttl: ClientTtl,
    /// Milliseconds that are left. None: it has no end.
    pub(super) left_ms: Option<u64>,
    /// What is decided for it now.
    pub(super) decided: Lifetime,
    /// Whether it is looked at because a market's sessions changed, and not because a person said so.
    pub(super) by_itself: bool,
    /// What earlier policy sets decide for it now, those that are no longer in force.
    pub(super) before: &'a [Before],
}

/// What an earlier policy set decides for a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Milliseconds that would be left of a lifetime it gave: as decided now, and as decided long before the end, when
    /// the spread was whole. None: it does not decide an instant, so a lifetime of its making cannot be told.
    pub(super) ends_in_ms: Option<[u64; 2]>,
    /// Whether the key's market trades, as this set has it.
    pub(super) trading: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Leave(Left),
    /// It ends in so many milliseconds.
    Set(u64),
    /// It has no end any more.
    Persist,
}

/// Why a key is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// No rule covers it.
    NoRule,
    /// Its rule has no ttl policy.
    NoPolicy,
    /// Clients may not write it.
    Access,
    /// It is not UTF-8, or too long for a policy.
    Unaskable,
    /// The policy failed.
    Failed,
    /// The policy decided that the client's lifetime stands.
    Keep,
    /// The client's lifetime stands by the rule.
    Client,
    /// It would live longer, and how old the value is nobody knows.
    Longer,
    /// It would live longer, and its lifetime is from trading hours.
    Trading,
    /// It lives as long as it should.
    Right,
    /// It was gone when it was looked at.
    Gone,
}

/// A lifetime that ends this near to where an earlier set would have ended it was given by that set. Wide enough for a
/// command on its way and clocks read one after the other, narrow enough that a client's own seldom falls into it.
const GIVEN_WITHIN_MS: u64 = 2_000;
/// A smaller difference is not worth a write.
const WORTH_MS: u64 = 1_000;

// === impl Held ===

impl Held<'_> {
    /// What becomes of it.
    pub(super) fn change(&self) -> Change {
        match (self.decided, self.left_ms) {
            (Lifetime::Keep, _) => Change::Leave(Left::Keep),
            (Lifetime::Never, None) => Change::Leave(Left::Right),
            (Lifetime::Never, Some(_)) if self.client_ttl == ClientTtl::Replace => Change::Persist,
            (Lifetime::Never, Some(_)) => Change::Leave(Left::Client),
            // A key without an end under a rule that respects clients is one that a client persisted, except where
            // there was no policy when it was written.
            (Lifetime::Ms(_), None) if self.client_ttl == ClientTtl::Respect && self.by_itself => {
                Change::Leave(Left::Client)
            }
            (Lifetime::Ms(ms), None) => Change::Set(ms),
            (Lifetime::Ms(ms), Some(left)) if ms.abs_diff(left) < WORTH_MS => Change::Leave(Left::Right),
            (Lifetime::Ms(ms), Some(left)) => self.from(left, ms),
        }
    }

    fn from(&self, left: u64, ms: u64) -> Change {
        let longer = ms > left;
        match self.before.iter().find(|before| before.gave(left)) {
            // What was written while prices moved must not be kept for the night.
            Some(before) if longer && before.trading => Change::Leave(Left::Trading),
            Some(_) => Change::Set(ms),
            None if self.client_ttl == ClientTtl::Respect => Change::Leave(Left::Client),
            None if longer => Change::Leave(Left::Longer),
            None => Change::Set(ms),
        }
    }
}

// === impl Before ===

impl Before {
    /// What a decision means for one key at `now`.
    pub(super) fn new(expiry: Expiry, spread_ms: u64, key: &[u8], now: i64, trading: bool) -> Self {
        let Expiry::At(at) = expiry else { return Self { ends_in_ms: None, trading } };
        let left_at = |written: i64| match Lifetime::decided(expiry, spread_ms, key, written) {
            Lifetime::Ms(ms) => u64::try_from(written.saturating_add_unsigned(ms).saturating_sub(now)).unwrap_or(0),
            Lifetime::Keep | Lifetime::Never => 0,
        };
        // Early enough that half of the lifetime does not cut the spread.
        let early = at.saturating_sub_unsigned(spread_ms.saturating_mul(2)).min(now);
        Self { ends_in_ms: Some([left_at(now), left_at(early)]), trading }
    }

    fn gave(&self, left_ms: u64) -> bool {
        self.ends_in_ms.iter().flatten().any(|ends| ends.abs_diff(left_ms) <= GIVEN_WITHIN_MS)
    }
}

// === impl Change ===

impl Change {
    /// What it is counted as, for a key with so much left.
    pub fn outcome(self, left_ms: Option<u64>) -> Retimed {
        match (self, left_ms) {
            (Self::Leave(_), _) => Retimed::Left,
            (Self::Persist, _) => Retimed::Persisted,
            (Self::Set(_), None) => Retimed::Given,
            (Self::Set(ms), Some(left)) if ms < left => Retimed::Shortened,
            (Self::Set(_), Some(_)) => Retimed::Lengthened,
        }
    }
}

// === impl Left ===

impl Left {
    /// The reason in words, behind a number of keys.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRule => "under no rule",
            Self::NoPolicy => "under a rule without a ttl policy",
            Self::Access => "under a rule that does not let clients write",
            Self::Unaskable => "not UTF-8 or too long for a policy",
            Self::Failed => "whose policy failed",
            Self::Keep => "left to the client by the policy",
            Self::Client => "as the client asked, which the rule respects",
            Self::Longer => "that would live longer, and whose age is not known",
            Self::Trading => "from trading hours, that would live longer",
            Self::Right => "right already",
            Self::Gone => "that ended meanwhile",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Before, Change, Held, Left};
    use crate::namespace::ClientTtl::{self, Cap, Replace, Respect};
    use crate::policy::Expiry;
    use crate::proxy::lifetime::Lifetime::{self, Keep, Ms, Never};

    const HOUR: u64 = 3_600_000;

    /// What a person's order and what a market's change make of a lifetime that no earlier set gave.
    fn check(client_ttl: ClientTtl, left_ms: Option<u64>, decided: Lifetime, order: Change, by_itself: Change) {
        let held = Held { client_ttl, left_ms, decided, by_itself: false, before: &[] };
        assert_eq!(held.change(), order, "{held:?}");
        let elsewhere = [Before { ends_in_ms: Some([7, 9 * HOUR]), trading: false }];
        let held = Held { by_itself: true, before: &elsewhere, ..held };
        assert_eq!(held.change(), by_itself, "{held:?}");
    }

    fn both(client_ttl: ClientTtl, left_ms: Option<u64>, decided: Lifetime, expect: Change) {
        check(client_ttl, left_ms, decided, expect, expect);
    }

    #[test]
    fn lifetimes_that_are_not_known_to_be_ours() {
        let leave = Change::Leave;
        for mode in [Respect, Cap, Replace] {
            both(mode, Some(HOUR), Keep, leave(Left::Keep));
            both(mode, None, Keep, leave(Left::Keep));
            both(mode, None, Never, leave(Left::Right));
            both(mode, Some(HOUR), Ms(HOUR), leave(Left::Right));
            both(mode, Some(HOUR), Ms(HOUR - 999), leave(Left::Right));
            both(mode, Some(HOUR), Ms(HOUR + 999), leave(Left::Right));
        }
        for mode in [Cap, Replace] {
            both(mode, Some(HOUR), Ms(HOUR - 1_000), Change::Set(HOUR - 1_000));
            both(mode, Some(HOUR), Ms(60_000), Change::Set(60_000));
            both(mode, Some(HOUR), Ms(HOUR + 1_000), leave(Left::Longer));
            both(mode, Some(HOUR), Ms(2 * HOUR), leave(Left::Longer));
            both(mode, None, Ms(60_000), Change::Set(60_000));
        }
        both(Respect, Some(HOUR), Ms(60_000), leave(Left::Client));
        both(Respect, Some(HOUR), Ms(2 * HOUR), leave(Left::Client));
        both(Respect, Some(HOUR), Never, leave(Left::Client));
        both(Cap, Some(HOUR), Never, leave(Left::Client));
        both(Replace, Some(HOUR), Never, Change::Persist);
        check(Respect, None, Ms(60_000), Change::Set(60_000), leave(Left::Client));
    }

    #[test]
    fn lifetimes_that_an_earlier_set_gave() {
        let given = |mode, left, decided, trading: bool, expect| {
            let before = [
                Before { ends_in_ms: None, trading: !trading },
                Before { ends_in_ms: Some([HOUR, 2 * HOUR]), trading },
            ];
            let held = Held { client_ttl: mode, left_ms: Some(left), decided, by_itself: true, before: &before };
            assert_eq!(held.change(), expect, "{held:?}");
        };
        for mode in [Respect, Cap, Replace] {
            for left in [HOUR - 2_000, HOUR, HOUR + 2_000, 2 * HOUR] {
                for trading in [true, false] {
                    given(mode, left, Ms(60_000), trading, Change::Set(60_000));
                    given(mode, left, Ms(left + 999), trading, Change::Leave(Left::Right));
                    given(mode, left, Keep, trading, Change::Leave(Left::Keep));
                }
                given(mode, left, Ms(5 * HOUR), false, Change::Set(5 * HOUR));
                given(mode, left, Ms(5 * HOUR), true, Change::Leave(Left::Trading));
            }
        }
        for left in [HOUR - 2_001, HOUR + 2_001] {
            given(Respect, left, Ms(60_000), false, Change::Leave(Left::Client));
            given(Cap, left, Ms(60_000), false, Change::Set(60_000));
            given(Cap, left, Ms(5 * HOUR), false, Change::Leave(Left::Longer));
        }
        given(Cap, HOUR, Never, false, Change::Leave(Left::Client));
        given(Replace, HOUR, Never, false, Change::Persist);
    }

    /// A value written at any time under an earlier decision is known by its end, as long as its spread was whole; and
    /// one that is written now always is.
    #[test]
    fn ends_are_known_again() {
        const MINUTE: i64 = 60_000;
        let (at, spread) = (1_000 * MINUTE, 10 * MINUTE as u64);
        let expiry = Expiry::At(at);
        for key in (0..50).map(|number| format!("key:{number}")) {
            let end_of = |written: i64| match Lifetime::decided(expiry, spread, key.as_bytes(), written) {
                Ms(ms) => written + ms as i64,
                other => panic!("{other:?}"),
            };
            for now in [0, 500, 980, 985, 995].map(|minutes| minutes * MINUTE) {
                let before = Before::new(expiry, spread, key.as_bytes(), now, false);
                for written in [0, 100, 979].map(|minutes| minutes * MINUTE).into_iter().filter(|at| *at <= now) {
                    let left = end_of(written) - now;
                    assert!(left <= 0 || before.gave(left as u64), "{key} {now} {written} {before:?}");
                }
                assert!(before.gave((end_of(now) - now) as u64), "{key} {now} {before:?}");
            }
        }
        assert_eq!(Before::new(Expiry::After(HOUR), 0, b"k", 0, false).ends_in_ms, None);
        assert_eq!(Before::new(Expiry::Never, 0, b"k", 0, false).ends_in_ms, None);
        assert_eq!(Before::new(Expiry::At(5), 0, b"k", 1_000, false).ends_in_ms, Some([1, 0]));
    }
}
