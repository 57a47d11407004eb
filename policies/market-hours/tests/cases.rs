//! The cases that ship beside the component, asked natively, and what the policy says of itself.

use std::{collections::BTreeMap, error::Error};

use bellwether_sdk::{MarketError, MarketHoursPolicy, MarketNumber, MarketSession, Phase, testing};
use market_hours::MarketHours;

const NOON: i64 = 1_796_299_200_000;
static CASES: &str = include_str!("../cases.toml");
static CALENDARS: &[u8] = include_bytes!("../../calendar/data/calendars.bin");

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

fn number(policy: &MarketHours, market: &str) -> Result<MarketNumber, MarketError> {
    policy.find(market).ok_or(MarketError::UnknownMarket)
}

fn session_at(policy: &MarketHours, market: &str, at: i64) -> Result<MarketSession, MarketError> {
    policy.session_at(number(policy, market)?, at, None)
}

fn check(policy: &MarketHours, case: &BTreeMap<&str, &str>) -> Result<(), Box<dyn Error>> {
    let field = |name: &str| case.get(name).copied().ok_or_else(|| format!("no {name} in {case:?}"));
    let name = field("name")?;
    match session_at(policy, field("market")?, testing::instant(field("at")?)) {
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
    assert_eq!(cases.len(), 25);
    cases.iter().try_for_each(|case| check(&policy, case))
}

/// Bytes as settings carry them (RFC 4648), in lines of 76 characters.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, index| number << 8 | u32::from(three.get(index).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (number >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit > three.len() { '=' } else { char::from(DIGITS[value]) });
            if text.len() % 77 == 76 {
                text.push('\n');
            }
        }
    }
    text
}

fn data_setting(bytes: &[u8]) -> String {
    format!(r#"{{"data": "{}"}}"#, base64(bytes).replace('\n', "\\n"))
}

/// The phase of a market at an instant, under some settings.
fn check_setting(settings: &str, market: &str, at: &str, wanted: &str) -> Result<(), Box<dyn Error>> {
    let policy = MarketHours::configure(settings)?;
    let phase = session_at(&policy, market, testing::instant(at)).map(|session| phase_name(session.phase));
    let phase = match phase {
        Ok(phase) => phase,
        Err(MarketError::UnknownMarket) => "unknown-market",
        Err(MarketError::BeyondHorizon(_)) => "beyond-horizon",
    };
    assert_eq!(phase, wanted, "{market} at {at} with {settings}");
    Ok(())
}

#[test]
fn settings_decide_what_is_answered() -> Result<(), Box<dyn Error>> {
    let holiday = "2026-11-24T10:00:00+05:30";
    let auction = "2026-11-23T15:20:00+05:30";
    check_setting("{}", "XNSE", holiday, "closed")?;
    check_setting(r#"{"overrides": []}"#, "XNSE", holiday, "closed")?;
    check_setting(r##"{"overrides": ["XNSE open 2026-11-24 # after all"]}"##, "XNSE", holiday, "open")?;
    check_setting(r##"{"overrides": ["XNSE open 2026-11-24"]}"##, "XNSE.derivatives", holiday, "open")?;
    check_setting(r#"{"overrides": ["XNSE closed 2026-11-23 15:00-16:00"]}"#, "NSE", auction, "closed")?;
    check_setting(r#"{"overlay": true}"#, "XBOM", auction, "closing-auction")?;
    check_setting(r#"{"overlay": false}"#, "XBOM", auction, "open")?;
    check_setting(r#"{"overlay": false}"#, "XNSE.derivatives", auction, "unknown-market")?;
    let both = r#"{"overlay": false, "overrides": ["XBOM halted 2026-11-23 15:00-15:25"]}"#;
    check_setting(both, "XBOM", auction, "halted")
}

#[test]
fn an_override_is_listed_with_its_reason_and_changes_the_version() -> Result<(), Box<dyn Error>> {
    let plain = MarketHours::configure("{}")?;
    let policy = MarketHours::configure(r##"{"overrides": ["XNSE closed 2026-12-03 # flood"]}"##)?;
    let days =
        policy.special_days(number(&policy, "XNSE.derivatives")?, testing::instant("2026-12-01T00:00:00+05:30"), 1)?;
    let [day] = days.as_slice() else { return Err(format!("{days:?}").into()) };
    assert_eq!((day.date.as_str(), day.note.as_str(), day.spans.len()), ("2026-12-03", "flood", 0));
    assert_eq!(day.known_since, None);
    let (before, after) = (plain.describe().version, policy.describe().version);
    assert!(after.starts_with(&format!("{before}+override.")) && after.len() <= 64, "{before}, then {after}");
    let version = |policy: &MarketHours| Ok::<_, MarketError>(session_at(policy, "24/7", NOON)?.data_version);
    let (before, after) = (version(&plain)?, version(&policy)?);
    let date: String = plain.describe().version.chars().rev().take(10).filter(char::is_ascii_digit).collect();
    let date: String = date.chars().rev().collect();
    assert_eq!((before.release.to_string(), before.settings), (format!("{date}00"), 0));
    assert!(after.release == before.release && after.settings != 0, "{after:?}");
    Ok(())
}

/// The data that is built in, given back as a setting, answers the same.
#[test]
fn data_may_come_with_the_settings() -> Result<(), Box<dyn Error>> {
    let (built_in, given) = (MarketHours::configure("{}")?, MarketHours::configure(&data_setting(CALENDARS))?);
    assert_eq!(given.describe().version, built_in.describe().version);
    let (markets, same) = (given.markets(), built_in.markets());
    assert_eq!(markets.len(), same.len());
    let now = testing::instant("2026-11-23T10:00:00Z");
    for (market, same) in markets.iter().zip(&same) {
        assert_eq!(market.name, same.name);
        let session = |policy: &MarketHours| policy.session_at(number(policy, &market.name)?, now, Some(now));
        assert_eq!(session(&given), session(&built_in), "{}", market.name);
    }
    Ok(())
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let cut = data_setting(&CALENDARS[..CALENDARS.len() - 1]);
    let mut flipped = CALENDARS.to_vec();
    flipped[100] ^= 1;
    let flipped = data_setting(&flipped);
    let other = data_setting(b"RIFF");
    let many = format!(r#"{{"overrides": [{}]}}"#, vec![r#""XNSE closed 2026-12-03""#; 257].join(","));
    let long = format!(r##"{{"overrides": ["XNSE closed 2026-12-03 # {}"]}}"##, "x".repeat(512));
    let rows = [
        (r#"{"closed": "XNSE"}"#, "closed"),
        (r#"{"overide": []}"#, r#"did you mean "overrides"?"#),
        ("[]", "table"),
        ("", "JSON"),
        (r#"{"overrides": "XNSE closed 2026-12-03"}"#, r#""overrides" takes a list of texts"#),
        (r#"{"overrides": [1]}"#, r#""overrides" is a list"#),
        (r#"{"overrides": [""]}"#, r#""overrides" is a list"#),
        (r#"{"overrides": ["XNSE shut 2026-12-03"]}"#, "override \"XNSE shut 2026-12-03\": write MARKET"),
        (r#"{"overrides": ["XXXX closed 2026-12-03"]}"#, "there is no market of this name"),
        (r#"{"overlay": false, "overrides": ["NFO closed 2026-12-03"]}"#, "there is no market of this name"),
        (&many, r#""overrides" takes at most 256 texts, and has 257"#),
        (&long, r#""overrides" is a list"#),
        (r#"{"overlay": "no"}"#, r#""overlay" takes true or false"#),
        (r#"{"data": "?"}"#, r#""data" takes bytes, written in base64"#),
        (r#"{"data": ""}"#, r#""data" is refused: not calendar data"#),
        (&other, r#""data" is refused: not calendar data"#),
        (&cut, r#""data" is refused: calendar data is damaged"#),
        (&flipped, r#""data" is refused: calendar data is damaged"#),
    ];
    for (settings, wanted) in rows {
        let message = MarketHours::configure(settings).err().unwrap_or_default();
        let start: String = settings.chars().take(80).collect();
        assert!(message.contains(wanted), "{start}: {message:?}");
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
    let changes =
        policy.transitions(number(&policy, "XNSE")?, markets.first().map_or(0, |market| market.covered_from), 3)?;
    assert_eq!(changes.len(), 3);
    Ok(())
}
