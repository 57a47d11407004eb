//! Decisions by default and under an operator's settings, one row each.

use crate::sessions::{Market, mumbai, mumbai_in_full, tokyo};
use bellwether_sdk::testing::{instant, request};
use bellwether_sdk::{Decision, Expiry, Inputs, MarketError, TtlPolicy, testing};
use ttl::Ttl;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn decide(settings: &str, rule: &str, market: Option<&Market>, at: &str) -> Result<Decision, String> {
    let namespace = rule.trim_end_matches(":persist");
    let mut request = request(rule, &format!("{namespace}:x"), instant(at));
    request.market = market.map(|market| Ok(market.session_at(request.now)));
    Ttl::configure(settings)?.decide(&request)
}

/// The lifetime of a key under a rule in a market at an instant, by default.
fn check(rule: &str, market: &Market, at: &str, expect: Expiry) -> Result<(), String> {
    check_with("{}", rule, market, at, expect)
}

fn check_with(settings: &str, rule: &str, market: &Market, at: &str, expect: Expiry) -> Result<(), String> {
    let decision = decide(settings, rule, Some(market), at)?;
    assert_eq!(decision.expiry, expect, "{rule} at {at}: {}", decision.reason);
    Ok(())
}

fn at(rfc3339: &str) -> Expiry {
    Expiry::At(instant(rfc3339))
}

#[test]
fn open() -> Result<(), String> {
    let ten = "2026-11-23T10:00:00+05:30";
    check("fyntrix:general", &mumbai(), ten, Expiry::After(MINUTE))?;
    check("fyntrix:historical", &mumbai(), ten, Expiry::After(15 * MINUTE))?;
    check("fyntrix:scores", &mumbai(), ten, Expiry::After(5 * MINUTE))?;
    check("fyntrix:support_resistance", &mumbai(), ten, Expiry::After(HOUR))?;
    check("somewhere:else", &mumbai(), ten, Expiry::After(MINUTE))
}

#[test]
fn a_minute_before_the_close() -> Result<(), String> {
    let late = "2026-11-23T15:29:00+05:30";
    check("fyntrix:general", &mumbai(), late, Expiry::After(MINUTE))?;
    check("fyntrix:historical", &mumbai(), late, Expiry::After(15 * MINUTE))?;
    check("fyntrix:support_resistance", &mumbai(), late, at("2026-11-23T16:00:00+05:30"))
}

#[test]
fn the_lunch_of_tokyo() -> Result<(), String> {
    let reopening = at("2026-11-24T12:30:00+09:00");
    check("fyntrix:general", &tokyo(), "2026-11-24T11:29:00+09:00", Expiry::After(MINUTE))?;
    check("fyntrix:support_resistance", &tokyo(), "2026-11-24T11:29:00+09:00", Expiry::After(HOUR))?;
    check("fyntrix:general", &tokyo(), "2026-11-24T11:30:00+09:00", reopening)?;
    check("fyntrix:historical", &tokyo(), "2026-11-24T12:00:00+09:00", reopening)?;
    check("fyntrix:general", &tokyo(), "2026-11-24T12:29:30+09:00", Expiry::After(MINUTE))
}

#[test]
fn before_the_open() -> Result<(), String> {
    let early = "2026-11-23T09:05:00+05:30";
    check("fyntrix:general", &mumbai(), early, Expiry::After(30 * SECOND))?;
    check("fyntrix:historical", &mumbai(), early, at("2026-11-23T09:15:00+05:30"))?;
    check("fyntrix:general", &mumbai(), "2026-11-23T09:14:30+05:30", Expiry::After(MINUTE))
}

#[test]
fn after_the_close() -> Result<(), String> {
    check("fyntrix:general", &mumbai(), "2026-11-23T15:30:00+05:30", Expiry::After(5 * MINUTE))?;
    check("fyntrix:general", &mumbai(), "2026-11-23T15:59:59+05:30", Expiry::After(5 * MINUTE))?;
    check("fyntrix:general", &mumbai(), "2026-11-23T16:00:00+05:30", Expiry::After(12 * HOUR))?;
    check("fyntrix:general", &mumbai_in_full(), "2026-11-23T15:20:00+05:30", Expiry::After(MINUTE))?;
    check("fyntrix:general", &mumbai_in_full(), "2026-11-23T15:55:00+05:30", Expiry::After(5 * MINUTE))?;
    check("fyntrix:general", &mumbai_in_full(), "2026-11-23T11:45:00+05:30", Expiry::After(MINUTE))
}

#[test]
fn the_night_before_an_open_over_a_holiday() -> Result<(), String> {
    // 2026-11-24, Guru Nanak: Monday's close to Wednesday's open.
    check("fyntrix:general", &mumbai(), "2026-11-24T12:00:00+05:30", Expiry::After(12 * HOUR))?;
    check("fyntrix:general", &mumbai(), "2026-11-24T22:00:00+05:30", at("2026-11-25T09:00:00+05:30"))?;
    check("fyntrix:historical", &mumbai(), "2026-11-24T10:00:00+05:30", at("2026-11-25T09:10:00+05:30"))?;
    check("fyntrix:general", &mumbai(), "2026-11-25T08:55:00+05:30", Expiry::After(MINUTE))?;

    let decision = decide("{}", "fyntrix:general", Some(&mumbai()), "2026-11-24T22:00:00+05:30")?;
    assert_eq!(decision.spread_ms, 10 * MINUTE);
    assert_eq!(decision.valid_until, Some(instant("2026-11-25T08:50:00+05:30")));
    Ok(())
}

#[test]
fn without_the_market() -> Result<(), String> {
    let now = instant("2027-01-04T10:00:00+05:30");
    let policy = Ttl::configure("{}")?;
    let check = |market, valid_until| {
        let mut request = request("fyntrix:general", "fyntrix:general:x", now);
        request.market = market;
        let decision = policy.decide(&request)?;
        assert_eq!((decision.expiry, decision.valid_until), (Expiry::After(30 * SECOND), valid_until));
        Ok::<_, String>(())
    };
    check(None, None)?;
    check(Some(Err(MarketError::UnknownMarket)), None)?;
    check(Some(Err(MarketError::BeyondHorizon(now - 1))), None)?;
    check(Some(Err(MarketError::BeyondHorizon(now + 1))), Some(now + 1))?;
    // The calendar ends with this session, so the next opening is not known.
    let (_, horizon) = tokyo().span();
    let mut request = request("fyntrix:general", "fyntrix:general:x", horizon - 1);
    request.market = Some(Ok(tokyo().session_at(request.now)));
    assert_eq!(policy.decide(&request)?.expiry, Expiry::After(30 * SECOND));
    Ok(())
}

#[test]
fn a_fixed_lifetime_does_not_look_at_the_market() -> Result<(), String> {
    for rule in ["fyntrix:scores:persist", "fyntrix:general:persist", "app:persist"] {
        for market in [Some(mumbai()), None] {
            let decision = decide("{}", rule, market.as_ref(), "2026-11-23T10:00:00+05:30")?;
            assert_eq!((decision.expiry, decision.spread_ms), (Expiry::After(86_400_000), 0), "{rule}");
        }
    }
    let decision = decide("{}", "fyntrix:context", None, "2026-11-23T10:00:00+05:30")?;
    assert_eq!(decision.expiry, Expiry::After(2 * HOUR));
    Ok(())
}

#[test]
fn rows_are_laid_over_the_defaults() -> Result<(), String> {
    let ten = "2026-11-23T10:00:00+05:30";
    let one = r#"{ "namespaces": { "fyntrix:general": { "open_ttl_ms": 5000 } } }"#;
    check_with(one, "fyntrix:general", &mumbai(), ten, Expiry::After(5000))?;
    check_with(one, "fyntrix:general", &mumbai(), "2026-11-23T09:05:00+05:30", Expiry::After(30 * SECOND))?;
    check_with(one, "fyntrix:scores", &mumbai(), ten, Expiry::After(5 * MINUTE))?;
    // The trailing colon of a prefix is the operator's to write or not.
    let colon = r#"{ "namespaces": { "fyntrix:general:": { "open_ttl_ms": 5000 } } }"#;
    check_with(colon, "fyntrix:general", &mumbai(), ten, Expiry::After(5000))?;
    let rest = r#"{ "namespaces": { "default": { "open_ttl_ms": 7000 } } }"#;
    check_with(rest, "somewhere:else", &mumbai(), ten, Expiry::After(7000))?;
    check_with(rest, "fyntrix:general", &mumbai(), ten, Expiry::After(MINUTE))?;
    let unfixed = r#"{ "namespaces": { "fyntrix:context": { "fixed_ttl_ms": "none" } } }"#;
    check_with(unfixed, "fyntrix:context", &mumbai(), ten, Expiry::After(MINUTE))
}

#[test]
fn a_new_row_stands_on_the_row_that_would_have_served_it() -> Result<(), String> {
    let ten = "2026-11-23T10:00:00+05:30";
    let settings = r#"{ "namespaces": {
        "fyntrix:scores:daily": { "closed_ttl_ms": 1000 }, "fyntrix:scores": { "open_ttl_ms": 9000 },
        "fyntrix:scores:persist": { "fixed_ttl_ms": 4000 }, "quotes": { "open_ttl_ms": 3000 },
        "quotes:ask": { "open_ttl_ms": 2000 } } }"#;
    check_with(settings, "fyntrix:scores:daily", &mumbai(), ten, Expiry::After(9000))?;
    check_with(settings, "fyntrix:scores:persist", &mumbai(), ten, Expiry::After(4000))?;
    check_with(settings, "fyntrix:general:persist", &mumbai(), ten, Expiry::After(24 * HOUR))?;
    // A row serves a rule of another name by the prefix of its namespace, at a colon.
    let mut request = request("bid and ask", "quotes:bid:x", instant(ten));
    request.market = Some(Ok(mumbai().session_at(request.now)));
    assert_eq!(Ttl::configure(settings)?.decide(&request)?.expiry, Expiry::After(3000));
    request.namespace = "quotes:ask:".to_owned();
    assert_eq!(Ttl::configure(settings)?.decide(&request)?.expiry, Expiry::After(2000));
    // Only a row that begins with a colon serves a rule by the end of its name.
    request.rule = "other quotes".to_owned();
    request.namespace = "quotesbid:".to_owned();
    assert_eq!(Ttl::configure(settings)?.decide(&request)?.expiry, Expiry::After(MINUTE));

    let _ = testing::take_log();
    Ttl::configure(r#"{ "namespaces": { "fyntrix:genral": {} } }"#)?;
    let lines: Vec<_> = testing::take_log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, [r#"namespaces."fyntrix:genral" is a new row, over "default""#]);
    Ok(())
}

#[test]
fn the_reason_names_row_phase_and_why() -> Result<(), String> {
    let check = |settings, at, expect: &str| {
        let decision = decide(settings, "fyntrix:general", Some(&mumbai()), at)?;
        assert_eq!(decision.reason, expect, "{at}");
        Ok::<_, String>(())
    };
    let why = r#"{ "namespaces": { "fyntrix:general": { "open_ttl_ms": 5000, "open_reason": "a demonstration" } } }"#;
    check(why, "2026-11-23T10:00:00+05:30", "fyntrix:general, open: a demonstration")?;
    check(
        "{}",
        "2026-11-24T12:00:00+05:30",
        "fyntrix:general, closed: prices stand still until the market opens; not longer, for notices come late",
    )?;
    check("{}", "2026-11-25T08:55:00+05:30", "fyntrix:general, closed: the market opens soon")?;
    check("{}", "2026-11-23T15:31:00+05:30", "fyntrix:general, just closed: closing prices are still being corrected")
}

#[test]
fn wrong_settings_are_refused_with_row_and_field() {
    fn check(settings: &str, expect: &str) {
        assert_eq!(Ttl::configure(settings).err().as_deref(), Some(expect), "{settings}");
    }
    check(
        r#"{ "namespaces": { "fyntrix:general": { "open_ttl": 5 } } }"#,
        r#"namespaces."fyntrix:general": unknown setting "open_ttl": did you mean "open_ttl_ms"?"#,
    );
    check(
        r#"{ "namespaces": { "fyntrix:general": { "open_ttl_ms": "until-open" } } }"#,
        r#"namespaces."fyntrix:general": "open_ttl_ms" takes 1 to 315576000000, and is "until-open""#,
    );
    check(
        r#"{ "namespaces": { "app": { "break_ttl_ms": 0 } } }"#,
        "namespaces.\"app\": \"break_ttl_ms\" takes 1 to 315576000000 or \"as-open\" or \"until-open\", and is 0",
    );
    check(
        r#"{ "namespaces": { "app": { "spread_ms": 0 } } }"#,
        r#"namespaces."app": "spread_ms" takes 1000 to 86400000, and is 0"#,
    );
    check(r#"{ "namespace": {} }"#, r#"unknown setting "namespace": did you mean "namespaces"?"#);
}

#[test]
fn decisions_read_nothing_but_rule_session_and_now() -> Result<(), String> {
    assert_eq!(Ttl::configure("{}")?.describe().reads, Inputs::empty());
    Ok(())
}
