//! `policy replay` and `policy test` with traces: what real decisions become under a changed policy, key by key.

use std::collections::BTreeSet;
use std::path::Path;

use super::{check, check_json};
use crate::harness::policies::{first_policy, hostile, market};
use crate::harness::{Redis, Sidecar, folder};
use crate::record::record;

/// Two policies decide: the standard one, and another for the keys under `notes:`.
const RULES: &str = "
    [settings.rules.notes]
    prefix = \"notes:\"
    market = \"XNSE\"
    ttl_policy = \"first\"
    fallback_ttl_ms = 7777
";
/// Of the standard table, `fyntrix:context` lives for so long whatever the market does.
const CHANGED: &[u8] = b"[settings.namespaces.\"fyntrix:context\"]\nfixed_ttl_ms = 3600000";
const CONTEXTS: [&str; 3] = ["fyntrix:context:1", "fyntrix:context:2", "fyntrix:context:agent:3"];
const OTHERS: [&str; 5] = [
    "fyntrix:general:quote:RELIANCE",
    "fyntrix:scores:RELIANCE",
    "fyntrix:scores:RELIANCE:persist",
    "fyntrix:historical:TCS",
    "fyntrix:context:kept:persist",
];
const DRAFTS: [&str; 2] = ["notes:1:draft", "notes:2:draft"];
const NOTES: [&str; 2] = ["notes:1", "notes:2"];

/// Writes every key twice and records what is decided about it.
fn recorded(there: &Path) {
    let first = first_policy();
    let policies = folder(&[("first.wasm", &first), ("namespaces.toml", RULES.as_bytes())]);
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"]);
    let keys: Vec<_> = [&CONTEXTS[..], &OTHERS, &DRAFTS, &NOTES].concat();
    let count = (keys.len() * 2).to_string();
    let (said, code) = record(&sidecar, there, &["--count", &count, "--out", "trace.jsonl"], |client| {
        for key in keys.iter().chain(&keys) {
            assert_eq!(client.ask(&format!("SET {key} {{}}")), "+OK", "{key}");
        }
    });
    assert_eq!(code, 0, "{said}");
}

/// What an author gets who changes one number of the source: an hour for drafts to half of one, as signed LEB128.
fn half_an_hour(first: &[u8]) -> Vec<u8> {
    let (hour, half) = ([0x42, 0x80, 0xdd, 0xdb, 0x01], [0x42, 0xc0, 0xee, 0xed, 0x00]);
    let places: Vec<_> =
        first.windows(hour.len()).enumerate().filter(|(_, of)| *of == hour).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "the component has the number in {} places", places.len());
    let mut bytes = first.to_vec();
    bytes.splice(places[0]..places[0] + hour.len(), half);
    bytes
}

/// The keys that a replay names, and what it counts by rule.
fn differing(there: &Path, args: &[&str], code: i32) -> (BTreeSet<String>, Vec<(String, u64, u64)>) {
    let told = check_json(there, &[&["replay", "trace.jsonl"], args].concat(), code);
    let keys = told["keys"].as_array().unwrap().iter().map(|of| of["key"].as_str().unwrap().to_owned());
    let number = |of: &serde_json::Value, name: &str| of[name].as_u64().unwrap();
    let rules = told["rules"].as_array().unwrap().iter();
    let rules = rules.map(|of| (of["rule"].as_str().unwrap().into(), number(of, "decisions"), number(of, "differing")));
    (keys.collect(), rules.filter(|(_, _, differing)| *differing > 0).collect())
}

#[test]
fn a_changed_rule_is_named_key_by_key() {
    let first = first_policy();
    let changed = half_an_hour(&first);
    let there = folder(&[("first.wasm", &first), ("changed.wasm", &changed), ("hostile.wasm", hostile())]);
    recorded(there.path());
    for name in ["old", "new", "component", "alone"] {
        std::fs::create_dir(there.path().join(name)).unwrap();
        std::fs::write(there.path().join(name).join("namespaces.toml"), RULES).unwrap();
        std::fs::write(there.path().join(name).join("first.wasm"), &first).unwrap();
    }
    std::fs::write(there.path().join("new/ttl.toml"), CHANGED).unwrap();
    std::fs::write(there.path().join("component/first.wasm"), &changed).unwrap();
    let check_keys = |args: &[&str], keys: &[&str], rule: &str| {
        let expect: BTreeSet<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let (named, rules) = differing(there.path(), args, 1);
        assert_eq!(named, expect, "{args:?}");
        let [(of, decisions, differing)] = rules.as_slice() else { panic!("{args:?}: {rules:?}") };
        assert_eq!((of.as_str(), *differing), (rule, keys.len() as u64 * 2), "{args:?}");
        assert!(*differing <= *decisions, "{args:?}");
    };
    // Settings, and a component: beside another folder, beside what was recorded, and by itself.
    check_keys(&["new", "--against", "old"], &CONTEXTS, "fyntrix:context");
    check_keys(&["new"], &CONTEXTS, "fyntrix:context");
    check_keys(&["--policy-folder", "new"], &CONTEXTS, "fyntrix:context");
    check_keys(&["component", "--against", "old"], &DRAFTS, "notes");
    check_keys(&["changed.wasm", "--policy", "first"], &DRAFTS, "notes");
    check_keys(&["changed.wasm", "--against", "first.wasm", "--policy", "first"], &DRAFTS, "notes");
    // What has not changed differs in nothing.
    for same in
        [&["old"][..], &["old", "--against", "alone"], &["first.wasm"], &["first.wasm", "--against", "first.wasm"]]
    {
        assert_eq!(differing(there.path(), same, 0), Default::default(), "{same:?}");
    }
    let expect = [
        "trace     trace.jsonl: 24 decisions from 20",
        "old       as recorded\n",
        "new       first sha256:",
        "DIFFERS   notes:1:draft (rule notes, at 20",
        ", 2 times)",
        "  old     1h from now; drafts do not follow the market",
        "  new     30m from now; drafts do not follow the market",
        "notes                                         8          4",
        "16 decisions of other policies were not put to it",
        "4 of 8 decisions differ (50.00 %)",
    ];
    std::fs::write(there.path().join("alone/changed.wasm"), &changed).unwrap();
    std::fs::copy(there.path().join("changed.wasm"), there.path().join("alone/first.wasm")).unwrap();
    let shown = check(there.path(), &["replay", "trace.jsonl", "alone/first.wasm"], 1, &expect);
    assert!(!shown.contains("DIFFERS   notes:1 ") && !shown.contains("fyntrix"), "{shown}");
    let few = ["replay", "trace.jsonl", "changed.wasm", "--policy", "first", "--list", "1"];
    check(there.path(), &few, 1, &["2 more decisions differ, about keys that are not listed (--list)"]);
    tested(there.path());
}

/// The same trace as cases of a component.
fn tested(there: &Path) {
    check(there, &["test", "first.wasm", "trace.jsonl"], 0, &[" 4 passed, 0 failed"]);
    let expect =
        ["FAIL  notes:1:draft at 20", "after-ms           expected 3600000, got 1800000", "2 passed, 2 failed"];
    check(there, &["test", "alone/first.wasm", "trace.jsonl"], 1, &expect);
    let none = "trace.jsonl has no decisions of policy \"hostile\", but of first, ttl; name one of them with --policy";
    check(there, &["test", "hostile.wasm", "trace.jsonl"], 1, &[none]);
}

#[test]
fn what_cannot_be_replayed() {
    let head = "{\"bellwether_trace\":1,\"version\":\"0.1.0\",\"now_ms\":1,\"generation\":1,\"sample\":\"1/1\"}\n";
    let broken = format!("{head}{{\"dropped\":7}}\nnonsense\n");
    let there = folder(&[
        ("hostile.wasm", hostile()),
        ("market.wasm", market()),
        ("empty.jsonl", b""),
        ("none.jsonl", b"{}\n"),
        ("head.jsonl", head.as_bytes()),
        ("broken.jsonl", broken.as_bytes()),
        ("later.jsonl", b"{\"bellwether_trace\":2}\n"),
    ]);
    let one = |args: &[&str], expect: &str| {
        drop(check(there.path(), &[&["replay"], args].concat(), 1, &[expect]));
    };
    one(&["nowhere.jsonl"], "cannot read nowhere.jsonl");
    one(&["empty.jsonl", "hostile.wasm"], "empty.jsonl is empty; a trace has at least its first line");
    one(
        &["none.jsonl", "hostile.wasm"],
        "none.jsonl is no trace: its first line has no \"bellwether_trace\"; `bellwether record` writes",
    );
    one(&["head.jsonl", "hostile.wasm"], "head.jsonl: no decisions: there is nothing to ask");
    one(&["head.jsonl"], "head.jsonl: no decisions: there is nothing to ask");
    one(&["broken.jsonl"], "broken.jsonl, line 3: it is not JSON");
    one(&["later.jsonl"], "later.jsonl, line 1: it is of version 2 of the format; this bellwether reads version 1");
    one(&["head.jsonl", "nowhere.wasm"], "cannot read nowhere.wasm");
    one(&["head.jsonl", "none.jsonl"], "none.jsonl: policy \"none\" (compile): this is not a WebAssembly component");
    one(&["head.jsonl", "market.wasm"], "market.wasm: it exports no ttl, so it decides no lifetime by itself");
}
