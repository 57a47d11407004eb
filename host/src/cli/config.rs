//! `bellwether config`: the configuration in force, with the source of each value.

use std::io::Write;
use std::process::ExitCode;

use super::{Call, Verb};

pub(super) const VERB: Verb = Verb {
    name: "config",
    command: |command| command.about("Print the configuration in force, as a file, with the source of each value"),
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    for (setting, text, source) in call.texts.shown() {
        let value = if setting.number { text } else { format!("{text:?}") };
        writeln!(out, "# {} Takes {}.", setting.docs.trim(), setting.takes)?;
        writeln!(out, "{} = {value}  # {source}\n", setting.name)?;
    }
    Ok(ExitCode::SUCCESS)
}
