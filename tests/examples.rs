//! The examples that are policies: built as their author would build them, checked, and asked. (Those in Python are run
//! by the Python tests.)

use crate::harness::policies::first_policy;
use crate::harness::{folder, run};

#[test]
fn the_first_policy_decides() {
    let component = first_policy();
    let policies = folder(&[("ttl.wasm", &component), ("ttl.toml", b"[settings]\ndraft_ttl_ms = 1_800_000")]);
    let check = |args: &[&str], expect: &[&str]| {
        let mut all = vec![*args.first().unwrap(), "--policy-folder", policies.path().to_str().unwrap()];
        all.extend(args.iter().skip(1));
        let output = run(&all, policies.path());
        let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{all:?}\n{shown}");
        expect.iter().for_each(|expect| assert!(shown.contains(expect), "no {expect:?} in\n{all:?}\n{shown}"));
    };
    check(&["check"], &["is         first-policy", "decides by rule, market session, key"]);
    let open = ["--at", "2026-11-23T10:00:00+05:30"];
    check(
        &["explain", open[0], open[1], "SET", "fyntrix:general:note", "{}"],
        &["because   the market trades", "sends     SET fyntrix:general:note '{}' PX 60000"],
    );
    check(
        &["explain", open[0], open[1], "SET", "fyntrix:general:note:draft", "{}"],
        &["because   drafts do not follow the market", "PX 1800000"],
    );
}
