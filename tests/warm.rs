//! Values that are in memory before clients ask for them: readiness waits for them, so far as it is told to.

mod application;
mod asked;
mod opening;

use crate::harness::process::{poll_for, poll_until};
use crate::harness::{Redis, Sidecar, encoded, folder};

const KEYS: usize = 300;
const WARMING: (u16, &str) = (503, "warming the near cache\n");

/// A Redis with keys under a rule that keeps values, under one that does not, and under none; and policies that say so.
fn start() -> (Redis, tempfile::TempDir) {
    let redis = Redis::start();
    let mut client = redis.client();
    for number in 0..KEYS {
        let keys = ["n:", "f:", "x:"].map(|prefix| format!("{prefix}{number}"));
        let words = keys.iter().flat_map(|key| [key.as_str(), "value"]);
        client.send(&encoded(&["MSET"].into_iter().chain(words).collect::<Vec<_>>()));
        assert_eq!(client.reply(), b"+OK\r\n");
    }
    assert_eq!(client.ask("HSET n:hash f v"), ":1");
    let rules =
        b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.near]\nprefix = \"n:\"\nnear_ms = 3600000\n\
                  [settings.rules.far]\nprefix = \"f:\"";
    (redis, folder(&[("namespaces.toml", rules)]))
}

fn serve(redis: &Redis, policies: &tempfile::TempDir, flags: &[&str]) -> Sidecar {
    let folder = policies.path().to_str().unwrap();
    Sidecar::serve(redis, &[&["--policy-folder", folder, "--workers", "2"], flags].concat())
}

fn wait_until_ready(sidecar: &Sidecar) {
    poll_for("readiness", || match sidecar.admin("/readyz") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// The line of the log that says how it went.
fn check_told(sidecar: &mut Sidecar, expect: &str) {
    sidecar.process.wait_for(expect, |line| line.contains(expect).then_some(()));
}

#[test]
fn first_reads_are_hits() {
    let (redis, policies) = start();
    let mut sidecar = serve(&redis, &policies, &["--warm", "n:* f:1?", "--warm-keys-per-second-max", "400"]);
    poll_until("readiness that waits", || sidecar.admin("/readyz") == (WARMING.0, WARMING.1.to_owned()));
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, &format!("warmed the near cache: {KEYS} of {} keys of n:* f:1?", KEYS + 11));
    // One for each worker.
    for client in &mut [sidecar.client(), sidecar.client()] {
        for number in 0..KEYS {
            assert_eq!(client.ask(&format!("GET n:{number}")), "$5\r\nvalue");
        }
    }
    let metric = |name: &str, result: &str| {
        sidecar.metric(&format!("bellwether_{name}_total{{rule=\"near\",result=\"{result}\"}}"))
    };
    assert_eq!((metric("near_reads", "hit"), metric("near_reads", "miss")), (2.0 * KEYS as f64, 0.0));
    assert_eq!((metric("warm_keys", "kept"), metric("warm_keys", "left")), (KEYS as f64, 1.0));
    // They are kept true as all others are.
    assert_eq!(redis.client().ask("SET n:7 other"), "+OK");
    poll_until("the other value", || sidecar.client().ask("GET n:7") == "$5\r\nother");
}

#[test]
fn limits() {
    let (redis, policies) = start();
    let mut sidecar = serve(&redis, &policies, &["--warm", "n:?", "--warm-keys-max", "4"]);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "warmed the near cache: 4 of 4 keys of n:?");
    let flags = ["--warm", "n:*", "--warm-keys-per-second-max", "1", "--warm-ms-max", "1500"];
    let mut sidecar = serve(&redis, &policies, &flags);
    poll_until("readiness that waits", || sidecar.admin("/readyz") == (WARMING.0, WARMING.1.to_owned()));
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "the near cache was not warm within warm_ms_max: ");
    assert_eq!(sidecar.client().ask("GET n:299"), "$5\r\nvalue");
}

/// What cannot be warmed is told, and does not keep clients out.
#[test]
fn what_cannot_be_warmed() {
    let (redis, policies) = start();
    let mut sidecar = serve(&redis, &policies, &["--warm", "n:*", "--near-bytes-max", "0"]);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, &format!("warmed the near cache: 0 of {} keys of n:*", KEYS + 1));
    assert_eq!(redis.client().ask("ACL SETUSER default -scan"), "+OK");
    let mut sidecar = serve(&redis, &policies, &["--warm", "n:*"]);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "the near cache is not warm: 0 of 0 keys of n:*; ready all the same");
    let mut sidecar = Sidecar::dev(&["--warm", "n:*"]);
    wait_until_ready(&sidecar);
    check_told(&mut sidecar, "the embedded store has no near cache in front of it");
}
