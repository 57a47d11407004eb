//! `bellwether compile`: what the server starts to compile a component; nobody types it.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, builder::PossibleValuesParser};

use super::{Call, Verb};
use crate::policy::Engine;

pub(super) const VERB: Verb = Verb {
    name: "compile",
    command: |command| {
        command
            .hide(true)
            .about("Compile the component on standard input into compiled_folder, and say why if that fails")
            .arg(Arg::new("shape").required(true).value_parser(PossibleValuesParser::new(Engine::SHAPES)))
    },
    run,
};

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let shape = call.matches.get_one::<String>("shape").context("there is no shape")?;
    let mut component = Vec::new();
    std::io::stdin().read_to_end(&mut component).context("cannot read the component")?;
    let engine = Engine::new(&call.config)?;
    match engine.compile_for_another(shape, &component, call.config.policy_compile_bytes_max) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            write!(out, "{error:#}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
