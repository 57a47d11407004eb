//! Sessions of markets other than the key's own, for ttl policies.
//!
//! The session of the key's own market comes with each request and costs no call.

use crate::{Instant, MarketError, MarketSession};

/// The session of `market` at `at`, as one could have known it at `known_at` (none: with everything known today).
///
/// The sidecar answers from the policy set's market-hours policy, at most 16 times a decision, and only ttl policies
/// may ask: a full policy is asked itself, and has no need to. Natively the answer is what
/// [`testing::answer_sessions`](crate::testing::answer_sessions) was given, and [`MarketError::UnknownMarket`] without.
///
/// # Errors
///
/// [`MarketError::UnknownMarket`]; [`MarketError::BeyondHorizon`] where the data says nothing about that instant.
pub fn session_at(market: &str, at: Instant, known_at: Option<Instant>) -> Result<MarketSession, MarketError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::host::bellwether::policy::market_hours::session_at(market, at, known_at);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::session_at(market, at, known_at);
}
