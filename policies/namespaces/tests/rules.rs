//! The rule table, by default and under an operator's settings.

use bellwether_sdk::{ClientTtl, MarketSource, NamespacesPolicy, Rule, SymbolSource, ValueCheck};
use namespaces::Namespaces;

fn rules(settings: &str) -> Result<Vec<Rule>, String> {
    Namespaces::configure(settings)?.rules()
}

/// One rule under some settings, or why the settings are refused. `None`: there is no such rule.
fn check<T: PartialEq + std::fmt::Debug>(
    settings: &str,
    name: &str,
    field: impl Fn(Rule) -> T,
    expect: Result<Option<T>, &str>,
) {
    let found = rules(settings).map(|rules| rules.into_iter().find(|rule| rule.name == name).map(field));
    assert_eq!(found, expect.map_err(str::to_owned), "{name} under {settings}");
}

fn refused(settings: &str, expect: &str) {
    assert_eq!(rules(settings), Err(expect.to_owned()), "{settings}");
}

fn symbol(default_market: Option<&str>, part: Option<u32>) -> MarketSource {
    MarketSource::Symbol(SymbolSource { part, default_market: default_market.map(str::to_owned) })
}

#[test]
fn the_defaults_hold_five_namespaces_and_their_persist_rules() -> Result<(), String> {
    let names: Vec<_> = rules("{}")?.into_iter().map(|rule| (rule.name, rule.prefix + "*" + &rule.suffix)).collect();
    let expect: Vec<_> = ["general", "historical", "scores", "support_resistance", "context"]
        .into_iter()
        .flat_map(|name| {
            [
                (format!("fyntrix:{name}"), format!("fyntrix:{name}:*")),
                (format!("fyntrix:{name}:persist"), format!("fyntrix:{name}:*:persist")),
            ]
        })
        .collect();
    assert_eq!(names, expect);
    Ok(())
}

#[test]
fn every_default_rule_is_decided_by_the_ttl_policy_and_survives_without_it() -> Result<(), String> {
    for rule in rules("{}")? {
        assert_eq!(rule.ttl_policy.as_deref(), Some("ttl"), "{}", rule.name);
        let persists = rule.suffix == ":persist";
        assert_eq!(rule.fallback_ttl_ms == Some(86_400_000), persists, "{}", rule.name);
        assert!(rule.fallback_ttl_ms.is_some(), "{}", rule.name);
        // Stale copies and leases only mean something together.
        assert_eq!(rule.stale_ms.is_some(), rule.lease_ms.is_some(), "{}", rule.name);
    }
    Ok(())
}

#[test]
fn json_at_the_top_is_for_rules_that_do_not_say_their_own() {
    let value = |rule: Rule| rule.value;
    check("{}", "fyntrix:general", value, Ok(Some(ValueCheck::JsonWarn)));
    check(r#"{ "json": "refuse" }"#, "fyntrix:scores:persist", value, Ok(Some(ValueCheck::JsonRefuse)));
    let settings = r#"{ "json": "refuse", "rules": {
        "fyntrix:general": { "json": "any" }, "app": { "prefix": "app:" } } }"#;
    check(settings, "fyntrix:general", value, Ok(Some(ValueCheck::Any)));
    check(settings, "fyntrix:general:persist", value, Ok(Some(ValueCheck::JsonRefuse)));
    check(settings, "app", value, Ok(Some(ValueCheck::JsonRefuse)));
    refused(r#"{ "json": "on" }"#, r#""json" takes "refuse" or "warn" or "any", and is "on""#);
}

#[test]
fn one_field_changes_and_the_others_stay() -> Result<(), String> {
    let before = rules("{}")?;
    let after = rules(r#"{ "rules": { "fyntrix:scores": { "near_ms": 7 } } }"#)?;
    for (before, after) in before.into_iter().zip(after) {
        let near_ms = if before.name == "fyntrix:scores" { Some(7) } else { before.near_ms };
        assert_eq!(after, Rule { near_ms, ..before });
    }
    Ok(())
}

#[test]
fn an_optional_value_can_be_taken_away() {
    let settings = r#"{ "rules": { "fyntrix:scores": {
        "near_ms": "none", "fallback_ttl_ms": "none", "ttl_policy": "none", "refresh_ahead_percent": 20 } } }"#;
    let fields = |rule: Rule| (rule.near_ms, rule.fallback_ttl_ms, rule.ttl_policy, rule.refresh_ahead_percent);
    check(settings, "fyntrix:scores", fields, Ok(Some((None, None, None, Some(20)))));
}

#[test]
fn rules_come_and_go() {
    let prefix = |rule: Rule| rule.prefix;
    let settings = r#"{ "rules": { "app": { "prefix": "app:" }, "fyntrix:context": { "enabled": false } } }"#;
    check(settings, "app", prefix, Ok(Some("app:".to_owned())));
    check(settings, "fyntrix:context", prefix, Ok(None));
    check(settings, "fyntrix:context:persist", prefix, Ok(Some("fyntrix:context:".to_owned())));
    check(r#"{ "defaults": false }"#, "fyntrix:general", prefix, Ok(None));
    check(
        r#"{ "rules": { "app": { "prefix": "app:" } } }"#,
        "app",
        |rule| (rule.ttl_policy, rule.fallback_ttl_ms, rule.client_ttl),
        Ok(Some((Some("ttl".to_owned()), Some(30_000), ClientTtl::Cap))),
    );
}

#[test]
fn the_market_of_a_rule_is_three_fields() {
    fn check_market(fields: &str, name: &str, expect: MarketSource) {
        check(&format!(r#"{{ "rules": {{ "{name}": {fields} }} }}"#), name, |rule| rule.market, Ok(Some(expect)));
    }
    check_market("{}", "fyntrix:general", symbol(Some("XNSE"), None));
    check_market("{}", "fyntrix:general:persist", MarketSource::None);
    check_market(r#"{ "market": "XBOM" }"#, "fyntrix:general", symbol(Some("XBOM"), None));
    check_market(r#"{ "market": "none", "market_part": 1 }"#, "fyntrix:general", symbol(None, Some(1)));
    check_market(r#"{ "market_from": "fixed" }"#, "fyntrix:general", MarketSource::Fixed("XNSE".to_owned()));
    check_market(r#"{ "market_from": "none" }"#, "fyntrix:general", MarketSource::None);
    check_market(r#"{ "market": "24/7" }"#, "fyntrix:context", MarketSource::Fixed("24/7".to_owned()));
    let by_part = r#"{ "market_from": "key-part", "market_part": 0 }"#;
    check_market(by_part, "fyntrix:context", MarketSource::KeyPart(0));
}

#[test]
fn wrong_settings_are_refused_with_rule_and_field() {
    refused(
        r#"{ "rules": { "fyntrix:general": { "fallback_ttl": 5 } } }"#,
        r#"rules."fyntrix:general": unknown setting "fallback_ttl": did you mean "fallback_ttl_ms"?"#,
    );
    refused(
        r#"{ "rules": { "fyntrix:general": { "near_ms": 0 } } }"#,
        r#"rules."fyntrix:general": "near_ms" takes 1 to 315576000000 or "none", and is 0"#,
    );
    refused(
        r#"{ "rules": { "fyntrix:genral": { "near_ms": 5 } } }"#,
        "rules.\"fyntrix:genral\": there is no such rule, and a new one needs a \"prefix\"; \
         did you mean rules.\"fyntrix:general\"?",
    );
    refused(
        r#"{ "rules": { "app": { "prefix": "app" } } }"#,
        r#"rules."app": "prefix" takes a text that ends in ":", and is "app""#,
    );
    refused(
        r#"{ "rules": { "app": { "prefix": "app:", "suffix": "x" } } }"#,
        r#"rules."app": "suffix" takes a text that begins with ":", and is "x""#,
    );
    refused(
        r#"{ "rules": { "fyntrix:context": { "market_from": "fixed" } } }"#,
        r#"rules."fyntrix:context": "market" is needed where "market_from" is "fixed""#,
    );
    refused(
        r#"{ "rules": { "app": { "prefix": "fyntrix:general:" } } }"#,
        "rules.\"fyntrix:general\" and rules.\"app\" have the same prefix \"fyntrix:general:\" and suffix \"\": \
         give one another, or `enabled = false`",
    );
    refused(r#"{ "rule": {} }"#, r#"unknown setting "rule": did you mean "rules"?"#);
}
