//! `bellwether config`: the configuration in force, with the source of each value.

use std::io::Write;
use std::process::ExitCode;

use super::{Call, Verb, unless_unread};
use crate::config::Shown;

pub(super) const VERB: Verb = Verb {
    name: "config",
    command: |command| command.about("Print the configuration in force, as a file, with the source of each value"),
    run: |call, out| unless_unread(run(&call, out)),
};

fn run(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    for Shown { setting, text, hides, source } in call.texts.shown() {
        let value = if setting.number { text } else { toml::Value::String(text).to_string() };
        // What is printed can be used as a file: a password that is not shown is not one of "(not shown)".
        let comment = if hides { "# " } else { "" };
        writeln!(out, "# {} Takes {}.", setting.docs.trim(), setting.takes)?;
        writeln!(out, "{comment}{} = {value}  # {source}\n", setting.name)?;
    }
    Ok(ExitCode::SUCCESS)
}
