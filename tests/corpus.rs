//! Hostile components of every role in the running server: whatever they do while they are loaded, as market hours, and
//! with WASI, the server's other keys are decided as always, no command fails, and the process lives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use crate::breaker::{DECIDED_MS, FALLBACK_MS, WAYS, check, serve};
use crate::harness::policies::{first_policy, hostile_roles, outside, put};
use crate::harness::process::poll_for;
use crate::harness::wasm::{Odd, odd, slow_to_compile};
use crate::harness::{Client, Redis, Sidecar, folder};

/// How it starts and what rules it gives, and what is said of it. None: it is put in force.
const STARTS: [(&str, Option<&str>); 15] = [
    ("rules = \"loop\"", Some("failed to give its rules: ")),
    ("rules = \"trap\"", Some("unreachable")),
    ("rules = \"grow\"", Some("unreachable")),
    ("rules = \"error\"", Some("e e e")),
    ("rules = \"many\"", Some("gave 10001 rules; at most 10000 are allowed")),
    ("rules = \"giant\"", Some("failed to give its rules")),
    ("rules = \"long\"", Some("must end in ':' and have at most 512 bytes")),
    ("rules = \"longest\"", Some("rule \"r0\": the prefix \"ppp")),
    ("rules = \"same\"", Some("two rules are called \"same\"")),
    ("rules = \"nameless\"", Some("a rule's name must have 1 to 64 bytes")),
    ("symbols = \"loop\"", Some("failed to give its symbols: ")),
    ("symbols = \"many\"", Some("symbols; at most 10000 are allowed")),
    ("symbols = \"same\"", Some("stands twice in the symbol table")),
    ("nonsense = 1", Some("unknown setting \"nonsense\"")),
    ("start = \"slow\"", None),
];

/// Keys of other rules with the lifetimes they have, written again and again while something happens: it is given a
/// client, and what waits until one more of them has been.
fn beside(sidecar: &Sidecar, others: &[(&str, i64)], happens: impl FnOnce(&mut Client, &dyn Fn()) + Send) {
    let (stop, decided) = (AtomicBool::new(false), AtomicUsize::new(0));
    let other = |prefix: &str, expect_ms| {
        let mut client = sidecar.client();
        while !stop.load(Ordering::Relaxed) {
            check(&mut client, &format!("{prefix}{}", decided.load(Ordering::Relaxed)), expect_ms);
            decided.fetch_add(1, Ordering::Relaxed);
        }
    };
    let go_on = || {
        let before = decided.load(Ordering::Relaxed);
        let more = || if decided.load(Ordering::Relaxed) > before { Ok(()) } else { Err(before.to_string()) };
        poll_for("keys of other rules", more);
    };
    scope(|scope| {
        let others: Vec<_> =
            others.iter().map(|(prefix, expect_ms)| scope.spawn(|| other(prefix, *expect_ms))).collect();
        let ended = scope.spawn(|| happens(&mut sidecar.client(), &go_on)).join();
        stop.store(true, Ordering::Relaxed);
        let others: Vec<_> = others.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        assert!(ended.is_ok() && others.iter().all(Result::is_ok), "{:#?}", sidecar.process.lines());
    });
    // It still serves everyone.
    check(&mut sidecar.client(), "fyntrix:context:after", 7_200_000);
}

#[test]
fn while_they_are_loaded() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    let sidecar = Sidecar::serve(&redis, &flags);
    beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |_, go_on| {
        for (settings, why) in STARTS {
            put(policies.path(), "market-hours.toml", format!("[settings]\n{settings}").as_bytes());
            load(&sidecar, policies.path(), settings, "market-hours.wasm", hostile_roles(), why);
            go_on();
        }
    });
}

/// Puts a component in the folder, and waits for what becomes of it.
fn load(sidecar: &Sidecar, policies: &Path, what: &str, file: &str, component: &[u8], why: Option<&str>) {
    let told = || (sidecar.metric("bellwether_generation"), sidecar.metric("bellwether_generations_refused_total"));
    let (generation, refused) = told();
    put(policies, file, component);
    poll_for(what, || {
        let reason = sidecar.policies()["last_refused"]["reason"].as_str().unwrap_or_default().to_owned();
        match (why, told()) {
            (None, (now, _)) if now > generation => Ok(()),
            (Some(why), (_, now)) if now > refused && reason.contains(why) && reason.len() < 2_048 => Ok(()),
            _ => Err(reason),
        }
    });
}

/// Puts odd components in the folder of a sidecar with these limits, one after the other.
fn check_odd(limits: [&str; 2], odd: &[Odd]) {
    let redis = Redis::start();
    let policies = folder(&[]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    // An endless beginning is over the sooner.
    let fuel = ["--policy-load-fuel-max", "200000000"];
    let sidecar = Sidecar::serve(&redis, &[&flags[..], &fuel, &limits].concat());
    beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |_, go_on| {
        for Odd { what, component, refused } in odd {
            load(&sidecar, policies.path(), what, "odd.wasm", component, *refused);
            go_on();
        }
    });
}

#[test]
fn with_what_no_compiler_makes() {
    check_odd(["--policy-compile-bytes-max", "268435456"], &odd(&first_policy()));
    check_odd(["--policy-compile-ms-max", "6000"], &[slow_to_compile(&first_policy())]);
}

#[test]
fn with_a_compiler_that_is_killed() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = Sidecar::serve(&redis, &["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"]);
    beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |_, go_on| {
        put(policies.path(), "odd.wasm", &slow_to_compile(&first_policy()).component);
        poll_for("a process that compiles", || match sidecar.process.kill_children() {
            0 => Err("there is none".to_owned()),
            _ => Ok(()),
        });
        poll_for("a refusal", || match sidecar.policies()["last_refused"]["reason"].as_str() {
            Some(why) if why.contains("killed") && why.contains("2147483648 bytes (policy_compile_bytes_max)") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        go_on();
    });
}

#[test]
fn as_market_hours() {
    const CALLS: usize = 120;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis, Some(hostile_roles()));
    let others = [("of-well:", DECIDED_MS), ("hostile:well:", DECIDED_MS), ("fyntrix:context:", 7_200_000)];
    beside(&sidecar, &others, |client, go_on| {
        let ways = WAYS.iter().filter(|(_, fails)| *fails).map(|(way, _)| way).cycle();
        for (number, way) in ways.take(CALLS).enumerate() {
            check(client, &format!("of-{way}:well:{number}"), FALLBACK_MS);
            go_on();
        }
    });
}

#[test]
fn with_wasi() {
    const CALLS: usize = 60;
    let rules = format!(
        "[settings.rules.outside]\nprefix = \"outside:\"\nttl_policy = \"outside\"\nfallback_ttl_ms = {FALLBACK_MS}"
    );
    let redis = Redis::start();
    let policies = folder(&[("outside.wasm", outside()), ("namespaces.toml", rules.as_bytes())]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    let sidecar = Sidecar::serve(&redis, &flags);
    beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |client, go_on| {
        for (number, way) in ["panic", "exit", "flood", "hold"].iter().cycle().take(CALLS).enumerate() {
            check(client, &format!("outside:{way}:{number}"), FALLBACK_MS);
            go_on();
        }
    });
}
