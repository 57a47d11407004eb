//! A JavaScript project: componentize-js as a library, with everything left out that would import WASI.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

const MADE: &str = ".component.wasm";
const SCRIPT: &str = include_str!("../../../../templates/build.mjs");

/// Builds a project: its name, and the component.
pub(super) fn build(folder: &Path, more: &[&String]) -> anyhow::Result<(String, Vec<u8>)> {
    ensure!(more.is_empty(), "componentize-js is a library and takes no further arguments");
    let manifest = folder.join("package.json");
    let text = super::super::read_text(&manifest)?;
    let package: Value = serde_json::from_str(&text).with_context(|| manifest.display().to_string())?;
    let at = |path: &str| package.pointer(path).and_then(Value::as_str);
    let (name, world) = super::named(&manifest, at("/name"), at("/bellwether/world"))?;
    let found = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(
        found.is_ok_and(|status| status.success()),
        "node is missing; install Node.js 20 or later, as https://nodejs.org says"
    );
    // As node looks for it: in the project, and in the folders around it.
    let whole = std::fs::canonicalize(folder).context("the project is gone")?;
    let is_there = whole.ancestors().any(|of| of.join("node_modules/@bytecodealliance/componentize-js").is_dir());
    ensure!(is_there, "componentize-js is missing; type: npm install --prefix {}", folder.display());
    let mut node = Command::new("node");
    node.current_dir(folder).args(["--input-type=module", "--eval", SCRIPT, "policy.js", "wit", &world, MADE]);
    Ok((name, super::made(&mut node, folder, MADE)?))
}
