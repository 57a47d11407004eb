//! The rule table: the defaults with the operator's fields laid over them, checked against the limits of the contract.

use std::ops::RangeInclusive;

use bellwether_sdk::settings::{NONE, Table, nearest};
use bellwether_sdk::{Access, Apply, ClientTtl, MarketSource, Rule, SymbolSource, ValueCheck};

use crate::defaults;

/// Limits of `wit/namespaces.wit`.
const RULES_MAX: usize = 10_000;
const NAME_BYTES: RangeInclusive<usize> = 1..=64;
const PREFIX_BYTES: RangeInclusive<usize> = 1..=512;
const SUFFIX_BYTES: RangeInclusive<usize> = 0..=128;
/// Ten years, the longest `millis` in an answer.
const MILLIS: RangeInclusive<u64> = 1..=315_576_000_000;
/// The server's own limit, 512 MiB, is where a larger one stops meaning anything.
const VALUE_BYTES: RangeInclusive<u64> = 1..=536_870_912;
/// More colons than a key has in practice; a typo like 10 for 1 is a key without a market, silently.
const PARTS: RangeInclusive<u64> = 0..=63;

const VALUE_CHECKS: [(&str, ValueCheck); 3] =
    [("refuse", ValueCheck::JsonRefuse), ("warn", ValueCheck::JsonWarn), ("any", ValueCheck::Any)];
const ACCESSES: [(&str, Access); 3] =
    [("read-write", Access::ReadWrite), ("read-only", Access::ReadOnly), ("denied", Access::Denied)];
const APPLIES: [(&str, Apply); 2] = [("on-create", Apply::OnCreate), ("every-write", Apply::EveryWrite)];
const CLIENT_TTLS: [(&str, ClientTtl); 3] =
    [("respect", ClientTtl::Respect), ("cap", ClientTtl::Cap), ("replace", ClientTtl::Replace)];
const MARKETS_FROM: [(&str, MarketFrom); 4] = [
    ("none", MarketFrom::None),
    ("fixed", MarketFrom::Fixed),
    ("key-part", MarketFrom::KeyPart),
    ("symbol", MarketFrom::Symbol),
];

/// `market_from`: which case of `market-source` the two other fields fill.
#[derive(Clone, Copy)]
enum MarketFrom {
    None,
    Fixed,
    KeyPart,
    Symbol,
}

/// Reads `json`, `defaults` and `rules`.
pub(crate) fn from_settings(settings: &mut Table) -> Result<Vec<Rule>, String> {
    let value = settings.choice("json", &VALUE_CHECKS)?.unwrap_or(ValueCheck::JsonWarn);
    let keep_defaults = settings.flag("defaults")?.unwrap_or(true);
    let mut rules = if keep_defaults { defaults::rules(value) } else { Vec::new() };
    // The names of a table are distinct: only a rule of the defaults may have the same one.
    let mut known = rules.len();
    for (name, fields) in settings.tables("rules")? {
        match rules.iter().take(known).position(|rule| rule.name == name) {
            Some(at) => match lay_over(rules[at].clone(), fields)? {
                Some(rule) => rules[at] = rule,
                None => {
                    rules.remove(at);
                    known -= 1;
                }
            },
            None => rules.extend(added(&name, value, fields, &rules)?),
        }
    }
    distinct(&rules)?;
    Ok(rules)
}

/// A rule under a name that the defaults do not have. It must say its prefix: without, a misspelt name would silently
/// add a rule that governs nothing.
fn added(name: &str, value: ValueCheck, fields: Table, rules: &[Rule]) -> Result<Option<Rule>, String> {
    if !NAME_BYTES.contains(&name.len()) {
        return Err(format!("rules.\"{name}\": a name takes 1 to {} bytes, and has {}", NAME_BYTES.end(), name.len()));
    }
    let fresh = Rule {
        ttl_policy: Some(defaults::TTL_POLICY.to_owned()),
        value,
        client_ttl: ClientTtl::Cap,
        fallback_ttl_ms: Some(defaults::FALLBACK_TTL_MS),
        ..Rule::new(name, "")
    };
    match lay_over(fresh, fields)? {
        Some(rule) if rule.prefix.is_empty() => {
            let alike = nearest(name, rules.iter().map(|rule| rule.name.as_str()));
            let hint = alike.map(|known| format!("; did you mean rules.\"{known}\"?")).unwrap_or_default();
            Err(format!("rules.\"{name}\": there is no such rule, and a new one needs a \"prefix\"{hint}"))
        }
        rule => Ok(rule),
    }
}

/// The operator's fields over a rule; none where `enabled = false` takes it away.
fn lay_over(mut rule: Rule, mut fields: Table) -> Result<Option<Rule>, String> {
    let enabled = fields.flag("enabled")?.unwrap_or(true);
    if let Some(prefix) = fields.text("prefix", PREFIX_BYTES)? {
        if !prefix.ends_with(':') {
            return Err(fields.refuse("prefix", &format!("takes a text that ends in \":\", and is \"{prefix}\"")));
        }
        rule.prefix = prefix;
    }
    if let Some(suffix) = fields.text("suffix", SUFFIX_BYTES)? {
        if !suffix.is_empty() && !suffix.starts_with(':') {
            return Err(fields.refuse("suffix", &format!("takes a text that begins with \":\", and is \"{suffix}\"")));
        }
        rule.suffix = suffix;
    }
    if let Some(policy) = fields.text("ttl_policy", NAME_BYTES)? {
        rule.ttl_policy = if policy == NONE { None } else { Some(policy) };
    }
    rule.market = market(rule.market, &mut fields)?;
    set(&mut rule.value, fields.choice("json", &VALUE_CHECKS)?);
    set(&mut rule.value_bytes_max, fields.optional_number("value_bytes_max", VALUE_BYTES)?);
    set(&mut rule.access, fields.choice("access", &ACCESSES)?);
    set(&mut rule.apply, fields.choice("apply", &APPLIES)?);
    set(&mut rule.client_ttl, fields.choice("client_ttl", &CLIENT_TTLS)?);
    set(&mut rule.fallback_ttl_ms, fields.optional_number("fallback_ttl_ms", MILLIS)?);
    set(&mut rule.near_ms, fields.optional_number("near_ms", MILLIS)?);
    set(&mut rule.stale_ms, fields.optional_number("stale_ms", MILLIS)?);
    set(&mut rule.lease_ms, fields.optional_number("lease_ms", MILLIS)?);
    set(&mut rule.lease_wait_ms, fields.optional_number("lease_wait_ms", MILLIS)?);
    if let Some(percent) = fields.optional_number("refresh_ahead_percent", 1..=99)? {
        rule.refresh_ahead_percent = percent.and_then(|percent| u8::try_from(percent).ok());
    }
    set(&mut rule.fail_safe_ms, fields.optional_number("fail_safe_ms", MILLIS)?);
    fields.finish()?;
    Ok(enabled.then_some(rule))
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// The three market fields over a rule's market. `market` alone makes a rule without a market a fixed one.
fn market(current: MarketSource, fields: &mut Table) -> Result<MarketSource, String> {
    let given_from = fields.choice("market_from", &MARKETS_FROM)?;
    let given_market = fields.text("market", NAME_BYTES)?;
    let given_part = fields.optional_number("market_part", PARTS)?;

    let (mut from, mut market, mut part) = match current {
        MarketSource::None => (MarketFrom::None, None, None),
        MarketSource::Fixed(market) => (MarketFrom::Fixed, Some(market), None),
        MarketSource::KeyPart(part) => (MarketFrom::KeyPart, None, Some(part)),
        MarketSource::Symbol(source) => (MarketFrom::Symbol, source.default_market, source.part),
    };
    if let Some(given) = given_market {
        market = if given == NONE { None } else { Some(given) };
        if matches!(from, MarketFrom::None) {
            from = MarketFrom::Fixed;
        }
    }
    if let Some(given) = given_part {
        part = given.and_then(|part| u32::try_from(part).ok());
    }
    match (given_from.unwrap_or(from), market, part) {
        (MarketFrom::None, _, _) => Ok(MarketSource::None),
        (MarketFrom::Fixed, Some(market), _) => Ok(MarketSource::Fixed(market)),
        (MarketFrom::Fixed, None, _) => Err(fields.refuse("market", "is needed where \"market_from\" is \"fixed\"")),
        (MarketFrom::KeyPart, _, Some(part)) => Ok(MarketSource::KeyPart(part)),
        (MarketFrom::KeyPart, _, None) => {
            Err(fields.refuse("market_part", "is needed where \"market_from\" is \"key-part\""))
        }
        (MarketFrom::Symbol, default_market, part) => Ok(MarketSource::Symbol(SymbolSource { part, default_market })),
    }
}

/// Two rules for the same keys would make the answer depend on their order.
fn distinct(rules: &[Rule]) -> Result<(), String> {
    if rules.len() > RULES_MAX {
        return Err(format!("\"rules\" takes at most {RULES_MAX} rules, and has {}", rules.len()));
    }
    let mut by_keys: Vec<_> = rules.iter().collect();
    by_keys.sort_by(|a, b| (&a.prefix, &a.suffix).cmp(&(&b.prefix, &b.suffix)));
    for pair in by_keys.windows(2) {
        if (&pair[0].prefix, &pair[0].suffix) == (&pair[1].prefix, &pair[1].suffix) {
            return Err(format!(
                "rules.\"{}\" and rules.\"{}\" have the same prefix \"{}\" and suffix \"{}\": give one another, or \
                 `enabled = false`",
                pair[0].name, pair[1].name, pair[0].prefix, pair[0].suffix
            ));
        }
    }
    Ok(())
}
