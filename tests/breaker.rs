//! A policy that does nothing but trap is left alone by its breaker, and that is told; market hours that misbehave
//! (`tests/hostile-roles`) cost their own markets and are the market hours' fault, whoever asked them.

use crate::harness::policies::{hostile, hostile_roles};
use crate::harness::process::poll_for;
use crate::harness::{Client, Redis, Sidecar, encoded, folder, run};

pub const DECIDED_MS: i64 = 60_000;
pub const FALLBACK_MS: i64 = 7_777;
/// How long a test may take between a write and the look at it.
const LATE_MS: i64 = 3_000;

/// How a market misbehaves, and whether that costs the decision.
pub const WAYS: [(&str, bool); 13] = [
    ("find-loop", true),
    ("find-trap", true),
    ("find-any", true),
    ("loop", true),
    ("trap", true),
    ("grow", true),
    ("recurse", true),
    ("line-flood", true),
    ("other-time", true),
    ("backwards", true),
    ("zero", true),
    ("negative", true),
    ("well", false),
];

/// The hostile policy decides for `hostile:`, and for a prefix of every market that misbehaves.
pub fn serve(redis: &Redis, market: Option<&[u8]>) -> (Sidecar, tempfile::TempDir) {
    let rule = |name: &str, market: &str| {
        format!(
            "[settings.rules.\"{name}\"]\nprefix = \"{name}:\"\n{market}\nttl_policy = \"hostile\"\n\
             fallback_ttl_ms = {FALLBACK_MS}\n"
        )
    };
    let of_markets = WAYS.iter().map(|(way, _)| rule(&format!("of-{way}"), &format!("market = \"{way}\"")));
    let rules = of_markets.chain([rule("hostile", "")]).collect::<String>();
    let mut files = vec![("hostile.wasm", hostile()), ("namespaces.toml", rules.as_bytes())];
    files.extend(market.map(|component| ("market-hours.wasm", component)));
    let policies = folder(&files);
    // One worker: what blocks it blocks everyone.
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    (Sidecar::serve(redis, &flags), policies)
}

/// Writes a key: its lifetime.
fn written(client: &mut Client, key: &str) -> i64 {
    assert_eq!(client.ask(&format!("SET {key} {{}}")), "+OK", "{key}");
    client.ask(&format!("PTTL {key}")).trim_start_matches(':').parse().unwrap()
}

pub fn check(client: &mut Client, key: &str, expect_ms: i64) {
    let ms = written(client, key);
    assert!((expect_ms - LATE_MS..=expect_ms).contains(&ms), "{key}: PTTL {ms}, expected {expect_ms}");
}

fn flood(client: &mut Client, key: &str, times: usize) {
    let batch = (0..times).flat_map(|number| encoded(&["SET", &format!("{key}:{number}"), "{}"]));
    client.send(&batch.collect::<Vec<_>>());
    (0..times).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n", "{key}"));
}

/// What is told of a policy: traps, times that its breaker opened, and workers with which it is open.
fn told(sidecar: &Sidecar, policy: &str) -> [f64; 3] {
    let metrics = ["traps_total", "breaker_opened_total", "breaker_open"]
        .map(|name| sidecar.metric(&format!("bellwether_policy_{name}{{policy=\"{policy}\"}}")));
    let all = sidecar.policies();
    let of = all["policies"].as_array().unwrap().iter().find(|of| of["name"] == policy).unwrap();
    let page = ["traps", "breaker_opened", "breaker_open_workers"].map(|name| of[name].as_f64().unwrap());
    assert_eq!(metrics, page, "{policy}");
    metrics
}

#[test]
fn a_breaker_opens_is_told_and_closes() {
    let redis = Redis::start();
    let (sidecar, policies) = serve(&redis, None);
    let mut client = sidecar.client();
    assert_eq!(told(&sidecar, "hostile"), [0.0; 3]);
    // Errors and nonsense open nothing.
    ["error", "zero", "spread"].iter().for_each(|way| flood(&mut client, &format!("hostile:{way}"), 50));
    assert_eq!(told(&sidecar, "hostile"), [0.0; 3]);
    flood(&mut client, "hostile:unreachable", 16);
    assert_eq!(told(&sidecar, "hostile"), [16.0, 0.0, 0.0]);
    // Other keys of the policy are decided between two traps.
    check(&mut client, "hostile:well:1", DECIDED_MS);
    flood(&mut client, "hostile:unreachable", 40);
    let [traps, opened, open] = told(&sidecar, "hostile");
    assert!((33.0..=56.0).contains(&traps), "{traps} traps");
    assert_eq!((opened, open), (1.0, 1.0));
    let alone = "policy hostile of generation 1 fails and is left alone; the fallbacks of its rules apply\n";
    assert_eq!(sidecar.admin("/readyz"), (200, format!("ready\n{alone}")));
    let status = run(&["rollout", "status", &format!("127.0.0.1:{}", sidecar.admin_port)], policies.path());
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains(alone), "{status}");
    assert_eq!(told(&sidecar, "ttl"), [0.0; 3]);
    check(&mut client, "fyntrix:context:1", 7_200_000);
    let left = |line: &String| line.contains("policy does nothing but fail") && line.contains("policy=hostile");
    poll_for("a line about the breaker", || match sidecar.process.lines() {
        lines if lines.iter().any(left) => Ok(()),
        lines => Err(format!("{lines:#?}")),
    });
    let mut number = 0;
    poll_for("a decision", || {
        number += 1;
        match written(&mut client, &format!("hostile:well:again:{number}")) {
            ms if ms > FALLBACK_MS => Ok(()),
            ms => Err(ms.to_string()),
        }
    });
    assert_eq!(told(&sidecar, "hostile"), [traps, 1.0, 0.0]);
    assert_eq!(sidecar.admin("/readyz"), (200, "ready\n".to_owned()));
    // A policy that is replaced takes what is told of it along.
    flood(&mut client, "hostile:unreachable", 40);
    assert_eq!(told(&sidecar, "hostile")[2], 1.0);
    crate::harness::policies::put(policies.path(), "hostile.toml", b"[settings]\nttl_ms = 50000");
    poll_for("the next generation", || match sidecar.metric("bellwether_generation") {
        2.0 => Ok(()),
        number => Err(number.to_string()),
    });
    check(&mut client, "hostile:well:2", 50_000);
    assert_eq!(told(&sidecar, "hostile"), [0.0; 3]);
    assert_eq!(sidecar.admin("/readyz"), (200, "ready\n".to_owned()));
}

#[test]
fn market_hours_answer_for_themselves() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis, Some(hostile_roles()));
    let mut client = sidecar.client();
    check(&mut client, "of-well:1", DECIDED_MS);
    // Handed with the question, and asked for by the policy itself.
    flood(&mut client, "of-trap:well", 40);
    let [traps, opened, open] = told(&sidecar, "market-hours");
    assert!((17.0..40.0).contains(&traps), "{traps} traps");
    assert_eq!((opened, open), (1.0, 1.0));
    flood(&mut client, "hostile:ask:trap", 40);
    assert_eq!(told(&sidecar, "hostile"), [0.0; 3]);
    assert_eq!(told(&sidecar, "market-hours")[1..], [1.0, 1.0]);
    let alone = "policy market-hours of generation 1 fails and is left alone; the fallbacks of its rules apply\n";
    assert_eq!(sidecar.admin("/readyz"), (200, format!("ready\n{alone}")));
    // What asks no market is decided meanwhile, and what is known of one holds.
    check(&mut client, "hostile:well:1", DECIDED_MS);
    check(&mut client, "of-well:2", DECIDED_MS);
    let mut number = 0;
    poll_for("a session", || {
        number += 1;
        match written(&mut client, &format!("hostile:ask:well:{number}")) {
            ms if ms > FALLBACK_MS => Ok(()),
            ms => Err(ms.to_string()),
        }
    });
    assert_eq!(told(&sidecar, "hostile"), [0.0; 3]);
}

#[test]
fn each_market_costs_its_own_decisions() {
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis, Some(hostile_roles()));
    let mut client = sidecar.client();
    for (number, (way, fails)) in WAYS.into_iter().enumerate() {
        check(&mut client, &format!("of-{way}:well:{number}"), if fails { FALLBACK_MS } else { DECIDED_MS });
        // The very next key of another market is decided, and one of none, and what asks one.
        check(&mut client, &format!("of-well:{number}"), DECIDED_MS);
        check(&mut client, &format!("hostile:well:{number}"), DECIDED_MS);
        check(&mut client, &format!("hostile:ask:well:{number}"), DECIDED_MS);
        check(&mut client, &format!("fyntrix:context:{number}"), 7_200_000);
    }
    let count = |rule: &str, outcome: &str| {
        sidecar.metric(&format!("bellwether_decisions_total{{rule=\"{rule}\",outcome=\"{outcome}\"}}"))
    };
    for (way, fails) in WAYS {
        assert_eq!(count(&format!("of-{way}"), "fallback"), f64::from(u8::from(fails)), "{way}");
    }
    assert_eq!((count("hostile", "fallback"), told(&sidecar, "hostile")), (0.0, [0.0; 3]));
    assert_eq!(told(&sidecar, "market-hours"), [8.0, 0.0, 0.0]);
}

/// Who asks about other instants, and is asked by others, has no more lines for that.
#[test]
fn market_hours_keep_to_their_lines() {
    const LINES_PER_SECOND_MAX: u64 = 100;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis, Some(hostile_roles()));
    let begun = std::time::Instant::now();
    flood(&mut sidecar.client(), "of-line-flood:well", 16);
    let seconds = begun.elapsed().as_secs() + 2;
    let lines = sidecar.process.lines();
    let written = lines.iter().filter(|line| line.contains("policy=market-hours")).count() as u64;
    assert!((1..=seconds * LINES_PER_SECOND_MAX).contains(&written), "{written} lines in {seconds} seconds");
}
