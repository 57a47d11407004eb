//! The walk that the sidecar begins by itself after a market's sessions changed.

use crate::harness::policies::{market, put};
use crate::harness::process::{poll_for, poll_until};
use crate::harness::{Client, Redis, Sidecar, encoded, folder};

/// Rules whose keys name their market, by what they do with clients' lifetimes.
const RULES: &[u8] = b"[settings]
defaults = false
json = \"any\"
[settings.rules]
respect = { prefix = \"respect:\", client_ttl = \"respect\", market_from = \"key-part\", market_part = 0 }
cap = { prefix = \"cap:\", client_ttl = \"cap\", market_from = \"key-part\", market_part = 0 }
replace = { prefix = \"replace:\", client_ttl = \"replace\", market_from = \"key-part\", market_part = 0 }
none = { prefix = \"none:\", client_ttl = \"cap\" }
";

/// Five minutes, or until the market closes; closed, until it opens. Spread over a second, the least there is.
const LIFETIMES: &[u8] = b"[settings.namespaces.default]
open_ttl_ms = 300_000
hold_ms_max = 86_400_000
lead_ms = 0
settle_ms = 0
spread_ms = 1_000
session_spread_ms = 1_000
";

const MONDAY: (&str, &str) = ("2026-11-23T09:30:00+08:00", "2026-11-23T16:00:00+08:00");
const TUESDAY: (&str, &str) = ("2026-11-24T09:30:00+08:00", "2026-11-24T16:00:00+08:00");
const FAR: (&str, &str) = ("2026-12-10T09:30:00+08:00", "2026-12-10T16:00:00+08:00");
const SURPRISE: (&str, &str) = ("2026-11-23T05:00:00+08:00", "2026-11-23T05:40:00+08:00");
const LATER: (&str, &str) = ("2026-11-23T06:00:00+08:00", "2026-11-23T06:40:00+08:00");

/// A sidecar at a chosen time, and the folder with its policies.
struct Stage {
    sidecar: Sidecar,
    policies: tempfile::TempDir,
    offset_ms: i64,
}

/// Sessions of Hong Kong as settings; Mumbai's are always the same.
fn sessions(hong_kong: &[(&str, &str)]) -> Vec<u8> {
    let mut text = "[settings.markets.XHKG]\nalias = \"HKEX\"\n".to_owned();
    for (number, (open, close)) in hong_kong.iter().enumerate() {
        text += &format!("[settings.markets.XHKG.sessions.s{number}]\nopen = {open}\nclose = {close}\n");
    }
    text += &format!("[settings.markets.XNSE.sessions.s]\nopen = {}\nclose = {}\n", MONDAY.0, MONDAY.1);
    text.into_bytes()
}

impl Stage {
    /// Monday and Tuesday are trading days as usual.
    fn new(at: &str, begin: impl FnOnce(&[&str]) -> Sidecar, flags: &[&str]) -> Self {
        let hours = sessions(&[MONDAY, TUESDAY]);
        let files: [(&str, &[u8]); 4] = [
            ("market-hours.wasm", market()),
            ("market-hours.toml", &hours),
            ("namespaces.toml", RULES),
            ("ttl.toml", LIFETIMES),
        ];
        let policies = folder(&files);
        let offset = instant(at) / 1000 - jiff::Timestamp::now().as_second();
        let shift = format!("{offset}s");
        let own = ["--policy-folder", policies.path().to_str().unwrap(), "--policy-poll-ms", "20", "--clock-offset"];
        let sidecar = begin(&[&own, [shift.as_str()].as_slice(), flags].concat());
        Self { sidecar, policies, offset_ms: offset * 1000 }
    }

    fn change(&self, hong_kong: &[(&str, &str)]) {
        put(self.policies.path(), "market-hours.toml", &sessions(hong_kong));
    }

    /// The line that says how a walk went, the first walk being 0.
    fn end_of_walk(&self, number: usize) -> String {
        poll_for(&format!("end of walk {number}"), || {
            let lines = self.sidecar.process.lines();
            let ends: Vec<_> =
                lines.iter().filter(|line| line.contains(" retimed ") && line.contains(" ms: ")).collect();
            ends.get(number).map(|line| (*line).clone()).ok_or_else(|| lines.join("\n"))
        })
    }

    /// When a key ends by the sidecar's clock; none: it has no end.
    fn end(&self, client: &mut Client, key: &str) -> Option<i64> {
        let left: i64 = client.ask(&format!("PTTL {key}")).trim_start_matches(':').parse().unwrap();
        assert_ne!(left, -2, "{key} is gone");
        (left >= 0).then(|| jiff::Timestamp::now().as_millisecond() + left + self.offset_ms)
    }

    /// Keys end at these instants, or up to a spread and a moment before, or have no end.
    fn check(&self, client: &mut Client, what: &str, rows: &[(&str, Option<i64>)]) {
        for (key, expect) in rows {
            let end = self.end(client, key);
            let near = match (end, expect) {
                (Some(end), Some(expect)) => (expect - 3_000..=expect + 2_000).contains(&end),
                (end, expect) => end == *expect,
            };
            assert!(near, "{what}, {key}: ends at {end:?}, expected {expect:?}\n{:#?}", self.sidecar.process.lines());
        }
    }
}

fn instant(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Writes keys through the sidecar: a key, and the seconds that the client asks for. 0: it does not.
fn write(client: &mut Client, rows: &[(&str, u64)]) {
    for (key, seconds) in rows {
        let lifetime = if *seconds == 0 { String::new() } else { format!(" EX {seconds}") };
        assert_eq!(client.ask(&format!("SET {key} v{lifetime}")), "+OK");
    }
}

/// A session that nobody expected, and its end: over a server and over the embedded store.
fn a_surprise(stage: &Stage) {
    let mut client = stage.sidecar.client();
    write(
        &mut client,
        &[
            ("cap:XHKG:ours", 0),
            ("cap:HKEX:ours", 0),
            ("cap:XHKG:clients", 15_000),
            ("cap:XHKG:short", 600),
            ("cap:XNSE:ours", 0),
            ("cap:elsewhere:ours", 0),
            ("respect:XHKG:ours", 0),
            ("respect:XHKG:clients", 15_000),
            ("respect:XHKG:endless", 0),
            ("replace:XHKG:ours", 15_000),
            ("none:XHKG", 0),
        ],
    );
    assert_eq!(client.ask("PERSIST respect:XHKG:endless"), ":1");
    let keys = ["cap:XHKG:clients", "cap:XHKG:short", "cap:XNSE:ours", "cap:elsewhere:ours", "respect:XHKG:clients"];
    let unchanged: Vec<_> = keys.into_iter().chain(["none:XHKG"]).collect();
    let unchanged: Vec<_> = unchanged.into_iter().map(|key| (key, stage.end(&mut client, key))).collect();
    let ours = ["cap:XHKG:ours", "cap:HKEX:ours", "respect:XHKG:ours", "replace:XHKG:ours"];
    let at = |text: &str| ours.map(|key| (key, Some(instant(text))));
    stage.check(&mut client, "as usual", &at(MONDAY.0));

    // Not a change of any market's sessions, and one of sessions that are too far away for any lifetime.
    put(stage.policies.path(), "ttl.toml", &[LIFETIMES, b"fallback_ttl_ms = 31_000"].concat());
    poll_until("generation 2", || stage.sidecar.policies()["generation"] == 2);
    stage.change(&[MONDAY, TUESDAY, FAR]);
    poll_until("generation 3", || stage.sidecar.policies()["generation"] == 3);

    stage.change(&[SURPRISE, MONDAY, TUESDAY, FAR]);
    let line = stage.end_of_walk(0);
    assert!(line.contains("retimed 8 keys of XHKG in ") && line.contains("5 shortened"), "{line}");
    stage.check(&mut client, "a surprise", &at(SURPRISE.0));
    stage.check(&mut client, "a surprise", &[("cap:XHKG:clients", Some(instant(SURPRISE.0)))]);
    stage.check(&mut client, "a surprise", &unchanged[1..]);
    stage.check(&mut client, "a surprise", &[("respect:XHKG:endless", None)]);

    // It is called off: what the sidecar gave lives on, as it did before.
    stage.change(&[MONDAY, TUESDAY, FAR]);
    let line = stage.end_of_walk(1);
    assert!(line.contains("retimed 8 keys of XHKG in ") && line.contains("5 lengthened"), "{line}");
    stage.check(&mut client, "called off", &at(MONDAY.0));
    stage.check(&mut client, "called off", &unchanged[1..]);

    let metric = |sample: &str| stage.sidecar.metric(sample);
    assert_eq!(metric("bellwether_retime_sweeps_total"), 2.0);
    for (outcome, keys) in [("shortened", 5.0), ("lengthened", 5.0), ("left", 6.0), ("given", 0.0)] {
        assert_eq!(metric(&format!("bellwether_retime_keys_total{{outcome=\"{outcome}\"}}")), keys, "{outcome}");
    }
    let lines = stage.sidecar.process.lines();
    let begun = |line: &&String| line.contains("retiming keys of XHKG: sessions changed, generation ");
    assert!(lines.iter().find(begun).is_some_and(|line| line.ends_with("→ 4")), "{lines:#?}");
}

const EARLY: &str = "2026-11-23T04:00:00+08:00";

#[test]
fn a_surprise_session_at_a_server() {
    let redis = Redis::start();
    a_surprise(&Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &[]));
}

#[test]
fn a_surprise_session_at_the_embedded_store() {
    a_surprise(&Stage::new(EARLY, |flags| Sidecar::start("dev", flags), &[]));
}

#[test]
fn every_database_is_walked() {
    let redis = Redis::start();
    let stage = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &[]);
    let mut client = stage.sidecar.client();
    for db in [0, 5, 15] {
        assert_eq!(client.ask(&format!("SELECT {db}")), "+OK");
        write(&mut client, &[("cap:XHKG:ours", 0)]);
    }
    stage.change(&[SURPRISE, MONDAY, TUESDAY]);
    let line = stage.end_of_walk(0);
    assert!(line.contains("retimed 3 keys of XHKG in ") && line.contains(": 3 shortened"), "{line}");
    for db in [0, 5, 15] {
        assert_eq!(client.ask(&format!("SELECT {db}")), "+OK");
        stage.check(&mut client, &format!("database {db}"), &[("cap:XHKG:ours", Some(instant(SURPRISE.0)))]);
    }
}

/// What was written while the market traded is not kept for the night.
#[test]
fn trading_hours_do_not_last_the_night() {
    let redis = Redis::start();
    let stage = Stage::new("2026-11-23T15:56:00+08:00", |flags| Sidecar::serve(&redis, flags), &[]);
    let mut client = stage.sidecar.client();
    write(&mut client, &[("cap:XHKG:ours", 0), ("replace:XHKG:ours", 0), ("cap:XHKG:clients", 100)]);
    let rows = [("cap:XHKG:ours", Some(instant(MONDAY.1))), ("replace:XHKG:ours", Some(instant(MONDAY.1)))];
    stage.check(&mut client, "trading", &rows);
    let short = stage.end(&mut client, "cap:XHKG:clients");
    // Closed since noon, as it turns out: a value written now would live until Tuesday.
    stage.change(&[(MONDAY.0, "2026-11-23T12:00:00+08:00"), TUESDAY]);
    let line = stage.end_of_walk(0);
    assert!(line.contains("2 from trading hours, that would live longer"), "{line}");
    stage.check(&mut client, "closed", &rows);
    stage.check(&mut client, "closed", &[("cap:XHKG:clients", short)]);
    write(&mut client, &[("cap:XHKG:new", 0)]);
    stage.check(&mut client, "closed", &[("cap:XHKG:new", Some(instant(TUESDAY.0)))]);
}

/// Keys enough that a walk takes some seconds at the pace of [`SLOW`].
const MANY: usize = 400;
const SLOW: &[&str] = &["--retime-keys-per-second-max", "130"];

fn write_many(client: &mut Client) -> Vec<String> {
    let keys: Vec<_> = (0..MANY).map(|number| format!("respect:XHKG:{number}")).collect();
    let commands: Vec<_> = keys.iter().map(|key| encoded(&["SET", key, "v"])).collect();
    super::pipelined(client, &commands);
    keys
}

#[test]
fn a_newer_set_begins_again() {
    let redis = Redis::start();
    let mut stage = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), SLOW);
    let mut client = stage.sidecar.client();
    let keys = write_many(&mut client);
    stage.change(&[SURPRISE, MONDAY, TUESDAY]);
    let shortened = "bellwether_retime_keys_total{outcome=\"shortened\"}";
    poll_until("the middle of a walk", || stage.sidecar.metric(shortened) > 10.0);
    stage.change(&[LATER, MONDAY, TUESDAY]);
    stage.sidecar.process.wait_for("new beginning", |line| line.contains("beginning again").then_some(()));
    let line = stage.end_of_walk(0);
    assert!(line.contains(&format!("retimed {MANY} keys of XHKG")), "{line}");
    // Those that the first walk had reached, too.
    let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(instant(LATER.0)))).collect();
    stage.check(&mut client, "the newest", &rows);
}

#[test]
fn a_lost_connection_is_made_again() {
    let redis = Redis::start();
    let stage = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), SLOW);
    let keys = write_many(&mut stage.sidecar.client());
    stage.change(&[SURPRISE, MONDAY, TUESDAY]);
    let shortened = "bellwether_retime_keys_total{outcome=\"shortened\"}";
    poll_until("the middle of a walk", || stage.sidecar.metric(shortened) > 10.0);
    redis.client().ask("CLIENT KILL TYPE normal SKIPME yes");
    let line = stage.end_of_walk(0);
    assert!(line.contains(&format!(": {MANY} shortened")), "{line}");
    let lines = stage.sidecar.process.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("was interrupted; trying again")).count(), 1, "{lines:#?}");
    let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(instant(SURPRISE.0)))).collect();
    stage.check(&mut redis.client(), "after the loss", &rows);
}

/// A server that forbids it is asked once, and again after the next change.
#[test]
fn what_the_server_forbids_is_told() {
    let redis = Redis::start();
    let mut stage = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &[]);
    let mut client = stage.sidecar.client();
    write(&mut client, &[("respect:XHKG:ours", 0)]);
    assert_eq!(redis.client().ask("ACL SETUSER default -scan"), "+OK");
    stage.change(&[SURPRISE, MONDAY, TUESDAY]);
    let is_told = |line: &str| line.contains("keys of XHKG cannot be retimed") && line.contains("no permissions");
    stage.sidecar.process.wait_for("refusal", |line| is_told(line).then_some(()));
    assert_eq!(redis.client().ask("ACL SETUSER default +scan"), "+OK");
    stage.change(&[LATER, MONDAY, TUESDAY]);
    let line = stage.end_of_walk(0);
    // What the generation before the refusal gave is still known.
    assert!(line.contains("retimed 1 keys of XHKG in ") && line.contains(": 1 shortened"), "{line}");
    stage.check(&mut client, "at last", &[("respect:XHKG:ours", Some(instant(LATER.0)))]);
}

#[test]
fn a_walk_does_not_hold_up_the_end() {
    let redis = Redis::start();
    let mut stage = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &["--retime-keys-per-second-max", "1"]);
    let mut client = stage.sidecar.client();
    write_many(&mut client);
    drop(client);
    stage.change(&[SURPRISE, MONDAY, TUESDAY]);
    stage.sidecar.process.wait_for("walk", |line| line.contains("retiming keys").then_some(()));
    stage.sidecar.process.signal("TERM");
    assert_eq!(stage.sidecar.process.wait().code(), Some(0));
    let lines = stage.sidecar.process.lines();
    assert!(lines.iter().any(|line| line.contains("drained")) && !lines.iter().any(|line| line.contains(" retimed ")));
}

/// The names of a process's threads.
fn threads(sidecar: &Sidecar) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", sidecar.process.id())).unwrap();
    tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned()).collect()
}

#[test]
fn nothing_walks_where_it_is_not_wanted() {
    let redis = Redis::start();
    let wanted = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &[]);
    // A thread takes its name a moment after it was begun; this one is begun before the workers are.
    let has = |sidecar: &Sidecar, thread: &str| threads(sidecar).iter().any(|name| name == thread);
    poll_until("a thread that walks", || has(&wanted.sidecar, "retime"));
    let off = ["--retime-keys-per-second-max", "0"];
    let unwanted = Stage::new(EARLY, |flags| Sidecar::serve(&redis, flags), &off);
    // Without a folder no policy ever changes.
    let standard = Sidecar::serve(&redis, &[]);
    for sidecar in [&unwanted.sidecar, &standard] {
        poll_until("the workers", || has(sidecar, "worker-0"));
        assert!(!has(sidecar, "retime"), "{:?}", threads(sidecar));
    }
}
