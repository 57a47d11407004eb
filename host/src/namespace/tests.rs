//! Keys, their rules and their markets.

use super::{Access, Apply, ClientTtl, MarketSource, Rule, RuleTable, SymbolMatch, SymbolRule, ValueCheck};

fn rule(name: &str, prefix: &str, suffix: &str, market: MarketSource) -> Rule {
    Rule {
        name: name.into(),
        prefix: prefix.into(),
        suffix: suffix.into(),
        ttl_policy: None,
        market,
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

fn table() -> RuleTable {
    let any = MarketSource::Symbol { part: None, default: Some("XNSE".into()) };
    let symbol = |match_by, text: &str, market: &str| SymbolRule { match_by, text: text.into(), market: market.into() };
    let rules = vec![
        rule("a", "a:", "", any.clone()),
        rule("a persist", "a:", ":persist", MarketSource::None),
        rule("a short", "a:", ":s", MarketSource::None),
        rule("a long", "a:", ":never:evicted", MarketSource::None),
        rule("a b", "a:b:", "", MarketSource::KeyPart(0)),
        rule("c old", "c:d:", ":old", MarketSource::Fixed("XLON".into())),
        rule("c", "c:", "", MarketSource::Symbol { part: Some(1), default: None }),
    ];
    let symbols = vec![
        symbol(SymbolMatch::Suffix, ".T", "XTKS"),
        symbol(SymbolMatch::Exact, "^NSEI", "XNSE"),
        symbol(SymbolMatch::Prefix, "^", "XNYS"),
        symbol(SymbolMatch::Exact, "ODD.T", "XBOM"),
    ];
    RuleTable::build(rules, symbols).unwrap()
}

#[test]
fn keys_and_their_rules() {
    let table = table();
    let check = |key: &str, expect: &str, market: Option<&str>| {
        let found = table.find(key.as_bytes());
        assert_eq!(found.map_or("", |(_, rule)| &rule.name), expect, "{key}");
        assert_eq!(found.and_then(|(id, _)| table.market(id, key).name), market, "{key}");
    };
    check("a:x", "a", Some("XNSE"));
    check("a:", "a", Some("XNSE"));
    check("a:quote:7203.T", "a", Some("XTKS"));
    check("a:quote:ODD.T", "a", Some("XBOM"));
    check("a:quote:^GSPC", "a", Some("XNYS"));
    check("a:quote:.T", "a", Some("XNSE"));
    check("a:x:persist", "a persist", None);
    check("a::persist", "a persist", None);
    check("a:persist", "a", Some("XNSE"));
    check("a:x:s", "a short", None);
    check("a::s", "a short", None);
    check("a:s", "a", Some("XNSE"));
    check("a:x:never:evicted", "a long", None);
    check("a:never:evicted", "a", Some("XNSE"));
    check("a:x:ever:evicted", "a", Some("XNSE"));
    check("a:b:XBOM:x", "a b", Some("XBOM"));
    check("a:b:", "a b", None);
    check("c:d:x", "c", None);
    check("c:d:7203.T", "c", Some("XTKS"));
    check("c:d:x:old", "c old", Some("XLON"));
    check("a", "", None);
    check("b:x", "", None);
    check("", "", None);
}

/// Prefixes of every length that there can be, each with a rule, and a key under each.
#[test]
fn lengths_of_prefixes() {
    let prefix = |bytes: usize| format!("{}:", "x".repeat(bytes - 1));
    let lengths = (1..=512).step_by(7).chain([63, 64, 65, 128, 512]).collect::<std::collections::BTreeSet<_>>();
    let rules = lengths.iter().map(|bytes| rule(&bytes.to_string(), &prefix(*bytes), "", MarketSource::None));
    let table = RuleTable::build(rules.collect(), vec![]).unwrap();
    for bytes in 1..=513 {
        let found = table.find(format!("{}y", prefix(bytes)).as_bytes()).map(|(_, rule)| rule.name.clone());
        assert_eq!(found, lengths.contains(&bytes).then(|| bytes.to_string()), "{bytes} bytes");
    }
}

#[test]
fn symbols_that_are_not_known() {
    let table = table();
    let check = |key: &str, unknown_symbol: bool| {
        let market = table.find(key.as_bytes()).map(|(id, _)| table.market(id, key));
        assert_eq!(market.map(|market| market.unknown_symbol), Some(unknown_symbol), "{key}");
    };
    check("a:quote:7203.T", false);
    check("a:quote:7203", true);
    check("a:", true);
    // Only the part that the rule names is looked at.
    check("c:d:7203.T", false);
    check("c:7203.T:d", true);
    check("c:d", true);
    // No symbol is asked for.
    check("a:x:persist", false);
    check("a:b:", false);
    check("c:d:x:old", false);
}

#[test]
fn markets_that_are_named() {
    let table = table();
    let of_rules = table.markets_of_rules();
    assert_eq!(of_rules, [("XLON", vec!["c old"]), ("XNSE", vec!["a"])].into());
    assert_eq!(table.markets_of_symbols(), ["XBOM", "XNSE", "XNYS", "XTKS"].into());
}

#[test]
fn rules_that_cannot_be() {
    let check = |rules: Vec<Rule>, expect: &str| {
        assert_eq!(RuleTable::build(rules, vec![]).unwrap_err().to_string(), expect);
    };
    let plain = |name, prefix, suffix| rule(name, prefix, suffix, MarketSource::None);
    check(vec![plain("x", "a:", ""), plain("x", "b:", "")], "two rules are called \"x\"");
    check(
        vec![plain("x", "a:", ":b"), plain("y", "a:", ":b")],
        "rules \"x\" and \"y\" have the same prefix \"a:\" and suffix \":b\"",
    );
    check(vec![plain("x", "bw:a:", "")], "rule \"x\": the prefix \"bw:\" is bellwether's own");
    check(
        vec![Rule { stale_ms: Some(1), ..plain("x", "a:", "") }],
        "rule \"x\": stale-ms needs lease-ms: without, nobody would have the right to recompute a value",
    );
    check(
        vec![Rule { refresh_ahead_percent: Some(5), lease_ms: Some(1), ..plain("x", "a:", "") }],
        "rule \"x\": refresh-ahead-percent needs near-ms, since only of values in memory it is known when they end, \
         and lease-ms, for one client to recompute them",
    );
    check(vec![plain("x", "a", "")], "rule \"x\": the prefix \"a\" must end in ':' and have at most 512 bytes");
    check(vec![plain("", "a:", "")], "a rule's name must have 1 to 64 bytes: \"\"");
}
