//! The market calendars against their reference, exchange_calendars, asked through the compiled component in the host:
//! every trading interval, every boundary a minute before and after, and the reference's own frozen answers.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bellwether::clock::Clock;
use bellwether::config::{Config, Texts};
use bellwether::policy::standard::STANDARD;
use bellwether::policy::{Decider, Market, MarketError, MarketSession, Mount, Phase, PolicySet};
use bellwether::reload::{Folder, Reloader};

/// The settings with which the component answers with the reference alone.
const SETTINGS: &str = r#"{"overlay": false}"#;
/// What the reference says of 2000 to 2027.
static REFERENCE: &str = include_str!("calendars.txt");
/// The reference's own tests, which `tests/run` fetches.
const FROZEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/exchange_calendars-4.13.2/tests/resources");
/// Rows of the frozen answers that are wrong. The reference gives the last session that it is asked for in Seoul a late
/// open, and the answers were frozen with this one as the last.
const WRONG: [&str; 1] = ["XKRX 2026-12-30"];

const MINUTE_MS: i64 = 60_000;
/// The most that one call may be asked for.
const TRANSITIONS: u32 = 1000;
/// Differences that a failure shows.
const SHOWN_MAX: usize = 20;

/// A line of `calendars.txt`.
struct Row {
    name: &'static str,
    first: &'static str,
    last: &'static str,
    count: usize,
    digest: &'static str,
}

/// The trading time of one market, as its component says it. Minutes since 1970, adjacent sessions merged.
struct Trading {
    market: Market,
    intervals: Vec<[i64; 2]>,
}

/// A frozen answer: one session's trading time, in minutes since 1970.
struct Frozen {
    date: String,
    intervals: Vec<[i64; 2]>,
}

// === impl Row ===

impl Row {
    fn all() -> Vec<Self> {
        let row = |line: &'static str| {
            let [name, first, last, count, digest] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            Self { name, first, last, count: count.parse().unwrap(), digest }
        };
        REFERENCE.lines().filter(|line| !line.starts_with('#')).map(row).collect()
    }

    /// The minute at which the last day has ended. In no calendar does another session begin between then and the
    /// local midnight.
    fn end(&self) -> i64 {
        minute(&format!("{}T00:00:00Z", self.last)) + 24 * 60
    }
}

// === impl Trading ===

impl Trading {
    /// Walks through all transitions of a market.
    fn of(decider: &mut Decider, name: &str) -> Self {
        let market = decider.markets().unwrap().into_iter().find(|market| market.name == name).unwrap();
        let mut at = market.covered_from;
        let mut since = is_trading(&decider.session(name, at).unwrap().unwrap()).then_some(at);
        let mut intervals = Vec::new();
        loop {
            let changes = decider.transitions(name, at, TRANSITIONS).unwrap().unwrap();
            for change in &changes {
                assert!(change.at > at && change.at % MINUTE_MS == 0, "{name}: {change:?} after {at}");
                at = change.at;
                match (since, trades(change.phase)) {
                    (None, true) => since = Some(at),
                    (Some(start), false) => {
                        intervals.push([start / MINUTE_MS, at / MINUTE_MS]);
                        since = None;
                    }
                    _ => {}
                }
            }
            if changes.len() < TRANSITIONS as usize {
                break;
            }
        }
        intervals.extend(since.map(|start| [start / MINUTE_MS, market.horizon / MINUTE_MS]));
        Self { market, intervals }
    }

    /// What is traded between two minutes.
    fn between(&self, from: i64, to: i64) -> Vec<[i64; 2]> {
        let first = self.intervals.partition_point(|[_, end]| *end <= from);
        let within = self.intervals.iter().skip(first).take_while(|[start, _]| *start < to && from < to);
        within.map(|[start, end]| [*start.max(&from), *end.min(&to)]).collect()
    }

    /// The minutes around the bounds of every interval that begins before `end`, and whether they trade.
    fn around_bounds(&self, end: i64) -> impl Iterator<Item = (i64, bool)> {
        let next = self.intervals.iter().skip(1).map(|[start, _]| *start).chain([i64::MAX]);
        let begun = self.intervals.iter().zip(next).take_while(move |([start, _], _)| *start < end);
        begun.flat_map(|([start, end], next)| {
            let opening = [(start - 1, false), (*start, true), (start + 1, start + 1 < *end)];
            let closing = [(end - 1, true), (*end, false), (end + 1, next <= end + 1)];
            opening.into_iter().chain(closing)
        })
    }

    /// Asks for one minute: what is wrong with the answer, if anything is.
    fn differs(&self, decider: &mut Decider, minute: i64, expect: bool) -> Option<String> {
        let Market { name, covered_from, horizon, .. } = &self.market;
        let at = minute * MINUTE_MS;
        let answer = decider.session(name, at).unwrap();
        let right = match &answer {
            Ok(session) => is_trading(session) == expect,
            Err(MarketError::BeyondHorizon(bound)) if at < *covered_from => bound == covered_from,
            Err(MarketError::BeyondHorizon(bound)) if at >= *horizon => bound == horizon,
            Err(_) => false,
        };
        (!right).then(|| format!("{name} at {at}: {answer:?}, trading is {expect}"))
    }
}

// === impl Frozen ===

impl Frozen {
    /// The sessions of a calendar, in order. Lines are `session,open,close,break_start,break_end`.
    fn read(calendar: &str) -> Vec<Self> {
        let path = Path::new(FROZEN).join(format!("{}.csv", calendar.replace('/', "-").to_lowercase()));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let session = |line: &str| {
            let [session, open, close, break_start, break_end] =
                line.split(',').collect::<Vec<_>>().try_into().unwrap();
            let [open, close] = [minute(open), minute(close)];
            let intervals = match break_start {
                "" => vec![[open, close]],
                start => vec![[open, minute(start)], [minute(break_end), close]],
            };
            Self { date: session.split('T').next().unwrap().to_owned(), intervals }
        };
        text.lines().skip(1).map(session).collect()
    }

    /// Whether nothing is traded from `before` to this session's end but what it says. Sessions that follow each other
    /// without a pause are one interval of the market and two of these.
    fn is_answered(&self, market: &Trading, before: i64) -> bool {
        let end = self.end();
        let open = self.intervals[0][0];
        market.between(before, open).is_empty() && market.between(open, end) == self.intervals
    }

    fn end(&self) -> i64 {
        self.intervals.last().unwrap()[1]
    }
}

fn trades(phase: Phase) -> bool {
    matches!(phase, Phase::Open | Phase::ClosingAuction)
}

fn is_trading(session: &MarketSession) -> bool {
    trades(session.phase)
}

/// Minutes since 1970.
fn minute(text: &str) -> i64 {
    let at: jiff::Timestamp = text.parse().unwrap();
    assert_eq!(at.as_second() % 60, 0, "{text}");
    at.as_second() / 60
}

/// FNV-1a of 64 bits over the bounds in minutes since 1970, each as eight bytes, the lowest first.
fn digest(intervals: &[[i64; 2]]) -> String {
    let bytes = intervals.iter().flatten().flat_map(|bound| bound.to_le_bytes());
    let step = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// The standard market-hours component, alone in its set.
fn component(settings: &str) -> Arc<PolicySet> {
    let standard = STANDARD.iter().find(|standard| standard.name == "market-hours").unwrap();
    let mount = Mount { settings: settings.to_owned(), ..Mount::standard(standard) };
    let config = Config::from_texts(&Texts::defaults()).unwrap();
    let reloader = Reloader::new(&config, Folder::new(None, "warn"), Clock::new(|| 0, 0)).unwrap();
    Arc::new(PolicySet::load(reloader.engine(), 1, &[mount], None).unwrap())
}

/// Asks every calendar on two threads: the numbers added up, and all that differs.
fn check(ask: impl Fn(&mut Decider, &Row) -> ([usize; 2], Vec<String>) + Sync) -> ([usize; 2], Vec<String>) {
    let set = component(SETTINGS);
    let rows = Mutex::new(VecDeque::from(Row::all()));
    let work = || {
        let mut decider = Decider::new(Arc::clone(&set));
        let (mut sums, mut differing) = ([0; 2], Vec::new());
        loop {
            // The lock is let go before the asking.
            let Some(row) = rows.lock().unwrap().pop_front() else { return (sums, differing) };
            let (numbers, more) = ask(&mut decider, &row);
            sums = [sums[0] + numbers[0], sums[1] + numbers[1]];
            differing.extend(more);
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let [(sums, mut differing), (more_sums, more)] = threads.map(|thread| thread.join().unwrap());
        differing.extend(more);
        ([sums[0] + more_sums[0], sums[1] + more_sums[1]], differing)
    })
}

/// One calendar: its intervals and the answers that were checked, and what differs.
fn check_intervals(decider: &mut Decider, row: &Row) -> ([usize; 2], Vec<String>) {
    let market = Trading::of(decider, row.name);
    let intervals = market.between(i64::MIN, row.end());
    let mut differing = Vec::new();
    let found = (intervals.len(), digest(&intervals));
    if found != (row.count, row.digest.to_owned()) {
        differing.push(format!("{}: {found:?}, the reference has {} and {}", row.name, row.count, row.digest));
    }
    let mut answers = 0;
    for (minute, expect) in market.around_bounds(row.end()) {
        answers += 1;
        differing.extend(market.differs(decider, minute, expect));
    }
    ([intervals.len(), answers], differing)
}

/// One calendar: one, and the frozen rows that were compared; those that differ.
fn check_frozen(decider: &mut Decider, row: &Row) -> ([usize; 2], Vec<String>) {
    // Its file is not in the release.
    if row.name == "us_futures" {
        return ([0, 0], Vec::new());
    }
    let market = Trading::of(decider, row.name);
    let (mut compared, mut differing) = (0, Vec::new());
    let sessions = Frozen::read(row.name);
    // What was before the first answer is not told.
    let mut before = sessions[0].intervals[0][0];
    for session in sessions {
        if (row.first..=row.last).contains(&session.date.as_str()) {
            compared += 1;
            if !session.is_answered(&market, before) {
                differing.push(format!("{} {}", row.name, session.date));
            }
        }
        before = session.end();
    }
    ([1, compared], differing)
}

#[test]
fn every_interval_and_every_boundary_is_the_references() {
    assert_eq!(Row::all().len(), 71);
    let ([intervals, answers], differing) = check(check_intervals);
    let shown = &differing[..differing.len().min(SHOWN_MAX)];
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), shown.join("\n"));
    assert_eq!(intervals, 484_577);
    assert_eq!(answers, 6 * intervals);
}

#[test]
fn the_references_frozen_answers_are_given() {
    assert!(Path::new(FROZEN).is_dir(), "the frozen answers are not there; run tests/run, which fetches them");
    let ([calendars, compared], differing) = check(check_frozen);
    let shown = &differing[..differing.len().min(SHOWN_MAX)];
    assert_eq!(shown, WRONG, "the first of {} rows that differ", differing.len());
    assert_eq!(calendars, 70);
    assert_eq!(compared, 330_908);
}

/// With the budget that a decision has, on an instance that has to lay out what it is asked for.
#[test]
fn no_question_costs_more_than_a_decision_may() {
    let set = component("{}");
    let markets = Decider::new(Arc::clone(&set)).markets().unwrap();
    assert!(markets.len() > 80, "{} markets", markets.len());
    let now = minute("2026-11-23T04:30:00Z") * MINUTE_MS;
    let mut dear = Vec::new();
    for Market { name, covered_from, horizon, .. } in &markets {
        for at in [*covered_from, now, horizon - 1] {
            let fresh = || Decider::new(Arc::clone(&set));
            let answers = [
                fresh().session(name, at).map(|session| session.is_ok_and(|session| session.until > at)),
                fresh().transitions(name, at, TRANSITIONS).map(|list| list.is_ok()),
                fresh().special_days(name, at, 100).map(|list| list.is_ok()),
            ];
            let failed = answers.iter().position(|answer| !answer.as_ref().is_ok_and(|answered| *answered));
            dear.extend(failed.map(|question| format!("{name} at {at}, question {question}")));
        }
    }
    assert_eq!(dear, Vec::<String>::new());
}
