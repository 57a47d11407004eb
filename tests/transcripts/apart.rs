//! Clients that share connections of the sidecar and must not notice: a script that does not end, a pause, a monitor.

use crate::harness::process::{poll_for, poll_until};
use crate::harness::{Redis, Sidecar, encoded, folder};

#[test]
fn a_script_that_does_not_end() {
    let redis = Redis::start_with(&["--lua-time-limit", "1"]);
    // One worker, so that all of them share what may be shared.
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let (mut runs, mut reads, mut ends) = (sidecar.client(), sidecar.client(), sidecar.client());
    for client in [&mut runs, &mut reads, &mut ends] {
        assert_eq!(client.ask("SELECT 3"), "+OK");
        assert_eq!(client.ask("EXISTS a"), ":0");
    }
    runs.command(&[b"EVAL", b"while true do end", b"0"]);
    poll_for("the server to be busy", || match reads.ask("EXISTS a").as_str() {
        busy if busy.starts_with("-BUSY") => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(ends.ask("SCRIPT KILL"), "+OK");
    let killed = runs.reply();
    assert!(killed.starts_with(b"-"), "{}", killed.escape_ascii());
    assert_eq!(reads.ask("EXISTS a"), ":0");
    assert_eq!(ends.ask("SCRIPT KILL"), "-NOTBUSY No scripts in execution right now.");
}

#[test]
fn a_pause_of_writes() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let (mut writes, mut reads) = (sidecar.client(), sidecar.client());
    assert_eq!(reads.ask("CLIENT PAUSE 100000 WRITE"), "+OK");
    // Of two the longer one stands.
    assert_eq!(reads.ask("CLIENT PAUSE 1 WRITE"), "+OK");
    writes.command(&[b"SET", b"a", b"1"]);
    poll_until("a write that waits", || reads.ask("INFO clients").contains("blocked_clients:1"));
    assert_eq!(reads.ask("GET a"), "$-1");
    assert_eq!(reads.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(writes.reply(), b"+OK\r\n");
}

#[test]
fn a_monitor_that_writes_under_a_rule() {
    const WRITES: usize = 200;
    let redis = Redis::start();
    let rules = "[settings]\ndefaults = false\n[settings.rules.every]\nprefix = \"every:\"\napply = \"every-write\"\n";
    let policies = folder(&[("namespaces.toml", rules.as_bytes())]);
    let sidecar = Sidecar::serve(&redis, &["--policy-folder", policies.path().to_str().unwrap()]);
    let (mut monitor, mut other) = (sidecar.client(), sidecar.client());
    assert_eq!(monitor.ask("MONITOR"), "+OK");
    let many = |words: &[&str]| encoded(words).repeat(WRITES);
    other.send(&many(&["SET", "elsewhere", "1"]));
    monitor.send(&many(&["HSET", "every:h", "f", "v"]));
    // The server refuses a monitor what is about keys; each is refused once, whatever is shown in between.
    let (mut replies, mut shown) = (0, 0);
    while replies < WRITES || shown < WRITES {
        let frame = monitor.reply();
        let text = String::from_utf8_lossy(&frame);
        match text.as_bytes().first() {
            Some(b'-') => replies += 1,
            Some(b'+') => shown += usize::from(text.contains("elsewhere")),
            _ => panic!("{text}"),
        }
    }
    assert_eq!((replies, shown), (WRITES, WRITES));
}
