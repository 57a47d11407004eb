//! Slots that move while they are used: the client does not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{check, pipeline};
use crate::harness::cluster::slot_of;
use crate::harness::load::Load;
use crate::harness::process::poll_until;
use crate::harness::{Client, Cluster, Sidecar};

/// A cluster with a slot that can move, and a sidecar with rules that give lifetimes.
struct Moving {
    cluster: Cluster,
    sidecar: Sidecar,
    client: Client,
    slot: usize,
    from: usize,
    to: usize,
}

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lifetimes/policies");

// === impl Moving ===

impl Moving {
    fn start() -> Self {
        let cluster = Cluster::start(3, 0);
        let sidecar = Sidecar::serve_cluster(&cluster, &["--policy-folder", POLICIES, "--workers", "1"]);
        let client = sidecar.client();
        let slot = slot_of("{m}");
        let from = cluster.owner(slot);
        Self { to: (from + 1) % 3, cluster, sidecar, client, slot, from }
    }

    fn begin(&self) {
        self.cluster.begin_move(self.slot, self.from, self.to);
    }

    fn end(&self) {
        self.cluster.move_keys(self.slot, self.from, self.to);
        self.cluster.end_move(self.slot, self.to);
    }
}

/// Milliseconds that a key has left.
fn left(client: &mut Client, key: &str) -> i64 {
    client.ask(&format!("PTTL {key}"))[1..].parse().unwrap()
}

#[test]
fn keys_are_followed_to_their_new_node() {
    let mut moving = Moving::start();
    check(&mut moving.client, &[("SET {m}old 1", "+OK"), ("RPUSH {m}list a b", ":2")]);
    moving.begin();
    // What is there stays there; what is not is made at the new node, with its lifetime.
    check(
        &mut moving.client,
        &[
            ("INCR {m}old", ":2"),
            ("SET {m}new 5", "+OK"),
            ("INCR {m}new", ":6"),
            ("GET {m}nothing", "$-1"),
            ("BLPOP {m}list 1", "*2\r\n$7\r\n{m}list\r\n$1\r\na"),
            ("EVAL return(redis.call('INCR',KEYS[1])) 1 {m}new", ":7"),
        ],
    );
    // Each of them alone can be had, both together cannot until they are at one node.
    assert!(moving.client.ask("MGET {m}old {m}new").starts_with("-TRYAGAIN"));
    let lines: Vec<_> = (0..100).map(|_| "INCR {m}pipe".to_owned()).collect();
    let expect: Vec<_> = (1..=100).map(|number| format!(":{number}")).collect();
    assert_eq!(pipeline(&mut moving.client, &lines), expect);
    moving.end();
    // The sidecar has not heard of it yet.
    let lines: Vec<_> = (0..100).map(|_| "INCR {m}pipe".to_owned()).collect();
    let expect: Vec<_> = (101..=200).map(|number| format!(":{number}")).collect();
    assert_eq!(pipeline(&mut moving.client, &lines), expect);
    check(&mut moving.client, &[("MGET {m}old {m}new", "*2\r\n$1\r\n2\r\n$1\r\n7"), ("GET a", "$-1")]);
    let mut direct = moving.cluster.nodes[moving.to].client();
    assert_eq!(direct.ask("GET {m}pipe"), "$3\r\n200");
}

#[test]
fn lifetimes_follow_behind_what_moves() {
    let mut moving = Moving::start();
    moving.begin();
    for (write, key) in [
        ("SET create:{m}set 1", "create:{m}set"),
        ("HSET create:{m}hash f v", "create:{m}hash"),
        ("INCR create:{m}count", "create:{m}count"),
    ] {
        let reply = moving.client.ask(write);
        assert!(reply == "+OK" || reply == ":1", "{write}: {reply}");
        let left = left(&mut moving.client, key);
        assert!((80_000..=100_000).contains(&left), "{write}: {left}");
    }
    moving.end();
    for (write, key) in [
        ("HSET create:{m}hash2 f v", "create:{m}hash2"),
        ("ZADD create:{m}zset 1 a", "create:{m}zset"),
        ("MSET create:{m}three 1 create:{m}four 2 b 1", "create:{m}four"),
    ] {
        let reply = moving.client.ask(write);
        assert!(reply == "+OK" || reply == ":1", "{write}: {reply}");
        let left = left(&mut moving.client, key);
        assert!((80_000..=100_000).contains(&left), "{write}: {left}");
    }
}

/// A command that needs two keys which are at two nodes waits until they are together.
#[test]
fn what_cannot_be_done_yet_is_tried_again() {
    let mut moving = Moving::start();
    check(&mut moving.client, &[("MSET create:{m}one 1 create:{m}two 2", "+OK")]);
    // Without a lifetime, as one that was written before there were rules.
    check(&mut moving.client, &[("PERSIST create:{m}one", ":1"), ("PERSIST create:{m}two", ":1")]);
    moving.begin();
    let mut direct = moving.cluster.nodes[moving.from].client();
    let port = moving.cluster.nodes[moving.to].port;
    assert_eq!(direct.ask(&format!("MIGRATE 127.0.0.1 {port} create:{{m}}one 0 5000")), "+OK");
    let tries = |cluster: &Cluster| cluster.nodes[moving.from].client().ask("INFO errorstats").contains("TRYAGAIN");
    moving.client.send(&crate::harness::encoded(&["MSET", "create:{m}one", "3", "create:{m}two", "4"]));
    poll_until("the node to ask for patience", || tries(&moving.cluster));
    moving.cluster.move_keys(moving.slot, moving.from, moving.to);
    assert_eq!(moving.client.reply(), b"+OK\r\n");
    moving.cluster.end_move(moving.slot, moving.to);
    for key in ["create:{m}one", "create:{m}two"] {
        let left = left(&mut moving.client, key);
        assert!((80_000..=100_000).contains(&left), "{key}: {left}");
    }
    check(&mut moving.client, &[("MGET create:{m}one create:{m}two", "*2\r\n$1\r\n3\r\n$1\r\n4")]);
}

#[test]
fn transactions_are_put_together_where_their_slot_is() {
    let mut moving = Moving::start();
    let lines = |key: &str| -> Vec<String> {
        let words = ["MULTI", "PING", &format!("SET {key} 1"), &format!("INCR {key}"), "EXEC"];
        words.iter().map(|line| (*line).to_owned()).collect()
    };
    let expect = ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3\r\n+PONG\r\n+OK\r\n:2"];
    check(&mut moving.client, &[("SET {m}watched 1", "+OK"), ("WATCH {m}watched", "+OK")]);
    let mut other = moving.sidecar.client();
    moving.begin();
    assert_eq!(pipeline(&mut other, &lines("{m}new")), expect);
    moving.end();
    assert_eq!(pipeline(&mut other, &lines("{m}new")), expect);
    // One command at a time, a slot that moves in between.
    check(&mut other, &[("MULTI", "+OK"), ("SET {m}new 5", "+QUEUED")]);
    moving.cluster.move_slot(moving.slot, moving.to, moving.from);
    check(&mut other, &[("INCR {m}new", "+QUEUED"), ("EXEC", "*2\r\n+OK\r\n:6")]);
    // What was watched is not where it was: as if it had been written.
    check(&mut moving.client, &[("MULTI", "+OK"), ("SET {m}watched 2", "+QUEUED"), ("EXEC", "*-1")]);
    check(&mut moving.client, &[("GET {m}watched", "$1\r\n1"), ("WATCH {m}watched", "+OK"), ("MULTI", "+OK")]);
    check(&mut moving.client, &[("SET {m}watched 2", "+QUEUED"), ("EXEC", "*1\r\n+OK")]);
}

/// What a node still says of a transaction that was discarded is not taken for the next one's.
#[test]
fn transactions_behind_one_that_was_discarded() {
    let mut moving = Moving::start();
    check(&mut moving.client, &[("GET {m}x", "$-1")]);
    moving.cluster.move_slot(moving.slot, moving.from, moving.to);
    let lines = ["MULTI", "INCR {m}x", "DISCARD", "MULTI", "INCR {m}x", "EXEC", "GET {m}x"].map(str::to_owned);
    let expect = ["+OK", "+QUEUED", "+OK", "+OK", "+QUEUED", "*1\r\n:1", "$1\r\n1"];
    assert_eq!(pipeline(&mut moving.client, &lines), expect);
}

/// More than may wait in memory waits behind one whose slot is elsewhere, and that one behind the last of them.
#[test]
fn large_values_behind_a_slot_that_moved() {
    const LARGE: usize = 80;
    let mut moving = Moving::start();
    let here = (0..).map(|number| format!("k{number}")).find(|key| moving.cluster.owner(slot_of(key)) == moving.from);
    let key = here.unwrap();
    moving.client.command(&[b"SET", key.as_bytes(), &vec![b'x'; 1 << 20]]);
    assert_eq!(moving.client.reply(), b"+OK\r\n");
    check(&mut moving.client, &[("SET {m}k 1", "+OK")]);
    moving.cluster.move_slot(moving.slot, moving.from, moving.to);
    let asked = ["{m}k"].into_iter().chain(std::iter::repeat_n(&*key, LARGE)).chain(["{m}k"]);
    let replies = pipeline(&mut moving.client, &asked.map(|key| format!("GET {key}")).collect::<Vec<_>>());
    let (first, last) = (replies.first().unwrap(), replies.last().unwrap());
    assert_eq!((first.as_str(), last.as_str()), ("$1\r\n1", "$1\r\n1"));
    let large = replies.iter().filter(|reply| reply.len() > 1 << 20).count();
    assert_eq!((large, replies.len()), (LARGE, LARGE + 2));
}

#[test]
fn shard_channels_that_move() {
    let moving = Moving::start();
    let mut listener = moving.sidecar.client();
    let expect = |word: &str, count: usize| format!("*3\r\n${}\r\n{word}\r\n$3\r\n{{m}}\r\n:{count}", word.len());
    assert_eq!(listener.ask("SSUBSCRIBE {m}"), expect("ssubscribe", 1));
    moving.cluster.move_slot(moving.slot, moving.from, moving.to);
    // As the node itself says it; then it is subscribed to where it is now.
    assert_eq!(String::from_utf8_lossy(&listener.reply()).trim_end(), expect("sunsubscribe", 0));
    assert_eq!(listener.ask("SSUBSCRIBE {m}"), expect("ssubscribe", 1));
    assert_eq!(moving.sidecar.client().ask("SPUBLISH {m} hello"), ":1");
    assert!(listener.reply().starts_with(b"*3\r\n$8\r\nsmessage"));
}

/// Slots move to a node that has none, under clients that write and read: no error, nothing lost, order kept.
#[test]
fn slots_move_under_load() {
    let cluster = Cluster::start_with(3, 0, 1, &[]);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "2"]);
    let load = Load::start(sidecar.port, 6);
    let stop = Arc::new(AtomicBool::new(false));
    let counters: Vec<_> = (0..3).map(|number| count(&sidecar, number, Arc::clone(&stop))).collect();
    load.wait_for_rounds(5);
    let mut slots: Vec<_> =
        (0..6).flat_map(|client| (0..8).map(move |key| slot_of(&format!("t:{client}:{key}")))).collect();
    slots.extend((0..3).flat_map(|number| [slot_of(&format!("{{c{number}}}")), slot_of(&format!("d{number}"))]));
    slots.push(slot_of("t:hash"));
    slots.sort_unstable();
    slots.dedup();
    for slot in &slots {
        let from = cluster.owner(*slot);
        cluster.begin_move(*slot, from, 3);
        // Somebody meets the slot on its way.
        load.wait_for_rounds(1);
        cluster.move_keys(*slot, from, 3);
        cluster.end_move(*slot, 3);
    }
    load.wait_for_rounds(5);
    stop.store(true, Ordering::Relaxed);
    let counted: usize = counters.into_iter().map(|counter| counter.join().unwrap()).sum();
    let seen = load.stop();
    assert_eq!((seen.closed, &seen.errors), (0, &std::collections::BTreeMap::new()));
    seen.is_all_there(&mut sidecar.client());
    assert!(counted > 100, "{counted}");
    assert!(cluster.redirections() > 20, "{}", cluster.redirections());
}

/// Counts in pipelines, until it is told to stop: no number comes twice, is left out or comes late.
fn count(sidecar: &Sidecar, number: usize, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let mut client = sidecar.client();
    std::thread::spawn(move || {
        let mut counted = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut lines = Vec::new();
            let mut expect = Vec::new();
            for _ in 0..10 {
                counted += 1;
                lines.extend([
                    format!("INCR {{c{number}}}"),
                    format!("MSET {{c{number}}}x {counted} d{number} {counted}"),
                ]);
                lines.extend([format!("GET {{c{number}}}x"), format!("GET d{number}")]);
                let bulk = format!("${}\r\n{counted}", counted.to_string().len());
                expect.extend([format!(":{counted}"), "+OK".to_owned(), bulk.clone(), bulk]);
            }
            assert_eq!(pipeline(&mut client, &lines), expect);
        }
        counted
    })
}
