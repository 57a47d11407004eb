//! `bench-decisions [CALLS]`: what a decision takes, remembered and with a policy called, by itself and as a part of
//! the plan that the data path makes of a SET. One line of JSON each: nanoseconds, allocations and bytes a call.
//!
//! A decision is remembered from the instant of its making on. So a clock that goes back asks the policy every time,
//! and every call takes the product's own way. What the guest allocates in its own memory is not counted.

mod blank;

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bellwether::clock::Clock;
use bellwether::command::{Command, Data, Table};
use bellwether::config::{Config, Texts};
use bellwether::metrics::Metrics;
use bellwether::policy::{Answer, Decider, PolicySet, Question};
use bellwether::proxy::{Plan, Policies};
use bellwether::reload::{Folder, Reloader};
use bellwether::resp::request::{Limits, Scanned, Scanner};
use bellwether::resp::write;

/// One line.
struct Figure {
    what: &'static str,
    nanoseconds: f64,
    allocations: f64,
    bytes: f64,
}

const CALLS: usize = 100_000;
/// 2026-11-23T09:00:00Z: the NSE trades, and has done so for more milliseconds than there are calls.
const NOW: i64 = 1_795_424_400_000;
/// Rules that keep nothing but the value, and rules that keep an old copy beside it.
const PLAIN: [&str; 2] = ["general", "historical"];
const COPIED: [&str; 2] = ["scores", "support_resistance"];
const SYMBOLS: [&str; 4] = ["RELIANCE.NS", "TCS.BO", "INFY", "HDFCBANK.NS"];
const VALUE: &[u8] = b"{\"symbol\":\"RELIANCE.NS\",\"price\":2950.5}";

fn main() -> ExitCode {
    match run(&mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(std::io::stderr(), "bench-decisions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut impl Write) -> anyhow::Result<()> {
    let calls = match std::env::args().nth(1) {
        Some(text) => text.parse().ok().filter(|calls| *calls > 0).context("usage: bench-decisions [CALLS]")?,
        None => CALLS,
    };
    for Figure { what, nanoseconds, allocations, bytes } in figures(calls)? {
        let line = serde_json::json!({
            "what": what, "nanoseconds": nanoseconds, "allocations": allocations, "bytes": bytes,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn figures(calls: usize) -> anyhow::Result<Vec<Figure>> {
    let config = Config::from_texts(&Texts::defaults())?;
    let set = loaded(&config, None)?;
    let keys = |namespaces: &[&str]| -> Vec<String> {
        let of = |namespace| SYMBOLS.iter().map(move |symbol| format!("fyntrix:{namespace}:quote:{symbol}"));
        namespaces.iter().flat_map(of).collect()
    };
    let all_keys = keys(&[PLAIN, COPIED].concat());
    let decisions = decisions(&set, &all_keys, calls)?.into_iter();
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("ttl.wasm"), blank::component()?)?;
    let [_, blank] = self::decisions(&loaded(&config, Some(folder.path()))?, &all_keys, calls)?;
    let blank = Figure { what: "policy call, of a policy that does nothing", ..blank };
    let of_plain = ["SET from bytes to plan, memoized", "SET from bytes to plan, policy call"];
    let plain = plans(&set, &config, &keys(&PLAIN), calls, of_plain)?;
    let of_copied = ["SET with an old copy kept, memoized", "SET with an old copy kept, policy call"];
    let copied = plans(&set, &config, &keys(&COPIED), calls, of_copied)?;
    Ok(decisions.chain([blank]).chain(plain).chain(copied).collect())
}

/// The standard policies, and what a folder has in their place.
fn loaded(config: &Config, folder: Option<&Path>) -> anyhow::Result<Arc<PolicySet>> {
    let folder = Folder::new(folder.map(Path::to_owned), "warn");
    let reloader = Reloader::new(config, folder, Clock::new(|| 0, 0))?;
    Ok(Arc::new(PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?))
}

/// The decision by itself.
fn decisions(set: &Arc<PolicySet>, keys: &[String], calls: usize) -> anyhow::Result<[Figure; 2]> {
    let mut decider = Decider::new(Arc::clone(set));
    let question = |key: &String| {
        let (rule, _) = set.rules.find(key.as_bytes()).with_context(|| format!("no rule covers {key}"))?;
        let (key, command, value_bytes) = (key.clone(), Data::Value, VALUE.len() as u64);
        anyhow::Ok((key, move |key, now| Question { rule, key, command, value_bytes, client_ttl: None, now }))
    };
    let questions = keys.iter().map(question).collect::<Result<Vec<_>, _>>()?;
    let mut decide = |index: usize, now: i64, asks: bool| {
        let Some((key, question)) = questions.get(index % questions.len()) else { return false };
        let answer = decider.decide(black_box(&question(key, now)));
        matches!(answer, Answer::Decided { cost, .. } if cost.is_some() == asks)
    };
    // All that is made once is there before it is measured.
    for index in 0..questions.len() {
        decide(index, NOW, true);
    }
    let remembered = measured("memoized", calls, |index| decide(index, NOW, false))?;
    let asked = measured("policy call", calls, |index| decide(index, NOW - 1 - index as i64, true))?;
    Ok([remembered, asked])
}

/// The whole way from the bytes of a SET to what is sent: scanned, found in the tables, its value checked, decided.
fn plans(
    set: &Arc<PolicySet>,
    config: &Config,
    keys: &[String],
    calls: usize,
    [memoized, called]: [&'static str; 2],
) -> anyhow::Result<[Figure; 2]> {
    let mut policies = Policies::new(Arc::clone(set), Arc::new(Metrics::default()), 0, config);
    let mut scanner = Scanner::new(Limits { args_max: 8, bulk_bytes_max: 4096, command_bytes_max: 8192 });
    let commands: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| {
            let mut bytes = Vec::new();
            write::array(&mut bytes, 3);
            [b"SET", key.as_bytes(), VALUE].iter().for_each(|word| write::bulk(&mut bytes, word));
            bytes
        })
        .collect();
    let mut plan = |index: usize, now: i64| {
        let Some(bytes) = commands.get(index % commands.len()) else { return false };
        let Ok(Scanned::Command(_)) = scanner.scan(black_box(bytes)) else { return false };
        let command = Command { bytes, args: scanner.args() };
        let Some(row) = command.row(Table::newest()) else { return false };
        let planned = black_box(policies.decide(&command, row, now)) != Plan::as_it_came();
        scanner.reset();
        planned
    };
    for index in 0..commands.len() {
        plan(index, NOW);
    }
    let remembered = measured(memoized, calls, |index| plan(index, NOW))?;
    let asked = measured(called, calls, |index| plan(index, NOW - 1 - index as i64))?;
    Ok([remembered, asked])
}

/// The mean of so many calls, each of which must do what it is measured for.
fn measured(what: &'static str, calls: usize, mut call: impl FnMut(usize) -> bool) -> anyhow::Result<Figure> {
    let mut done = 0;
    let begun = Instant::now();
    for index in 0..calls {
        done += usize::from(call(index));
    }
    let nanoseconds = begun.elapsed().as_nanos() as f64 / calls as f64;
    // Counted apart, and going on where the clock was, so that the counting is not timed.
    let counted = calls.min(10_000);
    let info = allocation_counter::measure(|| {
        for index in calls..calls + counted {
            done += usize::from(call(index));
        }
    });
    let all = calls + counted;
    ensure!(done == all, "{what}: {} of {all} calls did something else", all - done);
    let per_call = |count: u64| count as f64 / counted as f64;
    Ok(Figure { what, nanoseconds, allocations: per_call(info.count_total), bytes: per_call(info.bytes_total) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call does what it is measured for (or there are no figures), and what is remembered allocates nothing, but
    /// for the keys of a copy.
    #[test]
    fn allocations() {
        let figures = figures(200).unwrap();
        assert_eq!(figures.len(), 7);
        for Figure { what, nanoseconds, allocations, .. } in figures {
            assert!(nanoseconds > 0.0, "{what}");
            let may_allocate = what.contains("policy call") || what.contains("copy");
            assert!(allocations == 0.0 || may_allocate, "{what}: {allocations} allocations");
        }
    }
}
