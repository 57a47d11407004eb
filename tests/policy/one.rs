//! `policy bench` and `policy explain`: what is said of one component. Times are there, and are not looked at.

use super::{check, check_json};
use crate::harness::folder;
use crate::harness::policies::{hostile, market, ttl};

#[test]
fn bench_tells_what_a_call_takes() {
    let cases = "now = 2026-11-23T10:00:00Z\n[[case]]\nname = \"x\"\nexpect = { after-ms = 1 }\n\
                 rows = [{ key = \"a:well\" }, { key = \"a:error\" }, { key = \"a:unreachable\" }]";
    let there = folder(&[("hostile.wasm", hostile()), ("hostile.cases.toml", cases.as_bytes()), ("none.toml", b"")]);
    let shown = check(
        there.path(),
        &["bench", "hostile.wasm", "--rounds", "3"],
        0,
        &[
            "  call         ",
            " in 3 rounds of ",
            "  fuel         ",
            "  instantiate  ",
            "  memory       1",
            "  left out     2 cases whose answer is an error",
        ],
    );
    assert!(!shown.contains("first to second"), "{shown}");
    let args = ["bench", "hostile.wasm", "--rounds", "3", "--against", "hostile.wasm"];
    check(there.path(), &args, 0, &["first to second  ", "× a call (", "1.00× the fuel; "]);
    let all = check_json(there.path(), &args, 0);
    let (first, second) = (&all["components"][0], &all["components"][1]);
    assert_eq!((&first["fuel"], &first["rounds"]), (&second["fuel"], &3.into()), "{all}");
    assert!(first["call_ns"]["median"].as_f64().unwrap() > 0.0 && all["ratio"]["p90"].is_f64(), "{all}");
    let one = |args: &[&str], expect: &str| drop(check(there.path(), &[&["bench"], args].concat(), 1, &[expect]));
    one(&["nowhere.wasm"], "nowhere.wasm has no cases to be asked");
    one(&["hostile.wasm", "--cases", "none.toml"], "none.toml has no [[case]]");
    one(&["hostile.wasm", "--against", "none.toml"], "none.toml: this is not a WebAssembly component");
}

#[test]
fn explain_tells_of_one_decision() {
    let files: [(&str, &[u8]); 4] = [
        ("hostile.wasm", hostile()),
        ("ttl.wasm", &ttl(1)),
        ("market.wasm", market()),
        ("short.toml", b"[settings]\nttl_ms = 5000"),
    ];
    let there = folder(&files);
    let one =
        |args: &[&str], code, expect: &[&str]| drop(check(there.path(), &[&["explain"], args].concat(), code, expect));
    let at = ["--at", "2026-11-23T10:00:00+05:30"];
    let quote = ["ttl.wasm", "--key", "fyntrix:general:quote:A", "--rule", "fyntrix:general", "--market", "XNSE"];
    let expect =
        ["market    XNSE: open since ", "policy    ttl: 1m from now", "because   fyntrix:general, ", " fuel, "];
    one(&[quote.as_slice(), &at].concat(), 0, &expect);
    one(
        &[quote.as_slice(), &["--at", "2026-11-24T10:00:00+05:30"]].concat(),
        0,
        &["closed since ", "policy    ttl: 12h from now"],
    );
    let lines = ["hostile.wasm", "--key", "hostile:lines", "--settings", "short.toml"];
    one(
        &lines,
        0,
        &["settings  {\"ttl_ms\":5000}", "policy    hostile: 5s from now", "log       WARN: one line of many"],
    );
    one(&["hostile.wasm", "--key", "hostile:error"], 1, &["policy    hostile failed: no answer"]);
    one(&["market.wasm", "--key", "a"], 1, &["market.wasm exports no ttl, so it decides no lifetime"]);
    one(&["hostile.wasm", "--key", "a", "--command", "x"], 1, &["there is no kind of command \"x\""]);
    one(&["hostile.wasm"], 64, &["--key <KEY>"]);
}
