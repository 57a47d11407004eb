//! `bench [--rounds N] [--calls N] [--json]`: how long an answer takes, from the plain crate, through the component in
//! the host, and from `exchange-hours`; how long loading takes; how much memory the tables take.
//!
//! Every round measures each way once, in turn, so that a machine whose speed drifts is unfair to none. Instants are
//! random milliseconds of 2024 to 2026, the same for all; where `exchange-hours` refuses to answer, it is not measured.
//! The host's memory of answers is left out, its change to a fresh instance after so many calls is not. A KB is 1000
//! bytes.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bellwether::clock::Clock;
use bellwether::config::{Config, Texts};
use bellwether::policy::standard::{STANDARD, Standard};
use bellwether::policy::{Decider, Mount, PolicySet};
use bellwether::reload::{Folder, Reloader};
use bellwether_calendar::{CalendarData, Calendars};
use chrono::{DateTime, Utc};
use exchange_hours::{ExchangeCalendar, calendar_for_exchange};
use market_peers::exchange;
use serde_json::json;

type Failure = Box<dyn Error>;

/// One line of the table.
struct Figure {
    what: &'static str,
    /// The market or markets, or what is loaded.
    of: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    rounds: Vec<f64>,
}

/// The lines, in the order in which they were first measured.
#[derive(Default)]
struct Figures(Vec<Figure>);

/// What is asked in one round.
struct Questions {
    of: &'static str,
    asked: Vec<(&'static str, i64)>,
}

/// What the program was told.
struct Arguments {
    rounds: usize,
    calls: usize,
    json: bool,
}

static DATA: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/calendar/data/calendars.bin"));

const NATIVE: &str = "session_at, native";
const COMPONENT: &str = "session-at, component";
const NATIVE_NS_MAX: f64 = 100.0;
const COMPONENT_NS_MAX: f64 = 500.0;
const COMPONENT_KB_MAX: f64 = 140.0;
const LOAD_MS_MAX: f64 = 20.0;
const USAGE: &str = "usage: bench [--rounds N] [--calls N] [--json]";

/// 2024-01-01 and 2027-01-01 in UTC, away from the ends: the last instant is one of every market's.
const FIRST: i64 = 1_704_067_200_000;
const LAST: i64 = 1_798_675_200_000;
const MINUTE_MS: i64 = 60_000;
const YEAR_MS: usize = 365 * 24 * 60 * MINUTE_MS as usize;
/// 2026-11-23T10:00:00Z.
const NOW: i64 = 1_795_428_000_000;
const MIXED: [&str; 8] = ["XNYS", "XBOM", "XTKS", "XLON", "XHKG", "XETR", "XASX", "BVMF"];
/// Answers of `exchange-hours` are slow enough for fewer of them.
const PEER_SHARE: usize = 10;

// === impl Figures ===

impl Figures {
    fn add(&mut self, what: &'static str, of: &'static str, unit: &'static str, goal: Option<f64>, value: f64) {
        match self.0.iter_mut().find(|figure| figure.what == what && figure.of == of) {
            Some(figure) => figure.rounds.push(value),
            None => self.0.push(Figure { what, of, unit, goal, rounds: vec![value] }),
        }
    }

    fn print(&self, json: bool, out: &mut impl Write) -> std::io::Result<()> {
        for Figure { what, of, unit, goal, rounds } in &self.0 {
            let mut sorted = rounds.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
            let (low, median, high) = (at(0), at(sorted.len() / 2), at(sorted.len() - 1));
            if json {
                let line = json!({
                    "what": what, "of": of, "unit": unit, "goal": goal,
                    "median": median, "low": low, "high": high, "rounds": rounds.len(),
                });
                writeln!(out, "{line}")?;
                continue;
            }
            let goal = goal.map_or(String::new(), |goal| {
                format!("at most {goal} {unit}: {}", if median <= goal { "met" } else { "MISSED" })
            });
            let spread = format!("{low:.1} to {high:.1}");
            writeln!(out, "{what:<44}{of:<22}{median:>10.1} {unit:<4}{spread:<20}{goal}")?;
        }
        Ok(())
    }
}

// === impl Questions ===

impl Questions {
    fn random(of: &'static str, markets: &[&'static str], calls: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        // Xorshift: what matters is that neither the processor nor a memory can guess the next one.
        let mut next = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let span = (LAST - FIRST).unsigned_abs();
        let one = |_| {
            let market = markets.get(next(markets.len() as u64) as usize).copied().unwrap_or_default();
            (market, FIRST + next(span) as i64)
        };
        Questions { of, asked: (0..calls).map(one).collect() }
    }

    /// One minute after another.
    fn sequential(of: &'static str, market: &'static str, calls: usize) -> Self {
        Questions { of, asked: (0..calls).map(|index| (market, FIRST + index as i64 * MINUTE_MS)).collect() }
    }
}

fn main() -> ExitCode {
    match run(&mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut impl Write) -> Result<(), Failure> {
    let arguments = arguments()?;
    let calls = arguments.calls;
    let mut figures = Figures::default();
    // Memory first: what was freed before would hide what is taken.
    let calendars = measure_native_memory(&mut figures)?;
    let set = load(&mut figures)?;
    let mut decider = Decider::new(Arc::clone(&set));
    measure_component_memory(&mut decider, &mut figures)?;
    let questions = [
        Questions::random("XNYS", &["XNYS"], calls),
        Questions::random("XBOM", &["XBOM"], calls),
        Questions::random("XTKS", &["XTKS"], calls),
        Questions::random("XNSE", &["XNSE"], calls),
        Questions::random("8 markets", &MIXED, calls),
        Questions::sequential("XNYS, in order", "XNYS", calls),
    ];
    for round in 0..=arguments.rounds {
        // The first round warms everything up and is not counted.
        let mut warming = Figures::default();
        let counted = if round == 0 { &mut warming } else { &mut figures };
        for questions in &questions {
            measure_answers(questions, &calendars, &mut decider, counted)?;
        }
        if round > 0 {
            load(&mut figures)?;
        }
    }
    figures.print(arguments.json, out)?;
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments { rounds: 7, calls: 100_000, json: false };
    let mut texts = std::env::args().skip(1);
    while let Some(text) = texts.next() {
        let mut number = || texts.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0).ok_or(USAGE);
        match text.as_str() {
            "--rounds" => arguments.rounds = number()?,
            "--calls" => arguments.calls = number()?,
            "--json" => arguments.json = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(arguments)
}

fn measure_answers(
    questions: &Questions,
    calendars: &Calendars<'_>,
    decider: &mut Decider,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let Questions { of, asked } = questions;
    let native = nanoseconds(asked, |(market, at)| calendars.session_at(*market, *at, None).is_ok());
    figures.add(NATIVE, of, "ns", Some(NATIVE_NS_MAX), native?);
    let component = nanoseconds(asked, |(market, at)| decider.session(market, *at).is_ok_and(|answer| answer.is_ok()));
    figures.add(COMPONENT, of, "ns", Some(COMPONENT_NS_MAX), component?);
    let peer = |(market, at): &(&str, i64)| {
        let calendar = calendar_for_exchange(exchange(market)?);
        let at = DateTime::from_timestamp_millis(*at)?;
        let answers = calendar.is_open_regular(at).is_ok() && calendar.next_session_open_after(at).is_ok();
        answers.then_some((calendar, at))
    };
    if *of == "8 markets" {
        return Ok(());
    }
    let answered: Vec<(ExchangeCalendar, DateTime<Utc>)> = asked.iter().step_by(PEER_SHARE).filter_map(peer).collect();
    if answered.is_empty() {
        return Ok(());
    }
    let open = nanoseconds(&answered, |(calendar, at)| calendar.is_open_regular(*at).is_ok());
    figures.add("is_open_regular, exchange-hours", of, "ns", None, open?);
    let next = nanoseconds(&answered, |(calendar, at)| calendar.next_session_open_after(*at).is_ok());
    figures.add("next_session_open_after, exchange-hours", of, "ns", None, next?);
    Ok(())
}

/// The mean time of a question, all of which must be answered.
fn nanoseconds<Q>(questions: &[Q], mut ask: impl FnMut(&Q) -> bool) -> Result<f64, Failure> {
    let mut answered = 0;
    let begun = Instant::now();
    for question in questions {
        answered += usize::from(ask(black_box(question)));
    }
    let time = begun.elapsed();
    if answered != questions.len() {
        return Err(format!("{} of {} questions were not answered", questions.len() - answered, questions.len()).into());
    }
    Ok(time.as_nanos() as f64 / questions.len() as f64)
}

/// Loads everything there is to load, and returns the component's set.
fn load(figures: &mut Figures) -> Result<Arc<PolicySet>, Failure> {
    let (embedded, calendars) = milliseconds(Calendars::embedded);
    let calendars = calendars?;
    let (first, session) = milliseconds(|| calendars.session_at("XNYS", NOW, None).is_ok());
    let (read, data) = milliseconds(|| CalendarData::read(DATA));
    let data = data?;
    let (open, loaded) = milliseconds(|| Calendars::new(&data));
    let (whole, verified) = milliseconds(|| loaded.and_then(|calendars| calendars.verify()));
    verified?;
    if !session {
        return Err("the calendars do not answer".into());
    }
    figures.add("Calendars::embedded", "all markets", "µs", None, embedded * 1e3);
    figures.add("its first answer", "XNYS", "µs", None, first * 1e3);
    figures.add("data from a file, loaded", "all markets", "ms", Some(LOAD_MS_MAX), read + open);
    figures.add("and every day of it laid out", "all markets", "ms", None, whole);

    let standard = standard()?;
    let mount = Mount::standard(standard);
    let reloader =
        Reloader::new(&Config::from_texts(&Texts::defaults())?, Folder::new(None, "warn"), Clock::new(|| 0, 0))?;
    let set = PolicySet::load(reloader.engine(), 1, &[mount], None)?;
    let policy = set.policies.first().ok_or("the set is empty")?;
    let compile = policy.facts.compile_time;
    figures.add("component, compile", "", "ms", None, compile.as_secs_f64() * 1e3);
    let rest = policy.load_time.saturating_sub(compile).as_secs_f64() * 1e3;
    figures.add("component, load without compiling", "", "ms", Some(LOAD_MS_MAX), rest);
    figures.add("component, size", "", "KB", Some(COMPONENT_KB_MAX), standard.component.len() as f64 / 1e3);
    Ok(Arc::new(set))
}

fn standard() -> Result<&'static Standard, Failure> {
    Ok(STANDARD.iter().find(|standard| standard.name == "market-hours").ok_or("there is no market-hours policy")?)
}

fn milliseconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed().as_secs_f64() * 1e3, done)
}

/// How much the process grows when all markets are asked about now, and then about their first days.
fn measure_native_memory(figures: &mut Figures) -> Result<Calendars<'static>, Failure> {
    let before = resident_kib();
    let calendars = Calendars::embedded()?;
    let markets = calendars.markets();
    for market in &markets {
        black_box(calendars.session_at(market.name, NOW, None)?);
    }
    add_growth("memory of a worker, native, a year", before, figures);
    for market in &markets {
        for at in (market.covered_from..market.horizon).step_by(YEAR_MS) {
            black_box(calendars.session_at(market.name, at, None)?);
        }
    }
    add_growth("memory of a worker, native, all years", before, figures);
    Ok(calendars)
}

/// The same of a worker's instance of the component, its linear memory included.
fn measure_component_memory(decider: &mut Decider, figures: &mut Figures) -> Result<(), Failure> {
    let before = resident_kib();
    let markets = decider.markets()?;
    for market in &markets {
        black_box(decider.session(&market.name, NOW)?).map_err(|error| error.to_string())?;
    }
    add_growth("memory of a worker, component, a year", before, figures);
    for market in &markets {
        for at in (market.covered_from..market.horizon).step_by(YEAR_MS) {
            black_box(decider.session(&market.name, at)?).map_err(|error| error.to_string())?;
        }
    }
    add_growth("memory of a worker, component, all years", before, figures);
    Ok(())
}

fn add_growth(what: &'static str, before: Option<f64>, figures: &mut Figures) {
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        figures.add(what, "all markets", "KiB", None, after - before);
    }
}

/// The process's resident memory, where the system says it in the way of Linux.
fn resident_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
