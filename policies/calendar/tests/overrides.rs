//! What an operator's lines do: they win over the data, over each other in a fixed order, and a wrong one is refused.

use std::error::Error;

use bellwether_calendar::{Calendars, SpecialDay};
use jiff::Timestamp;

type Outcome = Result<(), Box<dyn Error>>;

/// The lines, a market, an instant at which it is asked, and what is answered: phase, until, next regular open. All
/// times are of that offset.
struct Row {
    name: &'static str,
    lines: &'static [&'static str],
    market: &'static str,
    at: &'static str,
    wanted: [&'static str; 3],
}

const fn row(
    name: &'static str,
    lines: &'static [&'static str],
    market: &'static str,
    at: &'static str,
    wanted: [&'static str; 3],
) -> Row {
    Row { name, lines, market, at, wanted }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("a closed day", &["XNSE closed 2026-12-03"], "XNSE", "2026-12-03T10:00+05:30",
        ["closed", "2026-12-04T09:00+05:30", "2026-12-04T09:15+05:30"]),
    row("the day before it looks past it", &["XNSE closed 2026-12-03"], "XNSE", "2026-12-02T16:00+05:30",
        ["closed", "2026-12-04T09:00+05:30", "2026-12-04T09:15+05:30"]),
    row("other markets do not", &["XNSE closed 2026-12-03"], "XBOM", "2026-12-03T10:00+05:30",
        ["open", "2026-12-03T15:15+05:30", "2026-12-04T09:15+05:30"]),
    row("open as usual on a holiday", &["XNSE open 2026-11-24"], "XNSE", "2026-11-24T10:00+05:30",
        ["open", "2026-11-24T15:15+05:30", "2026-11-25T09:15+05:30"]),
    row("with all that is usual", &["XNYS open 2026-11-27"], "XNYS", "2026-11-27T14:00-05:00",
        ["open", "2026-11-27T16:00-05:00", "2026-11-30T09:30-05:00"]),
    row("a window on a Sunday", &["XNSE open 2026-12-06 11:45-12:40"], "XNSE", "2026-12-05T10:00+05:30",
        ["closed", "2026-12-06T11:45+05:30", "2026-12-06T11:45+05:30"]),
    row("in it", &["XNSE open 2026-12-06 11:45-12:40"], "XNSE", "2026-12-06T12:39+05:30",
        ["open", "2026-12-06T12:40+05:30", "2026-12-07T09:15+05:30"]),
    row("to the end of the day", &["XNSE open 2026-12-06 22:00-24:00"], "XNSE", "2026-12-06T23:59+05:30",
        ["open", "2026-12-07T00:00+05:30", "2026-12-07T09:15+05:30"]),
    row("a typhoon takes the morning", &["XHKG closed 2026-11-24 09:00-13:00"], "XHKG", "2026-11-24T10:00+08:00",
        ["closed", "2026-11-24T13:00+08:00", "2026-11-24T13:00+08:00"]),
    row("known in the night before", &["XHKG closed 2026-11-24 09:00-13:00"], "XHKG", "2026-11-24T01:00+08:00",
        ["closed", "2026-11-24T13:00+08:00", "2026-11-24T13:00+08:00"]),
    row("and the afternoon is as ever", &["XHKG closed 2026-11-24 09:00-13:00"], "XHKG", "2026-11-24T13:00+08:00",
        ["open", "2026-11-24T16:00+08:00", "2026-11-25T09:30+08:00"]),
    row("a halt is inside the session", &["XLON halted 2026-11-24 10:30-11:15"], "XLON", "2026-11-24T10:30Z",
        ["halted", "2026-11-24T11:15Z", "2026-11-25T08:00Z"]),
    row("what opens after it is no new one", &["XLON halted 2026-11-24 10:30-11:15"], "XLON", "2026-11-24T08:00Z",
        ["open", "2026-11-24T10:30Z", "2026-11-25T08:00Z"]),
    row("a halt at the opening has none before it", &["XLON halted 2026-11-24 08:00-09:00"], "XLON",
        "2026-11-24T07:00Z", ["closed", "2026-11-24T07:50Z", "2026-11-24T09:00Z"]),
    row("an auction", &["XLON closing-auction 2026-11-24 16:30-16:50"], "XLON", "2026-11-24T16:40Z",
        ["closing-auction", "2026-11-24T16:50Z", "2026-11-25T08:00Z"]),
    row("several days", &["XTKS closed 2026-12-01..2026-12-03"], "XTKS", "2026-12-01T10:00+09:00",
        ["closed", "2026-12-04T08:00+09:00", "2026-12-04T09:00+09:00"]),
    row("a window on each of several days", &["XTKS halted 2026-12-01..2026-12-03 10:00-11:00"], "XTKS",
        "2026-12-03T10:00+09:00", ["halted", "2026-12-03T11:00+09:00", "2026-12-04T09:00+09:00"]),
    row("a window wins over a day", &["XTKS open 2026-12-01 10:00-11:00", "XTKS closed 2026-12-01"], "XTKS",
        "2026-12-01T09:30+09:00", ["closed", "2026-12-01T10:00+09:00", "2026-12-01T10:00+09:00"]),
    row("the later window wins", &["XTKS halted 2026-12-01 10:00-11:00", "XTKS open 2026-12-01 10:30-11:00"], "XTKS",
        "2026-12-01T10:15+09:00", ["halted", "2026-12-01T10:30+09:00", "2026-12-02T09:00+09:00"]),
    row("the later day wins", &["XTKS closed 2026-12-01..2026-12-03", "XTKS open 2026-12-02"], "XTKS",
        "2026-12-01T10:00+09:00", ["closed", "2026-12-02T08:00+09:00", "2026-12-02T09:00+09:00"]),
    row("an alias is the market", &["JPX closed 2026-12-01"], "TSE", "2026-12-01T10:00+09:00",
        ["closed", "2026-12-02T08:00+09:00", "2026-12-02T09:00+09:00"]),
    row("an exchange is its segments", &["XNSE closed 2026-12-03"], "XNSE.derivatives", "2026-12-03T10:00+05:30",
        ["closed", "2026-12-04T09:00+05:30", "2026-12-04T09:15+05:30"]),
    row("a segment is not its exchange", &["XNSE.derivatives closed 2026-12-03"], "XNSE", "2026-12-03T10:00+05:30",
        ["open", "2026-12-03T15:15+05:30", "2026-12-04T09:15+05:30"]),
    row("a segment's own line, wherever it stands", &["NFO open 2026-12-03", "NSE closed 2026-12-03"], "NFO",
        "2026-12-03T10:00+05:30", ["open", "2026-12-03T15:40+05:30", "2026-12-04T09:15+05:30"]),
    row("also over a window of the exchange", &["NFO open 2026-12-03", "NSE halted 2026-12-03 10:00-12:00"], "NFO",
        "2026-12-03T10:00+05:30", ["open", "2026-12-03T15:40+05:30", "2026-12-04T09:15+05:30"]),
    row("its own window inside the exchange's day", &["NFO open 2026-12-03 10:00-11:00", "NSE closed 2026-12-03"],
        "NFO", "2026-12-03T09:30+05:30", ["closed", "2026-12-03T10:00+05:30", "2026-12-03T10:00+05:30"]),
    row("Chicago's Tuesday begins on Monday", &["CME closed 2026-12-01"], "CMES.fx", "2026-11-30T18:00-06:00",
        ["closed", "2026-12-01T17:00-06:00", "2026-12-01T17:00-06:00"]),
    row("a window is of the clock's date", &["CMES halted 2026-11-30 18:00-19:00"], "CMES.fx", "2026-11-30T18:30-06:00",
        ["halted", "2026-11-30T19:00-06:00", "2026-12-01T17:00-06:00"]),
    row("what is usual is not what another odd day has", &["CMES open 2026-06-19"], "CMES.equity-index",
        "2026-06-19T13:00-05:00", ["open", "2026-06-19T16:00-05:00", "2026-06-21T17:00-05:00"]),
    row("midnight in summer time", &["XNYS open 2026-07-04 10:00-11:00"], "XNYS", "2026-07-04T10:00-04:00",
        ["open", "2026-07-04T11:00-04:00", "2026-07-06T09:30-04:00"]),
];

fn with(lines: &[&str]) -> Result<Calendars<'static>, Box<dyn Error>> {
    Ok(Calendars::embedded()?.with_overrides(lines)?)
}

fn instant(text: &str) -> Result<i64, Box<dyn Error>> {
    Ok(text.parse::<Timestamp>()?.as_millisecond())
}

fn check(row: &Row) -> Outcome {
    let calendars = with(row.lines)?;
    let at = instant(row.at)?;
    // What was known at a time leaves out what was announced later; an operator's word is undated.
    for known_at in [None, Some(at), Some(instant("2026-11-20T00:00Z")?)] {
        let session = calendars.session_at(row.market, at, known_at)?;
        let [phase, until, next] = row.wanted;
        assert_eq!(session.phase.label(), phase, "phase: {}", row.name);
        assert_eq!(session.until, instant(until)?, "until: {}", row.name);
        assert_eq!(session.next_regular_open, Some(instant(next)?), "next regular open: {}", row.name);
    }
    Ok(())
}

#[test]
fn lines_win_over_the_data() -> Outcome {
    ROWS.iter().try_for_each(check)
}

/// Lines that an operator gives later stand behind those that are there.
#[test]
fn lines_add_up() -> Outcome {
    let calendars = with(&["XTKS closed 2026-12-01..2026-12-02"])?.with_overrides(&["XTKS open 2026-12-02"])?;
    let phase = |at: &str| -> Result<&str, Box<dyn Error>> {
        Ok(calendars.session_at("XTKS", instant(at)?, None)?.phase.label())
    };
    assert_eq!((phase("2026-12-01T10:00+09:00")?, phase("2026-12-02T10:00+09:00")?), ("closed", "open"));
    Ok(())
}

fn listed<'a>(calendars: &'a Calendars<'_>, market: &str, from: &str) -> Result<SpecialDay<'a>, Box<dyn Error>> {
    Ok(calendars.special_days(market, instant(from)?, 1)?.into_iter().next().ok_or("no special day")?)
}

#[test]
fn special_days_say_what_the_operator_said() -> Outcome {
    let calendars = with(&[
        "XNSE closed 2026-12-03 # water in the data centre",
        "XNSE.derivatives open 2026-12-06 11:45-12:40 #   drill   ",
        "CMES halted 2026-11-30 18:00-19:00 # gateway",
    ])?;
    let check = |market: &str, from: &str, date: &str, note: &str, spans: &[(&str, &str, &str)]| -> Outcome {
        let day = listed(&calendars, market, from)?;
        assert_eq!((day.date.as_str(), day.note, day.known_since), (date, note, None), "{market}");
        assert_eq!(day.source, "an override in the settings");
        let found: Vec<_> = day.spans.iter().map(|span| (span.phase.label(), span.since, span.until)).collect();
        let wanted = spans.iter().map(|(phase, from, to)| Ok((*phase, instant(from)?, instant(to)?)));
        assert_eq!(found, wanted.collect::<Result<Vec<_>, Box<dyn Error>>>()?, "{market}");
        Ok(())
    };
    check("NSE", "2026-12-01T00:00+05:30", "2026-12-03", "water in the data centre", &[])?;
    check("NFO", "2026-12-01T00:00+05:30", "2026-12-03", "water in the data centre", &[])?;
    check(
        "NFO",
        "2026-12-04T00:00+05:30",
        "2026-12-06",
        "drill",
        &[("open", "2026-12-06T11:45+05:30", "2026-12-06T12:40+05:30")],
    )?;
    // The evening of Monday is Tuesday's session.
    check(
        "CMES.fx",
        "2026-11-29T00:00-06:00",
        "2026-12-01",
        "gateway",
        &[
            ("open", "2026-11-30T17:00-06:00", "2026-11-30T18:00-06:00"),
            ("halted", "2026-11-30T18:00-06:00", "2026-11-30T19:00-06:00"),
            ("open", "2026-11-30T19:00-06:00", "2026-12-01T16:00-06:00"),
        ],
    )
}

/// Whoever keeps answers must see that they may be others now.
#[test]
fn the_version_says_which_lines_there_are() -> Outcome {
    let plain = Calendars::embedded()?;
    let version = |lines: &[&str]| -> Result<String, Box<dyn Error>> { Ok(with(lines)?.data_version().to_owned()) };
    assert_eq!(version(&[])?, plain.data_version());
    let (one, two) = ("XNSE closed 2026-12-03", "XBOM closed 2026-12-03");
    let versions = [version(&[])?, version(&[one])?, version(&[two])?, version(&[one, two])?, version(&[two, one])?];
    for (index, version) in versions.iter().enumerate() {
        assert!(version.starts_with(plain.data_version()) && version.len() <= 64, "{version}");
        assert!(!versions.iter().skip(index + 1).any(|other| other == version), "{version} twice");
    }
    assert_eq!(version(&[one, two])?, version(&[one, two])?);
    let first = with(&[one])?.without_overlay();
    let last = Calendars::embedded()?.without_overlay();
    assert_ne!(first.data_version(), last.data_version());
    Ok(())
}

const FORM: &str = "write MARKET open|closed|halted DATE [HH:MM-HH:MM] [# why]";
const DATES: &str = "a date is written 2026-12-03, several days 2026-12-03..2026-12-05";
const HOURS: &str = "hours are written 11:45-12:40, up to 24:00, the earlier one first";

#[test]
fn what_is_not_a_line_is_refused_with_what_to_do() -> Outcome {
    let long = format!("XNSE closed 2026-12-03 # {}", "x".repeat(257));
    let rows = [
        ("", FORM),
        ("# nothing", FORM),
        ("XNSE closed", FORM),
        ("XNSE shut 2026-12-03", FORM),
        ("XNSE closed 2026-12-03 09:00-10:00 why", FORM),
        ("XXXX closed 2026-12-03", "there is no market of this name"),
        ("xnse closed 2026-12-03", "there is no market of this name"),
        ("XNSE closed 2026-02-29", DATES),
        ("XNSE closed 03.12.2026", DATES),
        ("XNSE closed 2026-12-03..", DATES),
        ("XNSE closed 2026-12-03...2026-12-05", DATES),
        ("XNSE closed 2026-12-05..2026-12-03", "the last day is before the first"),
        ("XNSE halted 2026-12-03", "only `open` and `closed` are for a whole day; say the hours, HH:MM-HH:MM"),
        ("XNSE open 2026-12-03 12:40-11:45", HOURS),
        ("XNSE open 2026-12-03 11:45-11:45", HOURS),
        ("XNSE open 2026-12-03 11:45", HOURS),
        ("XNSE open 2026-12-03 9:00-10:00", HOURS),
        ("XNSE open 2026-12-03 +9:00-10:00", HOURS),
        ("XNSE open 2026-12-03 09:60-10:00", HOURS),
        ("XNSE open 2026-12-03 23:00-24:01", HOURS),
        ("XNSE closed 2027-01-01", "the market's calendar does not cover that"),
        ("XNSE closed 2026-12-31..2027-01-01", "the market's calendar does not cover that"),
        ("XNSE closed 1999-12-31", "the market's calendar does not cover that"),
        ("XNSE.derivatives closed 2009-12-31", "the market's calendar does not cover that"),
        ("XNSE open 2026-12-06", "there are no usual hours on that weekday; say the hours, HH:MM-HH:MM"),
        ("XNSE open 2026-12-04..2026-12-07", "there are no usual hours on that weekday; say the hours, HH:MM-HH:MM"),
        ("XNYS closed 2026-01-01..2027-01-02", "a line is of at most 366 days"),
        ("XNYS halted 2026-01-01..2026-02-01 10:00-11:00", "a line is of at most 31 days"),
        (long.as_str(), "what stands behind # has at most 256 bytes"),
    ];
    for (line, reason) in rows {
        let refused = Calendars::embedded()?.with_overrides(&["XBOM closed 2026-12-03", line]).err();
        let message = refused.ok_or_else(|| format!("{line:?} was taken"))?.to_string();
        assert!(
            message.starts_with("override \"") && message.contains(&format!("\": {reason}")),
            "{line:?}: {message}"
        );
        // The line is named: as it was written, or by its market and its first day.
        let words: Vec<&str> = line.split_whitespace().take(1).collect();
        assert!(words.iter().all(|word| message.contains(word)), "{line:?}: {message}");
    }
    Ok(())
}

#[test]
fn the_most_that_is_taken_is_taken() -> Outcome {
    let calendars = with(&[
        "XNYS closed 2026-01-01..2027-01-01",
        "XNAS halted 2026-01-01..2026-01-31 10:00-11:00",
        &format!("XLON closed 2026-12-03 # {}", "x".repeat(256)),
        "  XTKS   open  2026-12-06   00:00-24:00  ",
    ])?;
    assert_eq!(calendars.session_at("XNYS", instant("2026-12-31T12:00-05:00")?, None)?.phase.label(), "closed");
    assert_eq!(calendars.session_at("XTKS", instant("2026-12-06T00:00+09:00")?, None)?.phase.label(), "open");
    let line = "XNYS closed 2026-12-01";
    assert!(Calendars::embedded()?.with_overrides(&vec![line; 256]).is_ok());
    let refused = Calendars::embedded()?.with_overrides(&vec![line; 257]).err().ok_or("257 lines were taken")?;
    assert_eq!(refused.to_string(), "override \"XNYS … 2026-12-01\": there are at most 256 overrides");
    Ok(())
}
