//! What stands between the host's calls and the author's policy: configured once, neutral before.

use std::cell::OnceCell;

use bellwether_sdk::slot::{Slot, lifecycle, market_hours, namespaces, ttl};
use bellwether_sdk::{
    Decision, Description, Inputs, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession,
    NamespacesPolicy, Phase, Request, Rule, SymbolRule, Transition, TtlPolicy, log, testing,
};
use lifecycle::exports::bellwether::policy::lifecycle::Guest as Lifecycle;
use market_hours::exports::bellwether::policy::market_hours::Guest as MarketHours;
use namespaces::exports::bellwether::policy::namespaces::Guest as Namespaces;
use ttl::exports::bellwether::policy::ttl::Guest as Ttl;

/// Plays every role and answers with its settings.
struct Echo(String);

impl TtlPolicy for Echo {
    fn configure(settings: &str) -> Result<Self, String> {
        if settings.is_empty() { Err("no settings".to_owned()) } else { Ok(Self(settings.to_owned())) }
    }

    fn describe(&self) -> Description {
        Description::new("echo", "1", &self.0).reads(Inputs::KEY)
    }

    fn decide(&self, request: &Request) -> Result<Decision, String> {
        log::info(&self.0);
        let session = bellwether_sdk::market_hours::session_at("XNYS", request.now, None);
        Ok(Decision::at(session.map_or(0, |session| session.until), self.0.clone()))
    }
}

impl NamespacesPolicy for Echo {
    fn configure(settings: &str) -> Result<Self, String> {
        <Self as TtlPolicy>::configure(settings)
    }

    fn describe(&self) -> Description {
        TtlPolicy::describe(self)
    }

    fn rules(&self) -> Result<Vec<Rule>, String> {
        Ok(vec![Rule::new(&self.0, "a:")])
    }

    fn symbols(&self) -> Result<Vec<SymbolRule>, String> {
        Ok(Vec::new())
    }
}

impl MarketHoursPolicy for Echo {
    fn configure(settings: &str) -> Result<Self, String> {
        <Self as TtlPolicy>::configure(settings)
    }

    fn describe(&self) -> Description {
        TtlPolicy::describe(self)
    }

    fn find(&self, name: &str) -> Option<MarketNumber> {
        (name == "XNSE").then_some(7)
    }

    fn session_at(&self, _: MarketNumber, at: Instant, _: Option<Instant>) -> Result<MarketSession, MarketError> {
        Ok(testing::session(Phase::Open, at, at + 1))
    }

    fn transitions(&self, _: MarketNumber, start: Instant, _: u32) -> Result<Vec<Transition>, MarketError> {
        Ok(vec![Transition { at: start, phase: Phase::Open }])
    }

    fn markets(&self) -> Vec<Market> {
        Vec::new()
    }
}

struct Component;

thread_local! {
    static POLICY: OnceCell<Echo> = const { OnceCell::new() };
}

impl Slot for Component {
    type Policy = Echo;

    fn configure(settings: &str) -> Result<Echo, String> {
        <Echo as TtlPolicy>::configure(settings)
    }

    fn describe(policy: &Echo) -> Description {
        TtlPolicy::describe(policy)
    }

    fn with<R>(body: impl FnOnce(&OnceCell<Echo>) -> R) -> R {
        POLICY.with(body)
    }
}

#[test]
fn a_call_before_configure_is_answered_neutrally() {
    let refused = "the policy has not been configured".to_owned();
    assert_eq!(<Component as Ttl>::decide(testing::request("a", "a:b", 0)), Err(refused.clone()));
    assert_eq!(Component::rules(), Err(refused.clone()));
    assert_eq!(Component::symbols(), Err(refused));
    assert_eq!(<Component as MarketHours>::find("XNSE".to_owned()), None);
    assert_eq!(<Component as MarketHours>::session_at(7, 0, None), Err(MarketError::UnknownMarket));
    assert_eq!(<Component as MarketHours>::transitions(7, 0, 1), Err(MarketError::UnknownMarket));
    assert_eq!(<Component as Lifecycle>::describe().name, "unconfigured");
}

#[test]
fn settings_that_are_refused_leave_the_policy_unconfigured() {
    assert_eq!(<Component as Lifecycle>::configure(String::new()), Err("no settings".to_owned()));
    assert!(Component::rules().is_err());
}

#[test]
fn configured_once_every_role_answers() -> Result<(), String> {
    <Component as Lifecycle>::configure("first".to_owned())?;
    assert!(<Component as Lifecycle>::configure("second".to_owned()).is_err());

    testing::answer_sessions(|_, at, _| Ok(testing::session(Phase::Open, at, at + 7)));
    let decision = <Component as Ttl>::decide(testing::request("a", "a:b", 100))?;
    assert_eq!(decision, Decision::at(107, "first"));
    assert_eq!(testing::take_log(), [(log::Level::Info, "first".to_owned())]);
    assert_eq!(<Component as Lifecycle>::describe().reads, Inputs::KEY);
    assert_eq!(Component::rules()?[0].name, "first");
    assert_eq!(<Component as MarketHours>::find("XNSE".to_owned()), Some(7));
    let session = <Component as MarketHours>::session_at(7, 5, None);
    assert_eq!(session.map(|session| session.until), Ok(6));
    Ok(())
}
