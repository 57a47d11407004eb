//! What a Bellwether policy is written with: one trait, one macro line, native unit tests.
//!
//! A policy is a WebAssembly component that decides how long cache keys live. It plays one role, or all three:
//!
//! | role | trait | macro | answers |
//! |---|---|---|---|
//! | ttl | [`TtlPolicy`] | [`ttl_policy!`] | how long may this key live? |
//! | namespaces | [`NamespacesPolicy`] | [`namespaces_policy!`] | which keys are governed by which rule? |
//! | market hours | [`MarketHoursPolicy`] | [`market_hours_policy!`] | when does this market trade? |
//! | all three | all of them | [`full_policy!`] | |
//!
//! # A complete policy
//!
//! Values live for a minute while the market trades and until it opens again while it does not:
//!
//! ```
//! use bellwether_sdk::settings::Table;
//! use bellwether_sdk::{Decision, Description, Phase, Request, TtlPolicy};
//!
//! /// The configured policy: what `configure` made of the settings.
//! struct OpenOrShut {
//!     open_ttl_ms: u64,
//! }
//!
//! impl TtlPolicy for OpenOrShut {
//!     fn configure(settings: &str) -> Result<Self, String> {
//!         let mut table = Table::parse(settings)?;
//!         let open_ttl_ms = table.number("open_ttl_ms", 1..=86_400_000)?.unwrap_or(60_000);
//!         table.finish()?;
//!         Ok(Self { open_ttl_ms })
//!     }
//!
//!     fn describe(&self) -> Description {
//!         Description::new("open-or-shut", "1.0.0", "A minute while the market trades, else until it opens")
//!     }
//!
//!     fn decide(&self, request: &Request) -> Result<Decision, String> {
//!         let Some(Ok(session)) = &request.market else {
//!             return Ok(Decision::after(self.open_ttl_ms, "no session is known for this key"));
//!         };
//!         match (session.phase, session.next_open) {
//!             (Phase::Open, _) | (_, None) => Ok(Decision::after(self.open_ttl_ms, "the market trades")),
//!             (_, Some(next_open)) => Ok(Decision::at(next_open, "nothing changes before the next open")),
//!         }
//!     }
//! }
//!
//! bellwether_sdk::ttl_policy!(OpenOrShut);
//!
//! # fn main() -> Result<(), String> {
//! // A policy is plain Rust: call it, natively, as a unit test does.
//! use bellwether_sdk::{Expiry, testing};
//! let policy = OpenOrShut::configure(r#"{ "open_ttl_ms": 5000 }"#)?;
//! let mut request = testing::request("quotes", "quotes:RELIANCE.NS", testing::instant("2026-11-23T10:00:00+05:30"));
//! assert_eq!(policy.decide(&request)?.expiry, Expiry::After(5000));
//!
//! let next_open = testing::instant("2026-11-25T09:15:00+05:30");
//! let mut session = testing::session(Phase::Closed, request.now, next_open);
//! session.next_open = Some(next_open);
//! request.market = Some(Ok(session));
//! assert_eq!(policy.decide(&request)?.expiry, Expiry::At(next_open));
//!
//! let refused = OpenOrShut::configure(r#"{ "open_ttl": 5000 }"#).err();
//! assert_eq!(refused.as_deref(), Some(r#"unknown setting "open_ttl": did you mean "open_ttl_ms"?"#));
//! # Ok(())
//! # }
//! ```
//!
//! # From source to sidecar
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the component, and the library that tests link
//! ```
//!
//! `cargo test` runs the tests natively. `cargo component build --release --target wasm32-unknown-unknown` makes the
//! component; plain `cargo build` for that target makes a module, which `wasm-tools component new` turns into the same.
//! It exports its own role and imports nothing but the contract. Put it into the policy folder, and ask `bellwether
//! check`.
//!
//! # What a policy may count on
//!
//! - It is configured once, before anything else; a second `configure` is refused, and a call before the first is
//!   answered neutrally (an error, an unknown market, an empty list).
//! - It is a pure function of its arguments and settings. There is no clock, no file and no network: `now` comes in
//!   with each request.
//! - A panic costs that one decision: the sidecar applies the rule's fallback and replaces the instance.
//! - [`log`] and [`market_hours`] are the host's. Natively, lines are captured and sessions come from [`testing`].

mod bindings;
pub mod instant;
mod json;
pub mod log;
pub mod market_hours;
mod role;
pub mod settings;
#[doc(hidden)]
pub mod slot;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod values;

#[doc(inline)]
pub use bindings::host::bellwether::policy::types::{
    CommandKind, DataVersion, Instant, MarketError, MarketSession, Millis, Phase,
};
#[doc(inline)]
pub use bindings::lifecycle::exports::bellwether::policy::lifecycle::{Description, Inputs};
#[doc(inline)]
pub use bindings::market_hours::exports::bellwether::policy::market_hours::{
    Market, MarketNumber, Span, SpecialDay, Transition,
};
#[doc(inline)]
pub use bindings::namespaces::exports::bellwether::policy::namespaces::{
    Access, Apply, ClientTtl, MarketSource, Rule, SymbolMatch, SymbolRule, SymbolSource, ValueCheck,
};
#[doc(inline)]
pub use bindings::ttl::exports::bellwether::policy::ttl::{Decision, Expiry, Request};
pub use role::{MarketHoursPolicy, NamespacesPolicy, TtlPolicy};
