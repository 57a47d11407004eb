//! `bellwether bypass`: takes policies out of the path of running sidecars, or back into it.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction};

use super::{Call, Verb, fetch, rollout};

pub(super) const VERB: Verb = Verb {
    name: "bypass",
    command: |command| {
        command
            .about("Make running sidecars plain proxies, or end that")
            .long_about(
                "Takes policies out of the path at once, for the bad day: no rule holds, no lifetime is given, nothing \
                 is refused, nothing is served from memory, there are no leases and no old values. Access rules do not \
                 hold either. The near cache stays true meanwhile and is used again afterwards; old values beside keys \
                 are not kept up to date, as with writes past the sidecar. With state_dir it outlives a restart.",
            )
            .arg(Arg::new("is").value_name("on|off").value_parser(["on", "off"]).required(true))
            .arg(
                Arg::new("address")
                    .value_name("ADDRESS")
                    .action(ArgAction::Append)
                    .help("Host and port of a sidecar's admin server [default: admin_listen]"),
            )
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let is = call.matches.get_one::<String>("is").context("on or off")?;
    let mut failed = false;
    for address in fetch::addresses(&call)? {
        let said = rollout::order(&call, &address, &format!("/bypass?is={is}"), &[]);
        failed |= said.is_err();
        match said {
            Ok((_, said)) => writeln!(out, "{address}: {said}")?,
            // It names the address.
            Err(error) => writeln!(out, "{error:#}")?,
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
