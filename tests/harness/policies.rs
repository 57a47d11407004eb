//! Policies for tests: folders with their files, and real components, built once for the whole program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with files.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        put(folder.path(), name, content);
    }
    folder
}

/// Puts a file in a folder in one step, as a careful deployment does.
pub fn put(folder: &Path, name: &str, content: &[u8]) {
    let beside = folder.join(format!(".{name}"));
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, folder.join(name)).unwrap();
}

/// The hostile component of `tests/hostile`.
pub fn hostile() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| component(&module("hostile-policy")))
}

/// The component of `tests/hostile-roles`.
pub fn hostile_roles() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| component(&module("hostile-roles-policy")))
}

/// The component of `tests/scripted-market`, a market-hours policy whose sessions are its settings.
pub fn market() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| component(&module("scripted-market-policy")))
}

/// The component of `examples/first-policy`.
pub fn first_policy() -> Vec<u8> {
    component(&module("first-policy"))
}

/// The component of `tests/outside`, which imports WASI: its target makes a component by itself.
pub fn outside() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| built("outside-policy", "wasm32-wasip2"))
}

/// The standard ttl component, built by itself; `build` makes its bytes, and nothing else, differ.
pub fn ttl(build: usize) -> Vec<u8> {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    let mut bytes = COMPONENT.get_or_init(|| component(ttl_module())).clone();
    // A custom section: id 0, size, and a name, which is all that is in it.
    let name = format!("build {build:06}");
    bytes.extend([0, u8::try_from(name.len() + 1).unwrap(), u8::try_from(name.len()).unwrap()]);
    bytes.extend(name.into_bytes());
    bytes
}

/// The core module of the standard ttl policy: what is not a component yet.
pub fn ttl_module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| module("ttl-policy"))
}

/// A component that exports nothing, and imports an interface where one is named.
pub fn empty_component(import: &str) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    if !import.is_empty() {
        // Types: one, of an instance without items. Imports: one, of an instance of that type.
        let length = u8::try_from(import.len()).unwrap();
        bytes.extend([7, 3, 1, 0x42, 0, 10, length + 5, 1, 0, length]);
        bytes.extend(import.bytes());
        bytes.extend([5, 0]);
    }
    bytes
}

fn component(module: &[u8]) -> Vec<u8> {
    wit_component::ComponentEncoder::default().validate(true).module(module).unwrap().encode().unwrap()
}

fn module(package: &str) -> Vec<u8> {
    built(package, "wasm32-unknown-unknown")
}

/// Builds a package of this workspace for a target, as its author would.
fn built(package: &str, target: &str) -> Vec<u8> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("policies");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "policy", "--target", target, "--package", package])
        .arg("--target-dir")
        .arg(&target_dir);
    // What the outer build is wrapped in is not for the guest.
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    let file = match package {
        "ttl-policy" => "ttl.wasm".to_owned(),
        other => format!("{}.wasm", other.replace('-', "_")),
    };
    std::fs::read(target_dir.join(target).join("policy").join(file)).unwrap()
}
