//! The soak (`tests/soak`), as briefly as CI can have it: all kinds of faults under mixed load, in both choices of what
//! clients are told; and that it sees what it is there to see. The hour is `just soak`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The program, built as a person would: it is no part of the product.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Where the benchmark's program is built, too: most of what both depend on is the same.
        let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "-p", "soak", "--target-dir"]).arg(&built);
        let output = cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built.join("debug/soak")
    })
}

fn soak(flags: &[&str]) -> (Output, String) {
    let mut command = Command::new(program());
    command.args(["--binary", env!("CARGO_BIN_EXE_bellwether"), "--quick"]).args(flags);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

fn check(on_loss: &str) {
    let (output, said) = soak(&["--seconds", "30", "--on-loss", on_loss]);
    assert!(output.status.success(), "{on_loss}:\n{said}");
    let faults = said.lines().filter(|line| line.contains("all well after")).count();
    assert!(faults > 5 && said.lines().any(|line| line.starts_with("passed: ")), "{on_loss}:\n{said}");
}

#[test]
fn all_goes_well_with_close() {
    check("close");
}

#[test]
fn all_goes_well_with_error() {
    check("error");
}

/// A soak that finds nothing shows nothing unless it would have found something.
#[test]
fn what_is_damaged_is_seen() {
    let check = |sabotage: &str, expect: &str| {
        let (output, said) = soak(&["--seconds", "6", "--sabotage", sabotage]);
        let is_seen = said.lines().any(|line| line.starts_with(&format!("BROKEN {expect}: ")));
        assert!(output.status.code() == Some(1) && is_seen, "{sabotage}:\n{said}");
    };
    check("swap", "Swapped");
    check("lose", "Lost");
    check("twice", "Twice");
    check("message", "Order");
}
