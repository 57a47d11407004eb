//! What holds at every boundary of every market, whatever the data says.

use std::error::Error;

use bellwether_calendar::{Calendars, Market, MarketSession, Phase};

const MINUTE_MS: i64 = 60_000;

/// Walks a market from boundary to boundary and back over what each session said of the others.
fn check(calendars: &Calendars<'_>, market: &Market<'_>) -> Result<(), Box<dyn Error>> {
    let name = market.name;
    let ask = |at: i64| calendars.session_at(name, at, None);
    let mut sessions: Vec<MarketSession<'_>> = vec![ask(market.covered_from)?];
    while let Some(last) = sessions.last()
        && last.until < last.horizon
    {
        sessions.push(ask(last.until)?);
    }
    let mut previous_close = None;
    let mut in_session = sessions.first().is_some_and(|first| first.phase == Phase::Open);
    let mut opens = Vec::new();
    let mut regular_opens = Vec::new();
    let mut before: Option<&MarketSession<'_>> = None;
    for session in &sessions {
        assert!(session.since < session.until && session.until <= session.horizon, "{name}: {session:?}");
        // The whole span says the same, to the last millisecond.
        for at in [session.since + MINUTE_MS - 1, session.until - MINUTE_MS, session.until - 1] {
            assert_eq!(ask(at)?, *session, "{name} at {at}");
        }
        if let Some(before) = before {
            assert_eq!(before.until, session.since, "{name}: {session:?}");
            assert_ne!(before.phase, session.phase, "{name}: {session:?}");
        }
        let was_in_session = in_session;
        in_session = match (session.phase, before.map(|before| before.phase)) {
            (Phase::Open | Phase::ClosingAuction, _) => true,
            // A pause is inside the session it is in, and so is the call that leads out of it.
            (Phase::Break | Phase::Halted, _) | (Phase::PreOpen, Some(Phase::Break | Phase::Halted)) => was_in_session,
            _ => false,
        };
        if session.phase == Phase::Open && before.is_some() {
            opens.push(session.since);
            if !was_in_session {
                regular_opens.push(session.since);
            }
        }
        if was_in_session && !in_session {
            previous_close = Some(session.since);
        }
        assert_eq!(session.previous_close, previous_close, "{name}: {session:?}");
        before = Some(session);
    }
    check_next(name, &sessions, &opens, |session| session.next_open);
    check_next(name, &sessions, &regular_opens, |session| session.next_regular_open);
    assert!(ask(market.horizon).is_err() && ask(market.horizon + 1).is_err(), "{name} past its horizon");
    assert!(ask(market.covered_from - 1).is_err(), "{name} before its data");
    Ok(())
}

/// Every session names the first of `opens` at or after its end, and none where there is none.
fn check_next(name: &str, sessions: &[MarketSession<'_>], opens: &[i64], next: fn(&MarketSession<'_>) -> Option<i64>) {
    for session in sessions {
        let index = opens.partition_point(|&open| open < session.until);
        assert_eq!(next(session), opens.get(index).copied(), "{name}: {session:?}");
    }
}

#[test]
fn every_boundary_of_every_market() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    calendars.markets().iter().try_for_each(|market| check(&calendars, market))
}

#[test]
fn transitions_are_the_boundaries() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    for market in calendars.markets() {
        let mut at = market.covered_from;
        while let Some(last) = calendars.transitions(market.name, at, 1000)?.last().copied() {
            let session = calendars.session_at(market.name, last.at, None)?;
            assert_eq!((session.since, session.phase), (last.at, last.phase), "{}", market.name);
            at = last.at;
        }
        let session = calendars.session_at(market.name, at, None)?;
        assert_eq!(session.until, session.horizon, "{}", market.name);
    }
    Ok(())
}

/// The first answer of an instance comes from the year around the instant, later ones may come from the whole calendar.
#[test]
fn a_fresh_instance_answers_as_a_warm_one() -> Result<(), Box<dyn Error>> {
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
    let warm = Calendars::embedded()?;
    for market in warm.markets() {
        let name = market.name;
        // From one end of the data to the other, so that the whole calendar is laid out.
        warm.session_at(name, market.covered_from, None)?;
        warm.session_at(name, market.horizon - 1, None)?;
        // An odd step, so that every hour and every weekday has its turn.
        for at in (market.covered_from..market.horizon).step_by((401 * DAY_MS + 61 * MINUTE_MS) as usize) {
            let fresh = Calendars::embedded()?;
            assert_eq!(fresh.session_at(name, at, None), warm.session_at(name, at, None), "{name} at {at}");
            let fresh = Calendars::embedded()?;
            for (start, count) in [(at, 3), (at + 290 * DAY_MS, 40), (at - 55 * DAY_MS, 1)] {
                let found = fresh.transitions(name, start, count);
                assert_eq!(found, warm.transitions(name, start, count), "{name} from {start}");
            }
        }
    }
    Ok(())
}
