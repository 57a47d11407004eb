//! Hostile components of every role in the running server: whatever they do while they are loaded, as market hours, and
//! with WASI, the server's other keys are decided as always, no command fails, and the process lives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use crate::breaker::{DECIDED_MS, FALLBACK_MS, WAYS, check, serve};
use crate::harness::policies::{first_policy, hostile_roles, outside, put};
use crate::harness::process::poll_for;
use crate::harness::wasm::{Begins, of_instances, that_begins, with_function};
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

/// Keys of other rules with the lifetimes they have, written again and again while something happens: how often.
fn beside(sidecar: &Sidecar, others: &[(&str, i64)], happens: impl FnOnce(&mut Client) + Send) -> usize {
    let (stop, decided) = (AtomicBool::new(false), AtomicUsize::new(0));
    let other = |prefix: &str, expect_ms| {
        let mut client = sidecar.client();
        while !stop.load(Ordering::Relaxed) {
            let number = decided.fetch_add(1, Ordering::Relaxed);
            check(&mut client, &format!("{prefix}{number}"), expect_ms);
        }
    };
    scope(|scope| {
        let others: Vec<_> =
            others.iter().map(|(prefix, expect_ms)| scope.spawn(|| other(prefix, *expect_ms))).collect();
        let ended = scope.spawn(|| happens(&mut sidecar.client())).join();
        stop.store(true, Ordering::Relaxed);
        let others: Vec<_> = others.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        assert!(ended.is_ok() && others.iter().all(Result::is_ok), "{:#?}", sidecar.process.lines());
    });
    // It still serves everyone.
    check(&mut sidecar.client(), "fyntrix:context:after", 7_200_000);
    decided.into_inner()
}

#[test]
fn while_they_are_loaded() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    let sidecar = Sidecar::serve(&redis, &flags);
    let decided = beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |_| {
        for (settings, why) in STARTS {
            put(policies.path(), "market-hours.toml", format!("[settings]\n{settings}").as_bytes());
            load(&sidecar, policies.path(), settings, "market-hours.wasm", hostile_roles(), why);
        }
    });
    assert!(decided > STARTS.len(), "others were held up: {decided} decisions");
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

/// A ttl component as `bellwether policy build` makes it, with what no compiler makes, and what is said of it.
fn odd() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    const MORE_TABLE: [u8; 15] = [3, 0x40, 0xd0, 0x70, 0x41, 0xe8, 7, 0xfc, 15, 0, 0x41, 0x7f, 0x47, 13, 0];
    const MORE_MEMORY: [u8; 11] = [3, 0x40, 0x41, 16, 0x40, 0, 0x41, 0x7f, 0x47, 13, 0];
    const ENDLESS: [u8; 5] = [3, 0x40, 12, 0, 0x0b];
    const ITSELF: [u8; 2] = [0x10, 0];
    const AND_ON: [u8; 1] = [0x0b];
    const OR_TRAP: [u8; 2] = [0x0b, 0];
    let first = first_policy();
    let begins =
        |tables, memories, code: &[&[u8]]| that_begins(&first, &Begins { tables, memories, code: code.concat() });
    // Loops that hand on what they were given: a compiler has to tell apart what each number is behind each of them.
    let loops = [3, 0, 0x20, 0, 13, 0, 0x0b].repeat(60_000);
    let fails = Some("could not be instantiated");
    vec![
        ("a table that grows while it may", begins(1, 0, &[&MORE_TABLE, &AND_ON]), None),
        ("a memory that grows while it may", begins(0, 1, &[&MORE_MEMORY, &AND_ON]), None),
        ("a table that must be larger", begins(1, 0, &[&MORE_TABLE, &OR_TRAP]), fails),
        ("a memory that must be larger", begins(0, 1, &[&MORE_MEMORY, &OR_TRAP]), fails),
        ("no end of the beginning", begins(0, 0, &[&ENDLESS]), fails),
        ("a beginning that calls itself", begins(0, 0, &[&ITSELF]), fails),
        ("many tables", begins(99, 0, &[]), Some("tables; at most")),
        ("many memories", begins(0, 99, &[]), Some("memories and")),
        ("many instances", of_instances(&first, 900), fails),
        (
            "all memory to compile",
            with_function(&first, 16, &loops),
            Some("bytes of memory (policy_compile_bytes_max)"),
        ),
    ]
}

/// Puts odd components in the folder of a sidecar with these limits, one after the other.
fn check_odd(limits: [&str; 2], odd: &[(&str, Vec<u8>, Option<&str>)]) {
    let redis = Redis::start();
    let policies = folder(&[]);
    let flags = ["--policy-folder", policies.path().to_str().unwrap(), "--workers", "1"];
    // An endless beginning is over the sooner.
    let fuel = ["--policy-load-fuel-max", "200000000"];
    let sidecar = Sidecar::serve(&redis, &[&flags[..], &fuel, &limits].concat());
    let decided = beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |_| {
        for (what, component, why) in odd {
            load(&sidecar, policies.path(), what, "odd.wasm", component, *why);
        }
    });
    assert!(decided > odd.len(), "others were held up: {decided} decisions");
}

#[test]
fn with_what_no_compiler_makes() {
    check_odd(["--policy-compile-bytes-max", "268435456"], &odd());
    // Calls of itself, for which memory would last a minute.
    let calls = with_function(&first_policy(), 16, &[0x10, 0].repeat(60_000));
    let why = Some("more than 6000 ms (policy_compile_ms_max)");
    check_odd(["--policy-compile-ms-max", "6000"], &[("a minute to compile", calls, why)]);
}

#[test]
fn as_market_hours() {
    const CALLS: usize = 120;
    let redis = Redis::start();
    let (sidecar, _policies) = serve(&redis, Some(hostile_roles()));
    let others = [("of-well:", DECIDED_MS), ("hostile:well:", DECIDED_MS), ("fyntrix:context:", 7_200_000)];
    let decided = beside(&sidecar, &others, |client| {
        let ways = WAYS.iter().filter(|(_, fails)| *fails).map(|(way, _)| way).cycle();
        for (number, way) in ways.take(CALLS).enumerate() {
            check(client, &format!("of-{way}:well:{number}"), FALLBACK_MS);
        }
    });
    assert!(decided > CALLS / 2, "others were held up: {decided} decisions beside {CALLS} hostile ones");
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
    let decided = beside(&sidecar, &[("fyntrix:context:", 7_200_000)], |client| {
        for (number, way) in ["panic", "exit", "flood", "hold"].iter().cycle().take(CALLS).enumerate() {
            check(client, &format!("outside:{number}:{way}"), FALLBACK_MS);
        }
    });
    assert!(decided > CALLS / 2, "others were held up: {decided} decisions beside {CALLS} hostile ones");
}
