//! `bellwether policy bench`: what a call of a component takes, beside another build of it where one is given.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Arg, builder::RangedU64ValueParser};
use serde_json::{Value, json};

use super::super::{Call, Verb};
use super::{beside, json_arg, mount, policy_name, read_text};
use crate::policy::{Measured, Trial, cases, measure};

pub(super) const VERB: Verb = Verb {
    name: "bench",
    command: |command| {
        let about = "Ask a component its cases over and over on warm instances, in rounds, and print the median and \
                     the spread of a call. With --against, both components take the rounds in turn, and what is \
                     compared is the ratio within each round: it holds on a busy machine, where times do not. A call \
                     of a namespaces policy gives all rules, once a load.";
        command
            .about("Measure a component, also against another build of it")
            .long_about(about)
            .arg(Arg::new("component").value_name("FILE").help("A component, NAME.wasm").required(true))
            .arg(Arg::new("against").long("against").value_name("OLD").help("Another build, to compare with"))
            .arg(
                Arg::new("cases")
                    .long("cases")
                    .value_name("FILE")
                    .help("What is asked [default: NAME.cases.toml beside the component]"),
            )
            .arg(
                Arg::new("rounds")
                    .long("rounds")
                    .value_name("NUMBER")
                    .help("How many rounds of about 20 ms")
                    .value_parser(RangedU64ValueParser::<usize>::new().range(3..=10_000))
                    .default_value("25"),
            )
            .arg(json_arg())
    },
    run,
};

/// A component with what it took.
struct Benched {
    path: PathBuf,
    trial: Trial,
}

/// The middle of some numbers, and the bounds of eight tenths of them.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let path = |name: &str| call.matches.get_one::<String>(name).map(PathBuf::from);
    let component = path("component").unwrap_or_default();
    let file = path("cases").or_else(|| beside(&component, ".cases.toml")).with_context(|| {
        format!("{} has no cases to be asked; write {}.cases.toml", component.display(), policy_name(&component))
    })?;
    let cases = cases::parse(&read_text(&file)?).with_context(|| file.display().to_string())?;
    ensure!(!cases.is_empty(), "{} has no [[case]]", file.display());
    let engine = call.engine()?;
    let paths = [Some(component), path("against")].into_iter().flatten();
    let load = |path: PathBuf| -> anyhow::Result<Benched> {
        let trial = Trial::load(&engine, &mount(&path, None)?).with_context(|| path.display().to_string())?;
        Ok(Benched { path, trial })
    };
    let all = paths.map(load).collect::<anyhow::Result<Vec<_>>>()?;
    let trials: Vec<_> = all.iter().map(|of| &of.trial).collect();
    let rounds = call.matches.get_one("rounds").copied().unwrap_or(25);
    let measured = measure(&trials, &cases, rounds)?;
    let all: Vec<_> = all.iter().zip(&measured).collect();
    if call.matches.get_flag("json") {
        let components: Vec<_> = all.iter().map(|(of, measured)| of.json(measured)).collect();
        let ratio = ratio(&measured).map(Spread::json);
        let all = json!({ "components": components, "ratio": ratio, "debug_build": cfg!(debug_assertions) });
        writeln!(out, "{all:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    all.iter().try_for_each(|(of, measured)| of.show(measured, out))?;
    if let (Some(ratio), [new, old]) = (ratio(&measured), measured.as_slice()) {
        show_ratio(ratio, new, old, out)?;
    }
    if cfg!(debug_assertions) {
        writeln!(out, "this bellwether is a debug build: its times are several times those of a release")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the first took of the second, round by round.
fn ratio(measured: &[Measured]) -> Option<Spread> {
    let [new, old] = measured else { return None };
    Spread::of(new.call_ns.iter().zip(&old.call_ns).map(|(new, old)| new / old.max(f64::MIN_POSITIVE)).collect())
}

fn show_ratio(ratio: Spread, new: &Measured, old: &Measured, out: &mut dyn Write) -> std::io::Result<()> {
    let Spread { low, median, high } = ratio;
    let means = if low <= 1.0 && high >= 1.0 {
        "within the noise of this machine: no difference is shown"
    } else if high < 1.0 {
        "faster"
    } else {
        "slower"
    };
    let fuel = new.fuel as f64 / (old.fuel.max(1)) as f64;
    writeln!(out, "first to second  {median:.2}× a call ({low:.2}× to {high:.2}×), {fuel:.2}× the fuel; {means}")
}

// === impl Benched ===

impl Benched {
    fn show(&self, measured: &Measured, out: &mut dyn Write) -> std::io::Result<()> {
        let facts = self.trial.facts();
        let path: &Path = &self.path;
        writeln!(out, "{} sha256:{:.8}, {} bytes", path.display(), facts.digest, facts.bytes)?;
        let rounds = measured.call_ns.len();
        if let Some(Spread { low, median, high }) = Spread::of(measured.call_ns.clone()) {
            let calls = measured.calls;
            writeln!(out, "  call         {median:.0} ns ({low:.0} to {high:.0} in {rounds} rounds of {calls} calls)")?;
        }
        writeln!(out, "  fuel         {} a call", measured.fuel)?;
        if let Some(Spread { low, median, high }) = Spread::of(micros(measured)) {
            writeln!(out, "  instantiate  {median:.1} µs, configured ({low:.1} to {high:.1})")?;
        }
        writeln!(out, "  compile      {} ms, once", facts.compile_time.as_millis())?;
        writeln!(out, "  memory       {} bytes", measured.memory_bytes)?;
        if measured.left_out > 0 {
            writeln!(out, "  left out     {} cases whose answer is an error", measured.left_out)?;
        }
        Ok(())
    }

    fn json(&self, measured: &Measured) -> Value {
        let facts = self.trial.facts();
        json!({
            "file": self.path.display().to_string(),
            "digest": format!("sha256:{}", facts.digest),
            "bytes": facts.bytes,
            "call_ns": Spread::of(measured.call_ns.clone()).map(Spread::json),
            "rounds": measured.call_ns.len(),
            "calls_in_a_round": measured.calls,
            "fuel": measured.fuel,
            "instantiate_us": Spread::of(micros(measured)).map(Spread::json),
            "compile_ms": u64::try_from(facts.compile_time.as_millis()).unwrap_or(u64::MAX),
            "memory_bytes": measured.memory_bytes,
            "cases_left_out": measured.left_out,
        })
    }
}

fn micros(measured: &Measured) -> Vec<f64> {
    measured.instantiate.iter().map(|time| time.as_nanos() as f64 / 1000.0).collect()
}

// === impl Spread ===

impl Spread {
    fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_unstable_by(f64::total_cmp);
        let at = |tenths: usize| all.get(all.len().checked_sub(1)? * tenths / 10).copied();
        Some(Self { low: at(1)?, median: at(5)?, high: at(9)? })
    }

    fn json(self) -> Value {
        json!({ "p10": self.low, "median": self.median, "p90": self.high })
    }
}
