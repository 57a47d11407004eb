//! `bellwether market` end to end: weeks as people see them, the table, the live table on a terminal, JSON, and how far
//! calendars reach.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::policies::put;
use crate::harness::process::Process;
use crate::harness::{folder, run};

const MONDAY: &str = "2026-11-23T10:00:00+05:30";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs without policies of its own: what was printed, of a success.
fn printed(args: &[&str]) -> String {
    let nowhere = folder(&[]);
    let output = run(args, nowhere.path());
    assert!(output.status.success(), "{args:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn json(args: &[&str]) -> Value {
    let printed = printed(args);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}\n{printed}"))
}

/// The week of a market, as `tests/market/NAME.txt` has it. With `UPDATE_EXPECT` set, the file is written instead.
fn check_week(name: &str, market: &str, at: &str) {
    let shown = printed(&["market", market, "--at", at]);
    let begin = shown.find("  this week").unwrap_or_else(|| panic!("no week in\n{shown}"));
    let week = shown[begin..].split("\n\n").next().unwrap();
    let got = format!("bellwether market {market} --at {at}\n\n{week}\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/market").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &got).unwrap();
    }
    let expect = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(got, expect, "{}\n{got}\nUPDATE_EXPECT=1 takes it as it is", file.display());
}

#[test]
fn weeks() {
    check_week("holiday", "XNSE", MONDAY);
    check_week("lunch", "XTKS", "2026-11-26T11:45:00+09:00");
    check_week("lunch_and_pre_open", "XHKG", "2026-11-27T17:30:00+08:00");
    check_week("overnight", "CMES", "2026-11-26T03:00:00-06:00");
    check_week("early_close", "XNYS", "2026-11-27T04:00:00-05:00");
    check_week("always", "24/7", "2026-11-29T23:59:59Z");
}

/// What is said of a market above its week holds together with its JSON.
#[test]
fn one_market() {
    let shown = printed(&["market", "XNSE", "--at", MONDAY]);
    let json = json(&["market", "XNSE", "--at", MONDAY, "--json"]);
    let days = json["days_to_horizon"].as_i64().unwrap();
    let at: jiff::Timestamp = MONDAY.parse().unwrap();
    let horizon: jiff::Timestamp = json["horizon"].as_str().unwrap().parse().unwrap();
    assert_eq!(days, (horizon.as_millisecond() - at.as_millisecond()).div_euclid(86_400_000), "{json:#}");
    let end = horizon.to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").unwrap()).date();
    let data =
        format!("  data               version {}, until {end} ({days} days), ", json["data_version"].as_str().unwrap());
    for line in [
        "XNSE National Stock Exchange of India, Mumbai, Mon 2026-11-23 10:00:00 +05:30",
        "  phase              open",
        "  since              Mon 2026-11-23 09:15:00 +05:30",
        "  next regular open  Wed 2026-11-25 09:15:00 +05:30",
        "  next special days",
        &data,
    ] {
        assert!(shown.lines().any(|known| known.starts_with(line)), "no {line:?} in\n{shown}");
    }
    assert!(json["projected_from"].as_str().unwrap() <= json["horizon"].as_str().unwrap(), "{json:#}");
    let week = json["week"].as_array().unwrap();
    let dates: Vec<_> = week.iter().map(|day| day["date"].as_str().unwrap()).collect();
    assert_eq!((dates.len(), dates[0], dates[6]), (7, "2026-11-23", "2026-11-29"), "{json:#}");
    let open = serde_json::json!({ "phase": "open", "since": "2026-11-23T03:45:00Z" });
    let spans = week[0]["spans"].as_array().unwrap();
    assert!(spans.iter().any(|span| span["phase"] == open["phase"] && span["since"] == open["since"]), "{json:#}");
    assert_eq!((&week[1]["spans"], &week[1]["known"]), (&serde_json::json!([]), &Value::Bool(true)), "{json:#}");
    // What is said of special days is the same in both.
    let special = json["special_days"].as_array().unwrap();
    assert_eq!(special.is_empty(), shown.contains("(none known)"), "{shown}{json:#}");
    for day in special {
        let line = shown.lines().find(|line| line.contains(day["date"].as_str().unwrap()) && line.contains('['));
        let line = line.unwrap_or_else(|| panic!("no {day:#} in\n{shown}"));
        assert!(line.contains(day["source"].as_str().unwrap()), "{line}");
    }
}

/// A day past the data is told as such, and a week that reaches past it.
#[test]
fn the_end_of_the_data() {
    let horizon = json(&["market", "XNSE", "--at", MONDAY, "--json"])["horizon"].as_str().unwrap().to_owned();
    let end: jiff::Timestamp = horizon.parse().unwrap();
    let before = end.checked_sub(jiff::SignedDuration::from_hours(1)).unwrap().to_string();
    let last = json(&["market", "XNSE", "--at", &before, "--json"]);
    assert_eq!(last["days_to_horizon"], 0, "{last:#}");
    let known: Vec<_> = last["week"].as_array().unwrap().iter().map(|day| day["known"].as_bool().unwrap()).collect();
    let day = end.to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").unwrap()).date();
    let first_unknown = day.weekday().to_monday_zero_offset();
    let expect: Vec<_> = (0..7).map(|of| first_unknown == 0 || of < first_unknown).collect();
    assert_eq!(known, expect, "{last:#}");
    let nowhere = folder(&[]);
    let past = run(&["market", "XNSE", "--at", &horizon], nowhere.path());
    assert_eq!(past.status.code(), Some(1));
    assert!(text(&past.stderr).contains("beyond the calendar's data"), "{}", text(&past.stderr));
}

#[test]
fn all_markets() {
    let list = printed(&["market", "--at", MONDAY]);
    let begins = |line: &str| assert!(list.lines().any(|known| known.starts_with(line)), "no {line:?} in\n{list}");
    begins("market                phase            next change");
    begins("XLON                  closed           pre-open        Mon 2026-11-23 07:50 +00:00  in 3 h 20 min");
    begins("24/7                  open             (none in the data)");
    let column = list.lines().next().unwrap().find("title").unwrap();
    for known in ["XNSE", "XBOM", "XNYS", "XNAS", "XLON", "XTKS", "XHKG", "XSHG", "XETR", "24/7"] {
        let line = list.lines().find(|line| line.split(' ').next() == Some(known));
        let apart = line.is_some_and(|line| line.get(column - 1..column) == Some(" ") && line.len() > column);
        assert!(apart, "{known}: {line:?}");
    }
    let json = json(&["market", "--at", MONDAY, "--json"]);
    assert_eq!(json.as_array().unwrap().len() + 1, list.lines().count());
    for market in json.as_array().unwrap() {
        assert!(market["days_to_horizon"].is_i64() && market["projected_from"].is_string(), "{market:#}");
    }
}

/// `market --watch` on a terminal, until a text has been drawn so often.
fn watch(text: &str, times: usize, flags: &[&str], variables: &[(&str, &str)], folder: &Path) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/market/watch.py");
    let mut command = Command::new("python3");
    command.arg(script).args([text, &times.to_string(), env!("CARGO_BIN_EXE_bellwether"), "market", "--watch"]);
    command.args(flags).env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(variables.iter().copied()).current_dir(folder);
    command
}

#[test]
fn the_live_table() {
    let nowhere = folder(&[]);
    let drawn = "\\x1b[H";
    let output = watch(drawn, 3, &["--at", MONDAY], &[("NO_COLOR", "1")], nowhere.path()).output().unwrap();
    let shown = text(&output.stdout);
    let pages: Vec<_> = shown.split("\x1b[H").collect();
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    // The terminal is left as it was found.
    assert_eq!(pages[0], "\x1b[?1049h\x1b[?25l\x1b[?7l", "{shown}");
    assert!(shown.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{shown:?}");
    assert!(pages.len() > 3, "{shown}");
    let page: Vec<_> =
        pages[1].split("\r\n").map(|line| line.trim_end_matches("\x1b[J").trim_end_matches("\x1b[K")).collect();
    assert_eq!(page.len(), 30, "{page:#?}");
    assert!(page[0].contains("markets trade at 2026-11-23T04:30:0") && page[29].starts_with("… and "), "{page:#?}");
    // Those that trade come first, and what changes soonest of them.
    let phases: Vec<_> = page[2..29].iter().map(|line| line[22..39].trim()).collect();
    assert_eq!(phases[0], "open", "{page:#?}");
    let open = phases.iter().position(|phase| *phase != "open").unwrap();
    assert!(phases[open..].iter().all(|phase| *phase != "open"), "{page:#?}");
    // The clock goes on.
    assert_ne!(pages[1].lines().next(), pages[3].lines().next(), "{shown}");
    assert!(!shown.contains("\x1b[32m"), "{shown:?}");
    let coloured = watch(drawn, 1, &["--at", MONDAY], &[("NO_COLOR", "")], nowhere.path()).output().unwrap();
    assert!(text(&coloured.stdout).contains("\x1b[32mopen "), "{:?}", text(&coloured.stdout));
}

#[test]
fn the_live_table_takes_up_policies() {
    let policies = folder(&[]);
    let flags = ["--policy-poll-ms", "20", "--policy-folder", policies.path().to_str().unwrap()];
    let mut process = Process::start(&mut watch("generation 3", 1, &flags, &[], policies.path()));
    let drawn = |text: &'static str| move |line: &str| line.contains(text).then_some(());
    process.wait_for("first page", drawn("generation 1"));
    put(policies.path(), "ttl.toml", b"[settings]\nno_such = 1");
    process.wait_for("refusal", drawn("the policy folder was refused: "));
    put(policies.path(), "ttl.toml", b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = 5000");
    // The one that was refused had a number of its own.
    process.wait_for("new policies", drawn("generation 3"));
    assert_eq!(process.wait().code(), Some(0), "{}", process.lines().join("\n"));
}

#[test]
fn the_live_table_takes_a_terminal_and_no_market() {
    let nowhere = folder(&[]);
    let check = |args: &[&str], code: i32, expect: &str| {
        let output = run(args, nowhere.path());
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{args:?}\n{told}");
        assert!(told.contains(expect), "{args:?}\n{told}");
    };
    check(&["market", "--watch"], 1, "--watch draws on a terminal, and the output is none");
    check(&["market", "XNSE", "--watch"], 64, "'[MARKET]' cannot be used with '--watch'");
    check(&["market", "--watch", "--json"], 64, "'--watch' cannot be used with '--json'");
}

/// A reader that goes away, as `head` does, is no failure.
#[test]
fn output_that_nobody_reads() {
    let nowhere = folder(&[]);
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(args).current_dir(nowhere.path()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args:?}");
    };
    check(&["market"]);
    check(&["market", "--json"]);
    check(&["market", "XNSE", "--at", MONDAY]);
    check(&["config"]);
    check(&["explain", "SET", "fyntrix:general:x", "{}"]);
}

/// An operator's lines and an operator's data, in the settings of the policy: they win, they are seen, and what is
/// wrong with them is said.
#[test]
fn settings() {
    let check = |settings: &str, args: &[&str], code: i32, expect: &[&str]| {
        let policies = folder(&[("market-hours.toml", format!("[settings]\n{settings}\n").as_bytes())]);
        let all = [args, &["--policy-folder", policies.path().to_str().unwrap()]].concat();
        let output = run(&all, policies.path());
        let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{settings:.80} {args:?}\n{shown}");
        expect.iter().for_each(|expect| assert!(shown.contains(expect), "no {expect:?} in\n{settings:.80}\n{shown}"));
    };
    let at = |at| ["market", "XNSE", "--at", at];
    let closed = r#"overrides = ["XNSE closed 2026-12-03 # flood", "NSE open 2026-12-06 11:45-12:40"]"#;
    let day = ["phase              closed", "next open          Fri 2026-12-04 09:15:00 +05:30", "(flood)"];
    check(closed, &at("2026-12-03T10:00:00+05:30"), 0, &day);
    check(closed, &at("2026-12-06T12:00:00+05:30"), 0, &["phase              open", "open 11:45–12:40"]);
    check(closed, &at("2026-12-03T10:00:00+05:30"), 0, &["[an override in the settings]", "version 2026-"]);
    check(
        r#"overrides = ["XNSE shut 2026-12-03"]"#,
        &["check"],
        1,
        &["override \"XNSE shut 2026-12-03\": write MARKET"],
    );
    check(r#"override = []"#, &["check"], 1, &[r#"unknown setting "override": did you mean "overrides"?"#]);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/calendar/data/calendars.bin");
    let mut data = std::fs::read(file).unwrap();
    let open = ["phase              open", "until              Mon 2026-11-23 15:15:00 +05:30"];
    check(&format!("data = \"\"\"\n{}\"\"\"", base64(&data)), &at(MONDAY), 0, &open);
    let middle = data.len() / 2;
    data[middle] ^= 1;
    check(&format!("data = \"{}\"", base64(&data)), &["check"], 1, &["\"data\" is refused: calendar data is damaged"]);
    check("data = \"what?\"", &["check"], 1, &["\"data\" takes bytes, written in base64"]);
}

fn base64(bytes: &[u8]) -> String {
    let digit =
        |digit: u32| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[digit as usize]);
    let group = |group: &[u8]| {
        let bits = group.iter().chain([0; 3].iter()).take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let digits: String = (0..4).map(|place| digit(bits >> (18 - 6 * place) & 63)).collect();
        format!("{:=<4}", &digits[..=group.len()])
    };
    bytes.chunks(3).map(group).collect()
}
