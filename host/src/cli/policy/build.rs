//! `bellwether policy build`: cargo, and then the component, made as the sidecar's own policies are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgAction};
use serde::Deserialize;

use super::super::{Call, Verb, check};
use super::check::Checked;
use super::engine;
use crate::policy::componentize::component;

pub(super) const VERB: Verb = Verb {
    name: "build",
    command: |command| {
        let about = "Compile a project for wasm32-unknown-unknown with cargo, make a component of it, and say what it \
                     exports and imports. Cases are not asked: `policy test` does that. Exits with 1 if the sidecar \
                     would refuse the component.";
        command
            .about("Compile a project to a component")
            .long_about(about)
            .arg(Arg::new("folder").value_name("FOLDER").help("The project, with its Cargo.toml").default_value("."))
            .arg(
                Arg::new("out")
                    .long("out")
                    .value_name("FILE")
                    .help("Where the component goes, with its cases beside it [default: NAME.wasm in the project]"),
            )
            .arg(
                Arg::new("cargo")
                    .value_name("CARGO")
                    .help("Further arguments for cargo, such as --locked --offline")
                    .num_args(0..)
                    .last(true)
                    .action(ArgAction::Append),
            )
    },
    run,
};

const TARGET: &str = "wasm32-unknown-unknown";
/// What a surrounding build is wrapped in is not for the guest.
const NOT_INHERITED: [&str; 7] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_MANIFEST_DIR",
];

/// A line of cargo's, where it tells of something it made.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn run(call: Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let folder = call.matches.get_one::<String>("folder").map_or(Path::new("."), Path::new);
    let manifest = folder.join("Cargo.toml");
    ensure!(manifest.is_file(), "{} is no project: it has no Cargo.toml", folder.display());
    let name = package(&manifest)?;
    require_target(folder)?;
    let more = call.matches.get_many::<String>("cargo").unwrap_or_default();
    let module = compile(folder, &more.collect::<Vec<_>>())?;
    let bytes = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = component(&bytes).with_context(|| {
        format!("{} cannot be made a component; is one of the SDK's macros in src/lib.rs?", module.display())
    })?;
    let path = call.matches.get_one::<String>("out").map_or(folder.join(format!("{name}.wasm")), PathBuf::from);
    put(&path, &component)?;
    let cases = folder.join(format!("{name}.cases.toml"));
    let beside = path.with_extension("cases.toml");
    if cases.is_file() && cases != beside {
        put(&beside, &std::fs::read(&cases).with_context(|| format!("cannot read {}", cases.display()))?)?;
    }
    let built = Checked::built(&engine(&call)?, &path);
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

/// A package's name, of its Cargo.toml.
fn package(manifest: &Path) -> anyhow::Result<String> {
    let text = super::read_text(manifest)?;
    let table: toml::Table = toml::from_str(&text).with_context(|| manifest.display().to_string())?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    Ok(name.with_context(|| format!("{} names no package", manifest.display()))?.to_owned())
}

/// A missing target shows as hundreds of errors about `core`; say what to type instead.
fn require_target(folder: &Path) -> anyhow::Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(folder).args(["--print", "target-libdir", "--target", TARGET]);
    let told = rustc.output().context("cannot run rustc; install Rust as https://rustup.rs says")?;
    let libraries = String::from_utf8_lossy(&told.stdout);
    ensure!(
        Path::new(libraries.trim()).is_dir(),
        "policies are WebAssembly and their target is missing; type: rustup target add {TARGET}"
    );
    Ok(())
}

/// Runs cargo, and gives the module it made.
fn compile(folder: &Path, more: &[&String]) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args(["build", "--release", "--target", TARGET, "--message-format"]);
    cargo.arg("json-render-diagnostics").args(more).stderr(Stdio::inherit());
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    let told = cargo.output().context("cannot run cargo; install Rust as https://rustup.rs says")?;
    ensure!(told.status.success(), "{} does not compile; the errors stand above", folder.display());
    let manifest = std::fs::canonicalize(folder.join("Cargo.toml")).context("the project is gone")?;
    for line in told.stdout.split(|byte| *byte == b'\n') {
        // Other lines are of kinds that say nothing about what was made.
        let Ok(message) = serde_json::from_slice::<Message>(line) else { continue };
        let is_own = message.reason == "compiler-artifact"
            && std::fs::canonicalize(&message.manifest_path).is_ok_and(|path| path == manifest);
        let module = message.filenames.into_iter().find(|file| file.extension().is_some_and(|of| of == "wasm"));
        if let (true, Some(module)) = (is_own, module) {
            return Ok(module);
        }
    }
    bail!(
        "cargo made no WebAssembly module of {}; its Cargo.toml needs:  [lib]  crate-type = [\"cdylib\", \"rlib\"]",
        folder.display()
    )
}

/// Puts a file there in one step: a sidecar that watches the folder sees all of it or nothing.
fn put(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("no file was named")?;
    let beside = path.with_file_name(format!(".{name}.new"));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
