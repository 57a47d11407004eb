//! What holds at every instant, for every row: a remembered answer is the fresh one, no price is older than its row
//! promises, and no lifetime shrinks to nothing.

use crate::sessions::{self, Market};
use bellwether_sdk::{Decision, Expiry, Instant, Millis, TtlPolicy, testing};
use ttl::Ttl;

/// Rows of the default table that look at the market, with what their `open_ttl_ms` is by default.
const ROWS: [(&str, Millis); 5] = [
    ("fyntrix:general", 60_000),
    ("fyntrix:historical", 900_000),
    ("fyntrix:scores", 300_000),
    ("fyntrix:support_resistance", 3_600_000),
    ("other", 60_000),
];

/// Settings that move every boundary against the others, beside the default ones.
const SETTINGS: [&str; 4] = [
    "{}",
    r#"{ "namespaces": { "fyntrix:general": { "settle_ms": 0, "lead_ms": 0, "spread_ms": 1000, "hold_ms_max": 5000,
        "session_spread_ms": 1000 } } }"#,
    r#"{ "namespaces": { "fyntrix:general": { "lead_ms": 86400000, "spread_ms": 86400000, "settle_ms": 86400000,
        "session_spread_ms": 3600000 } } }"#,
    r#"{ "namespaces": { "fyntrix:general": { "closed_ttl_ms": 14400000, "post_close_ttl_ms": "until-open",
        "break_ttl_ms": 600000, "pre_open_ttl_ms": "as-open", "halted_ttl_ms": 5000, "hold_ms_max": 86400000 } } }"#,
];

/// Instants all over the data: every 97 s, and a millisecond around each change of phase and each end of an answer.
fn instants(market: &Market, policy: &Ttl, rule: &str) -> Result<Vec<Instant>, String> {
    let (first, horizon) = market.span();
    let mut instants: Vec<_> = (first..horizon).step_by(97_000).collect();
    let mut edges = Vec::new();
    for at in &instants {
        let session = market.session_at(*at);
        edges.extend([session.since, session.until]);
        edges.extend(decide(policy, rule, market, *at)?.valid_until);
    }
    edges.sort_unstable();
    edges.dedup();
    instants.extend(edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]));
    instants.retain(|at| (first..horizon).contains(at));
    instants.sort_unstable();
    Ok(instants)
}

fn decide(policy: &Ttl, rule: &str, market: &Market, now: Instant) -> Result<Decision, String> {
    let mut request = testing::request(rule, &format!("{rule}:x"), now);
    request.market = Some(Ok(market.session_at(now)));
    policy.decide(&request)
}

/// When a value written at `now` ends at the latest: with the place in the spread that leaves it longest.
fn end_of(decision: &Decision, now: Instant) -> Result<Instant, String> {
    match decision.expiry {
        Expiry::After(ttl_ms) => Ok(now.saturating_add_unsigned(ttl_ms)),
        Expiry::At(instant) => Ok(instant),
        other => Err(format!("{other:?} has no end")),
    }
}

/// Runs `check` for every setting, market, row and instant.
fn everywhere(check: impl Fn(&Ttl, &Market, (&str, Millis), &[Instant]) -> Result<(), String>) -> Result<(), String> {
    for settings in SETTINGS {
        let policy = Ttl::configure(settings)?;
        for market in [sessions::mumbai(), sessions::mumbai_in_full(), sessions::tokyo()] {
            for row in ROWS {
                check(&policy, &market, row, &instants(&market, &policy, row.0)?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_remembered_answer_is_the_fresh_one() -> Result<(), String> {
    everywhere(|policy, market, (rule, _), instants| {
        let mut remembered: Option<(Decision, Instant)> = None;
        for &now in instants {
            let fresh = decide(policy, rule, market, now)?;
            match &remembered {
                // As the host does: before `valid-until`, and never past the end of the session it handed out.
                Some((decision, until)) if now < *until => assert_eq!(*decision, fresh, "{} at {now}", market.name),
                _ => {
                    let session_until = market.session_at(now).until;
                    let until = fresh.valid_until.map_or(session_until, |until| until.min(session_until));
                    assert!(until > now, "an answer that is not valid when it is given: {fresh:?} at {now}");
                    remembered = Some((fresh, until));
                }
            }
        }
        Ok(())
    })
}

#[test]
fn while_a_market_trades_no_value_is_older_than_its_row_promises() -> Result<(), String> {
    everywhere(|policy, market, (rule, open_ttl_ms), instants| {
        for &now in instants {
            let decision = decide(policy, rule, market, now)?;
            // What is written while it trades counts from then; what is written before, from the opening.
            if let Some(trading) = market.next_trading(now) {
                let promised = trading.saturating_add_unsigned(open_ttl_ms);
                assert!(end_of(&decision, now)? <= promised, "{rule} in {} at {now}: {decision:?}", market.name);
            }
        }
        Ok(())
    })
}

#[test]
fn no_lifetime_shrinks_to_nothing() -> Result<(), String> {
    everywhere(|policy, market, (rule, _), instants| {
        for &now in instants {
            let decision = decide(policy, rule, market, now)?;
            // The shortest spread that the settings take is a second.
            assert!(end_of(&decision, now)? >= now + 1000, "{rule} in {} at {now}: {decision:?}", market.name);
            assert!(decision.reason.len() <= 256, "{}", decision.reason);
        }
        Ok(())
    })
}

#[test]
fn no_default_value_from_before_a_close_stands_for_the_night() -> Result<(), String> {
    let settle_ms = 1_800_000;
    let policy = Ttl::configure("{}")?;
    let market = sessions::mumbai();
    for (rule, _) in ROWS {
        for now in instants(&market, &policy, rule)? {
            let session = market.session_at(now);
            if sessions::trades(session.phase) && session.until < session.horizon {
                let end = end_of(&decide(&policy, rule, &market, now)?, now)?;
                assert!(end <= session.until + settle_ms, "{rule} at {now} ends at {end}");
            }
        }
    }
    Ok(())
}
