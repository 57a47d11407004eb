//! Bytes that are not calendar data, or no longer: each is refused, none is believed, none is a panic.

use std::error::Error;

use bellwether_calendar::{CalendarData, Calendars, DataError, Phase};

static EMBEDDED: &[u8] = include_bytes!("../data/calendars.bin");

/// A file with one clock, three profiles (closed, a session with a break, a night), one calendar and one market.
struct Small {
    clock: Vec<u8>,
    profiles: Vec<u8>,
    calendar: Vec<u8>,
    texts: Vec<u8>,
    names: Vec<u8>,
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
            texts: vec![3, 0, 1, b'n', 1, b's'],
            // A comes before M in order of FNV-1a.
            names: vec![2, 1, b'A', 0, 1, b'M', 0],
            markets: market(&[0, 0]),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        sealed(&self.body())
    }

    fn body(&self) -> Vec<u8> {
        let mut body = vec![1, b'1', 6, b'n', b'o', b't', b'i', b'c', b'e', 1, b'R'];
        for part in
            [&listed(&self.clock), &self.profiles, &listed(&self.calendar), &self.texts, &self.names, &self.markets]
        {
            body.extend(sized(part));
        }
        body
    }
}

/// One market, M or A, of all days of calendar 0, all published, with this layer.
fn market(layer: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 1, 5, b'T', b'i', b't', b'l', b'e', 0, 0, 0, 14, 14];
    out.extend(sized(layer));
    out
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
    let mut out = b"BWCAL\x02".to_vec();
    out.extend_from_slice(&digest.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    // An LZ4 block of nothing but literals: their number as 15, 255s and the rest.
    out.push(0xf0);
    let rest = body.len() - 15;
    out.extend(vec![255; rest / 255]);
    out.push((rest % 255) as u8);
    out.extend_from_slice(body);
    out
}

/// All that is wrong with a file, wherever it shows.
fn fault(file: &[u8]) -> Option<DataError> {
    let check = |data: CalendarData| Calendars::new(&data)?.verify();
    CalendarData::read(file).and_then(check).err()
}

fn check_refused(small: &Small, wanted: DataError) {
    assert_eq!(fault(&small.bytes()), Some(wanted));
}

#[test]
fn the_embedded_data_is_whole() -> Result<(), Box<dyn Error>> {
    let data = CalendarData::read(EMBEDDED)?;
    let calendars = Calendars::new(&data)?;
    calendars.verify()?;
    assert_eq!(calendars.data_version(), Calendars::embedded()?.data_version());
    assert!(calendars.notice().contains("exchange_calendars") && calendars.notice().contains("Apache License"));
    Ok(())
}

#[test]
fn a_small_file_says_what_it_was_written_to_say() -> Result<(), Box<dyn Error>> {
    let data = CalendarData::read(&Small::new().bytes())?;
    let calendars = Calendars::new(&data)?;
    calendars.verify()?;
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
    check_refused(&Small { names: vec![2, 1, b'M', 0, 1, b'M', 0], ..small() }, DataError::Duplicate("market"));
    check_refused(&Small { names: vec![2, 1, b'M', 0, 1, b'A', 0], ..small() }, DataError::OutOfOrder("name"));
    check_refused(
        &Small { names: vec![2, 1, b'A', 0, 1, b'M', 1], ..small() },
        DataError::OutOfRange("market of a name"),
    );
    check_refused(
        &Small { markets: market(&[0, 1, 14, 1, 0, 1, 1]), ..small() },
        DataError::OutOfRange("day of a fact"),
    );
    let elsewhere = vec![1, 1, 0, 7, 0, 0, 14, 14, 2, 0, 0];
    check_refused(&Small { markets: elsewhere, ..small() }, DataError::OutOfRange("calendar of a market"));
    let mut overlapping = small();
    // Saturday's session now lasts until the next Tuesday.
    overlapping.profiles = vec![3, 0, 1, 2, 2, 0x90, 0x20, 1, 2, 19, 20];
    check_refused(&overlapping, DataError::OutOfOrder("session"));
    assert_eq!(fault(b"RIFF"), Some(DataError::NotCalendarData));
    assert_eq!(fault(b"BWCAL\x01"), Some(DataError::UnknownFormat(1)));
}

#[test]
fn no_shorter_file_is_accepted() {
    let small = Small::new().bytes();
    for length in 0..small.len() {
        let cut = small.get(..length).unwrap_or(&[]);
        assert!(fault(cut).is_some(), "cut after {length} bytes");
    }
    let body = Small::new().body();
    for length in 15..body.len() {
        assert!(fault(&sealed(body.get(..length).unwrap_or(&[]))).is_some(), "sealed after {length} bytes");
    }
    for length in (0..EMBEDDED.len()).step_by(499) {
        assert!(fault(EMBEDDED.get(..length).unwrap_or(&[])).is_some(), "cut after {length} bytes");
    }
}

#[test]
fn a_changed_byte_is_damage() {
    for index in (14..EMBEDDED.len()).step_by(499) {
        let mut bytes = EMBEDDED.to_vec();
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= 1;
        }
        assert!(fault(&bytes).is_some(), "byte {index} changed");
    }
}

/// A changed byte that is sealed again may be other data, but never a panic, and never an answer past the horizon.
#[test]
fn any_byte_may_have_any_value() {
    let small = Small::new().body();
    for index in 0..small.len() {
        for value in 0..=255 {
            let mut body = small.clone();
            if let Some(byte) = body.get_mut(index) {
                *byte = value;
            }
            let Ok(data) = CalendarData::read(&sealed(&body)) else {
                continue;
            };
            let Ok(calendars) = Calendars::new(&data) else {
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
