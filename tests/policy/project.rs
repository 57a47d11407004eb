//! `policy new` and `policy build`: a new project of each role builds, loads and passes its cases as it is, offline.

use std::path::Path;
use std::process::Output;

use super::check;
use crate::harness::{folder, run_with};

const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/sdk");

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Builds without a network; all projects share what they compile.
fn build(folder: &Path, args: &[&str], code: i32, expect: &[&str]) {
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/new");
    let variables = [("CARGO_NET_OFFLINE", "true"), ("CARGO_TARGET_DIR", target)];
    let output = run_with(&variables, &[&["policy", "build"], args].concat(), folder);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}", text(&output));
    for expect in expect {
        assert!(text(&output).contains(expect), "{args:?}\nno {expect:?} in\n{}", text(&output));
    }
}

#[test]
fn a_project_of_each_role_works_as_it_is() {
    let there = folder(&[]);
    for role in ["ttl", "namespaces", "market-hours"] {
        let name = format!("a-{role}");
        let made = format!("{name} is a {role} policy: ");
        check(there.path(), &["new", &name, "--role", role, "--sdk", SDK], 0, &[&made, "policy build a-"]);
        let exports = format!("exports    bellwether:policy/lifecycle@0.1.0, bellwether:policy/{role}@0.1.0");
        build(there.path(), &[&name], 0, &[&format!("{name}/{name}.wasm, "), "digest     sha256:", &exports]);
        let tested = check(there.path(), &["test", &name], 0, &[" passed, 0 failed; "]);
        assert!(!tested.contains("WARNING"), "{tested}");
        check(there.path(), &["check", &format!("{name}/{name}.wasm")], 0, &["ok: 1 would be served"]);
        let project = there.path().join(&name);
        let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
        assert!(readme.lines().count() <= 12 && !readme.contains("{{"), "{readme}");
    }
    let code = there.path().join("a-namespaces/src/lib.rs");
    let twice = std::fs::read_to_string(&code).unwrap().replace("Rule::new(\"sessions\"", "Rule::new(\"quotes\"");
    std::fs::write(&code, twice).unwrap();
    build(there.path(), &["a-namespaces"], 1, &["REFUSED    at assemble: two rules are called \"quotes\""]);
    // Into a policy folder, under another name, with its cases; and what does not compile, or is no policy.
    std::fs::create_dir(there.path().join("policies.d")).unwrap();
    build(there.path(), &["a-ttl", "--out", "policies.d/ttl.wasm", "--", "--locked"], 0, &["policies.d/ttl.wasm, "]);
    check(there.path(), &["test", "policies.d"], 0, &["policies.d/ttl.wasm sha256:"]);
    let project = there.path().join("a-ttl");
    std::fs::write(project.join("src/lib.rs"), "pub fn nothing() {}").unwrap();
    check(there.path(), &["test", "a-ttl"], 0, &["WARNING a-ttl/a-ttl.wasm is older than its source; "]);
    build(there.path(), &["a-ttl"], 1, &["fault      role: exports none of", "is built, and would be refused"]);
    std::fs::write(project.join("src/lib.rs"), "fn").unwrap();
    build(
        there.path(),
        &["a-ttl"],
        1,
        &["error: expected identifier", "a-ttl does not compile; the errors stand above"],
    );
    let manifest = std::fs::read_to_string(project.join("Cargo.toml")).unwrap();
    std::fs::write(project.join("src/lib.rs"), "").unwrap();
    std::fs::write(project.join("Cargo.toml"), manifest.replace("\"cdylib\", ", "")).unwrap();
    build(there.path(), &["a-ttl"], 1, &["its Cargo.toml needs:  [lib]  crate-type"]);
}

#[test]
fn what_cannot_be_made_is_not() {
    let there = folder(&[("file", b"")]);
    let refused = |args: &[&str], expect: &str| drop(check(there.path(), &[&["new"], args].concat(), 1, &[expect]));
    refused(&["Big", "--sdk", SDK], "\"Big\" is no name of a policy: it begins with a lower-case letter");
    refused(&["9lives", "--sdk", SDK], "\"9lives\" is no name of a policy");
    refused(&["test", "--sdk", SDK], "\"test\" is a name that Rust or the SDK has for something else");
    refused(&[".", "--sdk", SDK], "\"\" is no name of a policy");
    refused(&["file", "--sdk", SDK], "cannot read the folder file");
    refused(&["a"], "the SDK is not published yet, and this is no checkout of Bellwether: give its folder (--sdk");
    refused(&["a", "--sdk", "."], ". does not hold the SDK");
    refused(&["a", "--sdk", "nowhere"], "cannot find the SDK at nowhere");
    assert!(!there.path().join("a").exists());
    // The checkout is found from inside; a repository is taken at its word.
    let git = "https://example.com/bellwether.git";
    check(there.path(), &["new", "a", "--sdk", git], 0, &[]);
    let manifest = std::fs::read_to_string(there.path().join("a/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("bellwether-sdk = {{ git = \"{git}\" }}")), "{manifest}");
    refused(&["a", "--sdk", SDK], "a is there and not empty; nothing was written");
    let sdk = there.path().join("policies/sdk");
    std::fs::create_dir_all(&sdk).unwrap();
    std::fs::write(sdk.join("Cargo.toml"), "[package]\nname = \"bellwether-sdk\"").unwrap();
    check(
        there.path(),
        &["new", "deep/er"],
        0,
        &["deep/er is a ttl policy: deep/er/src/lib.rs, deep/er/er.cases.toml"],
    );
    let manifest = std::fs::read_to_string(there.path().join("deep/er/Cargo.toml")).unwrap();
    assert!(manifest.contains("bellwether-sdk = { path = \"/") && manifest.contains("/policies/sdk\" }"), "{manifest}");
    build(there.path(), &["nowhere"], 1, &["nowhere is no project: it has no Cargo.toml"]);
    check(there.path(), &["test", "a"], 1, &["a is not built; type: bellwether policy build a"]);
}
