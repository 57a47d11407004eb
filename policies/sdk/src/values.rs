//! How the contract's records are made: each in one call, with the fields that are always different as arguments and
//! the neutral value for the rest.

use crate::{
    Access, Apply, ClientTtl, Decision, Description, Expiry, Inputs, Instant, MarketSource, Millis, Rule, ValueCheck,
};

impl Decision {
    /// Leave the command as the client wrote it.
    #[must_use]
    pub fn keep(reason: impl Into<String>) -> Self {
        Self::new(Expiry::Keep, reason)
    }

    /// Live that long from now.
    #[must_use]
    pub fn after(ttl_ms: Millis, reason: impl Into<String>) -> Self {
        Self::new(Expiry::After(ttl_ms), reason)
    }

    /// Live until that instant. Near a boundary this is the right one: a remembered answer stays true.
    #[must_use]
    pub fn at(instant: Instant, reason: impl Into<String>) -> Self {
        Self::new(Expiry::At(instant), reason)
    }

    /// Live without end.
    #[must_use]
    pub fn never(reason: impl Into<String>) -> Self {
        Self::new(Expiry::Never, reason)
    }

    /// Let keys end at different instants within this span before the boundary.
    #[must_use]
    pub fn spread(mut self, spread_ms: Millis) -> Self {
        self.spread_ms = spread_ms;
        self
    }

    /// Let the answer be remembered until then, instead of until the market session ends.
    #[must_use]
    pub fn valid_until(mut self, instant: Instant) -> Self {
        self.valid_until = Some(instant);
        self
    }

    fn new(expiry: Expiry, reason: impl Into<String>) -> Self {
        Self { expiry, spread_ms: 0, valid_until: None, reason: reason.into() }
    }
}

impl Description {
    /// A policy that reads nothing but the rule, the market session and `now`.
    #[must_use]
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), summary: summary.to_owned(), reads: Inputs::empty() }
    }

    /// Declares what else decisions read.
    #[must_use]
    pub fn reads(mut self, inputs: Inputs) -> Self {
        self.reads = inputs;
        self
    }
}

impl Rule {
    /// A rule that changes nothing: no ttl policy, no market, any value, every command. Set the fields that matter.
    #[must_use]
    pub fn new(name: &str, prefix: &str) -> Self {
        Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            suffix: String::new(),
            ttl_policy: None,
            market: MarketSource::None,
            value: ValueCheck::Any,
            value_bytes_max: None,
            access: Access::ReadWrite,
            apply: Apply::OnCreate,
            client_ttl: ClientTtl::Respect,
            fallback_ttl_ms: None,
            near_ms: None,
            stale_ms: None,
            lease_ms: None,
            lease_wait_ms: None,
            refresh_ahead_percent: None,
            fail_safe_ms: None,
        }
    }
}
