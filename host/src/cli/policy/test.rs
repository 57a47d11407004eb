//! `bellwether policy test`: case files asked of built components, by the code that asks them at load.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgAction};
use serde_json::{Map, Value, json};

use super::super::{Call, Verb};
use super::trace::{is_trace, recorded_cases};
use super::{beside, json_arg, mount, policy_name, read_text};
use crate::policy::cases::{self, Pairs};
use crate::policy::{Engine, Outcome, Report, Trial};

pub(super) const VERB: Verb = Verb {
    name: "test",
    command: |command| {
        let about = "Ask built components the questions of their case files: each case once on a fresh and twice on a \
                     warm instance, with the limits of the server. Exits with 1 if an answer is not the expected one, \
                     if a fresh and a warm instance differ, and if there are no cases. A trace of `bellwether \
                     record` is a case file too: what the policy of the component's name answered then, it must \
                     answer now, with the settings of the NAME.toml beside it.";
        command
            .about("Ask components their cases, each on a fresh and on a warm instance")
            .long_about(about)
            .arg(
                Arg::new("component")
                    .value_name("FILE|FOLDER")
                    .help("A component, or a folder of them (a project after `policy build`)")
                    .required(true),
            )
            .arg(
                Arg::new("cases")
                    .value_name("CASES")
                    .help("Case files, TOML, and traces [default: NAME.cases.toml beside the component]")
                    .num_args(0..)
                    .action(ArgAction::Append),
            )
            .arg(Arg::new("filter").long("filter").value_name("TEXT").help("Only cases with this text in their name"))
            .arg(
                Arg::new("verbose")
                    .long("verbose")
                    .short('v')
                    .help("Print cases that pass too, with what each took and the lines the policy wrote")
                    .action(ArgAction::SetTrue),
            )
            .arg(json_arg())
    },
    run,
};

/// One component with what became of its cases.
struct Tested {
    path: PathBuf,
    /// It is of a project whose source is newer.
    is_stale: bool,
    digest: String,
    report: Report,
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let matches = call.matches;
    let path = matches.get_one::<String>("component").map(PathBuf::from).unwrap_or_default();
    let files: Vec<_> = matches.get_many::<String>("cases").unwrap_or_default().map(PathBuf::from).collect();
    let filter = matches.get_one::<String>("filter").map_or("", String::as_str);
    let components = components(&path)?;
    ensure!(
        files.is_empty() || components.len() == 1,
        "{} has {} components, and case files are of one: name it",
        path.display(),
        components.len()
    );
    let engine = call.engine()?;
    let tested = |path: &PathBuf| Tested::of(&engine, path, &files, filter);
    let all = components.iter().map(tested).collect::<anyhow::Result<Vec<_>>>()?;
    let failed = all.iter().map(Tested::failed).sum::<usize>();
    let count = all.iter().map(|tested| tested.report.outcomes.len()).sum::<usize>();
    if matches.get_flag("json") {
        let components: Vec<_> = all.iter().map(Tested::json).collect();
        let all = json!({ "components": components, "passed": count - failed, "failed": failed });
        writeln!(out, "{all:#}")?;
    } else {
        let fuel_max = call.config.policy_fuel_max;
        all.iter().try_for_each(|tested| tested.show(matches.get_flag("verbose"), fuel_max, out))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What projects have, one for each language.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "pyproject.toml", "package.json"];

/// The components of a folder, or the one that was named.
fn components(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut found: Vec<_> = paths.into_iter().filter(|path| path.extension().is_some_and(|of| of == "wasm")).collect();
    found.sort_unstable();
    if found.is_empty() && MANIFESTS.iter().any(|name| path.join(name).is_file()) {
        bail!("{0} is not built; type: bellwether policy build {0}", path.display());
    }
    ensure!(!found.is_empty(), "{} has no component (NAME.wasm)", path.display());
    Ok(found)
}

/// Whether a component stands in a project with a source that was changed after it was built.
fn is_stale(component: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let folder = component.parent().unwrap_or(Path::new(""));
    let sources = std::fs::read_dir(folder.join("src")).into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(manifest) = MANIFESTS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
        return false;
    };
    let own = ["policy.py", "policy.js"].map(|name| folder.join(name));
    sources.chain(own).chain([manifest]).filter_map(|path| modified(&path)).max() > modified(component)
}

// === impl Tested ===

impl Tested {
    fn of(engine: &Engine, path: &Path, files: &[PathBuf], filter: &str) -> anyhow::Result<Self> {
        let shown = path.display();
        let mount = mount(path, None)?;
        let own = || beside(path, ".cases.toml").into_iter().collect();
        let files: Vec<PathBuf> = if files.is_empty() { own() } else { files.to_vec() };
        ensure!(
            !files.is_empty(),
            "{shown} has no cases; write {}.cases.toml beside it, or name a case file",
            policy_name(path)
        );
        let trial = Trial::load(engine, &mount).with_context(|| shown.to_string())?;
        let mut cases = Vec::new();
        for file in &files {
            cases.extend(match is_trace(file) {
                true => recorded_cases(&trial, path, file)?,
                false => cases::parse(&read_text(file)?).with_context(|| file.display().to_string())?,
            });
        }
        ensure!(!cases.is_empty(), "{shown} has no cases: there is no [[case]] in its case file");
        let count = cases.len();
        cases.retain(|case| case.name.contains(filter));
        ensure!(!cases.is_empty(), "none of the {count} cases of {shown} has {filter:?} in its name");
        let report = trial.run(&cases).with_context(|| shown.to_string())?;
        Ok(Self { path: path.to_owned(), is_stale: is_stale(path), digest: trial.facts().digest.clone(), report })
    }

    fn failed(&self) -> usize {
        self.report.outcomes.iter().filter(|outcome| !outcome.passed()).count()
    }

    fn show(&self, verbose: bool, fuel_max: u64, out: &mut dyn Write) -> std::io::Result<()> {
        let outcomes = &self.report.outcomes;
        if self.is_stale {
            writeln!(
                out,
                "WARNING {} is older than its source; `bellwether policy build` renews it",
                self.path.display()
            )?;
        }
        for outcome in outcomes {
            show_outcome(outcome, verbose, out)?;
        }
        let left = self.report.rules_left();
        let rules = self.report.rules.len();
        if !left.is_empty() {
            let names = left.into_iter().collect::<Vec<_>>();
            writeln!(out, "no case is about {} of {rules} rules: {}", names.len(), names.join(", "))?;
        }
        let failed = self.failed();
        let fuel = outcomes.iter().map(|outcome| outcome.fuel).max().unwrap_or_default();
        let time = outcomes.iter().map(|outcome| outcome.time).sum::<std::time::Duration>();
        // Rules are read once a load, with another budget than a decision's.
        let of = if rules == 0 { format!(" of {fuel_max}") } else { String::new() };
        writeln!(
            out,
            "{} sha256:{:.8}: {} passed, {failed} failed; at most {fuel}{of} fuel a case, {} µs in all",
            self.path.display(),
            self.digest,
            outcomes.len() - failed,
            time.as_micros()
        )
    }

    fn json(&self) -> Value {
        let left = self.report.rules_left();
        let outcome = |outcome: &Outcome| {
            json!({
                "name": outcome.name,
                "passed": outcome.passed(),
                "expected": object(&outcome.expect),
                "got": object(&outcome.got),
                "warm": outcome.warm.as_ref().map(object),
                "fuel": outcome.fuel,
                "ns": u64::try_from(outcome.time.as_nanos()).unwrap_or(u64::MAX),
                "log": outcome.lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(),
            })
        };
        json!({
            "file": self.path.display().to_string(),
            "digest": format!("sha256:{}", self.digest),
            "older_than_its_source": self.is_stale,
            "cases": self.report.outcomes.iter().map(outcome).collect::<Vec<_>>(),
            "rules": self.report.rules.len(),
            "rules_without_a_case": left,
            "failed": self.failed(),
        })
    }
}

fn show_outcome(outcome: &Outcome, verbose: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let passed = outcome.passed();
    if passed && !verbose {
        return Ok(());
    }
    let word = if passed { "PASS" } else { "FAIL" };
    writeln!(out, "{word}  {}  ({} fuel, {} µs)", outcome.name, outcome.fuel, outcome.time.as_micros())?;
    let none = "(nothing)";
    if let Some(warm) = &outcome.warm {
        writeln!(out, "      a fresh and a warm instance answer differently; a policy must be a pure function")?;
        let names =
            outcome.got.0.iter().chain(&warm.0).map(|(name, _)| *name).collect::<std::collections::BTreeSet<_>>();
        for name in names.into_iter().filter(|name| outcome.got.get(name) != warm.get(name)) {
            let of = |pairs: &Pairs| pairs.get(name).unwrap_or(none).to_owned();
            writeln!(out, "      {name:<18} fresh {}, warm {}", of(&outcome.got), of(warm))?;
        }
    } else if !passed {
        for name in outcome.expect.differing(&outcome.got) {
            let of = |pairs: &Pairs| pairs.get(name).unwrap_or(none).to_owned();
            writeln!(out, "      {name:<18} expected {}, got {}", of(&outcome.expect), of(&outcome.got))?;
        }
        // What it answered instead, and why it says so.
        let told = |name: &str| outcome.expect.get(name).is_none();
        for (name, value) in outcome.got.0.iter().filter(|(name, _)| told(name)) {
            writeln!(out, "      {name:<18} got {value}")?;
        }
    }
    if verbose || !passed {
        outcome.lines.iter().try_for_each(|line| writeln!(out, "      log {}: {}", line.level, line.message))?;
    }
    Ok(())
}

fn object(pairs: &Pairs) -> Map<String, Value> {
    pairs.0.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect()
}
