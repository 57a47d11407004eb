//! Every trading interval of every calendar equals the reference's own.
//!
//! `reference.txt` has a count and a digest of each calendar's merged trading intervals, made by `data/generate.py`
//! from the sessions of exchange_calendars before anything was encoded. What lies over the reference is left out here.

use std::error::Error;

use bellwether_calendar::{Calendars, Phase};

static REFERENCE: &str = include_str!("reference.txt");
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The trading time of a market as one can ask for it, from the first instant of the data to the horizon.
fn trading_intervals(calendars: &Calendars<'_>, market: &str, first: i64) -> Result<Vec<[i64; 2]>, Box<dyn Error>> {
    let mut intervals: Vec<[i64; 2]> = Vec::new();
    let mut at = first;
    loop {
        let session = calendars.session_at(market, at, None)?;
        if session.phase == Phase::Open {
            intervals.push([session.since / MINUTE_MS, session.until / MINUTE_MS]);
        }
        if session.until == session.horizon {
            return Ok(intervals);
        }
        at = session.until;
    }
}

/// FNV-1a of 64 bits over the bounds in minutes since 1970, each as eight bytes, the lowest first.
fn digest(intervals: &[[i64; 2]]) -> u64 {
    let bytes = intervals.iter().flatten().flat_map(|bound| bound.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn check(calendars: &Calendars<'_>, line: &str) -> Result<usize, Box<dyn Error>> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [name, _first, _last, count, wanted] = fields.as_slice() else {
        return Err(format!("reference.txt: {line}").into());
    };
    let markets = calendars.markets();
    let market = markets.iter().find(|market| market.name == *name).ok_or_else(|| format!("no market {name}"))?;
    let intervals = trading_intervals(calendars, name, market.covered_from)?;
    assert_eq!(intervals.len(), count.parse::<usize>()?, "number of trading intervals of {name}");
    assert_eq!(format!("{:016x}", digest(&intervals)), *wanted, "digest of the trading intervals of {name}");
    Ok(intervals.len())
}

#[test]
fn every_interval_equals_the_reference() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?.without_overlay();
    let mut calendar_count = 0;
    let mut interval_count = 0;
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        calendar_count += 1;
        interval_count += check(&calendars, line)?;
    }
    assert_eq!(calendar_count, 71);
    assert!(interval_count > 500_000, "{interval_count} intervals");
    Ok(())
}

#[test]
fn the_data_covers_what_the_reference_covers() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    for market in calendars.markets() {
        let days = (market.horizon - market.covered_from) / DAY_MS;
        assert!(days > 5 * 365, "{} covers {days} days", market.name);
        let twenties = 1_577_836_800_000;
        assert!(market.horizon > twenties, "{} ends before 2020", market.name);
    }
    Ok(())
}
