//! The three roles a policy can play, as the traits an author implements.
//!
//! Each role repeats `configure` and `describe`, so that a policy of one role is one `impl` and nothing else.

use crate::{
    Decision, Description, Instant, Market, MarketError, MarketNumber, MarketSession, Request, Rule, SpecialDay,
    SymbolRule, Transition,
};

/// A policy that decides how long a key may live. Exported with [`ttl_policy!`](crate::ttl_policy).
pub trait TtlPolicy: Sized {
    /// Makes the policy from its settings: a JSON object, `{}` where the operator gave none.
    ///
    /// # Errors
    ///
    /// A message for the operator that names the setting and says what it takes. The load is refused.
    /// [`settings`](crate::settings) writes such messages.
    fn configure(settings: &str) -> Result<Self, String>;

    /// Says what the policy is, and what of a request its decisions read: what is not declared is passed blank, and
    /// the sidecar remembers a decision under what is.
    fn describe(&self) -> Description;

    /// Decides one write.
    ///
    /// # Errors
    ///
    /// What could not be decided, at most 1024 bytes. It costs this decision: the rule's fallback applies.
    fn decide(&self, request: &Request) -> Result<Decision, String>;
}

/// A policy that says which keys are governed by which rule. Exported with
/// [`namespaces_policy!`](crate::namespaces_policy).
pub trait NamespacesPolicy: Sized {
    /// Makes the policy from its settings: a JSON object, `{}` where the operator gave none.
    ///
    /// # Errors
    ///
    /// As [`TtlPolicy::configure`].
    fn configure(settings: &str) -> Result<Self, String>;

    /// Says what the policy is.
    fn describe(&self) -> Description;

    /// All rules, at most 10000. Read once per load: rules are data.
    ///
    /// # Errors
    ///
    /// A message for the operator that names what is wrong with the settings. The load is refused.
    fn rules(&self) -> Result<Vec<Rule>, String>;

    /// The symbol table, at most 10000 lines. Read once per load.
    ///
    /// # Errors
    ///
    /// As [`NamespacesPolicy::rules`].
    fn symbols(&self) -> Result<Vec<SymbolRule>, String>;
}

/// A policy that knows when markets trade. Exported with [`market_hours_policy!`](crate::market_hours_policy).
pub trait MarketHoursPolicy: Sized {
    /// Makes the policy from its settings: a JSON object, `{}` where the operator gave none.
    ///
    /// # Errors
    ///
    /// As [`TtlPolicy::configure`].
    fn configure(settings: &str) -> Result<Self, String>;

    /// Says what the policy is.
    fn describe(&self) -> Description;

    /// The number of a market, by its name or an alias. It may depend on the settings and on nothing else; the place in
    /// a list in order of name is one.
    fn find(&self, name: &str) -> Option<MarketNumber>;

    /// The session of `market` at `at`, as one could have known it at `known_at` (none: with everything known today).
    ///
    /// # Errors
    ///
    /// [`MarketError::UnknownMarket`] for a number that `find` does not give; [`MarketError::BeyondHorizon`] before the
    /// first and after the last instant of the data, which is never to be read as "open".
    fn session_at(
        &self,
        market: MarketNumber,
        at: Instant,
        known_at: Option<Instant>,
    ) -> Result<MarketSession, MarketError>;

    /// The next changes of phase after `start`, in order: at most `count`, at most 1000, fewer where the data ends.
    ///
    /// # Errors
    ///
    /// As [`MarketHoursPolicy::session_at`].
    fn transitions(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError>;

    /// The next days that are not as their weekday usually is, from `start` on: at most `count`, at most 100. There are
    /// none where the policy does not say otherwise.
    ///
    /// # Errors
    ///
    /// As [`MarketHoursPolicy::session_at`].
    fn special_days(
        &self,
        _market: MarketNumber,
        _start: Instant,
        _count: u32,
    ) -> Result<Vec<SpecialDay>, MarketError> {
        Ok(Vec::new())
    }

    /// Every market the policy knows, in order of name.
    fn markets(&self) -> Vec<Market>;
}
