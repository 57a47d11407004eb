//! The store's behaviour: scripts for what a server cannot be asked to show (time, limits, the store's own errors), the
//! table's promises. That replies are the server's own: `corpus.txt`.

use crate::resp::request::{self, Scanned, Scanner};

use super::{Limits, commands, session::Session, store::Store};

pub(super) const LIMITS: Limits = Limits {
    request: request::Limits { args_max: 1000, bulk_bytes_max: 10_000, command_bytes_max: 100_000 },
    connections_max: 2,
    pipe_bytes: 64,
    memory_bytes_max: 10_000,
    transaction_bytes_max: 1000,
    watches_max: 3,
    replies_bytes_max: 100_000,
};

/// A store with some sessions, and a clock that scripts set.
struct Bench {
    store: Store,
    sessions: Vec<Session>,
    now_ms: i64,
}

// === impl Bench ===

impl Bench {
    fn new(limits: Limits) -> Self {
        let mut store = Store::new(limits, 1_000_000);
        let sessions = (0..2).map(|_| store.begin().unwrap()).collect();
        Self { store, sessions, now_ms: 1_000_000 }
    }

    /// Runs a line on a session: the reply, escaped.
    fn run(&mut self, session: usize, line: &str) -> String {
        let mut out = Vec::new();
        let encoded = encode(line);
        let mut scanner = Scanner::new(LIMITS.request);
        assert!(matches!(scanner.scan(&encoded), Ok(Scanned::Command(_))), "{line}");
        let args: Vec<&[u8]> = scanner.args().iter().map(|span| span.of(&encoded)).collect();
        self.store.execute(&mut self.sessions[session], &args, self.now_ms, &mut out);
        String::from_utf8_lossy(&out).trim_end().replace("\r\n", " ")
    }
}

/// A line as the bytes a client sends.
pub(super) fn encode(line: &str) -> Vec<u8> {
    match Scanner::new(LIMITS.request).scan(format!("{line}\n").as_bytes()) {
        Ok(Scanned::Inline(_, encoded)) => encoded,
        other => panic!("{line}: {other:?}"),
    }
}

/// Runs a script: `line => reply` on the first session, `@line => reply` on the second, `+n` lets n milliseconds pass.
fn check(script: &[&str]) {
    let mut bench = Bench::new(LIMITS);
    for row in script {
        if let Some(ms) = row.strip_prefix('+') {
            bench.now_ms += ms.parse::<i64>().unwrap();
            continue;
        }
        let (line, expect) = row.split_once(" => ").unwrap();
        let (session, line) = line.strip_prefix('@').map_or((0, line), |line| (1, line));
        assert_eq!(bench.run(session, line), expect, "{line}");
    }
}

#[test]
fn keys_expire_behind_their_instant() {
    check(&["SET k v PX 100 => +OK", "+100", "GET k => $1 v", "PTTL k => :0", "+1", "GET k => $-1", "DBSIZE => :0"]);
    check(&["HSET h a 1 => :1", "PEXPIRE h 10 => :1", "+11", "HSET h b 2 => :1", "HGETALL h => *2 $1 b $1 2"]);
    check(&["SET k 5 PX 10 => +OK", "INCR k => :6", "PTTL k => :10", "+11", "INCR k => :1", "PTTL k => :-1"]);
    check(&["SET k v PX 10 => +OK", "+11", "SET k w NX => +OK", "TTL k => :-1"]);
    check(&["SET k v PX 10 => +OK", "+11", "SET k w KEEPTTL => +OK", "TTL k => :-1"]);
    check(&["SET k v PX 10 => +OK", "RENAME k l => +OK", "+11", "EXISTS l => :0"]);
    check(&["SET k v PX 1500 => +OK", "TTL k => :2", "+1001", "TTL k => :0"]);
    check(&["SET k v => +OK", "EXPIREAT k 1000 => :1", "EXISTS k => :0"]);
    check(&["TIME => *2 $4 1000 $1 0", "+1", "TIME => *2 $4 1000 $4 1000"]);
}

#[test]
fn a_watched_key_that_expires_stops_exec() {
    check(&["SET k v PX 10 => +OK", "WATCH k => +OK", "+11", "MULTI => +OK", "PING => +QUEUED", "EXEC => *-1"]);
    check(&["WATCH k => +OK", "@SET k v => +OK", "@DEL k => :1", "MULTI => +OK", "EXEC => *-1"]);
    check(&["SET k v PX 10 => +OK", "+11", "WATCH k => +OK", "MULTI => +OK", "EXEC => *0"]);
}

#[test]
fn what_is_not_here_says_so() {
    let absent = |name| {
        format!(
            "-ERR {name} is not in Bellwether's embedded store; run a Redis server and start bellwether with \
             --upstream redis://HOST:PORT"
        )
    };
    for (line, name) in [
        ("subscribe c", "SUBSCRIBE"),
        ("XADD s * a 1", "XADD"),
        ("EVAL x 0", "EVAL"),
        ("BLPOP l 0", "BLPOP"),
        ("SWAPDB 0 1", "SWAPDB"),
        ("DUMP k", "DUMP"),
        ("DEBUG SLEEP 1", "DEBUG"),
        ("CLIENT TRACKING on", "CLIENT TRACKING"),
        ("CONFIG SET save x", "CONFIG SET"),
        ("SORT k BY x", "SORT BY"),
    ] {
        assert_eq!(Bench::new(LIMITS).run(0, line), absent(name), "{line}");
    }
    check(&[
        "MULTI => +OK",
        &format!("XADD s * a 1 => {}", absent("XADD")),
        "EXEC => -EXECABORT Transaction discarded because of previous errors.",
    ]);
}

#[test]
fn what_is_full_says_so() {
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    let value = "x".repeat(9_950);
    check(&[
        &format!("SET a {value} => +OK"),
        "SET b 1 => +OK",
        &format!("SET c 1 => {oom}"),
        "GET b => $1 1",
        "DEL a => :1",
        "SET c 1 => +OK",
    ]);
    check(&[&format!("SETRANGE k 20000 x => {oom}"), "EXISTS k => :0", &format!("SETBIT k 200000 1 => {oom}")]);
    let long = "x".repeat(900);
    check(&[
        "MULTI => +OK",
        &format!("SET k {long} => +QUEUED"),
        &format!("SET k {long} => -ERR transaction is too big for Bellwether's embedded store"),
        "EXEC => -EXECABORT Transaction discarded because of previous errors.",
    ]);
    check(&["WATCH a b c a => +OK", "WATCH d => -ERR too many watched keys for Bellwether's embedded store"]);
}

#[test]
fn a_reply_too_large_closes_the_session() {
    let mut bench = Bench::new(LIMITS);
    bench.run(0, &format!("SADD s {}", "x".repeat(1000)));
    bench.run(0, "SRANDMEMBER s -4611686018427387903");
    assert!(bench.sessions[0].closing);
    assert!(!bench.sessions[1].closing);
}

#[test]
fn memory_comes_back() {
    let mut bench = Bench::new(LIMITS);
    let used = |bench: &mut Bench| bench.run(0, "INFO memory").split(' ').nth(3).unwrap().to_owned();
    for index in 0..20 {
        bench.run(0, &format!("SET s{index} v PX 10"));
        bench.run(0, &format!("HSET h{index} a 1 b 2"));
        bench.run(0, &format!("RPUSH l{index} a b c d"));
        bench.run(0, &format!("LTRIM l{index} 1 2"));
        bench.run(0, &format!("LREM l{index} -1 b"));
        bench.run(0, &format!("LSET l{index} 0 longer"));
        bench.run(0, &format!("ZADD z{index} 1 a 2 b PX"));
        bench.run(0, &format!("ZADD z{index} 1 a 2 b"));
        bench.run(0, &format!("SADD m{index} a b"));
    }
    for index in 0..20 {
        for line in ["HDEL h# a b", "LPOP l# 9", "ZPOPMIN z#", "ZREM z# b", "SPOP m#", "SREM m# a b"] {
            bench.run(0, &line.replace('#', &index.to_string()));
        }
    }
    bench.now_ms += 11;
    while bench.store.sweep(bench.now_ms, 5) > 0 {}
    assert_eq!(used(&mut bench), "used_memory:0");
    assert_eq!(bench.run(0, "DBSIZE"), ":0");
}

#[test]
fn a_scan_meets_every_key_that_stays() {
    // More than are packed in any kind of value, also when some have gone.
    const COUNT: usize = 900;
    for (fill, scan, remove) in [
        ("SET k# v", "SCAN @ COUNT 7", "DEL k#"),
        ("HSET h k# v", "HSCAN h @ COUNT 7", "HDEL h k#"),
        ("SADD s k#", "SSCAN s @ COUNT 7", "SREM s k#"),
        ("ZADD z 1 k#", "ZSCAN z @ COUNT 7", "ZREM z k#"),
    ] {
        let limits = Limits { memory_bytes_max: usize::MAX, ..LIMITS };
        let mut bench = Bench::new(limits);
        let numbered = |line: &str, index: usize| line.replace('#', &format!("{index:04}"));
        (0..COUNT).for_each(|index| drop(bench.run(0, &numbered(fill, index))));
        let (mut cursor, mut seen, mut step) = ("0".to_owned(), String::new(), 0);
        loop {
            let reply = bench.run(0, &scan.replace('@', &cursor));
            cursor = reply.split(' ').nth(2).unwrap().to_owned();
            seen.push_str(&reply);
            if cursor == "0" {
                break;
            }
            // Every third key goes, new ones come.
            bench.run(0, &numbered(remove, step * 3 % COUNT));
            bench.run(0, &numbered(remove, (COUNT - 3 - step * 3 % COUNT) % COUNT));
            bench.run(0, &numbered(fill, 1000 + step));
            step += 1;
        }
        for index in (0..COUNT).filter(|index| index % 3 != 0) {
            assert!(seen.contains(&format!("k{index:04}")), "{scan} has lost {index}");
        }
    }
}

#[test]
fn commands_are_listed_once() {
    let mut names: Vec<_> = commands::table().map(|command| command.name).collect();
    assert!(names.iter().all(|name| !commands::is_absent(&name.to_ascii_uppercase().replace('|', " "))));
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(super::commands().count() > 140);
}

/// No bytes of a client may end the store, whatever they are: every command, with arguments that fit nowhere.
#[test]
fn nonsense_gets_a_reply() {
    let words = ["", "k", "0", "-1", "9223372036854775807", "-9223372036854775808", "1.5", "inf", "\u{0}", "["];
    let mut bench = Bench::new(LIMITS);
    for fill in ["SET k v", "HSET h a 1", "RPUSH l a", "SADD s a", "ZADD z 1 a"] {
        bench.run(0, fill);
    }
    for command in commands::table().filter(|command| command.name != "quit") {
        for (round, count) in (0..200).map(|round| (round, round % 7)) {
            let args = (0..count).map(|index| match (round + index) % 11 {
                0 if index == 0 => ["k", "h", "l", "s", "z"][round % 5],
                _ => words[(round * 7 + index * 3) % words.len()],
            });
            let line = args.fold(command.name.replace('|', " "), |line, arg| format!("{line} \"{arg}\""));
            assert!(!bench.run(0, &line).is_empty() || bench.sessions[0].closing, "{line}");
            bench.sessions[0].closing = false;
        }
    }
}
