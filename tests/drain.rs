//! SIGTERM: what is in flight is answered, nothing new is taken, and the process is gone within the grace period.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::process::{poll_for, poll_until};
use crate::harness::{Client, Redis, Sidecar, encoded};

/// Far longer than a drain takes, far shorter than a test waits.
const GRACE: &str = "8000";
const GRACE_MAX: Duration = Duration::from_secs(8);

fn serve(redis: &Redis, grace_ms: &str) -> Sidecar {
    Sidecar::serve(redis, &["--shutdown-grace-ms", grace_ms])
}

/// Tells it to stop and waits until it has taken notice.
fn terminate(sidecar: &mut Sidecar) -> Instant {
    let begun = Instant::now();
    sidecar.process.signal("TERM");
    sidecar.process.wait_for("drain", |line| line.contains("draining").then_some(()));
    begun
}

/// Waits for the end: exit code 0, and within the grace period unless it is to take all of it.
fn check_end(sidecar: &mut Sidecar, begun: Instant, line: &str) {
    let status = sidecar.process.wait();
    let lines = sidecar.process.lines();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    poll_for(line, || {
        let lines = sidecar.process.lines();
        if lines.iter().any(|logged| logged.contains(line)) { Ok(()) } else { Err(format!("{lines:#?}")) }
    });
    assert!(begun.elapsed() < GRACE_MAX, "it took {:?}", begun.elapsed());
}

/// Until the server has a client that is blocked, or has not.
fn wait_for_blocked(direct: &mut Client, expect: &str) {
    let line = format!("blocked_clients:{expect}");
    poll_until(&line, || direct.ask("INFO clients").contains(&line));
}

#[test]
fn a_batch_is_answered_and_the_door_is_shut() {
    const COMMANDS: usize = 5_000;
    let redis = Redis::start();
    let mut sidecar = serve(&redis, GRACE);
    let mut client = sidecar.client();
    let idle = sidecar.client();
    let batch: Vec<u8> = (0..COMMANDS).flat_map(|number| encoded(&["ECHO", &number.to_string()])).collect();
    client.send(&batch);
    assert_eq!(client.reply(), b"$1\r\n0\r\n");
    let begun = terminate(&mut sidecar);
    // What was read is answered, in order, and then the connection ends: no reply is half a reply.
    let mut number = 1;
    while let Some(reply) = client.try_reply() {
        let expect = format!("${}\r\n{number}\r\n", number.to_string().len());
        assert_eq!(String::from_utf8_lossy(&reply), expect, "reply {number}");
        number += 1;
    }
    assert!(client.rest().is_empty(), "after {number} replies: {:?}", client.rest().escape_ascii().to_string());
    let refused = TcpStream::connect(("127.0.0.1", sidecar.port));
    assert!(refused.is_err(), "a client was let in");
    check_end(&mut sidecar, begun, "drained");
    drop(idle);
}

#[test]
fn a_command_in_flight_is_answered() {
    let redis = Redis::start();
    let mut sidecar = serve(&redis, GRACE);
    let (mut client, mut direct) = (sidecar.client(), redis.client());
    // The server holds the reply back for as long as the test wants.
    assert_eq!(direct.ask("CLIENT PAUSE 60000 WRITE"), "+OK");
    client.send(&encoded(&["SET", "fyntrix:general:a", "{}"]));
    poll_until("the command to be taken", || sidecar.metric("bellwether_commands_total{kind=\"write\"}") > 0.0);
    let begun = terminate(&mut sidecar);
    assert!(client.is_silent(Duration::from_millis(20)), "a paused server has answered");
    assert_eq!(direct.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(client.try_reply(), None);
    check_end(&mut sidecar, begun, "drained");
}

#[test]
fn an_open_transaction_may_end() {
    let redis = Redis::start();
    let mut sidecar = serve(&redis, GRACE);
    let mut client = sidecar.client();
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("HSET fyntrix:general:h f v"), "+QUEUED");
    let begun = terminate(&mut sidecar);
    assert_eq!(client.ask("SET fyntrix:general:a {}"), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "*2\r\n:1\r\n+OK");
    assert_eq!(client.try_reply(), None);
    check_end(&mut sidecar, begun, "drained");
    assert_ne!(redis.client().ask("PTTL fyntrix:general:h"), ":-1");
}

#[test]
fn who_waits_for_what_may_never_come_holds_nothing_up() {
    let redis = Redis::start();
    let mut sidecar = serve(&redis, GRACE);
    let (mut blocked, mut subscribed, mut direct) = (sidecar.client(), sidecar.client(), redis.client());
    blocked.send(&encoded(&["BLPOP", "fyntrix:general:list", "0"]));
    wait_for_blocked(&mut direct, "1");
    assert_eq!(subscribed.ask("SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1");
    let begun = terminate(&mut sidecar);
    assert_eq!(blocked.try_reply(), None);
    assert_eq!(subscribed.try_reply(), None);
    check_end(&mut sidecar, begun, "drained");
    wait_for_blocked(&mut direct, "0");
}

#[test]
fn who_never_reads_is_ended_with_the_grace_period() {
    const VALUE_BYTES: usize = 8 * 1024 * 1024;
    let redis = Redis::start();
    let mut sidecar = serve(&redis, "300");
    let mut direct = redis.client();
    assert_eq!(
        direct.ask_words(&[b"SETRANGE", b"large", (VALUE_BYTES - 1).to_string().as_bytes(), b"x"]),
        format!(":{VALUE_BYTES}")
    );
    let mut client = sidecar.client();
    // More than the buffers between here and there hold.
    (0..4).for_each(|_| client.send(&encoded(&["GET", "large"])));
    poll_until("the reads", || sidecar.metric("bellwether_commands_total{kind=\"read\"}") > 0.0);
    let begun = terminate(&mut sidecar);
    check_end(&mut sidecar, begun, "clients were still there at the end of the grace period");
}
