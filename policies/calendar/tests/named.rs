//! Sessions that people can check: the days and hours that calendars get wrong, each a row.

use std::error::Error;

use bellwether_calendar::{Calendars, MarketError, MarketNumber, Phase};

/// Name, market, instant; then what is expected: phase, since, until, next open, next regular open, previous close.
/// `-`: there is none.
type Row = [&'static str; 9];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ["Mumbai on a Monday morning, with a holiday next", "XNSE", "2026-11-23T10:00:00+05:30",
        "Open", "2026-11-23T09:15:00+05:30", "2026-11-23T15:15:00+05:30",
        "2026-11-25T09:15:00+05:30", "2026-11-25T09:15:00+05:30", "2026-11-20T15:35:00+05:30"],
    ["Guru Nanak, until the pre-open of Wednesday", "XBOM", "2026-11-24T11:00:00+05:30",
        "Closed", "2026-11-23T16:00:00+05:30", "2026-11-25T09:00:00+05:30",
        "2026-11-25T09:15:00+05:30", "2026-11-25T09:15:00+05:30", "2026-11-23T15:35:00+05:30"],
    ["NSE pre-open", "NSE", "2026-11-25T09:00:00+05:30",
        "PreOpen", "2026-11-25T09:00:00+05:30", "2026-11-25T09:15:00+05:30",
        "2026-11-25T09:15:00+05:30", "2026-11-25T09:15:00+05:30", "2026-11-23T15:35:00+05:30"],
    ["the last session without a pre-open", "XNSE", "2010-10-15T08:59:59+05:30",
        "Closed", "2010-10-14T16:00:00+05:30", "2010-10-15T09:00:00+05:30",
        "2010-10-15T09:00:00+05:30", "2010-10-15T09:00:00+05:30", "2010-10-14T15:30:00+05:30"],
    ["the first pre-open", "XNSE", "2010-10-18T09:14:59+05:30",
        "PreOpen", "2010-10-18T09:00:00+05:30", "2010-10-18T09:15:00+05:30",
        "2010-10-18T09:15:00+05:30", "2010-10-18T09:15:00+05:30", "2010-10-15T15:30:00+05:30"],
    ["a full session on a Saturday", "XBOM", "2024-01-20T10:00:00+05:30",
        "Open", "2024-01-20T09:15:00+05:30", "2024-01-20T15:30:00+05:30",
        "2024-01-23T09:15:00+05:30", "2024-01-23T09:15:00+05:30", "2024-01-19T15:30:00+05:30"],
    ["the data of Mumbai ends with the year", "XBOM", "2026-12-31T18:00:00+05:30",
        "Closed", "2026-12-31T16:00:00+05:30", "2027-01-01T00:00:00+05:30",
        "-", "-", "2026-12-31T15:35:00+05:30"],
    ["Thanksgiving in New York", "XNYS", "2026-11-26T10:00:00-05:00",
        "Closed", "2026-11-25T16:00:00-05:00", "2026-11-27T09:30:00-05:00",
        "2026-11-27T09:30:00-05:00", "2026-11-27T09:30:00-05:00", "2026-11-25T16:00:00-05:00"],
    ["the day after closes early", "XNAS", "2026-11-27T12:59:59-05:00",
        "Open", "2026-11-27T09:30:00-05:00", "2026-11-27T13:00:00-05:00",
        "2026-11-30T09:30:00-05:00", "2026-11-30T09:30:00-05:00", "2026-11-25T16:00:00-05:00"],
    ["closed from 13:00 on", "NYSE", "2026-11-27T13:00:00-05:00",
        "Closed", "2026-11-27T13:00:00-05:00", "2026-11-30T09:30:00-05:00",
        "2026-11-30T09:30:00-05:00", "2026-11-30T09:30:00-05:00", "2026-11-27T13:00:00-05:00"],
    ["New York's clock goes forward over a weekend", "XNYS", "2026-03-08T12:00:00Z",
        "Closed", "2026-03-06T21:00:00Z", "2026-03-09T13:30:00Z",
        "2026-03-09T13:30:00Z", "2026-03-09T13:30:00Z", "2026-03-06T21:00:00Z"],
    ["a day announced two days before: mourning for Carter", "XNYS", "2025-01-09T12:00:00-05:00",
        "Closed", "2025-01-08T16:00:00-05:00", "2025-01-10T09:30:00-05:00",
        "2025-01-10T09:30:00-05:00", "2025-01-10T09:30:00-05:00", "2025-01-08T16:00:00-05:00"],
    ["out of step: London is back on winter time", "XLON", "2026-10-26T16:00:00Z",
        "Open", "2026-10-26T08:00:00Z", "2026-10-26T16:30:00Z",
        "2026-10-27T08:00:00Z", "2026-10-27T08:00:00Z", "2026-10-23T15:35:00Z"],
    ["out of step: New York is not", "XNYS", "2026-10-26T13:30:00Z",
        "Open", "2026-10-26T13:30:00Z", "2026-10-26T20:00:00Z",
        "2026-10-27T13:30:00Z", "2026-10-27T13:30:00Z", "2026-10-23T20:00:00Z"],
    ["in step again a week later", "XNYS", "2026-11-02T14:29:59Z",
        "Closed", "2026-10-30T20:00:00Z", "2026-11-02T14:30:00Z",
        "2026-11-02T14:30:00Z", "2026-11-02T14:30:00Z", "2026-10-30T20:00:00Z"],
    ["London's opening auction, on the first summer day", "LSE", "2026-03-30T06:55:00Z",
        "PreOpen", "2026-03-30T06:50:00Z", "2026-03-30T07:00:00Z",
        "2026-03-30T07:00:00Z", "2026-03-30T07:00:00Z", "2026-03-27T16:35:00Z"],
    ["Tokyo at lunch", "XTKS", "2026-11-24T12:00:00+09:00",
        "Break", "2026-11-24T11:30:00+09:00", "2026-11-24T12:30:00+09:00",
        "2026-11-24T12:30:00+09:00", "2026-11-25T09:00:00+09:00", "2026-11-20T15:30:00+09:00"],
    ["Tokyo in the morning: the re-opening is the next open", "JPX", "2026-11-24T09:00:00+09:00",
        "Open", "2026-11-24T09:00:00+09:00", "2026-11-24T11:30:00+09:00",
        "2026-11-24T12:30:00+09:00", "2026-11-25T09:00:00+09:00", "2026-11-20T15:30:00+09:00"],
    ["Tokyo's closing auction", "XTKS", "2026-11-24T15:29:59+09:00",
        "ClosingAuction", "2026-11-24T15:25:00+09:00", "2026-11-24T15:30:00+09:00",
        "2026-11-25T09:00:00+09:00", "2026-11-25T09:00:00+09:00", "2026-11-20T15:30:00+09:00"],
    ["Tokyo takes orders from eight", "XTKS", "2026-11-24T08:00:00+09:00",
        "PreOpen", "2026-11-24T08:00:00+09:00", "2026-11-24T09:00:00+09:00",
        "2026-11-24T09:00:00+09:00", "2026-11-24T09:00:00+09:00", "2026-11-20T15:30:00+09:00"],
    ["Tokyo closed at 15:00 until 2024-11-01", "XTKS", "2024-11-01T15:00:00+09:00",
        "Closed", "2024-11-01T15:00:00+09:00", "2024-11-05T08:00:00+09:00",
        "2024-11-05T09:00:00+09:00", "2024-11-05T09:00:00+09:00", "2024-11-01T15:00:00+09:00"],
    ["Tokyo's outage", "XTKS", "2020-10-01T10:00:00+09:00",
        "Closed", "2020-09-30T15:00:00+09:00", "2020-10-02T08:00:00+09:00",
        "2020-10-02T09:00:00+09:00", "2020-10-02T09:00:00+09:00", "2020-09-30T15:00:00+09:00"],
    ["Hong Kong at lunch", "XHKG", "2026-11-24T12:30:00+08:00",
        "Break", "2026-11-24T12:00:00+08:00", "2026-11-24T13:00:00+08:00",
        "2026-11-24T13:00:00+08:00", "2026-11-25T09:30:00+08:00", "2026-11-23T16:10:00+08:00"],
    ["Hong Kong's half day has no lunch", "HKEX", "2026-12-24T11:59:59+08:00",
        "Open", "2026-12-24T09:30:00+08:00", "2026-12-24T12:00:00+08:00",
        "2026-12-28T09:30:00+08:00", "2026-12-28T09:30:00+08:00", "2026-12-23T16:10:00+08:00"],
    ["and nothing in the afternoon", "XHKG", "2026-12-24T13:30:00+08:00",
        "Closed", "2026-12-24T12:10:00+08:00", "2026-12-28T09:00:00+08:00",
        "2026-12-28T09:30:00+08:00", "2026-12-28T09:30:00+08:00", "2026-12-24T12:10:00+08:00"],
    ["Shanghai at lunch", "XSHG", "2026-11-24T11:30:00+08:00",
        "Break", "2026-11-24T11:30:00+08:00", "2026-11-24T13:00:00+08:00",
        "2026-11-24T13:00:00+08:00", "2026-11-25T09:30:00+08:00", "2026-11-23T15:00:00+08:00"],
    ["Shenzhen through the October holidays", "XSHE", "2026-10-05T10:00:00+08:00",
        "Closed", "2026-09-30T15:00:00+08:00", "2026-10-08T09:15:00+08:00",
        "2026-10-08T09:30:00+08:00", "2026-10-08T09:30:00+08:00", "2026-09-30T15:00:00+08:00"],
    ["Frankfurt", "XETR", "2026-11-24T17:29:59+01:00",
        "Open", "2026-11-24T09:00:00+01:00", "2026-11-24T17:30:00+01:00",
        "2026-11-25T09:00:00+01:00", "2026-11-25T09:00:00+01:00", "2026-11-23T17:35:00+01:00"],
    ["Seoul opens late on the year's first day", "XKRX", "2026-01-02T09:30:00+09:00",
        "Closed", "2025-12-30T18:00:00+09:00", "2026-01-02T10:00:00+09:00",
        "2026-01-02T10:00:00+09:00", "2026-01-02T10:00:00+09:00", "2025-12-30T15:30:00+09:00"],
    ["Tel Aviv's last Sunday", "XTAE", "2026-01-04T12:00:00+02:00",
        "Open", "2026-01-04T09:59:00+02:00", "2026-01-04T15:40:00+02:00",
        "2026-01-05T09:59:00+02:00", "2026-01-05T09:59:00+02:00", "2026-01-01T17:15:00+02:00"],
    ["Wellington opens on the day before, in UTC", "XNZE", "2026-11-23T21:00:00Z",
        "Open", "2026-11-23T21:00:00Z", "2026-11-24T03:45:00Z",
        "2026-11-24T21:00:00Z", "2026-11-24T21:00:00Z", "2026-11-23T04:00:00Z"],
    ["Chicago's week begins on Sunday and has no gaps", "CME", "2026-11-17T12:00:00-06:00",
        "Open", "2026-11-15T17:00:00-06:00", "2026-11-20T17:00:00-06:00",
        "2026-11-22T17:00:00-06:00", "2026-11-22T17:00:00-06:00", "2026-11-13T17:00:00-06:00"],
    ["the working week", "24/5", "2026-11-21T00:00:00Z",
        "Closed", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z",
        "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-21T00:00:00Z"],
    ["always", "24/7", "2026-11-22T12:00:00Z",
        "Open", "2000-01-01T00:00:00Z", "2031-01-01T00:00:00Z",
        "-", "-", "-"],
];

fn check(calendars: &Calendars<'_>, row: &Row) -> Result<(), Box<dyn Error>> {
    let [name, market, at, phase, since, until, next_open, next_regular_open, previous_close] = *row;
    let session = calendars.session_at(market, instant(at)?, None).map_err(|error| format!("{name}: {error}"))?;
    assert_eq!(calendars.find(session.market), calendars.find(market), "market: {name}");
    assert_eq!(format!("{:?}", session.phase), phase, "phase: {name}");
    assert_eq!(session.since, instant(since)?, "since: {name}");
    assert_eq!(session.until, instant(until)?, "until: {name}");
    assert_eq!(session.next_open, optional(next_open)?, "next open: {name}");
    assert_eq!(session.next_regular_open, optional(next_regular_open)?, "next regular open: {name}");
    assert_eq!(session.previous_close, optional(previous_close)?, "previous close: {name}");
    assert!(!session.projected, "projected: {name}");
    assert_eq!(session.data_version, calendars.data_version());
    Ok(())
}

fn optional(text: &str) -> Result<Option<i64>, Box<dyn Error>> {
    if text == "-" { Ok(None) } else { instant(text).map(Some) }
}

/// An instant as the rows write it: RFC 3339 without fractions.
fn instant(text: &str) -> Result<i64, Box<dyn Error>> {
    let number = |from: usize, to: usize| -> Result<i64, Box<dyn Error>> {
        Ok(text.get(from..to).ok_or_else(|| format!("not an instant: {text}"))?.parse()?)
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Years begin in March here, so that the leap day is the last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 719_469;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let offset = if text.ends_with('Z') { 0 } else { (number(20, 22)? * 60 + number(23, 25)?) * 60 };
    let offset = if text.get(19..20) == Some("-") { -offset } else { offset };
    Ok((seconds - offset) * 1000)
}

#[test]
fn sessions_are_as_people_know_them() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    ROWS.iter().try_for_each(|row| check(&calendars, row))
}

#[test]
fn nothing_is_said_outside_the_data() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    let rows = [
        ("XBOM", "2027-01-01T00:00:00+05:30", "2027-01-01T00:00:00+05:30"),
        ("XBOM", "2027-01-04T10:00:00+05:30", "2027-01-01T00:00:00+05:30"),
        ("XSHG", "2027-01-04T10:00:00+08:00", "2027-01-01T00:00:00+08:00"),
        // Where the reference's lists of religious holidays stop, the overlay's go on for a year.
        ("XIDX", "2027-01-04T10:00:00+07:00", "2027-01-01T00:00:00+07:00"),
        ("XKAR", "2027-01-04T10:00:00+05:00", "2027-01-01T00:00:00+05:00"),
        ("XIST", "2028-01-03T12:00:00+03:00", "2028-01-01T00:00:00+03:00"),
        ("XPHS", "2028-01-03T12:00:00+08:00", "2028-01-01T00:00:00+08:00"),
        ("XKLS", "2030-01-02T12:00:00+08:00", "2030-01-01T00:00:00+08:00"),
        ("XNYS", "1999-12-31T12:00:00-05:00", "2000-01-01T00:00:00-05:00"),
        ("XNYS", "2031-01-02T12:00:00-05:00", "2031-01-01T00:00:00-05:00"),
        ("AIXK", "2016-12-30T12:00:00+06:00", "2017-01-01T00:00:00+06:00"),
        // Chicago's next session would begin at 17:00 on the day before, and the data does not know whether it does.
        ("CMES", "2030-12-31T17:00:00-06:00", "2030-12-31T17:00:00-06:00"),
        ("24/7", "9999-12-31T23:59:59Z", "2031-01-01T00:00:00Z"),
        ("24/7", "1970-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
    ];
    for (market, at, bound) in rows {
        let wanted = MarketError::BeyondHorizon(instant(bound)?);
        assert_eq!(calendars.session_at(market, instant(at)?, None), Err(wanted), "{market} at {at}");
        assert_eq!(calendars.transitions(market, instant(at)?, 1), Err(wanted), "{market} from {at}");
    }
    assert!(calendars.session_at("24/7", i64::MAX, None).is_err());
    assert!(calendars.session_at("24/7", i64::MIN, None).is_err());
    Ok(())
}

#[test]
fn unknown_markets_are_unknown() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    for market in ["", "XXXX", "xnys", "XNYS ", "XNY"] {
        assert_eq!(calendars.session_at(market, 0, None), Err(MarketError::UnknownMarket), "{market:?}");
        assert_eq!(calendars.transitions(market, 0, 1), Err(MarketError::UnknownMarket), "{market:?}");
    }
    Ok(())
}

#[test]
fn rules_carried_past_published_dates_are_marked() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    let rows = [
        ("XNYS", "2027-12-31T12:00:00-05:00", false),
        ("XNYS", "2028-01-03T12:00:00-05:00", true),
        ("XIDX", "2026-03-20T10:00:00+07:00", false),
        ("XKAR", "2026-09-08T10:00:00+05:00", false),
        ("XBOM", "2026-12-31T18:00:00+05:30", false),
        ("24/5", "2030-12-30T10:00:00Z", false),
    ];
    for (market, at, projected) in rows {
        assert_eq!(calendars.session_at(market, instant(at)?, None)?.projected, projected, "{market} at {at}");
    }
    Ok(())
}

#[test]
fn transitions_follow_each_other() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    let found = calendars.transitions("XTKS", instant("2026-11-24T08:00:00+09:00")?, 6)?;
    let wanted = [
        ("2026-11-24T09:00:00+09:00", Phase::Open),
        ("2026-11-24T11:30:00+09:00", Phase::Break),
        ("2026-11-24T12:30:00+09:00", Phase::Open),
        ("2026-11-24T15:25:00+09:00", Phase::ClosingAuction),
        ("2026-11-24T15:30:00+09:00", Phase::Closed),
        ("2026-11-25T08:00:00+09:00", Phase::PreOpen),
    ];
    assert_eq!(found.len(), wanted.len());
    for (found, (at, phase)) in found.iter().zip(wanted) {
        assert_eq!((found.at, found.phase), (instant(at)?, phase));
    }
    assert_eq!(calendars.transitions("XTKS", instant("2020-01-01T00:00:00Z")?, u32::MAX)?.len(), 1000);
    assert_eq!(calendars.transitions("XTKS", instant("2020-01-01T00:00:00Z")?, 0)?, []);
    assert_eq!(calendars.transitions("24/7", instant("2020-01-01T00:00:00Z")?, 10)?, []);
    Ok(())
}

#[test]
fn markets_are_listed_in_order_with_their_names() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::embedded()?;
    let markets = calendars.markets();
    assert_eq!(markets.len(), 88);
    assert!(markets.is_sorted_by_key(|market| market.name));
    let now = instant("2026-11-23T10:00:00Z")?;
    for market in &markets {
        let session = calendars.session_at(market.name, now, None)?;
        assert_eq!(session.horizon, market.horizon, "{}", market.name);
        for alias in &market.aliases {
            assert_eq!(calendars.session_at(*alias, now, None)?, session, "{alias}");
            assert_eq!(calendars.find(alias), calendars.find(market.name), "{alias}");
        }
        let number = calendars.find(market.name).ok_or("no number")?;
        assert_eq!(calendars.session_at(number, now, None)?, session, "{}", market.name);
    }
    assert_eq!(calendars.find("NOWHERE"), None);
    for number in [markets.len() as u32, u32::MAX] {
        let answer = calendars.session_at(MarketNumber(number), now, None);
        assert_eq!(answer, Err(MarketError::UnknownMarket), "{number}");
    }
    let derivatives = calendars.find("XNSE.derivatives").ok_or("no number")?;
    let reference = Calendars::embedded()?.without_overlay();
    assert_eq!(reference.find("XNSE.derivatives"), None);
    assert_eq!(reference.session_at(derivatives, now, None), Err(MarketError::UnknownMarket));
    let bombay = markets.iter().find(|market| market.name == "XBOM").ok_or("no XBOM")?;
    assert_eq!((bombay.time_zone, bombay.aliases.as_slice()), ("Asia/Kolkata", ["BSE"].as_slice()));
    assert_eq!(bombay.covered_from, instant("2000-01-01T00:00:00+05:30")?);
    assert_eq!(bombay.horizon, instant("2027-01-01T00:00:00+05:30")?);
    Ok(())
}
