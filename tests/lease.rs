//! Old values and leases: of all who ask for a key that has ended, one is told so; what the others are given, and what
//! everyone else sees.

mod apart;
mod in_cluster;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::process::poll_until;
use crate::harness::{Client, Redis, Sidecar, encoded, run};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lease/policies");
const CLIENTS: usize = 200;
/// Much shorter than `lease-wait-ms` of the rule, and much longer than anything takes that does not wait for it.
const SOON: Duration = Duration::from_secs(8);

/// A sidecar of two workers.
fn serve(redis: &Redis, flags: &[&str]) -> Sidecar {
    Sidecar::serve(redis, &[&["--workers", "2", "--policy-folder", POLICIES], flags].concat())
}

/// Ends a key as its lifetime does: nobody has written it.
fn end(redis: &Redis, key: &str) {
    let mut direct = redis.client();
    assert_eq!(direct.ask(&format!("PEXPIRE {key} 1")), ":1");
    poll_until("the end of the key", || direct.ask(&format!("EXISTS {key}")) == ":0");
}

/// A key that has ended, and whose old value is kept.
fn ended(redis: &Redis, sidecar: &Sidecar, key: &str) {
    assert_eq!(sidecar.client().ask(&format!("SET {key} old PX 100000")), "+OK");
    wait_for_copy(redis, key);
    end(redis, key);
}

fn wait_for_copy(redis: &Redis, key: &str) {
    let mut direct = redis.client();
    let copy = format!("bw:s:{{{key}}}");
    poll_until("the copy's lifetime", || time_left(&mut direct, &copy) > 600_000);
}

fn time_left(direct: &mut Client, key: &str) -> i64 {
    direct.ask(&format!("PTTL {key}")).trim_start_matches(':').parse().unwrap()
}

/// A sample of the counter.
fn leased(sidecar: &Sidecar, rule: &str, result: &str) -> f64 {
    sidecar.metric(&format!("bellwether_leased_reads_total{{rule=\"{rule}\",result=\"{result}\"}}"))
}

fn pipeline(commands: &[&str]) -> Vec<u8> {
    commands.iter().flat_map(|command| encoded(&command.split(' ').collect::<Vec<_>>())).collect()
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end().to_owned()
}

/// Clients of all the sidecars, by turns, ask for a key at once.
fn crowd(sidecars: &[&Sidecar], key: &str) -> Vec<Client> {
    let mut clients: Vec<_> = sidecars.iter().cycle().take(CLIENTS).map(|sidecar| sidecar.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&pipeline(&[&format!("GET {key}")])));
    clients
}

#[test]
fn one_of_all_recomputes() {
    let redis = Redis::start();
    let sidecars = [serve(&redis, &[]), serve(&redis, &[])];
    for sidecars in [&[&sidecars[0]][..], &[&sidecars[0], &sidecars[1]]] {
        ended(&redis, sidecars[0], "stale:a");
        let mut clients = crowd(sidecars, "stale:a");
        let replies: Vec<_> = clients.iter_mut().map(|client| text(&client.reply())).collect();
        let count = |expect: &str| replies.iter().filter(|reply| *reply == expect).count();
        assert_eq!((count("$-1"), count("$3\r\nold")), (1, CLIENTS - 1), "{replies:?}");
        // It writes the value, and all have it.
        let winner = replies.iter().position(|reply| reply == "$-1").unwrap();
        assert_eq!(clients[winner].ask("SET stale:a new"), "+OK");
        assert!(clients.iter_mut().all(|client| client.ask("GET stale:a") == "$3\r\nnew"));
    }
    let all = |result| sidecars.iter().map(|sidecar| leased(sidecar, "stale", result)).sum::<f64>();
    assert_eq!((all("won"), all("stale")), (2.0, 2.0 * (CLIENTS - 1) as f64));
}

#[test]
fn the_others_wait_for_the_value() {
    let redis = Redis::start();
    let sidecars = [serve(&redis, &[]), serve(&redis, &[])];
    let mut winner = sidecars[0].client();
    assert_eq!(winner.ask("GET cold:a"), "$-1");
    let begun = Instant::now();
    let mut clients = crowd(&[&sidecars[0], &sidecars[1]], "cold:a");
    assert!(clients.iter_mut().all(|client| client.is_silent(Duration::from_millis(1))));
    assert_eq!(winner.ask("SET cold:a new"), "+OK");
    assert!(clients.iter_mut().all(|client| text(&client.reply()) == "$3\r\nnew"));
    assert!(begun.elapsed() < SOON, "they waited {:?}", begun.elapsed());
    let all = |result| sidecars.iter().map(|sidecar| leased(sidecar, "cold", result)).sum::<f64>();
    assert_eq!((all("won"), all("new"), all("missed")), (1.0, CLIENTS as f64, 0.0));
}

/// A value written past every sidecar is seen, too; and one that nobody writes is not waited for beyond the limit.
#[test]
fn what_is_waited_for() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let (mut winner, mut other) = (sidecar.client(), sidecar.client());
    assert_eq!(winner.ask("GET cold:a"), "$-1");
    other.send(&pipeline(&["GET cold:a"]));
    assert_eq!(redis.client().ask("SET cold:a past"), "+OK");
    assert_eq!(text(&other.reply()), "$4\r\npast");
    // Nobody writes it.
    let begun = Instant::now();
    assert_eq!((winner.ask("GET quick:a"), other.ask("GET quick:a")), ("$-1".to_owned(), "$-1".to_owned()));
    assert!((Duration::from_millis(50)..SOON).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((leased(&sidecar, "quick", "won"), leased(&sidecar, "quick", "missed")), (1.0, 1.0));
    // Who recomputes is gone: another one does, as soon as the lease is over.
    assert_eq!(winner.ask("GET brief:a"), "$-1");
    drop(winner);
    let mut third = sidecar.client();
    let begun = Instant::now();
    [&mut other, &mut third].into_iter().for_each(|client| client.send(&pipeline(&["GET brief:a"])));
    poll_until("the next one", || leased(&sidecar, "brief", "won") > 1.0);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(sidecar.client().ask("SET brief:a x"), "+OK");
    let mut replies = [text(&other.reply()), text(&third.reply())];
    replies.sort();
    assert_eq!(replies, ["$-1", "$1\r\nx"]);
}

/// What is left of a key's old value and its lease, behind each write. `{}` is the key; `old` lives longer than it.
#[rustfmt::skip]
const WRITES: &[(&str, &str)] = &[
    ("SET {} x PX 100000", "x"), ("SET {} x EX 100 GET", "x"), ("SETEX {} 100 x", "x"), ("PSETEX {} 100000 x", "x"),
    ("SET {} x NX PX 100000", "old"), ("SET {} x XX PX 100000", "x"), ("SETNX {} x", ""), ("GETSET {} x", ""),
    ("SET {} x", ""), ("SET {} x KEEPTTL", ""), ("MSET plain:a 1 {} x", ""), ("MSETNX plain:b 1 {} x", ""),
    ("MULTI; SET {} x PX 100000; EXEC", "x"), ("MULTI; SET {} x PX 100000; DEL {}; EXEC", ""),
    ("MULTI; SET {} x PX 100000; DISCARD", "old"), ("SET {} x PX 100000; DEL {}", ""),
    ("DEL {}", ""), ("UNLINK plain:a {}", ""), ("GETDEL {}", ""), ("EXPIRE {} 0", ""), ("PEXPIREAT {} 1", ""),
    ("GETEX {} PXAT 1", ""), ("GETEX {} PX 100000", "old"), ("EXPIRE {} 100", "old"), ("PERSIST {}", "old"),
    ("PEXPIRE {} 1000 LT", "old"), ("EXPIRE {} 100 LT", "old"), ("EXPIRE {} 100 NX", "old"), ("EXPIRE {} 9 GT", "old"),
    ("EXPIRE {} 9 XX", "old"), ("MULTI; EXPIRE {} 100; EXEC", "old"), ("EXPIREAT {} 9999999999 GT", "old"),
    ("RENAME {} plain:a", ""), ("SET plain:a x; RENAME plain:a {}", ""), ("SET plain:a x; COPY plain:a {} REPLACE", ""),
    ("MOVE {} 1", ""), ("APPEND {} x", ""), ("SETRANGE {} 0 x", ""), ("DEL {}; INCR {}", ""), ("SETBIT {} 1 0", ""),
    ("LPUSH plain:l 1; SORT plain:l STORE {}", ""), ("SADD plain:s 1; SUNIONSTORE {} plain:s", ""),
    ("EVAL return(redis.call('del',KEYS[1])) 1 {}", ""), ("FLUSHALL", ""), ("GET {}", "old"), ("STRLEN {}", "old"),
];

#[test]
fn what_writes_leave() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let (mut client, mut direct) = (sidecar.client(), redis.client());
    for protocol in ["2", "3"] {
        drop(client.ask(&format!("HELLO {protocol}")));
        for key in ["stale:a", "stale:{b}:c"] {
            WRITES.iter().for_each(|(writes, left)| check_left(&mut client, &mut direct, key, writes, left));
        }
    }
}

fn check_left(client: &mut Client, direct: &mut Client, key: &str, writes: &str, left: &str) {
    let name = |kind: &str| match key.contains('{') {
        true => format!("bw:{kind}::{key}"),
        false => format!("bw:{kind}:{{{key}}}"),
    };
    assert_eq!(direct.ask("FLUSHALL"), "+OK");
    assert_eq!(direct.ask(&format!("SET {} token", name("l"))), "+OK");
    assert_eq!(client.ask(&format!("SET {key} old PX 50000")), "+OK");
    poll_until("no lease", || direct.ask(&format!("EXISTS {}", name("l"))) == ":0");
    assert_eq!(direct.ask(&format!("SET {} token", name("l"))), "+OK");
    for command in writes.split("; ") {
        let reply = client.ask(&command.replace("{}", key));
        assert!(!reply.starts_with('-'), "{writes}: {command}: {reply}");
    }
    // What is sent behind a write has been done when something behind that is answered.
    assert_eq!(client.ask("PING"), "+PONG");
    let is_left = matches!(direct.ask(&format!("GET {}", name("l"))).as_str(), "$5\r\ntoken");
    let copy = direct.ask(&format!("GET {}", name("s")));
    let expect = if left.is_empty() { "$-1".to_owned() } else { format!("${}\r\n{left}", left.len()) };
    let writes_none = left == "old" && !writes.contains("x NX");
    assert_eq!((copy, is_left), (expect, writes_none), "{writes} on {key}");
    let moves_the_end = ["EXPIRE", "GETEX"].iter().any(|word| writes.contains(word));
    if left == "x" || (left == "old" && moves_the_end) {
        // It lives for as long as an old value may be given behind the end of the key.
        let (of_key, of_copy) = (time_left(direct, key), time_left(direct, &name("s")));
        assert!((599_000..=601_000).contains(&(of_copy - of_key)), "{writes}: {of_key} {of_copy}");
    }
}

/// The store inside the program keeps them, too.
#[test]
fn the_store_inside_keeps_them() {
    let sidecar = Sidecar::start("dev", &["--policy-folder", POLICIES]);
    let (mut winner, mut other) = (sidecar.client(), sidecar.client());
    assert_eq!(winner.ask("SET stale:a old PX 1"), "+OK");
    poll_until("the end of the key", || winner.ask("EXISTS stale:a") == ":0");
    assert_eq!((winner.ask("GET stale:a"), other.ask("GET stale:a")), ("$-1".to_owned(), "$3\r\nold".to_owned()));
    assert_eq!(winner.ask("GET cold:a"), "$-1");
    other.send(&pipeline(&["GET cold:a"]));
    assert_eq!(winner.ask("SET cold:a new"), "+OK");
    assert_eq!(text(&other.reply()), "$3\r\nnew");
}

/// `explain` says what a rule does about a key that has ended, and what is sent beside a write.
#[test]
fn it_is_explained() {
    let command = ["explain", "--policy-folder", POLICIES, "SET", "stale:a", "x", "PX", "1000"];
    let output = run(&command, std::path::Path::new("."));
    let text = String::from_utf8_lossy(&output.stdout);
    for expect in [
        "lease     10m for one client to recompute it; the others have its old value for 10m after its end; without, \
         they wait not at all",
        "beside    UNLINK 'bw:l:{stale:a}' 'bw:s:{stale:a}'",
        "beside    COPY stale:a 'bw:s:{stale:a}'",
        "beside    PEXPIRE 'bw:s:{stale:a}' 601000",
    ] {
        assert!(text.lines().any(|line| line == expect), "{expect}\n{text}");
    }
}

/// Whoever deletes a key is told when its old value is gone, too: nobody who asks then is given it.
#[test]
fn what_is_deleted_is_gone() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let (mut one, mut other) = (sidecar.client(), sidecar.client());
    for round in 0..200 {
        assert_eq!(one.ask(&format!("SET stale:a {round} PX 100000")), "+OK");
        one.send(&pipeline(&["DEL stale:a", "ECHO x"]));
        assert_eq!((text(&one.reply()), text(&one.reply())), (":1".to_owned(), "$1\r\nx".to_owned()));
        // One is told so with the lease, the other without: there is no old value.
        assert_eq!((other.ask("GET stale:a"), one.ask("GET stale:a")), ("$-1".to_owned(), "$-1".to_owned()));
    }
}

/// Keys of the model.
const KEYS: usize = 16;
/// Clients that write in the model; each has its own keys.
const WRITERS: usize = 2;

/// Numbers that only grow, in keys that live for a few milliseconds or are deleted, while leases come and go: who reads
/// is given a number that is not older than what had been acknowledged before the read was sent, or nothing.
#[test]
fn nobody_is_given_what_was_deleted() {
    let redis = Redis::start();
    let sidecars = [serve(&redis, &[]), serve(&redis, &[])];
    let acknowledged: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let seconds = std::env::var("COHERENCE_SECONDS").map_or(8, |seconds| seconds.parse().unwrap());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (client, acknowledged, over) = (sidecars[writer % 2].client(), &acknowledged, &over);
            scope.spawn(move || write_model(client, writer, acknowledged, over));
        }
        for reader in 0..4 {
            let (client, acknowledged, over) = (sidecars[reader % 2].client(), &acknowledged, &over);
            scope.spawn(move || read_model(client, acknowledged, over));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        poll_until_end(end);
        over.store(true, Ordering::SeqCst);
    });
    let all = |result| sidecars.iter().map(|sidecar| leased(sidecar, "model", result)).sum::<f64>();
    assert!(all("stale") > 100.0 && all("won") > 10.0, "{} stale, {} won", all("stale"), all("won"));
}

fn poll_until_end(end: Instant) {
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn write_model(mut client: Client, writer: usize, acknowledged: &[AtomicU64], over: &AtomicBool) {
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        number += 1;
        let key = writer + WRITERS * (number as usize * 5 % (KEYS / WRITERS));
        let commands = match number % 7 {
            0 => format!("DEL model:{key}"),
            1 => format!("MULTI; SET model:{key} {number} PX 4; EXEC"),
            2 => format!("SET model:{key} {number}; EXPIRE model:{key} 0"),
            3 => format!("SET model:{key} {number} PX 1"),
            4 => format!("SET model:new{writer} {number}; RENAME model:new{writer} model:{key}; PEXPIRE model:{key} 2"),
            5 => format!("SET model:{key} {number} PX 50; GETDEL model:{key}"),
            _ => format!("SET model:{key} {number} PX 3"),
        };
        for command in commands.split("; ") {
            let reply = client.ask(command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        acknowledged[key].store(number, Ordering::SeqCst);
    }
}

fn read_model(mut client: Client, acknowledged: &[AtomicU64], over: &AtomicBool) {
    let mut count = 0;
    while !over.load(Ordering::SeqCst) {
        count += 1;
        let key = count / 8 % KEYS;
        let floor = acknowledged[key].load(Ordering::SeqCst);
        let reply = client.ask(&format!("GET model:{key}"));
        let Some(number) = reply.rsplit("\r\n").next().and_then(|text| text.parse::<u64>().ok()) else { continue };
        assert!(number >= floor, "model:{key} was {floor} before it was read, and {reply:?} was read");
    }
}
