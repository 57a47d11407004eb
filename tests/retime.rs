//! Keys that are there already: `bellwether retime` over a real Redis, and in `retime/sweep.rs` the walk that the
//! sidecar begins by itself.

mod sweep;

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, Redis, encoded, folder, run};

/// Rules by what they do with clients' lifetimes, and some that leave lifetimes alone.
const RULES: &[u8] = b"[settings]
defaults = false
json = \"any\"
[settings.rules]
respect = { prefix = \"respect:\", client_ttl = \"respect\" }
cap = { prefix = \"cap:\", client_ttl = \"cap\", market_from = \"key-part\", market_part = 0 }
replace = { prefix = \"replace:\", client_ttl = \"replace\" }
free = { prefix = \"free:\", ttl_policy = \"none\" }
read = { prefix = \"read:\", access = \"read-only\" }
denied = { prefix = \"denied:\", access = \"denied\" }
";
/// Every decision is a thousand seconds.
const THOUSAND: &[u8] = b"[settings.namespaces.default]\nfixed_ttl_ms = 1_000_000\n";

/// A Redis, and a folder whose policies decide a thousand seconds for every key.
struct Stage {
    redis: Redis,
    policies: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let policies = folder(&[("namespaces.toml", RULES), ("ttl.toml", THOUSAND)]);
        Self { redis: Redis::start(), policies }
    }

    /// Runs the verb on a database, with more flags.
    fn retime(&self, db: u32, flags: &[&str]) -> Output {
        let upstream = format!("redis://127.0.0.1:{}/{db}", self.redis.port);
        let policies = self.policies.path().to_str().unwrap();
        run(&[&["retime", "--upstream", &upstream, "--policy-folder", policies], flags].concat(), Path::new("/"))
    }

    /// The same where it goes well: what it printed. No progress is shown where nobody sees it.
    fn retimed(&self, db: u32, flags: &[&str]) -> String {
        let output = self.retime(db, flags);
        let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""), "{flags:?}\n{shown}");
        shown.into_owned()
    }
}

/// The numbers of a rule in the summary: keys, shortened, given, persisted, left, written meanwhile.
fn numbers(printed: &str, rule: &str) -> Vec<u64> {
    let line = printed.lines().find_map(|line| line.strip_prefix(rule)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {rule:?} in\n{printed}"));
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// When keys end at the server, by its clock.
fn ends(client: &mut Client) -> Vec<String> {
    KEYS.iter().map(|(key, ..)| client.ask_words(&[b"PEXPIRETIME", key])).collect()
}

/// Sends many commands at once; none of them may fail.
fn pipelined(client: &mut Client, commands: &[Vec<u8>]) {
    for chunk in commands.chunks(1_000) {
        client.send(&chunk.concat());
        for _ in chunk {
            let reply = client.reply();
            assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
        }
    }
}

/// Keys, the seconds they have left, and the seconds they have left when all has been decided anew. No end: 0, -1.
const KEYS: &[(&[u8], u64, i64)] = &[
    (b"respect:none", 0, 1_000),
    (b"respect:long", 5_000, 5_000),
    (b"respect:short", 500, 500),
    (b"cap:XHKG:none", 0, 1_000),
    (b"cap:XHKG:long", 5_000, 1_000),
    (b"cap:XNSE:long", 5_000, 1_000),
    (b"cap:XHKG:short", 500, 500),
    (b"replace:none", 0, 1_000),
    (b"replace:long", 5_000, 1_000),
    (b"replace:short", 500, 500),
    (b"cap:XHKG:\xff", 0, -1),
    (b"free:none", 0, -1),
    (b"free:long", 5_000, 5_000),
    (b"read:none", 0, -1),
    (b"denied:long", 5_000, 5_000),
    (b"elsewhere", 0, -1),
];

/// A key that is too long for a policy.
fn long_key() -> Vec<u8> {
    format!("cap:{}", "k".repeat(5_000)).into_bytes()
}

/// Puts the keys into the database of the client. Not all are strings.
fn fill(client: &mut Client) {
    let long = long_key();
    for (key, seconds, _) in KEYS.iter().copied().chain([(long.as_slice(), 5_000, 5_000)]) {
        client.ask_words(&[b"DEL", key]);
        if key.ends_with(b"none") {
            assert_eq!(client.ask_words(&[b"HSET", key, b"field", b"value"]), ":1");
        } else if seconds == 0 {
            assert_eq!(client.ask_words(&[b"SET", key, b"value"]), "+OK");
        } else {
            let seconds = seconds.to_string();
            assert_eq!(client.ask_words(&[b"SET", key, b"value", b"EX", seconds.as_bytes()]), "+OK");
        }
    }
}

/// Checks that the picked keys live as decided anew, and the others as before.
fn check_left(client: &mut Client, picked: fn(&[u8]) -> bool) {
    let long = long_key();
    for (key, before, after) in KEYS.iter().copied().chain([(long.as_slice(), 5_000, 5_000)]) {
        let left: i64 = client.ask_words(&[b"TTL", key]).trim_start_matches(':').parse().unwrap();
        let expect = match (picked(key), before) {
            (true, _) => after,
            (false, 0) => -1,
            (false, before) => i64::try_from(before).unwrap(),
        };
        // A slow machine takes its time between the writing and the looking.
        let right = if expect < 0 { left == expect } else { (expect - 200..=expect).contains(&left) };
        assert!(right, "{}: {left} left, expected {expect}", key.escape_ascii());
    }
}

#[test]
fn each_rule_has_its_way() {
    let stage = Stage::new();
    let mut client = stage.redis.client();
    fill(&mut client);
    client.ask("SELECT 3");
    fill(&mut client);
    let before = ends(&mut client);

    let dry = stage.retimed(3, &["--dry-run"]);
    assert_eq!(ends(&mut client), before, "a dry run changed something\n{dry}");
    for expect in [
        "respect:none: without end, would be 16m 40s (default: lives by its own clock, whatever the market does)",
        "left, would be 16m 40s",
        "left: 1 under no rule",
        "left: 2 under a rule without a ttl policy",
        "left: 2 under a rule that does not let clients write",
        "left: 2 not UTF-8 or too long for a policy",
        "left: 2 as the client asked, which the rule respects",
        "left: 2 that would live longer, and whose age is not known",
        "dry run: nothing was changed",
    ] {
        assert!(dry.contains(expect), "no {expect:?} in\n{dry}");
    }
    assert_eq!(dry.matches("would be").count(), 6, "{dry}");

    let done = stage.retimed(3, &[]);
    assert!(!done.contains("dry run") && !done.contains("would be"), "{done}");
    for (rule, expect) in [
        ("respect", [3, 0, 1, 0, 2, 0]),
        ("cap", [6, 2, 1, 0, 3, 0]),
        ("replace", [3, 1, 1, 0, 1, 0]),
        ("free", [2, 0, 0, 0, 2, 0]),
        ("(no rule)", [1, 0, 0, 0, 1, 0]),
        ("all", [17, 3, 3, 0, 11, 0]),
    ] {
        assert_eq!(numbers(&dry, rule), expect, "{dry}");
        assert_eq!(numbers(&done, rule), expect, "{done}");
    }
    check_left(&mut client, |_| true);
    let again = stage.retimed(3, &[]);
    assert_eq!(numbers(&again, "all"), [17, 0, 0, 0, 17, 0], "{again}");
    // Another database is not touched.
    client.ask("SELECT 0");
    check_left(&mut client, |_| false);
}

#[test]
fn only_what_is_picked_is_changed() {
    let stage = Stage::new();
    let mut client = stage.redis.client();
    let mut check = |flags: &[&str], picked| {
        fill(&mut client);
        stage.retimed(0, flags);
        check_left(&mut client, picked);
    };
    check(&["--namespace", "cap"], |key| key.starts_with(b"cap:"));
    check(&["--namespace", "cap:XHKG:l"], |key| key.starts_with(b"cap:XHKG:l"));
    check(&["--namespace", "re"], |key| key.starts_with(b"re"));
    check(&["--market", "XHKG"], |key| key.starts_with(b"cap:XHKG"));
    check(&["--market", "XHKG", "--namespace", "replace"], |_| false);
}

#[test]
fn mistakes_are_told() {
    let stage = Stage::new();
    let told = |output: Output, code: i32, expect: &str| {
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && shown.contains(expect), "no {expect:?} in {shown}");
    };
    let check = |flags: &[&str], code, expect| told(stage.retime(0, flags), code, expect);
    check(&["--namespace", "repect"], 1, "no rule is called \"repect\", and none covers keys that begin so; did you");
    check(&["--namespace", "repect"], 1, "did you mean respect? There are cap, denied, free, read, replace, respect");
    check(&["--namespace", "xyz"], 1, "none covers keys that begin so. There are cap,");
    check(&["--namespace", ""], 1, "no rule is called \"\"");
    check(&["--market", "XHKX"], 1, "there is no market XHKX; did you mean XHKG?");
    check(&["--market", "?"], 1, "there is no market ?; `bellwether market` lists them all");
    check(&["--keys-per-second", "0"], 64, "0 is not in 1..");
    let upstream = |url: &str, expect| told(run(&["retime", "--upstream", url], Path::new("/")), 1, expect);
    upstream("embedded", "the embedded store lives inside a running sidecar, which retimes its keys by itself");
    upstream(
        "redis://127.0.0.1:1",
        "cannot use the server 127.0.0.1:1 (start it, or name another with --upstream redis://HOST:PORT): ",
    );
    let no_database = format!("redis://127.0.0.1:{}/99", stage.redis.port);
    upstream(&no_database, "it has 16 databases, so there is no database 99");
}

#[test]
fn a_password_is_given() {
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    redis.admin().ask("SET fyntrix:general:a {}");
    let port = redis.port.to_string();
    let variables = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("REDIS_PASSWORD", "secret")];
    let output = crate::harness::run_with(&variables, &["retime"], Path::new("/"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(numbers(&printed, "fyntrix:general"), [1, 0, 1, 0, 0, 0], "{output:?}");
    let output = crate::harness::run_with(&variables[..2], &["retime"], Path::new("/"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("NOAUTH"), "{told}");
}

#[test]
fn what_the_server_forbids_is_told() {
    let stage = Stage::new();
    assert_eq!(stage.redis.client().ask("ACL SETUSER default -scan"), "+OK");
    let output = stage.retime(0, &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && told.contains("after 0 keys") && told.contains("no permissions"),
        "{told}"
    );
}

#[test]
fn an_empty_database() {
    let printed = Stage::new().retimed(0, &[]);
    assert_eq!(numbers(&printed, "all"), [0; 6], "{printed}");
    assert!(printed.contains("looked at 0 keys of database 0"), "{printed}");
}

#[test]
fn many_keys_at_a_measured_pace() {
    const KEYS: u64 = 20_000;
    let stage = Stage::new();
    let mut client = stage.redis.client();
    let commands: Vec<_> = (0..KEYS).map(|number| encoded(&["SET", &format!("cap:XHKG:{number}"), "v"])).collect();
    pipelined(&mut client, &commands);
    let begun = Instant::now();
    let printed = stage.retimed(0, &["--keys-per-second", "40000"]);
    // Not faster than it may, but for the last step.
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}\n{printed}", begun.elapsed());
    let counted = numbers(&printed, "cap");
    // A key may be met twice in one walk, where the server's table grows or shrinks.
    assert!(counted[0] >= KEYS && counted[2] == KEYS, "{printed}");
    let info = client.ask("INFO keyspace");
    assert!(info.contains(&format!("keys={KEYS},expires={KEYS}")), "{info}");
}

/// A client writes keys while they are looked at, with a lifetime of its own and without, in turns: none of its
/// lifetimes is taken for what was there before.
#[test]
fn keys_are_written_meanwhile() {
    const KEYS: usize = 10_000;
    let stage = Stage::new();
    let key = |number: usize| format!("cap:XHKG:{number}");
    let write = |number, limited: bool| match limited {
        true => encoded(&["SET", &key(number), "v", "EX", "300"]),
        false => encoded(&["SET", &key(number), "v"]),
    };
    let mut client = stage.redis.client();
    pipelined(&mut client, &(0..KEYS).map(|number| write(number, false)).collect::<Vec<_>>());
    let stop = AtomicBool::new(false);
    let limited = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut client, mut limited) = (stage.redis.client(), vec![false; KEYS]);
            let mut turns = (0..KEYS).step_by(20).cycle();
            while !stop.load(Ordering::Relaxed) {
                let numbers = turns.next().map(|first| first..first + 20).unwrap();
                let turn = !limited[numbers.start];
                pipelined(&mut client, &numbers.clone().map(|number| write(number, turn)).collect::<Vec<_>>());
                limited[numbers].fill(turn);
            }
            limited
        });
        let printed = stage.retimed(0, &["--keys-per-second", "10000"]);
        stop.store(true, Ordering::Relaxed);
        let counted = numbers(&printed, "cap");
        assert_eq!(counted[1..].iter().sum::<u64>(), counted[0], "{printed}");
        writer.join().unwrap()
    });
    for (number, limited) in limited.into_iter().enumerate() {
        let left: i64 = client.ask(&format!("TTL {}", key(number))).trim_start_matches(':').parse().unwrap();
        let right = if limited { (1..=300).contains(&left) } else { left == -1 || (500..=1_000).contains(&left) };
        assert!(right, "key {number}, written with a lifetime: {limited}, has {left} left");
    }
}
