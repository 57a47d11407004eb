//! The ttl policy, called natively as a component's host would call it.

mod decisions;
mod properties;
mod sessions;
