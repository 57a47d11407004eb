//! The cases that ship beside the component, asked natively, and what the policy says of itself.

use std::{collections::BTreeMap, error::Error};

use bellwether_sdk::{MarketError, MarketHoursPolicy, MarketSession, Phase, testing};
use market_hours::MarketHours;

static CASES: &str = include_str!("../cases.toml");

/// The quoted fields of a case, `expect`'s own among them: all that this file uses of TOML.
fn fields(case: &str) -> BTreeMap<&str, &str> {
    let mut fields = BTreeMap::new();
    for line in case.lines().filter(|line| !line.starts_with('#')) {
        let line = line.strip_prefix("expect = {").unwrap_or(line).trim_end_matches([' ', '}']);
        for pair in line.split("\", ") {
            if let Some((name, value)) = pair.split_once(" = ") {
                fields.insert(name.trim(), value.trim_matches('"'));
            }
        }
    }
    fields
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::PreOpen => "pre-open",
        Phase::Open => "open",
        Phase::Break => "break",
        Phase::ClosingAuction => "closing-auction",
        Phase::PostClose => "post-close",
        Phase::Halted => "halted",
    }
}

fn check(policy: &MarketHours, case: &BTreeMap<&str, &str>) -> Result<(), Box<dyn Error>> {
    let field = |name: &str| case.get(name).copied().ok_or_else(|| format!("no {name} in {case:?}"));
    let name = field("name")?;
    match policy.session_at(field("market")?, testing::instant(field("at")?), None) {
        Ok(session) => check_session(name, &session, case),
        Err(MarketError::UnknownMarket) => assert_eq!(case.get("error"), Some(&"unknown-market"), "{name}"),
        Err(MarketError::BeyondHorizon(_)) => assert_eq!(case.get("error"), Some(&"beyond-horizon"), "{name}"),
    }
    Ok(())
}

fn check_session(name: &str, session: &MarketSession, case: &BTreeMap<&str, &str>) {
    assert_eq!(case.get("phase"), Some(&phase_name(session.phase)), "{name}");
    let instant = |field: &str| case.get(field).map(|text| testing::instant(text));
    assert_eq!(instant("until"), Some(session.until), "{name}");
    if case.contains_key("next-regular-open") {
        assert_eq!(instant("next-regular-open"), session.next_regular_open, "{name}");
    }
}

#[test]
fn every_case_is_answered_as_expected() -> Result<(), Box<dyn Error>> {
    let policy = MarketHours::configure("{}")?;
    let cases: Vec<_> = CASES.split("[[case]]").skip(1).map(fields).collect();
    assert_eq!(cases.len(), 14);
    cases.iter().try_for_each(|case| check(&policy, case))
}

#[test]
fn unknown_settings_are_refused_by_name() {
    for (settings, named) in [(r#"{"closed": "XNSE"}"#, "closed"), ("[]", "table"), ("", "JSON")] {
        let message = MarketHours::configure(settings).err().unwrap_or_default();
        assert!(message.contains(named), "{settings}: {message:?}");
    }
}

#[test]
fn the_description_and_the_list_keep_the_contracts_limits() -> Result<(), Box<dyn Error>> {
    let policy = MarketHours::configure("{}")?;
    let description = policy.describe();
    assert!(description.version.len() <= 64 && description.summary.len() <= 256);
    assert!(description.reads.is_empty());
    let markets = policy.markets();
    assert!(markets.is_sorted_by(|one, other| one.name < other.name));
    assert!(markets.iter().all(|market| market.covered_from < market.horizon));
    let changes = policy.transitions("XNSE", markets.first().map_or(0, |market| market.covered_from), 3)?;
    assert_eq!(changes.len(), 3);
    Ok(())
}
