//! Sessions of markets other than the key's own, for ttl policies.
//!
//! The session of the key's own market comes with each request and costs no call.

#[cfg(target_arch = "wasm32")]
use std::cell::RefCell;

#[cfg(target_arch = "wasm32")]
use crate::bindings::host::bellwether::policy::market_hours as host;
use crate::{Instant, MarketError, MarketSession};

#[cfg(target_arch = "wasm32")]
const KNOWN_MAX: usize = 256;

/// The session of `market` at `at`, as one could have known it at `known_at` (none: with everything known today).
///
/// The sidecar answers from the policy set's market-hours policy, and only ttl policies may ask: a full policy is asked
/// itself, and has no need to. Each question is one of the calls into the host that a decision may make, and the first
/// one about a market is two: its number is asked for, and remembered. Natively the answer is what
/// [`testing::answer_sessions`](crate::testing::answer_sessions) was given, and [`MarketError::UnknownMarket`] without.
///
/// # Errors
///
/// [`MarketError::UnknownMarket`]; [`MarketError::BeyondHorizon`] where the data says nothing about that instant.
pub fn session_at(market: &str, at: Instant, known_at: Option<Instant>) -> Result<MarketSession, MarketError> {
    #[cfg(target_arch = "wasm32")]
    return host::session_at(number(market).ok_or(MarketError::UnknownMarket)?, at, known_at);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::session_at(market, at, known_at);
}

/// The number of a market, asked for once.
#[cfg(target_arch = "wasm32")]
fn number(market: &str) -> Option<crate::MarketNumber> {
    thread_local! {
        static KNOWN: RefCell<Vec<(Box<str>, crate::MarketNumber)>> = const { RefCell::new(Vec::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, number)) = known.iter().find(|(name, _)| **name == *market) {
            return Some(*number);
        }
        let number = host::find(market)?;
        // Names may come from keys.
        if known.len() < KNOWN_MAX {
            known.push((market.into(), number));
        }
        Some(number)
    })
}
