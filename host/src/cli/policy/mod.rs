//! `bellwether policy …`: what the author of a policy types. Each verb uses the engine and the limits of the server, so
//! that what passes here loads there; `push` and `pull` connect to registries, the others to nothing.

mod bench;
mod build;
mod check;
mod explain;
mod new;
mod pull;
mod push;
mod replay;
mod test;
mod trace;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, Command};

use super::{Call, Verb, settings_args, unless_unread};
use crate::config::Setting;
use crate::policy::{Mount, Origin, OwnLimits};
use crate::reload::said_in;

pub(super) const VERB: Verb = Verb {
    name: "policy",
    command: |command| {
        let command = command
            .about("Write a policy: new, build, check, test, bench, explain, replay; ship it: push, pull")
            .subcommand_required(true)
            .arg_required_else_help(true);
        VERBS.iter().fold(command, |command, verb| {
            let own = (verb.command)(Command::new(verb.name));
            command.subcommand(settings_args(own, settings_of_verb(verb)))
        })
    },
    run: |call, out| unless_unread(run(call, out)),
};

const VERBS: [Verb; 9] =
    [new::VERB, build::VERB, check::VERB, test::VERB, bench::VERB, explain::VERB, replay::VERB, push::VERB, pull::VERB];

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (name, matches) = call.matches.subcommand().context("no verb was given; try `bellwether policy --help`")?;
    let verb = VERBS.iter().find(|verb| verb.name == name).context("there is no such verb")?;
    (verb.run)(Call { verb: verb.name, matches, ..call }, out)
}

/// Of the settings, those that bound what a policy may take, and say where compiled code is kept.
fn is_of_engine(setting: &Setting) -> bool {
    is_limit(setting) || setting.name.starts_with("compiled_")
}

/// Of the settings, those that bound what a policy may take.
fn is_limit(setting: &Setting) -> bool {
    setting.name.starts_with("policy_") && setting.name.ends_with("_max") && !is_of_registries(setting)
}

/// Of the settings, those about registries and what comes from them.
fn is_of_registries(setting: &Setting) -> bool {
    ["policy_registry_", "policy_artifact_", "policy_keys_"].iter().any(|begin| setting.name.starts_with(begin))
}

/// The settings that a verb takes.
fn settings_of_verb(verb: &Verb) -> fn(&Setting) -> bool {
    match verb.name {
        "push" | "pull" => of_shipping,
        "replay" => |setting| is_of_engine(setting) || setting.name == "policy_folder",
        _ => is_of_engine,
    }
}

fn of_shipping(setting: &Setting) -> bool {
    is_limit(setting) || is_of_registries(setting)
}

fn json_arg() -> Arg {
    Arg::new("json").long("json").help("Print JSON, for programs").action(ArgAction::SetTrue)
}

fn settings_arg() -> Arg {
    Arg::new("settings").long("settings").value_name("FILE").help(
        "The policy's own settings, as `NAME.toml` of a policy folder has them under [settings] [default: the \
               NAME.toml beside the component]",
    )
}

/// The file beside a component that has its name: `ttl.cases.toml` beside `ttl.wasm`. None: there is none.
fn beside(component: &Path, ending: &str) -> Option<PathBuf> {
    let name = component.file_stem()?.to_str()?;
    let path = component.with_file_name(format!("{name}{ending}"));
    // What was named in a component's place is itself none of its files.
    (path != component && path.is_file()).then_some(path)
}

/// The name that a component in a file has as a policy.
fn policy_name(component: &Path) -> String {
    component.file_stem().map_or("policy".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A component in a file as a policy of its own, with the settings that were given or stand beside it. Its cases are
/// left to whoever wants them.
fn mount(component: &Path, settings: Option<&String>) -> anyhow::Result<Mount> {
    let bytes = std::fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    let (settings, limits) = match settings.map(PathBuf::from).or_else(|| beside(component, ".toml")) {
        None => ("{}".to_owned(), OwnLimits::default()),
        Some(path) => said_in(&path)?,
    };
    Ok(Mount {
        name: policy_name(component),
        component: bytes.into(),
        settings,
        cases: None,
        limits,
        origin: Origin::File(component.to_owned()),
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
