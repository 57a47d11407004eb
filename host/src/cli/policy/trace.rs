//! Traces as files: what `bellwether record` wrote, decision by decision.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::super::format;
use super::beside;
use super::replay::policy_of;
use crate::policy::cases::Case;
use crate::policy::{Handed, Trial, Write};
use crate::record::{Line, Record};
use crate::reload::said_in;

/// A trace that is being read, and what was seen of it.
pub(super) struct Trace {
    path: PathBuf,
    lines: BufReader<File>,
    number: usize,
    /// Decisions so far.
    pub(super) count: usize,
    /// Of the decisions that were made meanwhile, those that are not in it, before the last first line.
    dropped_before: u64,
    dropped: u64,
    /// When the first and the last were made.
    times: Option<(i64, i64)>,
}

const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Each case takes instances of its own.
const CASES_MAX: usize = 100_000;

/// Whether a file is a trace, by its first bytes.
pub(super) fn is_trace(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut first));
    read.is_ok() && memchr::memmem::find(&first, b"\"bellwether_trace\"").is_some()
}

/// What was asked, as a ttl policy is asked it.
pub(super) fn write(record: &Record) -> Write<'_> {
    Write {
        rule: &record.rule,
        namespace: &record.namespace,
        key: &record.key,
        command: record.command,
        value_bytes: record.value_bytes,
        client_ttl: record.client_ttl,
        now: record.now,
    }
}

/// The market session that the policy was handed. `Err`: there was none to hand it, so that it was not asked.
pub(super) fn handed(record: &Record) -> anyhow::Result<Option<Handed<'_>>> {
    let Some(market) = &record.market else { return Ok(None) };
    let session = market.session.as_ref();
    let session = session.with_context(|| format!("no session of market {:?} was recorded", market.name))?;
    Ok(Some((&market.name, session)))
}

/// The calls of a trace that a component must answer as was recorded. Left out are decisions that were remembered,
/// which were no calls, and those that failed.
pub(super) fn recorded_cases(trial: &Trial, component: &Path, trace: &Path) -> anyhow::Result<Vec<Case>> {
    let settings =
        beside(component, ".toml").map_or(Ok("{}".to_owned()), |path| said_in(&path).map(|(settings, _)| settings))?;
    let reads = trial.describe(&settings).with_context(|| component.display().to_string())?.reads;
    let policy = policy_of(trace, Some(component.to_owned()), None)?;
    let mut cases = Vec::new();
    let mut trace = Trace::open(trace)?;
    while let Some(record) = trace.next()? {
        let Ok(decided) = &record.decision else { continue };
        if record.memoized || record.policy != policy {
            continue;
        }
        ensure!(cases.len() < CASES_MAX, "{}: at most {CASES_MAX} may be asked; record a sample", trace.shown());
        let (name, write) = (format!("{} at {}", record.key, format::utc(record.now)), write(&record).read_by(reads));
        let decided = (decided.expiry, decided.spread_ms);
        cases.push(Case::recorded(&name, &settings, write, handed(&record)?, decided));
    }
    ensure!(!cases.is_empty(), "{}, and none of them is a call that policy {policy:?} answered", trace.shown());
    Ok(cases)
}

// === impl Trace ===

impl Trace {
    /// Opens a trace.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = BufReader::new(file);
        let (path, number, count) = (path.to_owned(), 0, 0);
        Ok(Self { path, lines, number, count, dropped_before: 0, dropped: 0, times: None })
    }

    /// The next decision.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Box<Record>>> {
        let mut line = String::new();
        loop {
            self.number += 1;
            line.clear();
            let place = || format!("{}, line {}", self.path.display(), self.number);
            let length = (&mut self.lines).take(LINE_BYTES_MAX + 1).read_line(&mut line).with_context(place)?;
            ensure!(length as u64 <= LINE_BYTES_MAX, "{}: it has more than {LINE_BYTES_MAX} bytes", place());
            if length == 0 {
                ensure!(self.number > 1, "{} is empty; a trace has at least its first line", self.path.display());
                return Ok(None);
            }
            let read = Line::read(line.trim_end()).with_context(place);
            ensure!(
                self.number > 1 || line.contains("\"bellwether_trace\""),
                "{} is no trace: its first line has no \"bellwether_trace\"; `bellwether record` writes traces",
                self.path.display()
            );
            let read = read?;
            match read {
                // Traces may follow each other in a file.
                Line::Head(_) => self.dropped_before += std::mem::take(&mut self.dropped),
                Line::Dropped(count) => self.dropped = count,
                Line::Unknown => {}
                Line::Record(record) => {
                    self.count += 1;
                    self.times = Some((self.times.map_or(record.time, |(first, _)| first), record.time));
                    return Ok(Some(record));
                }
            }
        }
    }

    /// Decisions that were made and are not in it, for there was no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped_before + self.dropped
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is, in words.
    pub(super) fn shown(&self) -> String {
        let dropped = match self.dropped() {
            0 => String::new(),
            dropped => format!(", {dropped} were dropped"),
        };
        let path = self.path.display();
        match self.times {
            None => format!("{path}: no decisions{dropped}"),
            Some((first, last)) => {
                let (first, last) = (format::utc(first), format::utc(last));
                format!("{path}: {} decisions from {first} to {last}{dropped}", self.count)
            }
        }
    }
}
