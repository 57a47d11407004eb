//! What a policy may take by its own file: `[limits]` in `NAME.toml`.

use super::check;
use crate::harness::policies::{first_policy, hostile, ttl};
use crate::harness::process::poll_until;
use crate::harness::{Redis, Sidecar, folder};

/// What `policy check` makes of the ttl component with these limits, with the flags.
fn limited(limits: &str, flags: &[&str], code: i32, expect: &str) {
    let limits = format!("[limits]\n{limits}\n");
    let cases = include_bytes!("../../policies/ttl/cases.toml");
    let component = ttl(1);
    let files = [("ttl.wasm", component.as_slice()), ("ttl.toml", limits.as_bytes()), ("ttl.cases.toml", cases)];
    let there = folder(&files);
    check(there.path(), &[&["check", "ttl.wasm"], flags].concat(), code, &[expect]);
}

#[test]
fn a_policys_own_limits_hold() {
    let roomy = "memory_bytes_max = 16_777_216";
    let lower = ["--policy-memory-bytes-max", "1000000"];
    let too_much = "needs 1114112 bytes of memory from the start; at most 1000000 are allowed \
                    (policy_memory_bytes_max, or memory_bytes_max under [limits] in the policy's file)";
    limited("", &[], 0, "would be served");
    limited("", &lower, 1, too_much);
    limited(roomy, &lower, 0, "would be served");
    limited("memory_bytes_max = 1_000_000", &[], 1, too_much);
    limited("load_fuel_max = 1000", &[], 1, "all fuel consumed");
    limited("fuel_max = 10", &[], 1, "all fuel consumed");
    limited("fuel_max = 10", &["--policy-fuel-max", "20000000"], 1, "all fuel consumed");
    limited("fuel_max = 10_000_000", &["--policy-fuel-max", "10"], 0, "would be served");
    limited("fuel = 10", &[], 1, "unknown field `fuel`, expected one of `fuel_max`");
    limited("fuel_max = -1", &[], 1, "fuel_max");
}

/// Two policies of one component, with limits of their own: what one writes to the log is bounded by its own quota, and
/// a limit that changes is a change.
#[test]
fn two_policies_of_one_component_have_their_own() {
    const RULES: &str = "
        [settings.rules.chatty]
        prefix = \"chatty:\"
        ttl_policy = \"chatty\"
        fallback_ttl_ms = 7777
        [settings.rules.quiet]
        prefix = \"quiet:\"
        ttl_policy = \"quiet\"
        fallback_ttl_ms = 7777
    ";
    let redis = Redis::start();
    let quiet = "component = \"hostile\"\n[limits]\nlog_lines_per_second_max = 0\n";
    let policies = folder(&[
        ("hostile.wasm", hostile()),
        ("chatty.toml", b"component = \"hostile\"\n"),
        ("quiet.toml", quiet.as_bytes()),
        ("namespaces.toml", RULES.as_bytes()),
    ]);
    let sidecar = Sidecar::serve(&redis, &["--policy-folder", policies.path().to_str().unwrap()]);
    let mut client = sidecar.client();
    let mut write = |prefix: &str| {
        for number in 0..20 {
            let key = format!("{prefix}lines-and-trap:{number}");
            assert_eq!(client.ask(&format!("SET {key} 1")), "+OK", "{key}");
        }
    };
    write("quiet:");
    write("chatty:");
    let told = |policy: &str| {
        let lines = sidecar.process.lines();
        lines.iter().filter(|line| line.contains("one line before the trap") && line.contains(policy)).count()
    };
    assert_eq!(told("quiet"), 0);
    assert!(told("chatty") > 0);
    let whole = quiet.replace("_max = 0", "_max = 50");
    std::fs::write(policies.path().join("quiet.toml"), whole).unwrap();
    let taken_up = "generation 1 → 2";
    poll_until(taken_up, || sidecar.process.lines().iter().any(|line| line.contains(taken_up)));
    write("quiet:");
    assert!(told("quiet") > 0);
}

/// What a policy may take is beside it when its author tests it, too.
#[test]
fn an_authors_verbs_keep_to_them() {
    let component = first_policy();
    let limits = b"[limits]\nfuel_max = 10\n";
    let there = folder(&[("first-policy.wasm", component.as_slice()), ("first-policy.toml", limits)]);
    check(
        there.path(),
        &["explain", "first-policy.wasm", "--key", "news:a", "--at", "2026-11-23T10:00:00Z"],
        1,
        &["all fuel consumed"],
    );
}
