//! `soak --binary PATH [--seconds N] …`: mixed load through a sidecar while things go wrong; every reply is checked
//! against what is known, and at the end the server is asked for all that was acknowledged. It fails where one rule is
//! broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a client that cannot go on says so by panicking, and that is a broken rule"
)]
#![allow(unreachable_pub, reason = "one program: `pub` is what a module has for the others")]

mod cells;
mod clients;
mod faults;
mod ledger;
mod link;
mod random;
mod replies;
mod report;
mod servers;
mod wire;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use cells::Kind;
use clients::{Client, Shared};
use faults::{Faults, Sabotage};
use ledger::{Ledger, Rule};
use link::Link;
use report::{Report, Sample};
use servers::{Process, Server, Sidecar};
use wire::Connection;

const USAGE: &str = "\
usage: soak --binary PATH [--seconds 60] [--seed N] [--on-loss close|error] [--pause-ms 60] [--quick]
            [--report FOLDER [--name soak] [--machine WORDS]] [--sabotage swap|lose|twice|message]
  --binary    the sidecar
  --on-loss   its on_upstream_lost
  --pause-ms  between two rounds of a client, on average
  --quick     faults, and the time between them, are a fifth as long
  --sabotage  damages one thing that nobody may damage, to show that it is seen: then the run must fail";

/// The sidecar's own counters that show what was tested.
const COUNTERS: [&str; 2] = ["bellwether_near_reads_total", "bellwether_leased_reads_total"];

/// What was asked for.
struct Asked {
    binary: PathBuf,
    seconds: u64,
    seed: u64,
    on_loss: String,
    pause_ms: u64,
    is_quick: bool,
    report: Option<PathBuf>,
    name: String,
    machine: String,
    sabotage: Option<Sabotage>,
}

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)).and_then(|asked| run(&asked)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("soak: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Says a line.
pub fn tell(line: &str) {
    // Nothing is left to do where even this cannot be written.
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn asked(mut words: impl Iterator<Item = String>) -> anyhow::Result<Asked> {
    let mut asked = Asked {
        binary: PathBuf::new(),
        seconds: 60,
        seed: 1,
        on_loss: "close".to_owned(),
        pause_ms: 60,
        is_quick: false,
        report: None,
        name: "soak".to_owned(),
        machine: "not named".to_owned(),
        sabotage: None,
    };
    while let Some(flag) = words.next() {
        if flag == "--quick" {
            asked.is_quick = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
        match flag.as_str() {
            "--binary" => asked.binary = value.into(),
            "--seconds" => asked.seconds = value.parse()?,
            "--seed" => asked.seed = value.parse()?,
            "--on-loss" => asked.on_loss = value,
            "--pause-ms" => asked.pause_ms = value.parse()?,
            "--report" => asked.report = Some(value.into()),
            "--name" => asked.name = value,
            "--machine" => asked.machine = value,
            "--sabotage" => {
                asked.sabotage = Some(match value.as_str() {
                    "swap" => Sabotage::Swap,
                    "lose" => Sabotage::Lose,
                    "twice" => Sabotage::Twice,
                    "message" => Sabotage::Message,
                    _ => bail!("no sabotage {value:?}\n{USAGE}"),
                });
            }
            _ => bail!("no flag {flag:?}\n{USAGE}"),
        }
    }
    if asked.binary.as_os_str().is_empty() {
        bail!("--binary is missing\n{USAGE}");
    }
    Ok(asked)
}

/// True: no rule was broken.
fn run(asked: &Asked) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let link = Link::start(server.port)?;
    let mut sidecar = Sidecar::start(&asked.binary, folder.path(), link.port, &asked.on_loss)?;
    let names = |(kind, count, _)| (0..count).map(move |number| format!("{kind} {number}"));
    let ledger = Ledger::new(clients::KINDS.into_iter().flat_map(names).collect());
    let shared = Shared {
        port: sidecar.port,
        ledger,
        cells: clients::writers::cells(),
        retired: Mutex::default(),
        queues: clients::queues::Queues::default(),
        channels: clients::channels::Channels::default(),
        transactions: clients::transactions::Counters::default(),
        stream: clients::streams::Stream::default(),
        pause_ms: asked.pause_ms,
    };
    let mut faults = Faults::new(&shared, server, &sidecar, link, asked.seed, asked.is_quick);
    let samples = load(&shared, &mut faults, &sidecar.process, asked)?;
    let Faults { server, events, link, .. } = faults;
    let cpu_seconds = sidecar.process.cpu_seconds()?;
    link.set(link::Fault::None);
    let mut metrics = sidecar.metrics()?;
    metrics.retain(|(name, value)| *value > 0.0 && COUNTERS.iter().any(|counter| name.starts_with(counter)));
    let found = audit(&shared, &server)?;
    if !sidecar.process.runs() {
        shared.ledger.broken(Rule::Ended, "the sidecar has ended".to_owned());
    }
    let seconds = shared.ledger.begun.elapsed().as_secs_f64();
    if seconds >= report::MEMORY_SECONDS_MIN
        && let Err(how) = report::judge_memory(&samples)
    {
        shared.ledger.broken(Rule::Memory, how);
    }
    let report = Report {
        seed: asked.seed,
        on_loss: &asked.on_loss,
        machine: &asked.machine,
        seconds,
        cpu_seconds,
        counts: shared.ledger.counts(),
        errors: shared.ledger.errors(),
        events: &events,
        samples: &samples,
        found: Some(found),
        retired: shared.retired.lock().unwrap().len(),
        metrics,
        broken: shared.ledger.all_broken(),
    };
    if let Some(to) = &asked.report {
        report.write(to, &asked.name)?;
    }
    tell(&report.verdict());
    if !report.broken.is_empty() {
        keep_log(folder.path())?;
    }
    Ok(report.broken.is_empty())
}

/// Runs the clients and the faults until the time is over: the samples.
fn load(shared: &Shared, faults: &mut Faults<'_>, sidecar: &Process, asked: &Asked) -> anyhow::Result<Vec<Sample>> {
    let samples = Mutex::new(Vec::new());
    let ledger = &shared.ledger;
    let result = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (_, count, run) in clients::KINDS {
            for number in 0..count {
                let client = Client::new(shared, number, threads.len(), asked.seed);
                threads.push(scope.spawn(move || run(client)));
            }
        }
        scope.spawn(|| sample(shared, sidecar, &samples));
        let result = faults.run(Duration::from_secs(asked.seconds), asked.sabotage);
        ledger.over.store(true, Ordering::SeqCst);
        for (thread, client) in threads.into_iter().zip(&ledger.clients) {
            if thread.join().is_err() {
                ledger.broken(Rule::Ended, format!("{} panicked", client.name));
            }
        }
        result
    });
    result?;
    Ok(samples.into_inner().unwrap())
}

/// Looks once a second at what the sidecar holds.
fn sample(shared: &Shared, sidecar: &Process, samples: &Mutex<Vec<Sample>>) {
    while !shared.ledger.is_over() {
        let looked = Instant::now();
        if let (Ok(resident_bytes), Ok(files)) = (sidecar.resident_bytes(), sidecar.files()) {
            let sample = Sample { at_ms: shared.ledger.now_ms(), resident_bytes, files };
            samples.lock().unwrap().push(sample);
        }
        while looked.elapsed() < Duration::from_secs(1) && !shared.ledger.is_over() {
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// Asks the server itself for all that was acknowledged.
fn audit(shared: &Shared, server: &Server) -> anyhow::Result<clients::queues::Found> {
    let ledger = &shared.ledger;
    let lost = |lost| anyhow::anyhow!("the server's own connection was lost: {lost:?}");
    let mut direct = Connection::open(server.port, false).map_err(lost)?;
    let mut read = |words: Vec<Vec<u8>>| direct.ask(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()).map_err(lost);
    for cell in &shared.cells {
        let floor = cell.floor();
        let reply = read(cell.read(floor.epoch))?;
        if let Err((rule, what)) = cell.judge(floor, &reply, ledger.now_ms()) {
            ledger.broken(rule, format!("at the end: {what}"));
        }
        ledger.count("looked for at the end", 1);
    }
    for retired in shared.retired.lock().unwrap().iter() {
        let cell = &shared.cells[retired.cell];
        if matches!(cell.kind, Kind::Brief(_)) {
            continue;
        }
        let reply = read(cell.read(retired.epoch))?;
        let expect = [retired.acknowledged, retired.in_doubt].map(|write| if cell.deletes(write) { 0 } else { write });
        match cell.shown(retired.epoch, &reply) {
            Ok(shown) if expect.contains(&shown) => {}
            other => {
                let key = cell.key(retired.epoch);
                ledger.broken(Rule::Lost, format!("at the end: {key} shows {other:?}, and not one of {expect:?}"));
            }
        }
        ledger.count("looked for at the end", 1);
    }
    for (number, count) in shared.transactions.iter().enumerate() {
        let key = clients::transactions::key(number);
        let shown = clients::transactions::seen(&read(vec![b"GET".to_vec(), key.clone().into_bytes()])?);
        let acknowledged = count.acknowledged.load(Ordering::SeqCst);
        let most = acknowledged + count.in_doubt.load(Ordering::SeqCst);
        if !shown.is_some_and(|shown| (acknowledged..=most).contains(&shown)) {
            ledger.broken(Rule::Lost, format!("at the end: {key} shows {shown:?}, of {acknowledged} to {most}"));
        }
    }
    let mut broken = Vec::new();
    let found = shared.queues.judge(&mut direct, &mut broken).map_err(lost)?;
    broken.into_iter().for_each(|(rule, what)| ledger.broken(rule, format!("at the end: {what}")));
    Ok(found)
}

/// What the sidecar logged last, for whoever looks into it.
fn keep_log(folder: &Path) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(folder.join("sidecar.log"))?;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].iter().for_each(|line| tell(&format!("  {line}")));
    Ok(())
}
