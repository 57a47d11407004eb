//! Compiles the standard policies to components, so that `cargo run` is all it takes.

#[path = "src/policy/componentize.rs"]
#[allow(unreachable_pub, reason = "the program's own file")]
mod componentize;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

const TARGET: &str = "wasm32-unknown-unknown";
const POLICIES: [&str; 3] = ["market-hours", "namespaces", "ttl"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As cargo's own error: what to type is not to be looked for in a backtrace.
            println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn build() -> anyhow::Result<()> {
    let host = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = host.parent().context("the host crate stands in a workspace")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for watched in ["wit", "policies", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    require_target()?;
    let target_dir = out.join("policies");
    compile(workspace, &target_dir)?;
    for policy in POLICIES {
        let module = target_dir.join(TARGET).join("policy").join(format!("{}.wasm", policy.replace('-', "_")));
        let module = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        let component =
            componentize::component(&module).with_context(|| format!("cannot make a component of {policy}"))?;
        std::fs::write(out.join(format!("{policy}.wasm")), component)?;
    }
    Ok(())
}

/// A missing target shows as hundreds of errors about `core`; say what to type instead.
fn require_target() -> anyhow::Result<()> {
    let rustc = variable("RUSTC")?;
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let folder = String::from_utf8(libraries.stdout)?;
    if !Path::new(folder.trim()).is_dir() {
        bail!("the standard policies are WebAssembly and their target is missing; type: rustup target add {TARGET}");
    }
    Ok(())
}

fn compile(workspace: &Path, target_dir: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "policy", "--target", TARGET])
        .arg("--target-dir");
    cargo.arg(target_dir);
    for policy in POLICIES {
        cargo.args(["--package", &format!("{policy}-policy")]);
    }
    // What the outer build is wrapped in (clippy, coverage, flags for the host) is not for the guest.
    for (name, _) in std::env::vars() {
        let inherited = name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_CFG_")
            || name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_TARGET_")
            || ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
                .contains(&name.as_str())
            || ["CARGO_BUILD_TARGET", "LLVM_PROFILE_FILE", "RUSTDOCFLAGS", "CARGO_INCREMENTAL"]
                .contains(&name.as_str())
            || ["CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_RUSTC_WRAPPER", "CARGO_MANIFEST_DIR"].contains(&name.as_str());
        if inherited {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().context("cannot run cargo for the standard policies")?;
    if !status.success() {
        bail!("the standard policies do not compile; the errors stand above");
    }
    Ok(())
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("cargo did not set {name}"))
}
