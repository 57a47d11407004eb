//! The benchmark does what it says: its own smoke test, with the real binary. No speed is judged.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command from the top of the workspace, and shows what it said where it failed.
fn run(command: &mut Command) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = command.current_dir(workspace).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{said}");
}

#[test]
fn smoke() {
    // The load generator is no part of the product, and is built as a person would.
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    run(Command::new(env!("CARGO")).args(["build", "--locked", "-p", "bench-load", "--target-dir"]).arg(&built));
    let mut smoke = Command::new("python3");
    smoke.args(["-B", "tests/bench/run.py", "--smoke", "--binary", env!("CARGO_BIN_EXE_bellwether"), "--load"]);
    run(smoke.arg(built.join("debug/bench-load")));
}
