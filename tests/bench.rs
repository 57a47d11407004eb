//! The benchmarks do what they say: their own smoke tests, with the real binary. No speed is judged.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::folder;
use crate::harness::policies::{first_policy, hostile, hostile_roles, outside, ttl};

/// Runs a command from the top of the workspace, and shows what it said where it failed.
fn run(command: &mut Command) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = command.current_dir(workspace).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// The load generator, which is no part of the product, and is built as a person would.
fn load() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    run(Command::new(env!("CARGO")).args(["build", "--locked", "-p", "bench-load", "--target-dir"]).arg(&built));
    built.join("debug/bench-load")
}

#[test]
fn smoke() {
    let mut smoke = Command::new("python3");
    smoke.args(["-B", "tests/bench/run.py", "--smoke", "--binary", env!("CARGO_BIN_EXE_bellwether"), "--load"]);
    run(smoke.arg(load()));
}

#[test]
fn smoke_of_reloads() {
    let components = folder(&[
        ("ttl.wasm", &ttl(0)),
        ("hostile.wasm", hostile()),
        ("hostile-roles.wasm", hostile_roles()),
        ("first.wasm", &first_policy()),
        ("outside.wasm", outside()),
    ]);
    let out = components.path().join("out");
    let mut smoke = Command::new("python3");
    smoke.args(["-B", "tests/bench/reload.py", "--smoke", "--binary", env!("CARGO_BIN_EXE_bellwether"), "--load"]);
    run(smoke.arg(load()).arg("--components").arg(components.path()).arg("--out").arg(&out));
    let raw: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("raw.json")).unwrap()).unwrap();
    let counted = |section: &str| {
        let records = raw["records"].as_array().unwrap().iter();
        let path = |record: &&serde_json::Value| record["section"] == section && record["path"] == "reloading";
        let figure = |figure: &str, of: &serde_json::Value| of["figures"][figure].as_u64().unwrap();
        let reloading: Vec<_> = records.filter(path).collect();
        let total = |name: &str| reloading.iter().map(|record| figure(name, record)).sum::<u64>();
        (total("generations"), total("components_compiled"))
    };
    // Other settings compile nothing.
    assert_eq!((counted("settings"), counted("component")), ((3, 0), (2, 2)));
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    for section in [
        "## Goals",
        "## Reloads under load",
        "### As a ttl policy",
        "### As market hours",
        "### With WASI",
        "| many tables |",
        "### A component of all roles, by its settings",
    ] {
        assert!(report.contains(section), "{section:?} is not in the report:\n{report}");
    }
}
