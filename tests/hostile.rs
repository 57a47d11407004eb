//! A hostile component (`tests/hostile`): whatever it does costs that one decision. Its other keys, the other rules and
//! the process go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Instant;

use crate::harness::policies::hostile;
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, encoded, folder, run};

/// The rules the hostile policy decides for: one with a fallback, one without.
const RULES: &str = "
    [settings.rules.hostile]
    prefix = \"hostile:\"
    ttl_policy = \"hostile\"
    fallback_ttl_ms = 7777
    [settings.rules.strict]
    prefix = \"strict:\"
    ttl_policy = \"hostile\"
    fallback_ttl_ms = \"none\"
";

/// What it decides when it behaves.
const DECIDED_MS: i64 = 60_000;
const FALLBACK_MS: i64 = 7_777;
/// How long a test may take between a write and the look at it.
const LATE_MS: i64 = 3_000;
/// What no log may show: the end of every key, and every value.
const KEY_END: &str = "the-end-of-the-key";
const VALUE: &str = "\"the-value\"";

/// How it misbehaves, and whether that costs the decision.
const WAYS: [(&str, bool); 26] = [
    ("loop", true),
    ("grow", true),
    ("recurse", true),
    ("unreachable", true),
    ("index", true),
    ("error", true),
    ("huge-error", true),
    ("huge-reason", false),
    ("bomb-reason", true),
    ("huge-line", false),
    ("lines", false),
    ("line-flood", true),
    ("lines-and-trap", true),
    ("market-flood", true),
    ("markets", false),
    ("markets-more", true),
    ("zero", true),
    ("ten-years", true),
    ("negative", true),
    ("year-10000", true),
    ("spread", true),
    ("valid-negative", true),
    ("valid-max", true),
    ("valid-past", false),
    ("", false),
    ("well", false),
];

fn serve(redis: &Redis) -> (Sidecar, tempfile::TempDir) {
    let policies = folder(&[("hostile.wasm", hostile()), ("namespaces.toml", RULES.as_bytes())]);
    // One worker: what blocks it blocks everyone.
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    (Sidecar::serve(redis, &flags), policies)
}

fn set(client: &mut Client, key: &str) -> String {
    client.ask_words(&[b"SET", key.as_bytes(), VALUE.as_bytes()])
}

/// Writes a key and compares its lifetime.
fn check(client: &mut Client, key: &str, expect_ms: i64) {
    assert_eq!(set(client, key), "+OK", "{key}");
    let left = client.ask(&format!("PTTL {key}"));
    let ms: i64 = left.trim_start_matches(':').parse().unwrap();
    assert!((expect_ms - LATE_MS..=expect_ms).contains(&ms), "{key}: PTTL {ms}, expected {expect_ms}");
}

/// Writes a key that must be refused.
fn check_refused(client: &mut Client, key: &str) {
    let expect = format!(
        "-ERR bellwether: rule \"strict\" could not decide (its policy failed) and has no fallback-ttl-ms; key \
         \"{key}\" was not touched"
    );
    assert_eq!(set(client, key), expect);
    assert_eq!(client.ask(&format!("EXISTS {key}")), ":0", "{key}");
}

fn check_log(sidecar: &Sidecar) {
    let failed = |line: &&String| line.contains("policy failed; the rule's fallback applies");
    let names =
        |line: &String| ["policy=hostile", "generation=1", "prefix=\"hostile:\""].iter().all(|n| line.contains(n));
    let lines = poll_for("a line about the failure", || {
        let lines = sidecar.process.lines();
        if lines.iter().filter(failed).any(names) { Ok(lines) } else { Err(format!("{lines:#?}")) }
    });
    // One line each: it begins with its time, or is one of the greeting.
    let known = ["20", "bellwether listens on ", "Policies in ", "Now type:", "and then:"];
    for line in &lines {
        assert!(known.iter().any(|known| line.starts_with(known)), "a line without its time: {line:?}");
        assert!(!line.contains(KEY_END) && !line.contains(VALUE.trim_matches('"')), "{line}");
        assert!(line.len() < 2_048, "{} bytes: {line:.100}", line.len());
    }
}

#[test]
fn each_way_costs_its_own_decision() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut client = sidecar.client();
    for (number, (way, fails)) in WAYS.into_iter().enumerate() {
        check(&mut client, &format!("hostile:{way}:{KEY_END}"), if fails { FALLBACK_MS } else { DECIDED_MS });
        // The very next key of the same rule, and of another, is decided.
        check(&mut client, &format!("hostile:well:{number}"), DECIDED_MS);
        let strict = format!("strict:{way}:{KEY_END}");
        if fails {
            check_refused(&mut client, &strict);
        } else {
            check(&mut client, &strict, DECIDED_MS);
        }
        check(&mut client, &format!("fyntrix:scores:{number}:persist"), 86_400_000);
    }
    let failed = WAYS.iter().filter(|(_, fails)| *fails).count() as f64;
    let count = |rule: &str, outcome: &str| {
        sidecar.metric(&format!("bellwether_decisions_total{{rule=\"{rule}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((count("hostile", "fallback"), count("hostile", "refused")), (failed, 0.0));
    assert_eq!((count("strict", "fallback"), count("strict", "refused")), (0.0, failed));
    check_log(&sidecar);
}

#[test]
fn what_is_answered_keeps_the_instance() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut client = sidecar.client();
    for way in ["error", "huge-error", "zero", "ten-years", "negative", "spread", "valid-max"] {
        // One batch, so that nothing else is decided in between.
        let key = |number: usize| format!("hostile:{way}:{KEY_END}:{number}");
        let mut batch: Vec<u8> = (0..50).flat_map(|number| encoded(&["SET", &key(number), VALUE])).collect();
        batch.extend(encoded(&["SET", &format!("hostile:well:after-{way}"), VALUE]));
        batch.extend(encoded(&["PTTL", &format!("hostile:well:after-{way}")]));
        client.send(&batch);
        (0..51).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n", "{way}"));
        let left = String::from_utf8(client.reply()).unwrap();
        let ms: i64 = left.trim_start_matches(':').trim_end().parse().unwrap();
        assert!(ms > FALLBACK_MS, "after 50 of {way}: PTTL {ms}, expected {DECIDED_MS}");
    }
}

#[test]
fn a_policy_that_traps_and_traps_is_asked_again() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut client = sidecar.client();
    let key = |number: usize| format!("hostile:unreachable:{KEY_END}:{number}");
    client.send(&(0..50).flat_map(|number| encoded(&["SET", &key(number), VALUE])).collect::<Vec<_>>());
    (0..50).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
    let mut number = 0;
    poll_for("a decision", || {
        number += 1;
        assert_eq!(set(&mut client, &format!("hostile:well:{number}")), "+OK");
        let left = client.ask(&format!("PTTL hostile:well:{number}"));
        let ms: i64 = left.trim_start_matches(':').parse().unwrap();
        if ms > FALLBACK_MS { Ok(()) } else { Err(left) }
    });
    check_log(&sidecar);
}

#[test]
fn others_are_served_meanwhile() {
    const HOSTILE_CALLS: usize = 300;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let (stop, decided) = (AtomicBool::new(false), AtomicUsize::new(0));
    let bystander = |rule: &str, expect_ms| {
        let mut client = sidecar.client();
        while !stop.load(Ordering::Relaxed) {
            let number = decided.fetch_add(1, Ordering::Relaxed);
            check(&mut client, &format!("{rule}{number}"), expect_ms);
        }
    };
    scope(|scope| {
        let hostile = scope.spawn(|| {
            let mut client = sidecar.client();
            for (number, (way, _)) in
                WAYS.into_iter().filter(|(_, fails)| *fails).cycle().take(HOSTILE_CALLS).enumerate()
            {
                check(&mut client, &format!("hostile:{way}:{KEY_END}:{number}"), FALLBACK_MS);
            }
        });
        let same = scope.spawn(|| bystander("hostile:well:", DECIDED_MS));
        let other = scope.spawn(|| bystander("fyntrix:context:", 7_200_000));
        let ended = hostile.join();
        stop.store(true, Ordering::Relaxed);
        let bystanders = [same.join(), other.join()];
        assert!(ended.is_ok() && bystanders.iter().all(Result::is_ok), "{:#?}", sidecar.process.lines());
    });
    let decided = decided.into_inner();
    assert!(
        decided > HOSTILE_CALLS / 2,
        "others were held up: {decided} decisions beside {HOSTILE_CALLS} hostile calls"
    );
    check_log(&sidecar);
}

#[test]
fn memory_is_given_back() {
    const ROUNDS: usize = 150;
    /// Three instances' worth: one that lives, one that was, and the allocator's own.
    const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut client = sidecar.client();
    let mut round = |from: usize, rounds: usize| {
        for number in from..from + rounds {
            for way in ["grow", "huge-reason", "bomb-reason", "huge-error", "huge-line", "recurse"] {
                assert_eq!(set(&mut client, &format!("hostile:{way}:{number}")), "+OK");
            }
        }
        sidecar.process.resident_bytes()
    };
    let before = round(0, 20);
    let after = round(20, ROUNDS);
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes after 20 rounds, {after} after {ROUNDS} more");
}

#[test]
fn lines_are_bounded_across_instances() {
    const TRAPS: usize = 40;
    /// Of a policy and a worker, and a second that has begun and one that has not ended.
    const LINES_PER_SECOND_MAX: u64 = 100;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis);
    let mut client = sidecar.client();
    let begun = Instant::now();
    for number in 0..TRAPS {
        check(&mut client, &format!("hostile:lines-and-trap:{number}"), FALLBACK_MS);
        check(&mut client, &format!("hostile:well:{number}"), DECIDED_MS);
    }
    let seconds = begun.elapsed().as_secs() + 2;
    let lines = sidecar.process.lines();
    let written = lines.iter().filter(|line| line.contains("one line before the trap")).count() as u64;
    assert!((60..=seconds * LINES_PER_SECOND_MAX).contains(&written), "{written} lines in {seconds} seconds");
}

#[test]
fn loading() {
    let nowhere = tempfile::tempdir().unwrap();
    let check = |settings: &str, refused: Option<&str>| {
        let settings = format!("[settings]\n{settings}");
        let policies = folder(&[("hostile.wasm", hostile()), ("hostile.toml", settings.as_bytes())]);
        let output = run(&["check", "--policy-folder", policies.path().to_str().unwrap()], nowhere.path());
        let out = String::from_utf8_lossy(&output.stdout);
        let told = out.lines().find(|line| line.starts_with("REFUSED ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(i32::from(refused.is_some())), "{settings}: {out}");
        let expect = refused.map(|why| format!("REFUSED policy \"hostile\" (configure): {why}")).unwrap_or_default();
        assert!(told.starts_with(&expect), "{settings}\nexpected {expect}\ngot {told}");
        assert!(out.lines().all(|line| line.len() < 2_048), "{settings}: a line is too long");
    };
    check("", None);
    check("configure = \"slow\"", None);
    check("describe = \"huge\"", None);
    check("configure = \"loop\"", Some("failed while it was configured"));
    check("configure = \"trap\"", Some("failed while it was configured"));
    check("configure = \"grow\"", Some("failed while it was configured"));
    check("describe = \"loop\"", Some("failed to describe itself"));
    check("ttl_ms = 0", Some("refused its settings: \"ttl_ms\" takes 1 to 86400000, and is 0"));
    check("tl_ms = 1", Some("refused its settings: unknown setting \"tl_ms\": did you mean \"ttl_ms\"?"));
}
