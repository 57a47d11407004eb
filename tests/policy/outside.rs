//! Components that import WASI: they load, and what they are told of the world outside is nothing.

use super::{check, check_json};
use crate::harness::folder;
use crate::harness::policies::outside;

#[test]
fn wasi_has_nothing_behind_it() {
    let there = folder(&[("outside.wasm", outside())]);
    // The same on another day: neither the clock nor chance comes in from outside.
    let asked = |what: &str, code, expect: &[&str]| {
        for at in ["2026-11-23T10:00:00Z", "2030-01-01T00:00:00Z"] {
            let key = format!("outside:{what}");
            check(there.path(), &["explain", "outside.wasm", "--key", &key, "--at", at], code, expect);
        }
    };
    let told = |what: &str, expect: &str| asked(what, 0, &[&format!("because   {expect}\n")]);
    told("nothing", "\"nothing was asked\"");
    told("clock", "Ok(0ns)");
    told("stopwatch", "0ns");
    told("random", "1742378985846435984");
    told("file", "Err(NotFound)");
    told("folder", "Err(NotFound)");
    told("environment", "(0, 0)");
    told("network", "Err(PermissionDenied)");
    told("input", "Ok(0)");
    told("wait", "\"waited\"");
    asked("exit", 1, &["policy    outside failed: ", "the policy ended itself (wasi:cli/exit)"]);
    asked("flood", 1, &["all fuel consumed by calls of WASI", "log       INFO: again"]);
    asked("panic", 1, &["wasm trap: wasm `unreachable`", "log       WARN: the message of a panic"]);
    let lines = ["INFO: to standard output", "WARN: to standard error", "WARN: without an end of line"];
    asked("print", 0, &lines);
}

#[test]
fn fresh_and_warm_instances_answer_the_same() {
    let cases = "now = 2026-11-23T10:00:00Z\n[[case]]\nname = \"x\"\nexpect = { after-ms = 1000 }\n\
                 rows = [{ key = \"a:clock\" }, { key = \"a:print\" }, { key = \"a:network\" }, { key = \"a:input\" }]";
    let there = folder(&[("outside.wasm", outside()), ("outside.cases.toml", cases.as_bytes())]);
    check(there.path(), &["test", "outside.wasm"], 0, &[": 4 passed, 0 failed; "]);
}

#[test]
fn check_says_which_imports_are_inert() {
    let there = folder(&[("outside.wasm", outside()), ("settings.toml", b"[settings]\na = 1")]);
    let expect =
        ["  imports    bellwether:policy/types@0.1.0\n  inert      wasi:cli/environment@0.2.", "(no files, no "];
    check(there.path(), &["check", "outside.wasm"], 0, &expect);
    let all = check_json(there.path(), &["check", "outside.wasm"], 0);
    let imports = all["files"][0]["imports"].as_array().unwrap();
    let is = |import: &serde_json::Value| (import["offered"] == true, import["inert"] == true);
    assert!(imports.iter().all(|import| is(import) == (true, import["name"].as_str().unwrap().starts_with("wasi:"))));
    // What it wrote before it failed is the reason that people look for.
    let expect = ["failed while it was configured, and wrote: ", "it takes no settings"];
    check(there.path(), &["check", "outside.wasm", "--settings", "settings.toml"], 1, &expect);
}
