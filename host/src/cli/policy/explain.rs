//! `bellwether policy explain`: one decision of one ttl component, with its reason, its own log lines and its cost.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Arg;

use super::super::{Call, Verb, explain, format};
use super::{mount, settings_arg};
use crate::command::Data;
use crate::policy::standard::STANDARD;
use crate::policy::{Mount, Role, Trial, Write};

pub(super) const VERB: Verb = Verb {
    name: "explain",
    command: |command| {
        let about = "Ask one ttl component about one write, on a fresh instance: its decision and its reason, the \
                     lines it wrote, and what it took. With --market it is handed the session that the standard \
                     market hours have at that instant. `bellwether explain` asks the whole policy set.";
        let flag = |name: &'static str, value, help: &'static str| {
            Arg::new(name).long(name).value_name(value).help(help).num_args(1)
        };
        command
            .about("Say how one component decides about one write")
            .long_about(about)
            .arg(Arg::new("component").value_name("FILE").help("A component, NAME.wasm").required(true))
            .arg(flag("key", "KEY", "The key that is written").required(true))
            .arg(flag("rule", "NAME", "The rule the key is under [default: none]"))
            .arg(flag("namespace", "PREFIX", "The rule's prefix [default: the key up to its last colon]"))
            .arg(
                flag("command", "KIND", "What the write does: value, counter, hash, sorted-set …")
                    .default_value("value"),
            )
            .arg(
                flag("value-bytes", "NUMBER", "The size of the value")
                    .value_parser(clap::value_parser!(u64))
                    .default_value("1"),
            )
            .arg(
                flag("client-ttl-ms", "NUMBER", "The lifetime that the client asks for [default: none]")
                    .value_parser(clap::value_parser!(u64)),
            )
            .arg(flag("market", "NAME", "The key's market [default: none]"))
            .arg(flag("at", "TIME", format::AT))
            .arg(settings_arg())
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn std::io::Write) -> anyhow::Result<ExitCode> {
    let text = |name: &str| call.matches.get_one::<String>(name).map(String::as_str);
    let path = PathBuf::from(text("component").unwrap_or_default());
    let key = text("key").unwrap_or_default();
    let kind = text("command").unwrap_or_default();
    let command = Data::parse(kind).with_context(|| format!("there is no kind of command {kind:?}"))?;
    let now = call.at()?;
    let engine = call.engine()?;
    let mount = mount(&path, call.matches.get_one("settings"))?;
    let trial = Trial::load(&engine, &mount).with_context(|| shown(&path))?;
    ensure!(
        trial.facts().roles.contains(&Role::Ttl),
        "{} exports no ttl, so it decides no lifetime; `bellwether policy test` asks it its cases",
        path.display()
    );
    let markets = text("market").map(|name| anyhow::Ok((name, standard_markets(&engine)?))).transpose()?;
    let write = Write {
        rule: text("rule").unwrap_or_default(),
        namespace: text("namespace")
            .unwrap_or_else(|| key.rfind(':').and_then(|end| key.get(..=end)).unwrap_or_default()),
        key,
        command,
        value_bytes: call.matches.get_one("value-bytes").copied().unwrap_or(1),
        client_ttl: call.matches.get_one("client-ttl-ms").copied(),
        now,
    };
    let asked = trial.ask(&mount.settings, &write, markets.as_ref().map(|(name, markets)| (*name, markets)));
    let asked = asked.with_context(|| shown(&path))?;
    writeln!(out, "now       {}", format::utc(now))?;
    writeln!(out, "key       {}", crate::proxy::shown(key.as_bytes()))?;
    writeln!(out, "settings  {}", mount.settings)?;
    explain::show_session(&asked, None, out)?;
    explain::show_asked(&asked, key.as_bytes(), now, out)?;
    Ok(if asked.decision.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The market hours that are part of this program.
fn standard_markets(engine: &crate::policy::Engine) -> anyhow::Result<Trial> {
    let standard = STANDARD.iter().find(|of| of.name == Role::MarketHours.interface());
    let standard = standard.context("there are no standard market hours")?;
    Trial::load(engine, &Mount::standard(standard))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
