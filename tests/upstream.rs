//! The server comes late, goes, comes back, asks for a password; clients are too many, too slow, too quiet.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::process::{free_port, poll_until};
use crate::harness::scripted::Scripted;
use crate::harness::{Client, Redis, Sidecar, encoded, run};

/// A client's situation at the moment when its server is killed.
struct Situation {
    /// What has been sent and answered.
    before: &'static [&'static str],
    /// What is sent and not answered.
    in_flight: &'static str,
    /// What is sent after the server has come back. Empty: the connection has been closed.
    after: &'static str,
    /// The end of the answer to it.
    answer: &'static str,
}

const NOT_KNOWN: &str = "whether the command ran is not known";

/// Sends words that are split at blanks.
fn send(client: &mut Client, line: &str) {
    client.send(&encoded(&line.split(' ').collect::<Vec<_>>()));
}

/// Kills a server under a client: its unanswered command must get `expect`, or the end where that is none.
fn check_lost(choice: &str, situation: &Situation, expect: Option<&str>) {
    let Situation { before, in_flight, after, answer } = situation;
    let told = format!("{choice}: {before:?}, {in_flight:?}");
    let redis = Redis::start();
    let port = redis.port;
    let sidecar = Sidecar::serve(&redis, &["--on-upstream-lost", choice]);
    let mut client = sidecar.client();
    for line in *before {
        let reply = client.ask(line);
        assert!(!reply.starts_with('-'), "{told}: {reply}");
    }
    // A server that is stopped takes no command, so that this one is on its way.
    redis.process.signal("STOP");
    if !in_flight.is_empty() {
        send(&mut client, in_flight);
        poll_until("the command to be counted", || total_commands(&sidecar) > before.len());
    }
    redis.process.signal("KILL");
    if !in_flight.is_empty() {
        let got = client.try_reply().map(|reply| String::from_utf8(reply).unwrap());
        match (expect, &got) {
            (None, None) => return,
            (Some(expect), Some(got))
                if got.starts_with("-ERR bellwether lost") && got.trim_end().ends_with(expect) => {}
            _ => panic!("{told}: expected {expect:?}, got {got:?}"),
        }
    }
    drop(redis);
    let _again = Redis::start_at(port, &[]);
    poll_until("the sidecar to recover", || sidecar.client().try_ask("PING").as_deref() == Some("+PONG"));
    let got = client.try_ask(after).unwrap_or_default();
    assert!(if answer.is_empty() { got.is_empty() } else { got.ends_with(answer) }, "{told}: then {after:?}: {got:?}");
}

fn total_commands(sidecar: &Sidecar) -> usize {
    let (_, page) = sidecar.admin("/metrics");
    let counts = page.lines().filter(|line| line.starts_with("bellwether_commands_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[test]
fn lost_with_a_command_in_flight() {
    // Every lane that is used afterwards is there.
    let plain = |in_flight, after, answer| Situation { before: &["PING", "BLPOP l 0.01"], in_flight, after, answer };
    for in_flight in ["GET a", "SET fyntrix:general:a 1", "HSET fyntrix:general:h f v", "BLPOP l 0"] {
        check_lost("close", &plain(in_flight, "", ""), None);
        // The connection goes on, and so does what it does.
        check_lost("error", &plain(in_flight, "GET nothing", "$-1"), Some(NOT_KNOWN));
    }
    check_lost("error", &plain("BLPOP l 0", "BLPOP l 0.01", "*-1"), Some(NOT_KNOWN));
}

#[test]
fn lost_with_state_at_the_server() {
    // What the server held for the connection is gone with it, so the connection must not go on as if it were there.
    for choice in ["close", "error"] {
        for before in [&["MULTI", "SET a 1"][..], &["WATCH a"], &["SUBSCRIBE ch"], &["HELLO 3", "CLIENT TRACKING on"]] {
            check_lost(choice, &Situation { before, in_flight: "", after: "PING", answer: "" }, None);
        }
        // A connection without state does not notice.
        let idle = Situation { before: &["SELECT 3", "GET a"], in_flight: "", after: "SET a 1", answer: "+OK" };
        check_lost(choice, &idle, None);
    }
}

#[test]
fn commands_while_there_is_no_server() {
    for (choice, expect) in [("close", None), ("error", Some("the command was not sent"))] {
        let redis = Redis::start();
        let sidecar = Sidecar::serve(&redis, &["--on-upstream-lost", choice]);
        assert_eq!(sidecar.client().ask("PING"), "+PONG");
        drop(redis);
        poll_until("an answer that says so", || {
            let got = sidecar.client().try_ask("GET a");
            // The first may have been on its way when the connection was lost.
            got.as_deref().is_none_or(|got| got.starts_with("-ERR bellwether lost the server"))
                && got.is_some_and(|got| got.ends_with(expect.unwrap_or_default())) == expect.is_some()
        });
    }
}

#[test]
fn a_server_that_comes_late() {
    let port = free_port();
    let upstream = format!("redis://127.0.0.1:{port}");
    let mut sidecar = Sidecar::begin("serve", &["--upstream", &upstream], &[]);
    let twice = |lines: &[String]| lines.iter().filter(|line| line.contains("waiting for the server")).count() >= 2;
    poll_until("two attempts", || twice(&sidecar.lines()));
    assert!(!sidecar.lines().iter().any(|line| line.contains("bellwether listens on")), "it listens without a server");
    let _redis = Redis::start_at(port, &[]);
    let listens =
        |line: &str| line.split_once("bellwether listens on 127.0.0.1:")?.1.split_whitespace().next()?.parse().ok();
    let port = sidecar.wait_for("sidecar that listens", listens);
    assert_eq!(Client::connect(port).ask("PING"), "+PONG");
}

/// What a server is, in Redis's words and in Valkey's, and how it is then to be named.
#[test]
fn servers_that_are_something_else() {
    let check = |said: &str, scheme: &str, expect: &str| {
        let server = Scripted::start(&json!([]));
        server.answer("INFO", &json!(format!("redis_version:7.2.4\r\n{said}\r\n")));
        let url = format!("{scheme}://127.0.0.1:{}", server.port);
        let output = run(&["retime", "--upstream", &url], std::path::Path::new("."));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(expect), "{said}, {url}\nexpected {expect}\ngot {told}");
    };
    for name in ["redis_mode", "server_mode"] {
        check(&format!("{name}:cluster"), "redis", "it is part of a cluster; use redis-cluster://host:port");
        check(&format!("{name}:sentinel"), "redis", "it is a sentinel; use redis-sentinel://host:port/NAME");
    }
}

#[test]
fn the_environment_of_the_application() {
    let redis = Redis::start_with(&["--requirepass", "s3cret"]);
    let port = redis.port.to_string();
    let variables =
        [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("REDIS_DB", "5"), ("REDIS_PASSWORD", "s3cret")];
    let sidecar = Sidecar::start_in("serve", &[], &variables);
    let (mut client, mut direct) = (sidecar.client(), redis.admin());
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH s3cret"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!((direct.ask("GET a").as_str(), direct.ask("SELECT 5").as_str()), ("$-1", "+OK"));
    assert_eq!(direct.ask("GET a"), "$1\r\n1");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("AUTH default s3cret"), "+OK");
    assert_eq!(client.ask("GET a"), "$1\r\n1", "RESET goes back to the configured database");
}

#[test]
fn passwords_of_clients() {
    const REFUSED: &str = "-WRONGPASS invalid username-password pair or user is disabled.";
    const ASKED: &str = "-NOAUTH Authentication required.";
    let check = |server: &[&str], flags: &[&str], conversation: &[(&str, &str)]| {
        let redis = Redis::start_with(server);
        let sidecar = Sidecar::serve(&redis, flags);
        let mut client = sidecar.client();
        for (command, expect) in conversation {
            assert_eq!(client.ask(command), *expect, "{server:?} {flags:?}: {command}");
        }
    };
    let with = ["--requirepass", "s3cret"];
    check(&with, &[], &[("PING", ASKED), ("AUTH own", REFUSED), ("AUTH s3cret", "+OK"), ("GET a", "$-1")]);
    let own = ["--client-password", "own"];
    check(&with, &own, &[("PING", ASKED), ("AUTH s3cret", REFUSED), ("AUTH own", "+OK"), ("GET a", "$-1")]);
    check(&with, &["--client-password", "none"], &[("GET a", "$-1"), ("AUTH default x", "+OK")]);
    check(&[], &own, &[("PING", ASKED), ("AUTH x", REFUSED), ("AUTH default own", "+OK"), ("GET a", "$-1")]);
}

#[test]
fn a_client_that_does_not_read() {
    const VALUE_BYTES: usize = 100_000;
    const REPLIES: usize = 600;
    let redis = Redis::start();
    // One worker, so that both clients share its lane.
    let sidecar = Sidecar::serve(&redis, &["--client-output-bytes-max", "8000000", "--workers", "1"]);
    let (mut slow, mut quick) = (sidecar.client(), sidecar.client());
    let value = "x".repeat(VALUE_BYTES);
    assert_eq!(quick.ask_words(&[b"SET", b"a", value.as_bytes()]), "+OK");
    slow.send(&encoded(&["GET", "a"]).repeat(REPLIES));
    for round in 0..200 {
        assert_eq!(quick.ask("GET nothing"), "$-1", "round {round}");
    }
    poll_until("the slow client to be ended", || quick.ask("CLIENT LIST").matches("id=").count() == 1);
    let got = slow.rest().len();
    assert!(got < REPLIES * VALUE_BYTES, "all of {got} bytes were kept for it");
    assert_eq!(quick.ask("STRLEN a"), format!(":{VALUE_BYTES}"));
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let mut client = sidecar.client();
    assert_eq!(client.ask_words(&[b"SET", b"a", "x".repeat(50_000).as_bytes()]), "+OK");
    client.send(&encoded(&["GET", "a"]).repeat(400));
    let expect = format!("$50000\r\n{}\r\n", "x".repeat(50_000));
    for number in 0..400 {
        assert!(client.reply() == expect.as_bytes(), "reply {number}");
    }
}

#[test]
fn an_http_client_costs_the_others_nothing() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let (mut other, mut http) = (sidecar.client(), sidecar.client());
    assert_eq!(other.ask("SET a b"), "+OK");
    http.send(b"POST / HTTP/1.1\r\n");
    assert_eq!(http.try_reply(), None);
    assert_eq!(other.ask("GET a"), "$1\r\nb");
    let lines = sidecar.process.lines();
    assert!(!lines.iter().any(|line| line.contains("lost the server")), "{lines:#?}");
}

#[test]
fn a_user_of_the_servers_is_asked_about_once() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let (mut client, mut other, mut direct) = (sidecar.client(), sidecar.client(), redis.client());
    assert_eq!(direct.ask("ACL SETUSER app on >pw ~* &* +@all"), "+OK");
    client.send(&[encoded(&["BLPOP", "l", "0"]), encoded(&["AUTH", "app", "pw"])].concat());
    poll_until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    // More comes while the answer does not.
    client.send(&encoded(&["PING"]));
    assert_eq!(other.ask("RPUSH l x"), ":1");
    assert_eq!(client.reply(), b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(client.reply(), b"+PONG\r\n");
    let asked = direct.ask("INFO commandstats");
    assert!(asked.contains("cmdstat_auth:calls=1,"), "{asked}");
}

#[test]
fn too_many_clients() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--clients-max", "2"]);
    let (mut first, mut second) = (sidecar.client(), sidecar.client());
    assert_eq!((first.ask("PING").as_str(), second.ask("PING").as_str()), ("+PONG", "+PONG"));
    let mut third = sidecar.client();
    assert_eq!(third.try_reply().as_deref(), Some(&b"-ERR max number of clients reached\r\n"[..]));
    assert_eq!(third.try_reply(), None);
    drop(first);
    poll_until("room for another", || sidecar.client().try_ask("PING").as_deref() == Some("+PONG"));
    assert_eq!(second.ask("PING"), "+PONG");
}

#[test]
fn quiet_clients() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--client-idle-ms-max", "300"]);
    let (mut idle, mut blocked, mut subscribed) = (sidecar.client(), sidecar.client(), sidecar.client());
    // As at the server, who waits for something is not idle.
    send(&mut blocked, "BLPOP l 1");
    assert!(subscribed.ask("SUBSCRIBE ch").contains("subscribe"));
    assert_eq!(idle.ask("PING"), "+PONG");
    assert_eq!(idle.try_reply(), None, "the idle client is ended");
    assert_eq!(blocked.reply(), b"*-1\r\n");
    assert_eq!(redis.client().ask("PUBLISH ch m"), ":1");
    assert!(String::from_utf8(subscribed.reply()).unwrap().contains("message"));
}

/// Who reads is not idle, however long a reply takes.
#[test]
fn slow_readers() {
    const BYTES: usize = 60 << 20;
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &["--client-idle-ms-max", "300"]);
    let mut direct = redis.client();
    direct.command(&[b"SET", b"large", &vec![b'x'; BYTES]]);
    assert_eq!(direct.reply(), b"+OK\r\n");
    let mut slow = std::net::TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    slow.write_all(b"GET large\r\n").unwrap();
    let (mut memory, mut read) = (vec![0; 3 << 20], 0);
    while read < BYTES {
        let begun = Instant::now();
        poll_until("some time to pass", || begun.elapsed() > Duration::from_millis(60));
        let bytes = slow.read(&mut memory).unwrap();
        assert_ne!(bytes, 0, "the connection ended after {read} of {BYTES} bytes");
        read += bytes;
    }
}

/// A SELECT that the server refuses moves nobody, not even who has the connection next.
#[test]
fn a_select_that_is_refused() {
    let redis = Redis::start_with(&["--lua-time-limit", "1"]);
    let sidecar = Sidecar::serve(&redis, &["--workers", "1"]);
    let (mut client, mut direct, mut busy) = (sidecar.client(), redis.client(), redis.client());
    assert_eq!(client.ask("WATCH k"), "+OK");
    busy.command(&[b"EVAL", b"while true do end", b"0"]);
    poll_until("the server to be busy", || direct.ask("PING").starts_with("-BUSY"));
    assert!(client.ask("SELECT 1").starts_with("-BUSY"));
    assert_eq!(direct.ask("SCRIPT KILL"), "+OK");
    for (line, expect) in [("UNWATCH", "+OK"), ("SET m x", "+OK")] {
        assert_eq!(client.ask(line), expect);
    }
    assert_eq!(direct.ask("EXISTS m"), ":1");
    let mut next = sidecar.client();
    for (line, expect) in
        [("SELECT 1", "+OK"), ("MULTI", "+OK"), ("SET n x", "+QUEUED"), ("EXEC", "*1\r\n+OK"), ("SELECT 0", "+OK")]
    {
        assert_eq!(next.ask(line), expect, "{line}");
    }
    assert_eq!((next.ask("EXISTS n"), direct.ask("EXISTS n")), (":0".to_owned(), ":0".to_owned()));
}

/// As many files are opened as clients need, or fewer clients are served than clients_max.
#[test]
fn open_files() {
    let redis = Redis::start();
    let serves = |sidecar: &Sidecar, many: usize| -> Vec<Client> {
        let clients = (0..many).map(|_| sidecar.client()).collect::<Vec<_>>().into_iter();
        clients.filter_map(|mut client| (client.try_ask("PING")? == "+PONG").then_some(client)).collect()
    };
    assert_eq!(serves(&Sidecar::serve_after("ulimit -Sn 100", &redis), 150).len(), 150);
    let mut sidecar = Sidecar::serve_after("ulimit -n 100", &redis);
    sidecar.process.wait_for("warning", |line| line.contains("too few files may be open").then_some(()));
    let mut clients = serves(&sidecar, 60);
    assert_eq!(clients.len(), 18);
    for client in &mut clients {
        assert_eq!(client.ask("MULTI"), "+OK");
        assert_eq!(client.ask("SET a 1"), "+QUEUED");
    }
    assert_eq!(sidecar.admin("/readyz").0, 200);
    assert_eq!(clients[0].ask("EXEC"), "*1\r\n+OK");
}

/// A client that vanishes without a word is asked whether it is there, by the kernel.
#[test]
fn clients_are_kept_alive() {
    let redis = Redis::start();
    let sidecar = Sidecar::serve(&redis, &[]);
    let client = std::net::TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    let ends = [sidecar.port, client.local_addr().unwrap().port()].map(|port| format!("0100007F:{port:04X}"));
    // Timer 2 of a connection is the one that keeps it alive.
    poll_until("a timer", || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let words = connections.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let mut ours = words.filter(|words| words[1..3] == ends);
        ours.any(|words| words[5].starts_with("02:"))
    });
}
