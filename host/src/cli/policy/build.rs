//! `bellwether policy build`: the language's own tools, and what the component they make exports and imports.

mod js;
mod python;
mod rust;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgAction};

use super::super::{Call, Verb, check};
use super::check::Checked;

pub(super) const VERB: Verb = Verb {
    name: "build",
    command: |command| {
        let about = "Compile a project to a component, and say what it exports and imports: with cargo for \
                     wasm32-unknown-unknown where it has a Cargo.toml, with componentize-py where it has a \
                     pyproject.toml, with componentize-js where it has a package.json. Cases are not asked: `policy \
                     test` does that. Exits with 1 if the sidecar would refuse the component.";
        command
            .about("Compile a project to a component")
            .long_about(about)
            .arg(Arg::new("folder").value_name("FOLDER").help("The project").default_value("."))
            .arg(
                Arg::new("out")
                    .long("out")
                    .value_name("FILE")
                    .help("Where the component goes, with its cases beside it [default: NAME.wasm in the project]"),
            )
            .arg(
                Arg::new("tool")
                    .value_name("ARGUMENT")
                    .help("Further arguments for cargo or componentize-py, such as --locked --offline")
                    .num_args(0..)
                    .last(true)
                    .action(ArgAction::Append),
            )
    },
    run,
};

/// Builds a project in a folder with more arguments for its tool: its name, and the component.
type Build = fn(&Path, &[&String]) -> anyhow::Result<(String, Vec<u8>)>;

/// Each language by the file that its projects have.
const LANGUAGES: [(&str, Build); 3] =
    [("Cargo.toml", rust::build), ("pyproject.toml", python::build), ("package.json", js::build)];

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let folder = call.matches.get_one::<String>("folder").map_or(Path::new("."), Path::new);
    let found = LANGUAGES.iter().find(|(manifest, _)| folder.join(manifest).is_file());
    let shown = folder.display();
    let (_, build) = found
        .with_context(|| format!("{shown} is no project: it has no Cargo.toml, pyproject.toml or package.json"))?;
    let more = call.matches.get_many::<String>("tool").unwrap_or_default();
    let (name, component) = build(folder, &more.collect::<Vec<_>>())?;
    let path = call.matches.get_one::<String>("out").map_or(folder.join(format!("{name}.wasm")), PathBuf::from);
    put(&path, &component)?;
    let cases = folder.join(format!("{name}.cases.toml"));
    let beside = path.with_extension("cases.toml");
    if cases.is_file() && cases != beside {
        put(&beside, &std::fs::read(&cases).with_context(|| format!("cannot read {}", cases.display()))?)?;
    }
    let built = Checked::built(&call.engine()?, &path);
    let Ok(policy) = &built.loaded else {
        built.show(out)?;
        writeln!(out, "{} is built, and would be refused", path.display())?;
        return Ok(ExitCode::FAILURE);
    };
    let facts = &policy.facts;
    let or_none = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    writeln!(out, "{}, {} bytes", path.display(), facts.bytes)?;
    writeln!(out, "  digest     sha256:{}", facts.digest)?;
    writeln!(out, "  exports    {}", or_none(&facts.exports))?;
    check::show_imports(facts, out)?;
    writeln!(out, "Now type:  bellwether policy test {}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The policy's name and its world, as the manifest of a project in an interpreted language has them.
fn named(manifest: &Path, name: Option<&str>, world: Option<&str>) -> anyhow::Result<(String, String)> {
    let shown = manifest.display();
    let name = name.with_context(|| format!("{shown} names no project"))?;
    let world = world.with_context(|| format!("{shown} says no world for bellwether, such as ttl-policy"))?;
    ensure!(
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
        "{shown}: {name:?} is no name of a policy"
    );
    Ok((name.to_owned(), world.to_owned()))
}

/// Runs a tool that makes a component in a file of the project, and takes it from there.
fn made(tool: &mut std::process::Command, folder: &Path, file: &str) -> anyhow::Result<Vec<u8>> {
    // A pipe that a program reads us from is not the tool's.
    let ended = tool.stdin(std::process::Stdio::null()).stdout(std::io::stderr()).status();
    let path = folder.join(file);
    let component = match ended {
        Ok(status) if status.success() => {
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        }
        Ok(_) => bail!("{} cannot be made a component; the errors stand above", folder.display()),
        Err(error) => Err(error).with_context(|| format!("cannot run {}", tool.get_program().display())),
    };
    drop(std::fs::remove_file(path));
    component
}

/// Puts a file there in one step: a sidecar that watches the folder sees all of it or nothing.
fn put(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("no file was named")?;
    let beside = path.with_file_name(format!(".{name}.new"));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
