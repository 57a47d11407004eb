//! `bellwether policy check`: components beside the contract, one by one, with every fault that can be told.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction};
use serde_json::{Value, json};

use super::super::{Call, Verb, check};
use super::{beside, json_arg, mount, policy_name, read_text, settings_arg};
use crate::policy::contract::{self, Fault, Review};
use crate::policy::{Engine, Policy, Rejected, Role, Stage, one_line};

pub(super) const VERB: Verb = Verb {
    name: "check",
    command: |command| {
        let about = "Compare components with the contract: what each exports and imports, the functions that are \
                     missing or have another type, the limits it would break, whether it takes its settings, and \
                     whether it passes the cases beside it. Exits with 1 if one would be refused.";
        command
            .about("Say whether components would be served, and if not, why")
            .long_about(about)
            .arg(
                Arg::new("files")
                    .value_name("FILE")
                    .help(
                        "Components, NAME.wasm; settings and cases are taken from NAME.toml and NAME.cases.toml \
                           beside them",
                    )
                    .required(true)
                    .num_args(1..)
                    .action(ArgAction::Append),
            )
            .arg(settings_arg())
            .arg(json_arg())
    },
    run,
};

/// What is known of one file.
pub(super) struct Checked {
    path: PathBuf,
    /// None: its bytes are no component, or could not be read.
    review: Option<Review>,
    pub(super) loaded: Result<Policy, Rejected>,
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let engine = call.engine()?;
    let files = call.matches.get_many::<String>("files").unwrap_or_default();
    let settings = call.matches.get_one("settings");
    let all: Vec<_> = files.map(|file| Checked::of(&engine, Path::new(file), settings, true)).collect();
    let refused = all.iter().filter(|checked| checked.loaded.is_err()).count();
    if call.matches.get_flag("json") {
        let files: Vec<_> = all.iter().map(Checked::json).collect();
        let all = json!({ "files": files, "refused": refused, "contract": contract::VERSION });
        writeln!(out, "{all:#}")?;
    } else {
        all.iter().try_for_each(|checked| checked.show(out))?;
        match refused {
            0 => writeln!(out, "ok: {} would be served", all.len())?,
            refused => writeln!(out, "{refused} of {} would be refused", all.len())?,
        }
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// === impl Checked ===

impl Checked {
    /// A component that was just built: as it is, with the settings that stand beside it, and not asked its cases.
    pub(super) fn built(engine: &Engine, path: &Path) -> Self {
        Self::of(engine, path, None, false)
    }

    fn of(engine: &Engine, path: &Path, settings: Option<&String>, with_cases: bool) -> Self {
        let read = || {
            let mut mount = mount(path, settings)?;
            let cases = beside(path, ".cases.toml").filter(|_| with_cases);
            mount.cases = cases.map(|path| read_text(&path)).transpose()?;
            Ok(mount)
        };
        let rejected = |reason| Rejected { policy: Some(policy_name(path)), stage: Stage::Read, reason };
        let (review, loaded) = match read().map_err(rejected) {
            Err(rejected) => (None, Err(rejected)),
            Ok(mount) => {
                let loaded = Policy::load(engine, &mount).and_then(|policy| {
                    policy.rule_table()?;
                    Ok(policy)
                });
                // Types are read for people, and only of what the engine could read too or gave a reason for.
                (contract::review(&mount.component).ok(), loaded)
            }
        };
        Self { path: path.to_owned(), review, loaded }
    }

    /// What explains a refusal. Of a policy that is served there is nothing to say, whatever else its types hold.
    fn faults(&self) -> &[Fault] {
        self.review.as_ref().filter(|_| self.loaded.is_err()).map_or(&[], |review| &review.faults)
    }

    pub(super) fn show(&self, out: &mut dyn Write) -> std::io::Result<()> {
        match &self.loaded {
            Ok(policy) => check::show(policy, out)?,
            Err(rejected) => {
                writeln!(out, "{}", self.path.display())?;
                writeln!(out, "  REFUSED    at {}: {}", rejected.stage.label(), one_line(&rejected.reason))?;
            }
        }
        for fault in self.faults() {
            writeln!(out, "  fault      {}: {}", fault.item, fault.what)?;
            let parts = [("expected", &fault.expected), ("found   ", &fault.found), ("where   ", &fault.place)];
            for (name, part) in parts {
                part.as_ref().map_or(Ok(()), |part| writeln!(out, "             {name} {part}"))?;
            }
        }
        if let (Err(_), Some(review)) = (&self.loaded, &self.review) {
            writeln!(out, "  contract   {}", of_contract(review))?;
        }
        if self.loaded.is_err() { writeln!(out) } else { Ok(()) }
    }

    fn json(&self) -> Value {
        let mut all = json!({ "file": self.path.display().to_string(), "ok": self.loaded.is_ok() });
        let mut add = |name: &str, value: Value| drop(all.as_object_mut().map(|all| all.insert(name.into(), value)));
        if let Some(review) = &self.review {
            add("contract", review.version.clone().into());
            add("hosts", review.version.as_deref().and_then(contract::hosts).into());
            add("exports", review.exports.iter().map(|item| item.name.as_str()).collect());
            let import =
                |item: &contract::Item| json!({ "name": item.name, "offered": item.offered, "inert": item.inert });
            add("imports", review.imports.iter().map(import).collect());
        }
        match &self.loaded {
            Err(rejected) => {
                let reason = one_line(&rejected.reason);
                add("refused", json!({ "stage": rejected.stage.label(), "reason": reason }));
                let fault = |fault: &Fault| {
                    json!({
                        "item": fault.item, "what": fault.what, "expected": fault.expected, "found": fault.found,
                        "where": fault.place,
                    })
                };
                add("faults", self.faults().iter().map(fault).collect());
            }
            Ok(policy) => {
                let (facts, is) = (&policy.facts, &policy.description);
                add("roles", facts.roles.iter().copied().map(Role::interface).collect());
                add("is", json!({ "name": is.name, "version": is.version, "summary": is.summary }));
                add("bytes", facts.bytes.into());
                add("digest", format!("sha256:{}", facts.digest).into());
                add("memory_bytes", facts.needs.memory_bytes.into());
                add("table_elements", facts.needs.table_elements.into());
                add("settings", serde_json::from_str(&policy.settings).unwrap_or_default());
                add("cases_passed", policy.passed.0.into());
                add("load_ms", u64::try_from(policy.load_time.as_millis()).unwrap_or_default().into());
                add("code_found", facts.code_found.into());
                add("compile_ms", u64::try_from(facts.compile_time.as_millis()).unwrap_or_default().into());
            }
        }
        all
    }
}

/// Which hosts speak the contract that a component was built for.
fn of_contract(review: &Review) -> String {
    let host = format!("bellwether {} speaks {}", env!("CARGO_PKG_VERSION"), contract::VERSION);
    match &review.version {
        Some(version) => {
            let served = contract::hosts(version).map_or(String::new(), |hosts| format!(", served by {hosts}"));
            format!("bellwether:policy@{version}{served}; {host}")
        }
        None => format!("none of its interfaces is the contract's; {host}"),
    }
}
