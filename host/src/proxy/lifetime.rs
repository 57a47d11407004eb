//! The arithmetic of lifetimes: a decision, the spread of its end, and what the client asked for. Pure.

use crate::namespace::ClientTtl;
use crate::policy::Expiry;

/// How long a key is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As the client wrote it.
    Keep,
    /// Without end.
    Never,
    /// So many milliseconds from now, at least 1.
    Ms(u64),
}

// === impl Lifetime ===

impl Lifetime {
    /// What a decision means for one key at `now`.
    pub fn decided(expiry: Expiry, spread_ms: u64, key: &[u8], now: i64) -> Self {
        let whole = match expiry {
            Expiry::Keep => return Self::Keep,
            Expiry::Never => return Self::Never,
            Expiry::After(ms) => ms,
            Expiry::At(at) => u64::try_from(at.saturating_sub(now)).unwrap_or(0),
        };
        // Half of it at most, so that a wide spread does not empty the cache at once.
        let spread = spread_ms.min(whole / 2);
        let early = if spread == 0 { 0 } else { hash(key) % (spread + 1) };
        Self::Ms((whole - early).max(1))
    }

    /// What is left of a decision beside a lifetime that the client asked for. `Keep`: the client's stands.
    pub fn beside(self, client_ms: u64, mode: ClientTtl) -> Self {
        match (mode, self) {
            (ClientTtl::Respect, _) => Self::Keep,
            (ClientTtl::Cap, Self::Ms(ms)) if ms < client_ms => Self::Ms(ms),
            (ClientTtl::Cap, _) => Self::Keep,
            (ClientTtl::Replace, decision) => decision,
        }
    }
}

/// FNV-1a: the same for the same key in every sidecar and every version.
fn hash(key: &[u8]) -> u64 {
    let mixed = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // Its low bits alone are poor for keys that differ in their last byte only.
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::Lifetime::{self, Keep, Ms, Never};
    use crate::namespace::ClientTtl::{self, Cap, Replace, Respect};
    use crate::policy::Expiry;

    #[test]
    fn decisions() {
        let check = |expiry, spread, expect| assert_eq!(Lifetime::decided(expiry, spread, b"k", 1_000), expect);
        check(Expiry::Keep, 9, Keep);
        check(Expiry::Never, 9, Never);
        check(Expiry::After(500), 0, Ms(500));
        check(Expiry::At(1_500), 0, Ms(500));
        check(Expiry::At(1_000), 0, Ms(1));
        check(Expiry::At(3), 0, Ms(1));
        check(Expiry::After(1), 100, Ms(1));
    }

    #[test]
    fn spreads() {
        let of = |key: String| Lifetime::decided(Expiry::After(1_000), 400, key.as_bytes(), 0);
        let all: Vec<_> = (0..200).map(|n| of(format!("key{n}"))).collect();
        assert!(all.iter().all(|lifetime| matches!(lifetime, Ms(600..=1_000))), "{all:?}");
        let distinct: std::collections::HashSet<_> = all.iter().map(|lifetime| format!("{lifetime:?}")).collect();
        assert!(distinct.len() > 100, "{} distinct ends of 200", distinct.len());
        assert_eq!(of("key1".into()), of("key1".into()));
        let half = (0..200).map(|n| Lifetime::decided(Expiry::After(100), 4_000, format!("{n}").as_bytes(), 0));
        assert!(half.into_iter().all(|lifetime| matches!(lifetime, Ms(50..=100))));
    }

    #[test]
    fn clients() {
        let check = |decision: Lifetime, mode: ClientTtl, expect| assert_eq!(decision.beside(100, mode), expect);
        for decision in [Keep, Never, Ms(50), Ms(200)] {
            check(decision, Respect, Keep);
            check(decision, Replace, decision);
        }
        check(Ms(50), Cap, Ms(50));
        check(Ms(200), Cap, Keep);
        check(Never, Cap, Keep);
        check(Keep, Cap, Keep);
    }
}
