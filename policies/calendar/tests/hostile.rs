//! Bytes that are not calendar data, or no longer: each is refused, none is believed, none is a panic.

use std::error::Error;

use bellwether_calendar::{Calendars, DataError, Phase};

static EMBEDDED: &[u8] = include_bytes!("../data/calendars.bin");

/// A file with one clock, three profiles (closed, a session with a break, a night), one calendar and one market.
struct Small {
    clock: Vec<u8>,
    profiles: Vec<u8>,
    calendar: Vec<u8>,
    markets: Vec<u8>,
}

impl Small {
    fn new() -> Self {
        Small {
            clock: vec![0, 0],
            // Open 1..3, break 3..5, open 5..7; and from 10 minutes before midnight until 10 after it.
            profiles: vec![3, 0, 3, 2, 2, 2, 3, 0, 2, 2, 0, 2, 1, 2, 19, 20],
            // UTC; clock 0; days begin 10 minutes early; day 100, a Saturday; 14 days, all published. Saturdays have
            // profile 1 and Mondays 2, but for the second Saturday, and the second Monday has profile 1.
            calendar: vec![3, b'U', b'T', b'C', 0, 19, 100, 14, 14, 2, 5, 1, 14, 2, 1, 7, 1, 9, 1],
            markets: vec![1, 1, b'M', 5, b'T', b'i', b't', b'l', b'e', 1, 1, b'A', 0],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![1, b'1', 6, b'n', b'o', b't', b'i', b'c', b'e'];
        for part in [&listed(&self.clock), &self.profiles, &listed(&self.calendar), &self.markets] {
            body.extend(sized(part));
        }
        sealed(&body)
    }
}

fn sized(part: &[u8]) -> Vec<u8> {
    let mut out = vec![part.len() as u8];
    out.extend_from_slice(part);
    out
}

fn listed(part: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(sized(part));
    out
}

/// The body with a header that fits it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let digest = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, &byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut out = b"BWCAL\x01".to_vec();
    out.extend_from_slice(&digest.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn check_refused(small: &Small, wanted: DataError) {
    assert_eq!(Calendars::from_bytes(&small.bytes()).err(), Some(wanted));
}

#[test]
fn the_embedded_data_is_whole() -> Result<(), Box<dyn Error>> {
    let calendars = Calendars::from_bytes(EMBEDDED)?;
    assert_eq!(calendars.data_version(), Calendars::embedded()?.data_version());
    assert!(calendars.notice().contains("exchange_calendars") && calendars.notice().contains("Apache License"));
    Ok(())
}

#[test]
fn a_small_file_says_what_it_was_written_to_say() -> Result<(), Box<dyn Error>> {
    let bytes = Small::new().bytes();
    let calendars = Calendars::from_bytes(&bytes)?;
    let minute = |day: i64, minute: i64| (day * 1440 + minute) * 60_000;
    let first = calendars.transitions("A", minute(100, -10), 5)?;
    let wanted = [
        (minute(100, 1), Phase::Open),
        (minute(100, 3), Phase::Break),
        (minute(100, 5), Phase::Open),
        (minute(100, 7), Phase::Closed),
        (minute(102, -10), Phase::Open),
    ];
    assert_eq!(first.iter().map(|change| (change.at, change.phase)).collect::<Vec<_>>(), wanted);
    // The second Saturday is closed, and the second Monday is like a Saturday.
    let session = calendars.session_at("M", minute(107, 2), None)?;
    assert_eq!((session.phase, session.next_open), (Phase::Closed, Some(minute(109, 1))));
    assert_eq!(session.horizon, minute(114, -10));
    Ok(())
}

#[test]
fn each_wrong_part_is_named() {
    let small = Small::new;
    check_refused(&Small { clock: vec![0, 9], ..small() }, DataError::Truncated("clock changes"));
    check_refused(&Small { clock: vec![0, 0, 0], ..small() }, DataError::TrailingBytes("clock"));
    check_refused(&Small { profiles: vec![1, 1, 9, 0, 1], ..small() }, DataError::OutOfRange("phase"));
    check_refused(&Small { profiles: vec![200, 1], ..small() }, DataError::Truncated("profiles"));
    let doubled = vec![1, 1, b'M', 0, 1, 1, b'M', 0];
    check_refused(&Small { markets: doubled, ..small() }, DataError::Duplicate("market"));
    let elsewhere = vec![1, 1, b'M', 0, 0, 7];
    check_refused(&Small { markets: elsewhere, ..small() }, DataError::OutOfRange("calendar of a market"));
    let mut overlapping = small();
    // Saturday's session now lasts until the next Tuesday.
    overlapping.profiles = vec![3, 0, 1, 2, 2, 0x90, 0x20, 1, 2, 19, 20];
    check_refused(&overlapping, DataError::OutOfOrder("session"));
    assert_eq!(Calendars::from_bytes(b"RIFF").err(), Some(DataError::NotCalendarData));
    assert_eq!(Calendars::from_bytes(b"BWCAL\x02").err(), Some(DataError::UnknownFormat(2)));
}

#[test]
fn no_shorter_file_is_accepted() {
    let small = Small::new().bytes();
    for length in 0..small.len() {
        let cut = small.get(..length).unwrap_or(&[]);
        assert!(Calendars::from_bytes(cut).is_err(), "cut after {length} bytes");
        if let Some(body) = cut.get(14..) {
            assert!(Calendars::from_bytes(&sealed(body)).is_err(), "cut after {length} bytes and sealed again");
        }
    }
    for length in (0..EMBEDDED.len()).step_by(499) {
        assert!(Calendars::from_bytes(EMBEDDED.get(..length).unwrap_or(&[])).is_err(), "cut after {length} bytes");
    }
}

#[test]
fn a_changed_byte_is_damage() {
    for index in (14..EMBEDDED.len()).step_by(499) {
        let mut bytes = EMBEDDED.to_vec();
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= 1;
        }
        assert!(Calendars::from_bytes(&bytes).is_err(), "byte {index} changed");
    }
}

/// A changed byte that is sealed again may be other data, but never a panic, and never an answer past the horizon.
#[test]
fn any_byte_may_have_any_value() {
    let small = Small::new().bytes();
    for index in 14..small.len() {
        for value in 0..=255 {
            let mut body = small.get(14..).unwrap_or(&[]).to_vec();
            if let Some(byte) = body.get_mut(index - 14) {
                *byte = value;
            }
            let bytes = sealed(&body);
            let Ok(calendars) = Calendars::from_bytes(&bytes) else {
                continue;
            };
            for market in calendars.markets() {
                assert!(calendars.session_at(market.name, market.horizon, None).is_err(), "byte {index} is {value}");
                let middle = market.covered_from.midpoint(market.horizon);
                if let Ok(session) = calendars.session_at(market.name, middle, None) {
                    assert!(session.since <= middle && middle < session.until, "byte {index} is {value}");
                    assert!(session.until <= session.horizon, "byte {index} is {value}");
                }
            }
        }
    }
}
