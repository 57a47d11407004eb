//! A Rust project: cargo, and then the component, made as the sidecar's own policies are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::policy::componentize;

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

/// Builds a project: its name, and the component.
pub(super) fn build(folder: &Path, more: &[&String]) -> anyhow::Result<(String, Vec<u8>)> {
    let name = package(&folder.join("Cargo.toml"))?;
    require_target(folder)?;
    let module = compile(folder, more)?;
    let bytes = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = componentize::component(&bytes).with_context(|| {
        format!("{} cannot be made a component; is one of the SDK's macros in src/lib.rs?", module.display())
    })?;
    Ok((name, component))
}

/// A package's name, of its Cargo.toml.
fn package(manifest: &Path) -> anyhow::Result<String> {
    let text = super::super::read_text(manifest)?;
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
    cargo.current_dir(folder).args(["build", "--message-format", "json-render-diagnostics", "--target", TARGET]);
    // Cargo takes one of the two.
    if !more.iter().any(|argument| argument.starts_with("--profile")) {
        cargo.arg("--release");
    }
    cargo.args(more).stderr(Stdio::inherit());
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
