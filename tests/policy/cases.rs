//! `policy test`: case files that pass, fail, cannot be asked, and are none.

use super::{check, check_json};
use crate::harness::folder;
use crate::harness::policies::{hostile, ttl};

/// All that a case file may have, once each.
const ALL: &str = r#"
    now = 2026-11-23T10:00:00+05:30
    [settings]
    ttl_ms = 5000
    [[case]]
    name = "one question"
    key = "hostile:well"
    expect = { after-ms = 5000, spread-ms = 0, reason = "as asked" }
    [[case]]
    name = "many"
    role = "ttl"
    key = "hostile:well"
    expect = { after-ms = 5000 }
    rows = [
        { key = "hostile:huge-line" },
        { name = "its own settings", settings = { ttl_ms = 7 }, expect = { after-ms = 7 } },
        { name = "settings that are refused", settings = { tl_ms = 7 }, expect = { refused = "unknown setting" } },
        { key = "hostile:error", expect = { error = "no answer" } },
        { key = "hostile:loop", expect = { error = "all fuel consumed" } },
        { key = "hostile:valid-past", expect = { valid-until = 1970-01-01T00:00:00.001Z } },
    ]
"#;

#[test]
fn every_field_has_its_meaning() {
    let there = folder(&[("hostile.wasm", hostile()), ("hostile.cases.toml", ALL.as_bytes())]);
    let shown = check(there.path(), &["test", "hostile.wasm"], 0, &["hostile.wasm sha256:", ": 7 passed, 0 failed; "]);
    assert!(!shown.contains("PASS"), "{shown}");
    let expect = [
        "PASS  one question  (",
        "PASS  many: hostile:huge-line  (",
        "      log WARN: l l",
        "PASS  many: its own settings  (",
        "PASS  many: settings that are refused  (",
    ];
    check(there.path(), &["test", "-v", "."], 0, &expect);
    let all = check_json(there.path(), &["test", "hostile.wasm", "--filter", "one"], 0);
    let case = &all["components"][0]["cases"][0];
    assert_eq!((&all["passed"], &case["name"]), (&1.into(), &"one question".into()));
    assert_eq!(case["got"]["after-ms"], case["expected"]["after-ms"]);
    assert!(case["fuel"].as_u64().unwrap() > 0, "{case}");
}

#[test]
fn what_fails_is_shown_with_both_answers() {
    let one = |case: &str, expect: &[&str]| {
        let case = format!("[[case]]\nname = \"x\"\nnow = \"2026-11-23T10:00:00+05:30\"\n{case}");
        let there = folder(&[("hostile.wasm", hostile()), ("own.toml", case.as_bytes())]);
        check(there.path(), &["test", "hostile.wasm", "own.toml"], 1, expect);
    };
    one(
        "key = \"hostile:well\"\nexpect = { after-ms = 1, spread-ms = 0 }",
        &["FAIL  x  (", "after-ms           expected 1, got 60000", "reason             got as asked", "1 failed"],
    );
    one("key = \"hostile:error\"\nexpect = { after-ms = 1 }", &["after-ms           expected 1, got (nothing)"]);
    one("settings = { a = 1 }\nexpect = { after-ms = 1 }", &["refused            got refused its settings: unknown"]);
    // The first case already meets an instance that was asked before.
    one(
        "key = \"hostile:counts\"\nexpect = { after-ms = 1 }",
        &["a fresh and a warm instance answer differently", "after-ms           fresh 1, warm 2"],
    );
    one("expect = { }", &["case \"x\": expects nothing"]);
    one("expect = { after-ms = 1 }\nrole = \"tl\"", &["there is no role \"tl\"; there are namespaces, ttl"]);
    one(
        "expect = { after-ms = 1 }\nrole = \"namespaces\"",
        &["is for namespaces, which the component does not export"],
    );
    one("expect = { after-ms = 1 }\nkye = \"a\"", &["case \"x\": unknown field `kye`, expected one of"]);
    one("expect = { after-ms = 1 }\nrows = []", &["case \"x\": its rows are none"]);
    one("expect = { after-ms = 1 }\nmarket = \"XBOM\"", &["`market` must be a table with the whole session"]);
}

#[test]
fn no_cases_is_a_failure() {
    let files: [(&str, &[u8]); 4] = [
        ("hostile.wasm", hostile()),
        ("none.toml", b""),
        ("keys.toml", b"cases = 1"),
        ("ttl.toml", b"[[case]]\nname = \"x\"\nexpect = { after-ms = 1 }"),
    ];
    let there = folder(&files);
    let one = |args: &[&str], expect: &str| drop(check(there.path(), &[&["test"], args].concat(), 1, &[expect]));
    one(&["hostile.wasm"], "hostile.wasm has no cases; write hostile.cases.toml beside it, or name a case file");
    one(&["."], "hostile.wasm has no cases");
    one(&["hostile.wasm", "none.toml"], "has no cases: there is no [[case]] in its case file");
    one(&["hostile.wasm", "keys.toml"], "the case file has \"cases\"; it takes case, now, settings");
    one(&["hostile.wasm", "ttl.toml"], "case \"x\": has no `now`, and neither has the file");
    one(&["hostile.wasm", "ttl.toml", "--filter", "y"], "none of the 1 cases of hostile.wasm has \"y\" in its name");
    one(&["nowhere.wasm"], "cannot read nowhere.wasm");
    one(&["ttl.toml", "ttl.toml"], "this is not a WebAssembly component");
    let empty = folder(&[]);
    check(empty.path(), &["test", "."], 1, &[". has no component (NAME.wasm)"]);
}

#[test]
fn the_standard_policies_cases_hold_and_cover_rules() {
    let cases = include_bytes!("../../policies/ttl/cases.toml");
    let there = folder(&[("ttl.wasm", &ttl(1)), ("ttl.cases.toml", cases)]);
    check(there.path(), &["test", "."], 0, &[" passed, 0 failed; at most "]);
    // A namespaces component: the rules that no case is about are named.
    let standard = bellwether::policy::standard::STANDARD.iter().find(|of| of.name == "namespaces").unwrap();
    let one = "[[case]]\nname = \"x\"\nkey = \"fyntrix:general:quote:RELIANCE.NS\"\nmarket = \"XNSE\"\n\
               expect = { rule = \"fyntrix:general\", ttl-policy = \"ttl\", client-ttl = \"cap\" }";
    let there = folder(&[("own.wasm", standard.component), ("own.cases.toml", one.as_bytes())]);
    let all = check_json(there.path(), &["test", "own.wasm"], 0);
    let component = &all["components"][0];
    let left = component["rules_without_a_case"].as_array().unwrap();
    assert_eq!(left.len() as u64 + 1, component["rules"].as_u64().unwrap(), "{component}");
    assert!(!left.contains(&"fyntrix:general".into()), "{component}");
    check(there.path(), &["test", "own.wasm"], 0, &["no case is about 9 of 10 rules: fyntrix:context, "]);
}
