//! The near cache: what may be served from memory is, and nobody is ever given what a write through this sidecar, that
//! has been acknowledged, has changed.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::process::poll_until;
use crate::harness::{Client, Redis, Sidecar, encoded};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/near/policies");
const HITS: &str = "bellwether_near_reads_total{rule=\"near\",result=\"hit\"}";
/// What each key holds before a row of the tests: a number, so that every command about a string fits.
const BEFORE: [(&str, &str); 6] =
    [("near:a", "10"), ("near:b", "20"), ("far:a", "30"), ("safe:a", "40"), ("safe:b", "50"), ("brief:a", "60")];

/// A server with a sidecar of two workers, and a client on each.
struct Near {
    redis: Redis,
    sidecar: Sidecar,
    reader: Client,
    writer: Client,
}

// === impl Near ===

impl Near {
    fn start(flags: &[&str]) -> Self {
        let redis = Redis::start();
        let sidecar = Sidecar::serve(&redis, &[&["--workers", "2", "--policy-folder", POLICIES], flags].concat());
        let (mut reader, mut writer) = (sidecar.client(), sidecar.client());
        // Both are there, each on the worker that had fewer.
        for client in [&mut reader, &mut writer] {
            assert_eq!(client.ask("PING"), "+PONG");
        }
        Self { redis, sidecar, reader, writer }
    }

    /// Sets the keys anew, and reads `key` until it is read from memory.
    fn reset(&mut self, key: &str) {
        let mut direct = self.redis.client();
        assert_eq!(direct.ask("FLUSHALL"), "+OK");
        for (key, value) in BEFORE {
            assert_eq!(direct.ask(&format!("SET {key} {value}")), "+OK");
        }
        let expect = direct.ask(&format!("GET {key}"));
        let Self { sidecar, reader, .. } = self;
        poll_until("the new value to be near", || is_near(sidecar, reader, key) == Some(expect.clone()));
    }
}

/// Reads a key: its value where that came from memory.
fn is_near(sidecar: &Sidecar, reader: &mut Client, key: &str) -> Option<String> {
    let hits = HITS.replace("near\",", &format!("{}\",", key.split(':').next().unwrap()));
    let before = sidecar.metric(&hits);
    let value = reader.ask(&format!("GET {key}"));
    (sidecar.metric(&hits) > before).then_some(value)
}

/// Commands, split at `; `, that change `near:a` or what it is.
#[rustfmt::skip]
const WRITES: &[&str] = &[
    "SET near:a x", "SET near:a x KEEPTTL", "SETEX near:a 100 x", "PSETEX near:a 100000 x", "GETSET near:a x",
    "SETRANGE near:a 0 x", "APPEND near:a x", "INCR near:a", "DECRBY near:a 3", "INCRBYFLOAT near:a 0.5",
    "MSET near:b 1 near:a 2", "SETBIT near:a 1 0", "BITFIELD near:a SET u8 0 65", "BITOP NOT near:a near:b",
    "DEL near:a", "UNLINK near:b near:a", "GETDEL near:a", "EXPIRE near:a 0", "PEXPIREAT near:a 1",
    "GETEX near:a PXAT 1", "RENAME near:a near:c", "RENAME near:b near:a", "COPY near:b near:a REPLACE",
    "MOVE near:a 1", "DEL near:a; LPUSH near:a 1", "DEL near:a; LPUSH far:l 1; SORT far:l STORE near:a",
    "DEL near:a; PFADD near:p 1; PFMERGE near:a near:p",
    "MULTI; SET near:a x; EXEC", "MULTI; INCR far:a; SET near:b 1; DEL near:a; EXEC",
    "WATCH near:a; MULTI; SET near:a x; EXEC", "EVAL return(redis.call('set','near:a','x')) 0",
    "EVAL return(redis.call('set',KEYS[1],'x')) 1 near:a", "FLUSHDB", "FLUSHALL ASYNC", "SWAPDB 0 1",
    "SELECT 1; SET near:a y; SELECT 0; SWAPDB 0 1", "HELLO 3; SET near:a x", "CLIENT REPLY SKIP; SET near:a x; PING",
];

/// A write by this or that client of the sidecar, and what is read then, at once.
fn check(near: &mut Near, writes: &str, same: bool) {
    near.reset("near:a");
    let mut own = near.sidecar.client();
    let writer = if same { &mut near.reader } else { &mut own };
    for command in writes.split("; ") {
        if command == "CLIENT REPLY SKIP" {
            writer.send(
                b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n*3\r\n$3\r\nSET\r\n$6\r\nnear:a\r\n$1\r\nx\r\n",
            );
        } else if writes.starts_with("CLIENT") && command != "PING" {
            continue;
        } else {
            let reply = writer.ask(command);
            assert!(!reply.starts_with('-'), "{writes}: {command}: {reply}");
        }
    }
    let read = near.reader.ask("GET near:a");
    let mut direct = near.redis.client();
    let expect = direct.ask("GET near:a");
    let nil = |reply: &str| reply == "$-1" || reply == "_";
    assert!(read == expect || (nil(&read) && nil(&expect)), "{writes} (same client: {same}): {read:?}, {expect:?}");
    if same && writes.starts_with("HELLO") {
        assert_eq!(near.reader.ask("HELLO 2").chars().next(), Some('*'));
    }
}

#[test]
fn who_writes_is_read() {
    let mut near = Near::start(&[]);
    for writes in WRITES {
        check(&mut near, writes, true);
        check(&mut near, writes, false);
    }
}

/// A read does not overtake the writes that were sent before it, in the same breath.
#[test]
fn a_read_stays_behind_writes() {
    let mut near = Near::start(&[]);
    for writes in WRITES.iter().filter(|writes| !writes.starts_with("CLIENT") && !writes.starts_with("HELLO")) {
        near.reset("near:a");
        let commands: Vec<&str> = writes.split("; ").chain(["GET near:a"]).collect();
        let bytes = commands.iter().flat_map(|command| encoded(&command.split(' ').collect::<Vec<_>>()));
        near.reader.send(&bytes.collect::<Vec<u8>>());
        let replies: Vec<_> = commands.iter().map(|_| near.reader.reply()).collect();
        let expect = near.redis.client().ask("GET near:a");
        let read = replies.last().map(|reply| String::from_utf8_lossy(reply).trim_end().to_owned());
        assert_eq!(read, Some(expect), "{writes}");
    }
}

/// Elsewhere something is written: it is read soon. Of SWAPDB the server tells nobody; a rule's own span bounds that.
#[test]
fn what_is_written_elsewhere_is_read() {
    let mut near = Near::start(&[]);
    let told = |writes: &&&str| ["CLIENT", "HELLO", "SWAPDB"].iter().all(|word| !writes.contains(word));
    for writes in WRITES.iter().filter(told) {
        near.reset("near:a");
        let mut direct = near.redis.client();
        writes.split("; ").for_each(|command| drop(direct.ask(command)));
        let expect = near.redis.client().ask("GET near:a");
        poll_until(&format!("{expect} after {writes}"), || near.reader.ask("GET near:a") == expect);
    }
}

/// What is served from memory, and what is not.
#[test]
fn what_is_near() {
    let mut near = Near::start(&[]);
    let check = |near: &mut Near, prepare: &str, read: &str, is: bool| {
        near.reset("near:a");
        for command in prepare.split("; ").filter(|command| !command.is_empty()) {
            let reply = near.reader.ask(command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        let (mut direct, hits) = (near.redis.client(), near.sidecar.metric(HITS));
        let stats =
            |direct: &mut Client| direct.ask("INFO commandstats").lines().map(str::to_owned).collect::<Vec<_>>();
        let commands = |direct: &mut Client| stats(direct).into_iter().find(|line| line.starts_with("cmdstat_get:"));
        let before = commands(&mut direct);
        let first = near.reader.ask(read);
        assert_eq!(near.sidecar.metric(HITS) > hits, is, "{prepare}: {read}: {first}");
        if is && read.starts_with("GET") {
            assert_eq!(commands(&mut direct), before, "{prepare}: {read} reached the server");
        }
        drop(near.reader.try_ask("RESET"));
        near.reader = near.sidecar.client();
        // The reader's worker is the same: the writer's has one client more.
        assert_eq!(near.reader.ask("PING"), "+PONG");
    };
    check(&mut near, "", "GET near:a", true);
    check(&mut near, "HELLO 3", "GET near:a", true);
    check(&mut near, "", "MGET near:a near:a", true);
    check(&mut near, "", "MGET near:a far:a", false);
    check(&mut near, "", "STRLEN near:a", false);
    check(&mut near, "", "GETRANGE near:a 0 -1", false);
    check(&mut near, "", "TTL near:a", false);
    check(&mut near, "SELECT 1", "GET near:a", false);
    check(&mut near, "WATCH near:b", "GET near:a", false);
    check(&mut near, "MULTI", "GET near:a", false);
    check(&mut near, "HELLO 3; CLIENT TRACKING ON", "GET near:a", false);
    assert!(near.writer.ask("PING") == "+PONG");
}

/// A value ends with its key.
#[test]
fn values_end_with_their_keys() {
    let mut near = Near::start(&[]);
    near.reset("near:a");
    assert_eq!(near.writer.ask("SET near:a short PX 300"), "+OK");
    let Near { sidecar, reader, .. } = &mut near;
    poll_until("the value to be near", || {
        is_near(sidecar, reader, "near:a").is_some_and(|value| value.ends_with("short"))
            || reader.ask("EXISTS near:a") == ":0"
    });
    poll_until("the key to end", || near.redis.client().ask("EXISTS near:a") == ":0");
    assert_eq!(near.reader.ask("GET near:a"), "$-1");
    // And a rule's own span is kept to: what is older than a millisecond is read again.
    for _ in 0..20 {
        assert_eq!(near.reader.ask("GET short:a"), "$-1");
    }
}

/// Whoever has lost the connection on which it would be told has forgotten everything.
#[test]
fn a_lost_connection_loses_its_values() {
    let mut near = Near::start(&[]);
    for kill in ["CLIENT KILL TYPE normal SKIPME yes", "CLIENT NO-EVICT on"] {
        near.reset("near:a");
        let mut direct = near.redis.client();
        drop(direct.ask(kill));
        assert_eq!(direct.ask("SET near:a new"), "+OK");
        poll_until("the new value to be read", || {
            near.reader = near.sidecar.client();
            near.reader.try_ask("GET near:a").is_some_and(|value| value.ends_with("new"))
        });
    }
}

/// A server that says nothing more may have been written to elsewhere.
#[test]
fn a_silent_server_is_not_trusted_for_long() {
    let mut near = Near::start(&[]);
    near.reset("near:a");
    near.redis.process.signal("STOP");
    let hits = near.sidecar.metric(HITS);
    assert_eq!(near.reader.ask("GET near:a"), "$2\r\n10");
    assert!(near.sidecar.metric(HITS) > hits);
    poll_until("the values to be forgotten", || near.sidecar.metric("bellwether_near_values") == 0.0);
    near.reader.send(b"*2\r\n$3\r\nGET\r\n$6\r\nnear:a\r\n");
    near.redis.process.signal("CONT");
    assert_eq!(near.reader.reply(), b"$2\r\n10\r\n");
    near.reset("near:a");
}

/// Without a server, a rule may let values be served that are left over; nothing that may have been written is.
#[test]
fn values_are_served_while_the_server_is_gone() {
    let mut near = Near::start(&[]);
    for key in ["near:a", "safe:b", "brief:a", "safe:a"] {
        near.reset(key);
        for (key, _) in BEFORE.iter().filter(|(other, _)| !other.starts_with("far:") && *other != key) {
            let Near { sidecar, reader, .. } = &mut near;
            poll_until("the others to be near", || is_near(sidecar, reader, key).is_some());
        }
    }
    let port = near.redis.port;
    near.redis.process.signal("KILL");
    poll_until("the loss", || near.sidecar.metric("bellwether_upstream_connections") == 0.0);
    let (lost, other) = (Instant::now(), || near.sidecar.client());
    // A short span begins with the loss, whoever asks first.
    poll_until("a short span to be over", || lost.elapsed() > Duration::from_millis(20));
    for mut client in [other(), other()] {
        assert_eq!(client.try_ask("GET brief:a"), None);
    }
    assert_eq!(near.reader.ask("GET safe:a"), "$2\r\n40");
    assert_eq!(near.reader.ask("GET safe:b"), "$2\r\n50");
    assert!(near.sidecar.metric("bellwether_near_reads_total{rule=\"safe\",result=\"left-over\"}") == 2.0);
    assert_eq!(other().try_ask("GET near:a"), None);
    // The write may have reached the server, for all that is known.
    assert_eq!(other().try_ask("SET safe:b 51"), None);
    assert_eq!(other().try_ask("GET safe:b"), None);
    assert_eq!(near.reader.ask("GET safe:a"), "$2\r\n40");
    let _again = Redis::start_at(port, &[]);
    poll_until("the server's own answer", || {
        near.sidecar.client().try_ask("GET safe:a").is_some_and(|reply| reply == "$-1")
    });
}

/// A server that does not watch keys: nothing is kept.
#[test]
fn a_server_that_forbids_tracking() {
    let redis = Redis::start();
    assert_eq!(redis.client().ask("ACL SETUSER some on >secret ~* &* +@all -client|tracking"), "+OK");
    let upstream = format!("redis://some:secret@127.0.0.1:{}", redis.port);
    let flags = ["--upstream", &upstream, "--policy-folder", POLICIES, "--client-password", "none"];
    let mut sidecar = Sidecar::start("serve", &flags);
    let mut client = sidecar.client();
    assert_eq!(client.ask("SET near:a 1"), "+OK");
    for _ in 0..10 {
        assert_eq!(client.ask("GET near:a"), "$1\r\n1");
    }
    sidecar.process.wait_for("a line about it", |line| line.contains("does not watch keys for us").then_some(()));
    assert_eq!(sidecar.metric(HITS), 0.0);
    assert_eq!(client.ask("GET near:a"), "$1\r\n1");
}

/// Many values: no more bytes than are allowed.
#[test]
fn bytes_are_bounded() {
    let mut near = Near::start(&["--near-bytes-max", "100000"]);
    let value = "v".repeat(1000);
    for key in 0..300 {
        assert_eq!(near.writer.ask(&format!("SET near:{key} {value}")), "+OK");
    }
    for _ in 0..3 {
        for key in 0..300 {
            assert!(near.reader.ask(&format!("GET near:{key}")).ends_with(&value));
        }
        assert!(near.sidecar.metric("bellwether_near_bytes") <= 100_000.0);
    }
    poll_until("values to be kept", || near.sidecar.metric("bellwether_near_values") > 10.0);
    // Larger than a part of what a worker keeps: never.
    let large = "l".repeat(10_000);
    assert_eq!(near.writer.ask(&format!("SET near:large {large}")), "+OK");
    let hits = near.sidecar.metric(HITS);
    for _ in 0..10 {
        assert!(near.reader.ask("GET near:large").ends_with(&large));
    }
    assert_eq!(near.sidecar.metric(HITS), hits);
}

#[test]
fn none_at_all() {
    let mut near = Near::start(&["--near-bytes-max", "0"]);
    assert_eq!(near.writer.ask("SET near:a 1"), "+OK");
    for _ in 0..10 {
        assert_eq!(near.reader.ask("GET near:a"), "$1\r\n1");
    }
    assert_eq!(near.sidecar.metric(HITS), 0.0);
}

/// Keys of the model.
const KEYS: usize = 24;
/// Clients that write in the model; each has its own keys.
const WRITERS: usize = 3;

/// Numbers that only grow, written by some, read by others, while connections are cut: who reads is never given a
/// number smaller than one that had been acknowledged before the read was sent.
#[test]
fn nobody_is_given_what_is_over() {
    let seconds = std::env::var("COHERENCE_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    let near = Near::start(&[]);
    let acknowledged: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let (over, reads, writes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let hits = near.sidecar.metric(HITS);
    let mut losses = 0;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (sidecar, acknowledged, over, writes) = (&near.sidecar, &acknowledged, &over, &writes);
            scope.spawn(move || write_model(sidecar, writer, acknowledged, over, writes));
        }
        for reader in 0..3 {
            let (sidecar, acknowledged, over, reads) = (&near.sidecar, &acknowledged, &over, &reads);
            scope.spawn(move || read_model(sidecar, reader, acknowledged, over, reads));
        }
        let mut direct = near.redis.client();
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            // In between they live for a while, so that values are kept.
            let enough = reads.load(Ordering::SeqCst) + 10_000;
            poll_until("reads", || reads.load(Ordering::SeqCst) > enough || Instant::now() > end);
            drop(direct.ask("CLIENT KILL TYPE normal SKIPME yes"));
            losses += 1;
        }
        over.store(true, Ordering::SeqCst);
    });
    let near_reads = near.sidecar.metric(HITS) - hits;
    let (reads, writes) = (reads.load(Ordering::SeqCst), writes.load(Ordering::SeqCst));
    let told =
        format!("{seconds} s: {reads} reads, {near_reads} of them from memory, and {writes} writes acknowledged");
    // For whoever runs it for long, with --nocapture.
    drop(writeln!(std::io::stderr(), "{told}; all connections lost {losses} times, nobody was given what is over"));
    assert!(near_reads > 1000.0, "{near_reads} of {reads} reads were from memory");
}

fn write_model(sidecar: &Sidecar, writer: usize, acknowledged: &[AtomicU64], over: &AtomicBool, writes: &AtomicU64) {
    let mut client = sidecar.client();
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        number += 1;
        let key = writer + WRITERS * (number as usize * 7 % (KEYS / WRITERS));
        let commands = match number % 5 {
            0 => format!("MULTI; SET near:{key} {number}; EXEC"),
            1 => format!("EVAL return(redis.call('set','near:{key}','{number}')) 0"),
            2 => format!("MSET near:{key} {number} far:x 1"),
            3 => format!("SET near:{key}:new {number}; RENAME near:{key}:new near:{key}"),
            _ => format!("SET near:{key} {number}"),
        };
        let done = commands.split("; ").all(|command| {
            let reply = client.try_ask(command);
            // Where the connection is not closed, what was written is known.
            assert!(!reply.as_ref().is_some_and(|reply| reply.starts_with('-')), "{command}: {reply:?}");
            reply.is_some()
        });
        match acknowledged.get(key) {
            Some(known) if done => {
                known.store(number, Ordering::SeqCst);
                writes.fetch_add(1, Ordering::SeqCst);
            }
            _ => client = sidecar.client(),
        }
    }
}

fn read_model(sidecar: &Sidecar, reader: usize, acknowledged: &[AtomicU64], over: &AtomicBool, reads: &AtomicU64) {
    let mut client = sidecar.client();
    if reader == 0 {
        drop(client.ask("HELLO 3"));
    }
    let mut count = reader;
    while !over.load(Ordering::SeqCst) {
        count += 1;
        // Each key many times in a row: what is asked for once is not kept.
        let key = count / 64 % KEYS;
        let floor = acknowledged.get(key).map_or(0, |known| known.load(Ordering::SeqCst));
        let Some(reply) = client.try_ask(&format!("GET near:{key}")) else {
            client = sidecar.client();
            continue;
        };
        let number: u64 = reply.rsplit("\r\n").next().and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(number >= floor, "near:{key} was {floor} before it was read, and {reply:?} was read");
        reads.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_read_behind_a_command_that_waits() {
    let mut near = Near::start(&[]);
    near.reset("near:a");
    near.reader.send(&[encoded(&["BLPOP", "far:q", "0"]), encoded(&["GET", "near:a"])].concat());
    let mut direct = near.redis.client();
    poll_until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    assert_eq!(near.writer.ask("SET near:a new"), "+OK");
    assert_eq!(near.writer.ask("RPUSH far:q job"), ":1");
    assert_eq!(near.reader.reply(), b"*2\r\n$5\r\nfar:q\r\n$3\r\njob\r\n");
    assert_eq!(near.reader.reply(), b"$3\r\nnew\r\n");
}
