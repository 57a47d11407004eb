//! `bellwether market`: what all markets are doing, or one of them, and what they do next.

mod list;
mod one;
mod timeline;
mod watch;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction};

use super::paint::Paint;
use super::{Call, Verb, format, screen, unless_unread};
use crate::policy::{Decider, PolicySet};

pub(super) const VERB: Verb = Verb {
    name: "market",
    command: |command| {
        command
            .about("Say what a market is doing, and what it does next")
            .long_about(
                "Say what a market is doing and what it does next: its phase, its week hour by hour, its next special \
                 days with their source, and how far its calendar reaches. Without a market, all are listed.",
            )
            .arg(Arg::new("market").value_name("MARKET").help("The market, such as XBOM; without it, all are listed"))
            .arg(Arg::new("at").long("at").value_name("TIME").help(format::AT))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON, instants in RFC 3339"))
            .arg(
                Arg::new("watch")
                    .long("watch")
                    .action(ArgAction::SetTrue)
                    .conflicts_with_all(["market", "json"])
                    .help("All markets on the terminal, drawn anew every second until Ctrl-C; those that trade first"),
            )
    },
    run: |call, out| unless_unread(run(&call, out)),
};

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if call.matches.get_flag("watch") {
        return watch::watch(call, out);
    }
    let reloader = call.reloader()?;
    let set = PolicySet::load(reloader.engine(), 1, &reloader.mounts()?, None)?;
    let mut decider = Decider::new(Arc::new(set));
    let (at, json) = (call.at()?, call.matches.get_flag("json"));
    let paint = Paint::of(call);
    match call.matches.get_one::<String>("market") {
        None => list::print(&mut decider, at, json, paint, out)?,
        Some(name) => one::print(&mut decider, name, at, json, paint, out)?,
    }
    Ok(ExitCode::SUCCESS)
}
