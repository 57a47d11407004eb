//! A Python project: componentize-py, with WASI left out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

const MADE: &str = ".component.wasm";

/// Builds a project: its name, and the component.
pub(super) fn build(folder: &Path, more: &[&String]) -> anyhow::Result<(String, Vec<u8>)> {
    let manifest = folder.join("pyproject.toml");
    let text = super::super::read_text(&manifest)?;
    let table: toml::Table = toml::from_str(&text).with_context(|| manifest.display().to_string())?;
    let at = |path: &[&str]| {
        let (last, tables) = path.split_last()?;
        let table = tables.iter().try_fold(&table, |table, name| table.get(*name)?.as_table())?;
        table.get(*last)?.as_str()
    };
    let (name, world) = super::named(&manifest, at(&["project", "name"]), at(&["tool", "bellwether", "world"]))?;
    let mut tool = Command::new(tool(folder)?);
    tool.current_dir(folder).args(["--quiet", "--wit-path", "wit", "--world", &world]);
    tool.args(["componentize", "policy", "--stub-wasi", "--output", MADE]).args(more);
    Ok((name, super::made(&mut tool, folder, MADE)?))
}

/// componentize-py of the project's own environment, or else the one that the shell would find.
fn tool(folder: &Path) -> anyhow::Result<PathBuf> {
    let own = folder.join(".venv/bin/componentize-py");
    if let Ok(own) = std::fs::canonicalize(own) {
        return Ok(own);
    }
    let found = Command::new("componentize-py").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok("componentize-py".into());
    }
    bail!(
        "componentize-py is missing; type: python3 -m venv {0}/.venv && {0}/.venv/bin/pip install -r \
         {0}/requirements.txt",
        folder.display()
    )
}
