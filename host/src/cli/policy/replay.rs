//! `bellwether policy replay`: recorded decisions put to a component or to a whole policy folder, and what it decides
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Arg, value_parser};
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::super::{Call, Verb, format};
use super::trace::{Trace, handed, write};
use super::{json_arg, mount, policy_name};
use crate::policy::{Alone, Engine, Expiry, PolicySet, one_line};
use crate::record::{Candidate, Record, Verdict};
use crate::reload::Folder;

pub(super) const VERB: Verb = Verb {
    name: "replay",
    command: |command| {
        let about = "Put the decisions of a trace (`bellwether record`) to NEW, and list the keys that it decides \
                     otherwise than was recorded, or otherwise than OLD with --against: both answers, and why. A \
                     component is asked by itself, with its NAME.toml, about the decisions that the policy of its name \
                     made, and is handed the market sessions that were recorded. A folder is asked as a policy folder \
                     over the standard policies: under its own rules, with the sessions of its own market hours, at \
                     the recorded instants. A trace holds what a policy was asked; keys that no policy decided for \
                     are not in it. Exits with 1 if anything is decided otherwise.";
        let policy = "Which policy's decisions a component is asked about [default: its file's name; where all are of \
                      one policy, that one]";
        command
            .about("Put recorded decisions to a component or a policy folder, and say what it decides otherwise")
            .long_about(about)
            .arg(Arg::new("trace").value_name("TRACE").help("What `bellwether record` wrote").required(true))
            .arg(
                Arg::new("new")
                    .value_name("NEW")
                    .help("A component, NAME.wasm, or a policy folder [default: the policies that `serve` would load]"),
            )
            .arg(
                Arg::new("against")
                    .long("against")
                    .value_name("OLD")
                    .help("Another component or policy folder, to compare with [default: what was recorded]"),
            )
            .arg(Arg::new("policy").long("policy").value_name("NAME").help(policy))
            .arg(
                Arg::new("list")
                    .long("list")
                    .value_name("NUMBER")
                    .help("So many keys are listed; the others are counted")
                    .value_parser(value_parser!(usize))
                    .default_value("100"),
            )
            .arg(json_arg())
    },
    run,
};

/// Who answers.
enum Side {
    /// Whoever made the trace.
    Recorded,
    /// A component by itself.
    Component(Box<Alone>),
    /// A policy set.
    Set(Box<Candidate>),
}

/// What differs.
#[derive(Default)]
struct Differences {
    /// By key, in the order in which they were found.
    keys: IndexMap<String, Difference>,
    /// Differing decisions about keys that are not listed.
    left_out: usize,
    rules: BTreeMap<String, Counts>,
    /// Decisions of other policies than the one that is asked.
    not_asked: usize,
}

/// The first decision about a key that differs, and how many do.
struct Difference {
    rule: String,
    now: i64,
    old: (Verdict, String),
    new: (Verdict, String),
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    decisions: usize,
    differing: usize,
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let path = |name: &str| call.matches.get_one::<String>(name).map(PathBuf::from);
    let trace_path = path("trace").unwrap_or_default();
    let engine = call.engine()?;
    let mut new = match path("new") {
        Some(path) => Side::load(&engine, &path)?,
        None => Side::served(&call)?,
    };
    let mut old = path("against").map_or(Ok(Side::Recorded), |path| Side::load(&engine, &path))?;
    let only = match [&new, &old].iter().any(|side| matches!(side, Side::Component(_))) {
        false => None,
        true => Some(policy_of(&trace_path, path("new").or_else(|| path("against")), call.matches.get_one("policy"))?),
    };
    let mut trace = Trace::open(&trace_path)?;
    let list = call.matches.get_one("list").copied().unwrap_or(100);
    let mut found = Differences::default();
    while let Some(record) = trace.next()? {
        if only.as_ref().is_some_and(|only| *only != record.policy) {
            found.not_asked += 1;
            continue;
        }
        found.compare(&record, &mut old, &mut new, list);
    }
    ensure!(found.total().decisions > 0, "{}: there is nothing to ask", trace.shown());
    if call.matches.get_flag("json") {
        writeln!(out, "{:#}", found.json(&trace, &old, &new))?;
    } else {
        found.show(&trace, &old, &new, out)?;
    }
    Ok(if found.total().differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The policy whose decisions a component is asked about.
pub(super) fn policy_of(trace: &Path, component: Option<PathBuf>, named: Option<&String>) -> anyhow::Result<String> {
    let mut there = BTreeSet::new();
    let mut records = Trace::open(trace)?;
    while let Some(record) = records.next()? {
        if !there.contains(&record.policy) {
            there.insert(record.policy);
        }
    }
    let own = component.map(|path| policy_name(&path)).unwrap_or_default();
    let names = there.iter().cloned().collect::<Vec<_>>().join(", ");
    let shown = trace.display();
    ensure!(!there.is_empty(), "{}: there is nothing to ask", records.shown());
    match (named, there.first()) {
        (Some(named), _) => {
            ensure!(there.contains(named), "{shown} has no decisions of policy {named:?}; it has some of {names}");
            Ok(named.clone())
        }
        (None, _) if there.contains(&own) => Ok(own),
        (None, Some(only)) if there.len() == 1 => Ok(only.clone()),
        _ => bail!("{shown} has no decisions of policy {own:?}, but of {names}; name one of them with --policy"),
    }
}

/// A decision for people.
fn in_words(verdict: Verdict) -> String {
    match verdict {
        Verdict::NoPolicy => "no policy decides".to_owned(),
        Verdict::Failed => "the policy fails, and the rule's fallback applies".to_owned(),
        Verdict::Decided(expiry, spread_ms) => {
            let spread = match spread_ms {
                0 => String::new(),
                ms => format!(", ends spread over {}", format::span(ms)),
            };
            format!("{}{spread}", format::expiry(expiry))
        }
    }
}

/// A decision for programs.
fn as_json((verdict, why): &(Verdict, String)) -> Value {
    let mut value = match *verdict {
        Verdict::NoPolicy => json!({ "no_policy": true }),
        Verdict::Failed => json!({ "failed": true }),
        Verdict::Decided(expiry, spread_ms) => {
            let (name, of) = match expiry {
                Expiry::After(ms) => ("after_ms", ms.into()),
                Expiry::At(at) => ("at_ms", at.into()),
                Expiry::Keep => ("keep", true.into()),
                Expiry::Never => ("never", Value::Bool(true)),
            };
            json!({ name: of, "spread_ms": spread_ms })
        }
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("why".into(), why.as_str().into());
    }
    value
}

// === impl Side ===

impl Side {
    fn load(engine: &Engine, path: &Path) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        if path.is_dir() {
            let load = || PolicySet::load(engine, 1, &Folder::new(Some(path.to_owned()), "warn").mounts()?, None);
            return Ok(Self::Set(Box::new(Candidate::new(Arc::new(load().with_context(shown)?)))));
        }
        let mount = mount(path, None)?;
        Ok(Self::Component(Box::new(Alone::load(engine, &mount).with_context(shown)?)))
    }

    /// The policies that `serve` would load.
    fn served(call: &Call<'_>) -> anyhow::Result<Self> {
        let reloader = call.reloader()?;
        let set = PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?;
        Ok(Self::Set(Box::new(Candidate::new(Arc::new(set)))))
    }

    fn answer(&mut self, record: &Record) -> Verdict {
        match self {
            Self::Recorded => record.verdict(),
            Self::Set(candidate) => candidate.ask(record),
            Self::Component(alone) => {
                let decided = handed(record).and_then(|handed| alone.decide(write(record), handed));
                let decided = decided.map(|(decision, _)| Verdict::Decided(decision.expiry, decision.spread_ms));
                decided.unwrap_or(Verdict::Failed)
            }
        }
    }

    /// The reason of an answer.
    fn why(&mut self, record: &Record) -> String {
        match self {
            Self::Recorded => record.why().to_owned(),
            Self::Set(candidate) => candidate.why(record),
            Self::Component(alone) => {
                let decided = handed(record).and_then(|handed| alone.decide(write(record), handed));
                decided.map_or_else(|error| one_line(&error), |(decision, _)| decision.reason)
            }
        }
    }

    /// What it is.
    fn shown(&self) -> String {
        match self {
            Self::Recorded => "as recorded".to_owned(),
            Self::Component(alone) => alone.policy().shown(),
            Self::Set(candidate) => candidate.set().digests(),
        }
    }
}

// === impl Differences ===

impl Differences {
    fn compare(&mut self, record: &Record, old: &mut Side, new: &mut Side, list: usize) {
        let (was, is) = (old.answer(record), new.answer(record));
        let differs = !was.agrees(is, record.now);
        let counts = match self.rules.get_mut(&record.rule) {
            Some(counts) => counts,
            None => self.rules.entry(record.rule.clone()).or_default(),
        };
        counts.decisions += 1;
        counts.differing += usize::from(differs);
        if !differs {
            return;
        }
        if let Some(known) = self.keys.get_mut(&record.key) {
            known.count += 1;
        } else if self.keys.len() < list {
            let (old, new) = ((was, old.why(record)), (is, new.why(record)));
            let difference = Difference { rule: record.rule.clone(), now: record.now, old, new, count: 1 };
            self.keys.insert(record.key.clone(), difference);
        } else {
            self.left_out += 1;
        }
    }

    fn total(&self) -> Counts {
        self.rules.values().fold(Counts::default(), |sum, of| Counts {
            decisions: sum.decisions + of.decisions,
            differing: sum.differing + of.differing,
        })
    }

    fn show(&self, trace: &Trace, old: &Side, new: &Side, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "trace     {}", trace.shown())?;
        writeln!(out, "old       {}", old.shown())?;
        writeln!(out, "new       {}", new.shown())?;
        for (key, of) in &self.keys {
            let times = if of.count > 1 { format!(", {} times", of.count) } else { String::new() };
            let (key, at) = (crate::proxy::shown(key.as_bytes()), format::utc(of.now));
            writeln!(out, "\nDIFFERS   {key} (rule {}, at {at}{times})", of.rule)?;
            for (name, (verdict, why)) in [("old", &of.old), ("new", &of.new)] {
                let because = if why.is_empty() { String::new() } else { format!("; {why}") };
                writeln!(out, "  {name}     {}{because}", in_words(*verdict))?;
            }
        }
        if self.left_out > 0 {
            writeln!(out, "\n{} more decisions differ, about keys that are not listed (--list)", self.left_out)?;
        }
        writeln!(out, "\n{:<36} {:>10} {:>10}", "rule", "decisions", "differing")?;
        for (rule, Counts { decisions, differing }) in &self.rules {
            writeln!(out, "{rule:<36} {decisions:>10} {differing:>10}")?;
        }
        if self.not_asked > 0 {
            writeln!(out, "{} decisions of other policies were not put to it", self.not_asked)?;
        }
        let Counts { decisions, differing } = self.total();
        let percent = differing as f64 * 100.0 / decisions.max(1) as f64;
        writeln!(out, "{differing} of {decisions} decisions differ ({percent:.2} %)")
    }

    fn json(&self, trace: &Trace, old: &Side, new: &Side) -> Value {
        let key = |(key, of): (&String, &Difference)| {
            json!({
                "key": key,
                "rule": of.rule,
                "now_ms": of.now,
                "decisions": of.count,
                "old": as_json(&of.old),
                "new": as_json(&of.new),
            })
        };
        let counts = |(rule, of): (&String, &Counts)| {
            let Counts { decisions, differing } = *of;
            json!({ "rule": rule, "decisions": decisions, "differing": differing })
        };
        let Counts { decisions, differing } = self.total();
        json!({
            "trace": { "file": trace.path().display().to_string(), "dropped": trace.dropped() },
            "old": old.shown(),
            "new": new.shown(),
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "differing_not_listed": self.left_out,
            "rules": self.rules.iter().map(counts).collect::<Vec<_>>(),
            "not_asked": self.not_asked,
            "decisions": decisions,
            "differing": differing,
        })
    }
}
