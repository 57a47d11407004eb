//! `policy check`: one row for each kind of component, with what is said of it.

use super::{check, check_json, renamed};
use crate::harness::folder;
use crate::harness::policies::{empty_component, hostile, ttl, ttl_module};

/// A file that would be refused: its name, its bytes, the stage, and what is said.
struct Refused {
    name: &'static str,
    bytes: Vec<u8>,
    stage: &'static str,
    expect: &'static [&'static str],
}

fn refused() -> Vec<Refused> {
    let row = |name, bytes, stage, expect| Refused { name, bytes, stage, expect };
    let whole = ttl(1);
    vec![
        row("text.wasm", b"(component)".to_vec(), "compile", &["this is not a WebAssembly component"]),
        row("module.wasm", ttl_module().to_vec(), "compile", &["this is a core module, not a component"]),
        row("half.wasm", whole[..whole.len() / 2].to_vec(), "compile", &["out of bounds"]),
        row("nothing.wasm", empty_component(""), "compile", &["fault      role: exports none of bellwether:policy/"]),
        row(
            "wasi.wasm",
            empty_component("wasi:nn/graph@0.2.0"),
            "compile",
            &["fault      wasi:nn/graph@0.2.0: imports what this host does not offer; policies import the contract"],
        ),
        row(
            "missing.wasm",
            renamed(&whole, "decide", "decode"),
            "compile",
            &["ttl.decide: is not exported", "expected func(request: request) -> result<decision, string>"],
        ),
        row(
            "lifecycle.wasm",
            renamed(&whole, "lifecycle", "lifecyclo"),
            "compile",
            &["fault      lifecycle: is not exported: every policy exports bellwether:policy/lifecycle@0.1.0"],
        ),
        row(
            "field.wasm",
            renamed(&whole, "spread-ms", "spread-us"),
            "configure",
            &[
                "fault      ttl.decide: has another type",
                "expected func(request: request) -> result<decision, string>",
                "where    the result ok: expected record decision { expiry: expiry, spread-ms: millis, ",
                "found record decision { expiry: expiry, spread-us: ",
            ],
        ),
        row(
            "parameter.wasm",
            renamed(&whole, "settings", "sottings"),
            "configure",
            &[
                "fault      lifecycle.configure: has another type",
                "found    func(sottings: string) -> result<_, string>",
                "where    the parameters",
            ],
        ),
        row(
            "version.wasm",
            renamed(&whole, "@0.1.0", "@0.2.0"),
            "compile",
            &["fault      contract 0.2.0: this host (bellwether 0.1.0) speaks 0.1.0: build the policy with the SDK"],
        ),
    ]
}

#[test]
fn each_fault_is_named() {
    let files = refused();
    let there = folder(&files.iter().map(|of| (of.name, of.bytes.as_slice())).collect::<Vec<_>>());
    for file in &files {
        let stage = format!("{}\n  REFUSED    at {}: ", file.name, file.stage);
        check(there.path(), &["check", file.name], 1, &[&[stage.as_str()], file.expect].concat());
    }
    let names: Vec<_> = files.iter().map(|file| file.name).collect();
    let all = check_json(there.path(), &[&["check", "none.wasm"], names.as_slice()].concat(), 1);
    assert_eq!(all["refused"], files.len() + 1);
    assert_eq!(all["files"][0]["refused"]["stage"], "read");
    let field = all["files"].as_array().unwrap().iter().find(|of| of["file"] == "field.wasm").unwrap();
    assert_eq!(field["ok"], false);
    assert_eq!(field["faults"][0]["item"], "ttl.decide");
    assert_eq!(
        field["faults"][0]["expected"], field["faults"][0]["found"],
        "the names are the same, what is in is not"
    );
    assert!(field["faults"][0]["where"].as_str().unwrap().contains("spread-us"));
}

#[test]
fn what_is_well_formed_is_shown() {
    let settings = b"[settings.namespaces.\"fyntrix:general\"]\nopen_ttl_ms = 5000";
    let cases = b"[[case]]\nname = \"x\"\nnow = \"2026-11-23T10:00:00+05:30\"\nrule = \"fyntrix:context\"\n\
                  expect = { after-ms = 7200000 }";
    let own = ttl(1);
    let files: [(&str, &[u8]); 4] =
        [("ttl.wasm", &own), ("ttl.toml", settings), ("ttl.cases.toml", cases), ("hostile.wasm", hostile())];
    let there = folder(&files);
    let expect = [
        "ttl\n  is         ttl 0.1.0: ",
        "contract   bellwether:policy@0.1.0, which bellwether 0.1.0 speaks",
        "memory     1114112 bytes from the start",
        "settings   {\"namespaces\":{\"fyntrix:general\":{\"open_ttl_ms\":5000}}}",
        "self-test  1 cases passed",
        "ok: 2 would be served",
    ];
    check(there.path(), &["check", "ttl.wasm", "hostile.wasm"], 0, &expect);
    let all = check_json(there.path(), &["check", "ttl.wasm"], 0);
    let file = &all["files"][0];
    assert_eq!(file["roles"], serde_json::json!(["ttl"]));
    assert_eq!(
        file["imports"][0],
        serde_json::json!({ "name": "bellwether:policy/log@0.1.0", "offered": true, "inert": false })
    );
    assert_eq!((&file["memory_bytes"], &file["cases_passed"]), (&1_114_112.into(), &1.into()));
}

#[test]
fn settings_and_limits_are_the_servers() {
    let there =
        folder(&[("hostile.wasm", hostile()), ("other.toml", b"[settings]\ntl_ms = 1"), ("bad.toml", b"tl = 1")]);
    let one = |args: &[&str], expect: &str| {
        check(there.path(), &[&["check", "hostile.wasm"], args].concat(), 1, &[expect]);
    };
    one(&["--settings", "other.toml"], "REFUSED    at configure: refused its settings: unknown setting \"tl_ms\"");
    one(&["--settings", "bad.toml"], "REFUSED    at read: bad.toml has \"tl\"; a policy's file has component");
    one(&["--settings", "none.toml"], "REFUSED    at read: cannot read none.toml");
    one(&["--policy-component-bytes-max", "100"], "at compile: ");
    one(&["--policy-memory-bytes-max", "65536"], "of memory from the start; at most 65536 are allowed");
    one(&["--policy-load-fuel-max", "10"], "at configure: ");
    check(there.path(), &["check"], 64, &["<FILE>"]);
    check(there.path(), &["check", "x.wasm", "--upstream", "redis://x"], 64, &["unexpected argument '--upstream'"]);
}
