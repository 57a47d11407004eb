//! What holds at any instant of any market, whatever was known and whatever an operator said.

use std::sync::OnceLock;

use bellwether_calendar::{Calendars, DataError, Market, MarketError, MarketSession, Phase, SpecialDay};
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// A day of 2026 that every market covers, in days since 1970.
const FIRST_DAY: i64 = 20_454;

/// The embedded data, laid out once for all runs.
fn calendars() -> Result<&'static Calendars<'static>, DataError> {
    static CALENDARS: OnceLock<Result<Calendars<'static>, DataError>> = OnceLock::new();
    CALENDARS.get_or_init(Calendars::embedded).as_ref().map_err(|error| *error)
}

fn markets() -> &'static [Market<'static>] {
    static MARKETS: OnceLock<Vec<Market<'static>>> = OnceLock::new();
    MARKETS.get_or_init(|| calendars().map(Calendars::markets).unwrap_or_default())
}

/// Two instants of a market, in order, and most often a short time apart; sometimes what was known somewhat before.
fn instants() -> impl Strategy<Value = (&'static Market<'static>, i64, i64, Option<i64>)> {
    let apart = prop_oneof![0..DAY_MS, 0..400 * DAY_MS];
    (0..markets().len(), 0.0..1.0, apart, prop::option::of(0..900 * DAY_MS)).prop_map(
        |(index, place, apart, unknown)| {
            let market = &markets()[index];
            let at = market.covered_from + (place * (market.horizon - market.covered_from) as f64) as i64;
            (market, at, (at + apart).min(market.horizon - 1), unknown.map(|unknown| at - unknown))
        },
    )
}

fn trades(phase: Phase) -> bool {
    matches!(phase, Phase::Open | Phase::ClosingAuction)
}

/// All that one answer promises, by asking for others.
fn check(calendars: &Calendars<'_>, market: &Market<'_>, at: i64, known_at: Option<i64>) -> Result<(), TestCaseError> {
    let ask = |at: i64| calendars.session_at(market.name, at, known_at);
    let phase = |at: i64| ask(at).map(|session| session.phase);
    let session = ask(at)?;
    let MarketSession { since, until, horizon, .. } = session;
    prop_assert!(since <= at && at < until && until <= horizon, "{session:?}");
    prop_assert_eq!(horizon, market.horizon);
    prop_assert_eq!(&ask(until - 1)?, &session);
    prop_assert_eq!(&ask(since)?, &session);
    match ask(until) {
        Ok(next) => prop_assert!(next.phase != session.phase && next.since == until, "{next:?} after {session:?}"),
        Err(error) => prop_assert!(until == horizon && error == MarketError::BeyondHorizon(horizon), "{session:?}"),
    }
    if since > market.covered_from {
        prop_assert_ne!(phase(since - MINUTE_MS)?, session.phase);
    }
    for next in [session.next_open, session.next_regular_open].into_iter().flatten() {
        prop_assert!(until <= next && next < horizon, "{session:?}");
        prop_assert_eq!(phase(next)?, Phase::Open);
        prop_assert_ne!(phase(next - MINUTE_MS)?, Phase::Open);
    }
    // A session's first opening is an opening, and nothing trades for a while before it.
    if let Some(regular) = session.next_regular_open {
        prop_assert!(session.next_open.is_some_and(|open| open <= regular), "{session:?}");
        prop_assert!(!trades(phase(regular - MINUTE_MS)?), "{session:?}");
    }
    if let Some(close) = session.previous_close {
        prop_assert!(close <= since, "{session:?}");
        prop_assert!(!trades(phase(close)?), "{session:?}");
        let before = phase(close - MINUTE_MS)?;
        prop_assert!(trades(before) || matches!(before, Phase::Break | Phase::Halted | Phase::PreOpen), "{session:?}");
    }
    Ok(())
}

/// What comes next never moves back as time goes on, nor does what is past.
fn check_in_order(earlier: &MarketSession<'_>, later: &MarketSession<'_>) -> Result<(), TestCaseError> {
    prop_assert!(earlier.since <= later.since && earlier.until <= later.until, "{earlier:?} then {later:?}");
    let nexts = [(earlier.next_open, later.next_open), (earlier.next_regular_open, later.next_regular_open)];
    for (earlier, later) in nexts {
        // None is later than any.
        prop_assert!(later.is_none() || earlier <= later, "{earlier:?} then {later:?}");
        prop_assert!(earlier.is_some() || later.is_none(), "{earlier:?} then {later:?}");
    }
    prop_assert!(earlier.previous_close <= later.previous_close, "{earlier:?} then {later:?}");
    prop_assert_eq!(earlier.horizon, later.horizon);
    Ok(())
}

/// A date as it is written, from days since 1970.
fn date(day: i64) -> String {
    let day = jiff::civil::Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(day));
    day.to_string()
}

/// Minutes of the day as they are written.
fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// The instant of a market's clock.
fn local(market: &Market<'_>, day: i64, minute: i64) -> Result<i64, jiff::Error> {
    let zone = jiff::tz::TimeZone::get(market.time_zone)?;
    let civil = jiff::civil::Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(day)).at(0, 0, 0, 0);
    let civil = civil.saturating_add(jiff::Span::new().minutes(minute));
    Ok(zone.to_timestamp(civil)?.as_millisecond())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_keeps_its_word((market, at, later, known_at) in instants()) {
        let calendars = calendars()?;
        check(calendars, market, at, known_at)?;
        let ask = |at: i64| calendars.session_at(market.name, at, known_at);
        check_in_order(&ask(at)?, &ask(later)?)?;
    }

    #[test]
    fn nothing_is_said_outside_the_data((market, at, _, known_at) in instants(), beyond in 0..100_000 * DAY_MS) {
        let calendars = calendars()?;
        let ask = |at: i64| calendars.session_at(market.name, at, known_at);
        prop_assert_eq!(ask(market.horizon + beyond), Err(MarketError::BeyondHorizon(market.horizon)));
        let covered_from = market.covered_from;
        prop_assert_eq!(ask(covered_from - 1 - beyond), Err(MarketError::BeyondHorizon(covered_from)));
        let changes = calendars.transitions(market.name, at, 50)?;
        prop_assert!(changes.iter().all(|change| at < change.at && change.at < market.horizon));
        let days = calendars.special_days(market.name, at, 5)?;
        prop_assert!(days.is_sorted_by(|one, other| one.date < other.date));
        prop_assert!(days.iter().flat_map(|day| &day.spans).all(|span| span.until <= market.horizon));
    }

    #[test]
    fn an_operators_window_wins(
        index in 0..markets().len(), day in 0..300i64, from in 0..1439i64, length in 1..1440i64,
        phase in prop::sample::select(vec![Phase::Open, Phase::Halted, Phase::Closed]), place in 0.0..1.0,
        around in -3 * DAY_MS..3 * DAY_MS, unknown in prop::option::of(0..900 * DAY_MS),
    ) {
        let (market, day, to) = (&markets()[index], FIRST_DAY + day, (from + length).min(1440));
        let line = format!("{} {} {} {}-{}", market.name, phase.label(), date(day), clock(from), clock(to));
        let calendars = Calendars::embedded()?.with_overrides(&[line.as_str()])?;
        let (from, to) = (local(market, day, from)?, local(market, day, to)?);
        let at = from + (place * (to - from) as f64) as i64;
        let known_at = unknown.map(|unknown| at - unknown);
        let session = calendars.session_at(market.name, at, known_at)?;
        prop_assert_eq!(session.phase, phase, "{} at {}", line, at);
        prop_assert!(session.since <= from && to <= session.until, "{}: {:?}", line, session);
        check(&calendars, market, at, known_at)?;
        check(&calendars, market, at + around, known_at)?;
        // A day away nothing is other than without it.
        for away in [from - DAY_MS * 2, to + DAY_MS * 2] {
            let phase =
                |calendars: &Calendars<'_>| calendars.session_at(market.name, away, known_at).map(|at| at.phase);
            prop_assert_eq!(phase(&calendars), phase(self::calendars()?), "{}", line);
        }
    }

    #[test]
    fn on_a_closed_day_nothing_trades(index in 0..markets().len(), day in 0..300i64, place in 0.0..1.0) {
        let (market, day) = (&markets()[index], FIRST_DAY + day);
        let line = format!("{} closed {}..{}", market.name, date(day), date(day + 2));
        let calendars = Calendars::embedded()?.with_overrides(&[line.as_str()])?;
        // The day between: sessions of the first may begin the evening before, those of the day after the last too.
        let from = local(market, day + 1, 0)?;
        let at = from + (place * DAY_MS as f64) as i64;
        let session = calendars.session_at(market.name, at, None)?;
        prop_assert_eq!(session.phase, Phase::Closed, "{} at {}", line, at);
        check(&calendars, market, at, None)?;
        let days = calendars.special_days(market.name, at, 2)?;
        let is_ours = |day: &SpecialDay<'_>| day.spans.is_empty() && day.source == "an override in the settings";
        prop_assert!(days.iter().any(is_ours), "{:?}", days);
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), line in "[XN]?.{0,40}") {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Calendars::embedded()?.with_overrides(&[text.as_ref()]).is_err() || text.contains("20"));
        let taken = Calendars::embedded()?.with_overrides(&[line]);
        prop_assert!(taken.err().is_none_or(|error| error.to_string().contains("override \"")));
    }

    /// Lines that are nearly right: each is taken or refused with its reason, and what is taken can be asked.
    #[test]
    fn nearly_a_line_is_no_panic(
        market in prop::sample::select(vec!["XNSE", "CMES", "NFO", "24/7", "FX", "X", ""]),
        phase in prop::sample::select(vec!["open", "closed", "halted", "break", "pre-open", "OPEN", ""]),
        dates in "(20(2[5-7]|30)-[01][0-9]-[0-3][0-9](\\.\\.2026-[01][0-9]-[0-3][0-9])?)",
        hours in "([0-2][0-9]:[0-6][0-9]-[0-2][0-9]:[0-6][0-9])?", note in "( ?#.{0,20})?", day in 0..300i64,
    ) {
        let line = format!("{market} {phase} {dates} {hours}{note}");
        let at = (FIRST_DAY + day) * DAY_MS;
        match Calendars::embedded()?.with_overrides(&[&line]) {
            Ok(calendars) => {
                let session = calendars.session_at(market, at, None)?;
                prop_assert!(session.since <= at && at < session.until, "{line}: {session:?}");
                prop_assert!(calendars.special_days(market, at, 3).is_ok(), "{line}");
            }
            Err(error) => prop_assert!(error.to_string().starts_with("override \""), "{line}: {error}"),
        }
    }
}
