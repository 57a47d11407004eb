//! Candidates on live traffic: what `shadow` names is what changes, and nothing else; only what is in force applies;
//! the gate lets through what changes little enough, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::api::check_description;
use super::{check, open_ttl, page, rollout, serve, wait_for_states};
use crate::harness::policies::{hostile, put, ttl};
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, folder, run};
use crate::record::record;

/// Of one rule, quotes of markets that trade at that hour and of markets that do not; and keys of other rules.
const KEYS: [&str; 10] = [
    "fyntrix:general:quote:RELIANCE.NS",
    "fyntrix:general:quote:TCS.NS",
    "fyntrix:general:quote:7203.T",
    "fyntrix:general:quote:AAPL",
    "fyntrix:general:quote:HSBA.L",
    "fyntrix:scores:RELIANCE.NS",
    "fyntrix:scores:RELIANCE.NS:persist",
    "fyntrix:historical:TCS.NS",
    "fyntrix:support_resistance:TCS.NS",
    "fyntrix:context:1",
];

/// Writes all keys: the lifetime that each got, in milliseconds.
fn lifetimes(client: &mut Client) -> BTreeMap<&'static str, i64> {
    let mut lifetime = |key| {
        assert_eq!(client.ask(&format!("SET {key} {{}}")), "+OK", "{key}");
        client.ask(&format!("PTTL {key}")).trim_start_matches(':').parse().unwrap()
    };
    KEYS.into_iter().map(|key| (key, lifetime(key))).collect()
}

/// The last comparison.
fn shadow(sidecar: &Sidecar) -> Value {
    page(sidecar)["shadow"].clone()
}

fn wait_for_compared(sidecar: &Sidecar, compared: u64) {
    poll_for(&format!("{compared} compared"), || match shadow(sidecar) {
        found if found["compared"] == compared => Ok(()),
        found => Err(format!("{found:#}\n{}", sidecar.process.lines().join("\n"))),
    });
}

/// The keys that a comparison names, each as often as it should be.
fn named(found: &Value, times: u64) -> BTreeSet<String> {
    let sample = found["sample"].as_array().unwrap();
    assert!(sample.iter().all(|of| of["times"] == times), "{found:#}");
    sample.iter().map(|of| of["key"].as_str().unwrap().to_owned()).collect()
}

/// Begins a comparison with a gate, and waits for its end while something is written: what was said, and the code.
fn gated(sidecar: &Sidecar, path: &str, percent: &str, write: impl FnOnce(&mut Client)) -> (i32, String) {
    let before = page(sidecar)["generations"].as_array().unwrap().last().unwrap()["generation"].as_u64();
    std::thread::scope(|scope| {
        let args = ["shadow", path, "--for", "2s", "--max-differing", percent, "--wait"];
        let waiting = scope.spawn(move || rollout(sidecar, &args));
        poll_for("the candidate", || match shadow(sidecar) {
            found if found["generation"].as_u64() == before.map(|number| number + 1) => Ok(()),
            found => Err(format!("{found:#}\n{}", sidecar.process.lines().join("\n"))),
        });
        write(&mut sidecar.client());
        waiting.join().unwrap()
    })
}

/// What `policy replay` names of a trace: the keys whose decisions a folder changes.
fn replayed(trace: &Path, new: &Path, old: &Path) -> BTreeSet<String> {
    let [trace, new, old] = [trace, new, old].map(|path| path.to_str().unwrap());
    let output = run(&["policy", "replay", trace, new, "--against", old, "--json"], Path::new("."));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    told["keys"].as_array().unwrap().iter().map(|of| of["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_changed_rule() {
    let redis = Redis::start();
    let changed = open_ttl(15);
    let (policies, new) = (folder(&[]), folder(&[("ttl.toml", changed.as_bytes()), ("other.txt", b"")]));
    let sidecar = serve(&redis, policies.path(), &["--workers", "2"]);
    let file = new.path().join("ttl.toml").to_str().unwrap().to_owned();
    let there = folder(&[]);
    let (trace, count) = (there.path().join("trace.jsonl"), KEYS.len().to_string());
    let mut before = BTreeMap::new();
    let (said, code) = record(&sidecar, there.path(), &["--count", &count, "--out", "trace.jsonl"], |client| {
        before = lifetimes(client);
    });
    assert_eq!(code, 0, "{said}");

    // A person decides: it is compared for as long as they like.
    check(&sidecar, &["shadow", &file, "--for", "1h"], 0, "SIDECAR: generation 2 is in the shadow of 1 for 3600 s");
    wait_for_states(&sidecar, &[(1, "active"), (2, "shadowing")]);
    let mut client = sidecar.client();
    assert_eq!(client.ask("SET unmatched {}"), "+OK");
    let meanwhile = lifetimes(&mut client);
    for (key, ms) in &meanwhile {
        assert!((ms - before[key]).abs() < 5000, "{key} lived {} ms and lives {ms}", before[key]);
    }
    lifetimes(&mut client);
    wait_for_compared(&sidecar, 2 * KEYS.len() as u64);
    let found = shadow(&sidecar);
    let names = named(&found, 2);
    let (_, status) = rollout(&sidecar, &["status"]);
    check_description(&sidecar);
    check(&sidecar, &["reject"], 0, "SIDECAR: generation 2 is rejected");
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    // What it named is what changes once it is in force, and what a replay names.
    check(&sidecar, &["publish", &file], 0, "generation 3 is in force");
    let after = lifetimes(&mut client);
    let changes = KEYS.into_iter().filter(|key| (before[key] - after[key]).abs() > 5000).map(ToOwned::to_owned);
    let changes: BTreeSet<_> = changes.collect();
    assert_eq!((&names, changes.len()), (&changes, 3), "{before:#?} {after:#?}");
    assert_eq!(replayed(&trace, new.path(), policies.path()), names);
    let (key, count) = ("fyntrix:general:quote:TCS.NS", found["differing"].as_u64().unwrap());
    let sample = found["sample"].as_array().unwrap().iter().find(|of| of["key"] == key).unwrap();
    assert!(sample["active"]["why"].as_str().unwrap().contains("prices move by the second"), "{found:#}");
    assert_eq!((&sample["active"]["rule"], count), (&"fyntrix:general".into(), 6), "{found:#}");
    assert!(status.contains("generation 2 beside 1: 6 of 20 decisions differ; ") && status.contains(key), "{status}");
    assert!(status.contains("  rule fyntrix:general: 6 of 10 differ\n"), "{status}");
    let gauges = ["compared", "differing", "dropped"].map(|of| sidecar.metric(&format!("bellwether_shadow_{of}")));
    assert_eq!(gauges, [20.0, 6.0, 0.0]);
}

#[test]
fn the_gate() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    let mine = folder(&[("ttl.toml", open_ttl(15).as_bytes()), ("ttl.wasm", &ttl(1))]);
    let path = |name: &str| mine.path().join(name).to_str().unwrap().to_owned();
    let write = |client: &mut Client| (0..50).for_each(|_| drop(lifetimes(client)));
    // One changed rule is not let through.
    let (code, said) = gated(&sidecar, &path("ttl.toml"), "0.1%", write);
    assert!(code == 1 && said.contains("; rejected: the gate") && said.contains("at most 0.1 % may"), "{code}: {said}");
    assert!(said.contains("\n  fyntrix:general:quote:TCS.NS"), "{said}");
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    let (_, history) = rollout(&sidecar, &["history"]);
    assert!(history.contains("(shadow): the gate did not let it through: "), "{history}");
    assert_eq!(sidecar.metric("bellwether_generations_refused_total"), 1.0);
    // Other bytes that decide the same are.
    let (code, said) = gated(&sidecar, &path("ttl.wasm"), "0.1%", write);
    assert!(code == 0 && said.contains("beside 1: 0 of ") && said.contains(" differ; promoted\n"), "{code}: {said}");
    wait_for_states(&sidecar, &[(1, "retired"), (2, "rejected"), (3, "active")]);
    let (_, history) = rollout(&sidecar, &["history"]);
    assert!(history.contains("generation 3 was promoted by its gate: 0 of "), "{history}");
    // What may differ, may.
    let (code, said) = gated(&sidecar, &path("ttl.toml"), "50%", write);
    assert!(code == 0 && said.contains("; promoted\n"), "{code}: {said}");
    // Nothing was compared: nothing is let through.
    put(mine.path(), "ttl.toml", open_ttl(20).as_bytes());
    let (code, said) = gated(&sidecar, &path("ttl.toml"), "100%", |_| {});
    assert!(code == 1 && said.contains("no decision was made in that time"), "{code}: {said}");
    check_description(&sidecar);
}

#[test]
fn what_ends_it() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    let mine = folder(&[]);
    let file = |seconds: u64| {
        put(mine.path(), "ttl.toml", open_ttl(seconds).as_bytes());
        mine.path().join("ttl.toml").to_str().unwrap().to_owned()
    };
    let begin = |seconds: u64, code: i32, expect: &str| {
        check(&sidecar, &["shadow", &file(seconds), "--for", "1h"], code, expect);
    };
    check(&sidecar, &["shadow", &file(15), "--for", "soon"], 1, "--for: \"soon\" is not a span such as 10m");
    check(&sidecar, &["shadow", &file(15), "--for", "1h", "--max-differing", "1"], 1, "not a share such as 0.1%");
    // One at a time.
    begin(15, 0, "generation 2 is in the shadow of 1");
    begin(25, 1, "generation 2 is in the shadow: promote or reject it first");
    // Another generation comes into force: it was compared with what no longer decides.
    put(policies.path(), "ttl.toml", open_ttl(35).as_bytes());
    wait_for_states(&sidecar, &[(1, "retired"), (2, "rejected"), (3, "active")]);
    let said = shadow(&sidecar)["said"].to_string();
    assert!(said.contains("rejected: generation 3 came into force meanwhile"), "{said}");
    // An operator promotes it before the time is over.
    begin(15, 0, "generation 4 is in the shadow of 3");
    check(&sidecar, &["promote"], 0, "generation 4 is in force; the policy folder holds something else");
    assert_eq!(super::ttl_of_a_quote(&mut sidecar.client()), 15);
    check(&sidecar, &["promote"], 1, "there is no candidate");
    begin(15, 1, "generation 4 is made of the same, so that nothing changes");
    // The time is over, and nobody said what may differ.
    let (code, said) = rollout(&sidecar, &["shadow", &file(45), "--for", "100ms", "--wait"]);
    assert!(
        code == 0 && said.contains("0 of 0 decisions differ; the time is over, and a person decides"),
        "{code}: {said}"
    );
    assert_eq!(super::ttl_of_a_quote(&mut sidecar.client()), 15);
    check(&sidecar, &["promote"], 0, "generation 5 is in force");
    assert_eq!(super::ttl_of_a_quote(&mut sidecar.client()), 45);
    // What does not load is refused as ever.
    put(mine.path(), "ttl.toml", b"[settings]\nx = 1");
    let broken = mine.path().join("ttl.toml").to_str().unwrap().to_owned();
    check(&sidecar, &["shadow", &broken, "--for", "1h"], 1, "generation 6 was refused: policy \"ttl\" (configure)");
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    assert!(run(&["bypass", "on", &address], Path::new(".")).status.success());
    begin(15, 1, "bypass is on: policies are out of the path, and there are no decisions to compare");
}

/// A rule's own fields decide about a key too; and what decisions cannot show is said.
#[test]
fn rules_that_differ() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    let rules = "[settings.rules.\"fyntrix:general\"]\nclient_ttl = \"respect\"\n\
                 [settings.rules.\"fyntrix:context\"]\nnear_ms = 1000\n[settings.rules.more]\nprefix = \"more:\"\n";
    let mine = folder(&[("namespaces.toml", rules.as_bytes())]);
    let file = mine.path().join("namespaces.toml").to_str().unwrap().to_owned();
    check(&sidecar, &["shadow", &file, "--for", "1h"], 0, "generation 2 is in the shadow of 1");
    let mut client = sidecar.client();
    for command in ["SET fyntrix:general:a {}", "SET fyntrix:general:b {} EX 5", "SET fyntrix:context:a {}"] {
        assert_eq!(client.ask(command), "+OK", "{command}");
    }
    wait_for_compared(&sidecar, 3);
    let found = shadow(&sidecar);
    assert_eq!(named(&found, 1), ["fyntrix:general:b".to_owned()].into(), "{found:#}");
    let why = found["sample"][0]["candidate"]["why"].as_str().unwrap();
    assert!(why.ends_with("client_ttl is Respect, not Cap"), "{why}");
    let remarks: Vec<_> = found["remarks"].as_array().unwrap().iter().map(|of| of.as_str().unwrap()).collect();
    for expect in [
        "rule \"fyntrix:general\": client_ttl is Respect, not Cap",
        "rule \"fyntrix:context\": near_ms is 1000, not none",
        "rule \"more\" is new; what it decides about keys that no policy decides about now is not compared",
    ] {
        assert!(remarks.contains(&expect), "{expect}: {remarks:#?}");
    }
}

/// How much each thread of a process gives way, by its name: fields 2 and 19 of proc_pid_stat(5).
fn niceness(process: u32) -> BTreeMap<String, i64> {
    let stat = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
        let (head, fields) = stat.rsplit_once(") ")?;
        Some((head.split_once('(')?.1.to_owned(), fields.split(' ').nth(16)?.parse().unwrap()))
    };
    std::fs::read_dir(format!("/proc/{process}/task")).unwrap().filter_map(stat).collect()
}

/// A candidate that never answers: clients do not notice, the thread that asks it gives way, and it is not let through.
#[test]
fn a_hostile_candidate() {
    let redis = Redis::start();
    let rules = "[settings.rules.hostile]\nprefix = \"hostile:\"\nmarket = \"XNSE\"\n";
    let policies = folder(&[("namespaces.toml", rules.as_bytes())]);
    let sidecar = serve(&redis, policies.path(), &["--workers", "2"]);
    let bad = folder(&[
        ("namespaces.toml", rules.as_bytes()),
        ("hostile.wasm", hostile()),
        ("ttl.toml", b"component = \"hostile\""),
    ]);
    let mut client = sidecar.client();
    assert_eq!(client.ask("SET hostile:well {}"), "+OK");
    let lived = client.ask("TTL hostile:well");
    let (code, said) = gated(&sidecar, bad.path().to_str().unwrap(), "1%", |client| {
        // A thread gets its name once it runs.
        poll_for("the threads", || {
            let niceness = niceness(sidecar.process.id());
            let of = |name: &str| niceness.get(name).copied();
            let is = ["reload", "shadow", "worker-0"].map(of) == [Some(10), Some(10), Some(0)];
            if is { Ok(()) } else { Err(format!("{niceness:?}")) }
        });
        for number in 0..500 {
            let way = ["loop", "grow", "unreachable", "recurse"][number % 4];
            assert_eq!(client.ask(&format!("SET hostile:{way}:{number} {{}}")), "+OK");
            assert_eq!(client.ask(&format!("TTL hostile:{way}:{number}")), lived);
        }
    });
    assert!(code == 1 && said.contains("the policy fails, and the rule's fallback applies"), "{code}: {said}");
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    let calls = sidecar.policies();
    assert_eq!(calls["generation"], 1, "{calls:#}");
}
