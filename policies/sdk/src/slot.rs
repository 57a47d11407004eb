//! Where a component keeps its configured policy, and how exported calls reach it.
//!
//! Public for the macros, which expand in the author's crate, and hidden from everyone else. What is here is also what
//! the macros may not do wrong: configured once, and a neutral answer before that.

use std::cell::OnceCell;

pub use crate::bindings::{lifecycle, market_hours, namespaces, ttl};
use crate::{
    Decision, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession,
    NamespacesPolicy, Request, Rule, SpecialDay, SymbolRule, Transition, TtlPolicy,
};

/// A component: the type that a macro exports, standing before the author's policy.
pub trait Slot {
    /// The author's policy.
    type Policy: 'static;

    /// `configure` of the role that the component plays.
    fn configure(settings: &str) -> Result<Self::Policy, String>;

    /// `describe` of the role that the component plays.
    fn describe(policy: &Self::Policy) -> Description;

    /// Lends the place where the policy is kept. A component has one thread, so that a thread-local is a static that
    /// asks for no `Sync` of the author's type.
    fn with<R>(body: impl FnOnce(&OnceCell<Self::Policy>) -> R) -> R;
}

/// What a call gets that should not have been made yet.
fn not_configured() -> String {
    "the policy has not been configured".to_owned()
}

impl<S: Slot> lifecycle::exports::bellwether::policy::lifecycle::Guest for S {
    fn configure(settings: String) -> Result<(), String> {
        S::with(|slot| {
            if slot.get().is_some() {
                return Err("the policy has been configured already; load it again to change its settings".to_owned());
            }
            let policy = <S as Slot>::configure(&settings)?;
            slot.set(policy).map_err(|_| "the policy configured itself while it was being configured".to_owned())
        })
    }

    fn describe() -> Description {
        S::with(|slot| match slot.get() {
            Some(policy) => <S as Slot>::describe(policy),
            None => Description::new("unconfigured", "", &not_configured()),
        })
    }
}

impl<S: Slot<Policy: TtlPolicy>> ttl::exports::bellwether::policy::ttl::Guest for S {
    fn decide(request: Request) -> Result<Decision, String> {
        S::with(|slot| slot.get().ok_or_else(not_configured)?.decide(&request))
    }
}

impl<S: Slot<Policy: NamespacesPolicy>> namespaces::exports::bellwether::policy::namespaces::Guest for S {
    fn rules() -> Result<Vec<Rule>, String> {
        S::with(|slot| slot.get().ok_or_else(not_configured)?.rules())
    }

    fn symbols() -> Result<Vec<SymbolRule>, String> {
        S::with(|slot| slot.get().ok_or_else(not_configured)?.symbols())
    }
}

impl<S: Slot<Policy: MarketHoursPolicy>> market_hours::exports::bellwether::policy::market_hours::Guest for S {
    fn find(name: String) -> Option<MarketNumber> {
        S::with(|slot| slot.get()?.find(&name))
    }

    fn session_at(market: MarketNumber, at: Instant, known_at: Option<Instant>) -> Result<MarketSession, MarketError> {
        S::with(|slot| slot.get().ok_or(MarketError::UnknownMarket)?.session_at(market, at, known_at))
    }

    fn transitions(market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        S::with(|slot| slot.get().ok_or(MarketError::UnknownMarket)?.transitions(market, start, count))
    }

    fn special_days(market: MarketNumber, start: Instant, count: u32) -> Result<Vec<SpecialDay>, MarketError> {
        S::with(|slot| slot.get().ok_or(MarketError::UnknownMarket)?.special_days(market, start, count))
    }

    fn markets() -> Vec<Market> {
        S::with(|slot| slot.get().map(MarketHoursPolicy::markets).unwrap_or_default())
    }
}

/// Exports a type as a ttl policy: `bellwether_sdk::ttl_policy!(MyPolicy);`, once per crate.
#[macro_export]
macro_rules! ttl_policy {
    ($policy:ty) => {
        $crate::__component!($policy, $crate::TtlPolicy, export_lifecycle lifecycle, export_ttl ttl);
    };
}

/// Exports a type as a namespaces policy: `bellwether_sdk::namespaces_policy!(MyPolicy);`, once per crate.
#[macro_export]
macro_rules! namespaces_policy {
    ($policy:ty) => {
        $crate::__component!(
            $policy, $crate::NamespacesPolicy, export_lifecycle lifecycle, export_namespaces namespaces
        );
    };
}

/// Exports a type as a market-hours policy: `bellwether_sdk::market_hours_policy!(MyPolicy);`, once per crate.
#[macro_export]
macro_rules! market_hours_policy {
    ($policy:ty) => {
        $crate::__component!(
            $policy, $crate::MarketHoursPolicy, export_lifecycle lifecycle, export_market_hours market_hours
        );
    };
}

/// Exports a type that implements all three traits as a policy for all roles:
/// `bellwether_sdk::full_policy!(MyPolicy);`, once per crate.
///
/// There is one policy and so one `configure` and one `describe`: those of its [`TtlPolicy`], the role that has inputs
/// to declare.
#[macro_export]
macro_rules! full_policy {
    ($policy:ty) => {
        $crate::__component!(
            $policy, $crate::TtlPolicy,
            export_lifecycle lifecycle, export_namespaces namespaces, export_ttl ttl, export_market_hours market_hours
        );
    };
}

/// The slot of `$policy`, configured through `$role`, and the exports of each named interface.
///
/// The exports are for WebAssembly only: natively a policy is a library and its own tests are what calls it.
#[doc(hidden)]
#[macro_export]
macro_rules! __component {
    ($policy:ty, $role:path, $($export:ident $interface:ident),+) => {
        const _: () = {
            #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only a component has exports"))]
            struct Component;

            ::std::thread_local! {
                static POLICY: ::std::cell::OnceCell<$policy> = const { ::std::cell::OnceCell::new() };
            }

            impl $crate::slot::Slot for Component {
                type Policy = $policy;

                fn configure(settings: &str) -> ::std::result::Result<$policy, ::std::string::String> {
                    <$policy as $role>::configure(settings)
                }

                fn describe(policy: &$policy) -> $crate::Description {
                    <$policy as $role>::describe(policy)
                }

                fn with<R>(body: impl ::std::ops::FnOnce(&::std::cell::OnceCell<$policy>) -> R) -> R {
                    POLICY.with(body)
                }
            }

            $(
                #[cfg(target_arch = "wasm32")]
                $crate::slot::$interface::$export!(Component with_types_in $crate::slot::$interface);
            )+
        };
    };
}
