//! Faults of the link to the server and of the server itself, under load: every client gets its own replies, an error
//! that says what is known, or the end; what was acknowledged is there; and all is well again by itself.

use std::time::Duration;

use crate::harness::fault::{Fault, FaultLink};
use crate::harness::load::{Load, Seen};
use crate::harness::process::{free_port, poll_until};
use crate::harness::{Client, Redis, Sidecar, encoded, folder};

/// What clients may see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// Nothing: it takes longer.
    Nothing,
    /// Lost connections.
    Losses,
}

const CLIENTS: usize = 6;

/// A policy folder by which keys that begin with `t:` live for long.
fn policies() -> tempfile::TempDir {
    folder(&[
        ("namespaces.toml", b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.t]\nprefix = \"t:\""),
        ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000"),
    ])
}

fn serve(port: u16, policies: &tempfile::TempDir, choice: &str) -> Sidecar {
    serve_with(&format!("127.0.0.1:{port}"), policies, choice, &["--upstream-back-off-ms-max", "50"])
}

fn serve_with(upstream: &str, policies: &tempfile::TempDir, choice: &str, more: &[&str]) -> Sidecar {
    let (upstream, folder) = (format!("redis://{upstream}"), policies.path().to_str().unwrap());
    let flags = ["--upstream", &upstream, "--policy-folder", folder, "--on-upstream-lost", choice, "--workers", "2"];
    Sidecar::start("serve", &[&flags[..], more].concat())
}

/// An error of the sidecar's that says what is known.
fn says_what_is_known(error: &str) -> bool {
    let known = ["; whether the command ran is not known", "; the command was not sent"];
    error.starts_with("ERR bellwether lost the server at 127.0.0.1:") && known.iter().any(|end| error.ends_with(end))
}

/// An error of a server that refuses for a time.
fn is_of_the_server(error: &str) -> bool {
    ["OOM ", "READONLY ", "LOADING ", "MISCONF ", "EXECABORT "].iter().any(|code| error.starts_with(code))
}

/// The words of a server that takes no connection, which clients are given as if theirs had been refused.
fn turns_away(error: &str) -> bool {
    error == "ERR max number of clients reached" || ["WRONGPASS ", "NOAUTH "].iter().any(|code| error.starts_with(code))
}

/// What clients may have seen of lost connections.
fn check_losses(what: &str, choice: &str, seen: &Seen) {
    let told = format!("{what}, {choice}: {} closed, errors {:#?}", seen.closed, seen.errors);
    assert!(seen.errors.keys().all(|error| says_what_is_known(error) || turns_away(error)), "{told}");
    assert!(choice == "error" || seen.errors.keys().all(|error| turns_away(error)), "{told}");
    assert!(seen.closed + seen.errors.len() > 0, "{told}");
}

fn check_link(what: &str, fault: Fault, sees: Sees) {
    let policies = policies();
    for choice in ["close", "error"] {
        let redis = Redis::start();
        let link = FaultLink::start(redis.port);
        let sidecar = serve(link.port, &policies, choice);
        let load = Load::start(sidecar.port, CLIENTS);
        load.wait_for_rounds(5);
        link.set(fault);
        match sees {
            Sees::Nothing => load.wait_for_rounds(3),
            // More than once: connections that are made anew break, too.
            Sees::Losses => poll_until("the fault to strike", || link.struck() >= 4 && load.troubles() >= 4),
        }
        link.set(Fault::None);
        load.wait_for_rounds(5);
        let seen = load.stop();
        match sees {
            Sees::Nothing => assert!(seen.closed == 0 && seen.errors.is_empty(), "{what}, {choice}: {seen:?}"),
            Sees::Losses => check_losses(what, choice, &seen),
        }
        seen.is_all_there(&mut redis.client());
    }
}

#[test]
fn links_that_break() {
    check_link("cut before a reply", Fault::Cut(0), Sees::Losses);
    check_link("cut in the middle of a reply", Fault::Cut(7), Sees::Losses);
    check_link("reset", Fault::Reset(3), Sees::Losses);
    check_link("refused", Fault::Refuse, Sees::Losses);
}

#[test]
fn links_that_send_garbage() {
    check_link("not RESP", Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Sees::Losses);
    check_link("a length that is wrong", Fault::Garbage(b"$2\r\nabcd\r\n"), Sees::Losses);
    check_link("a length that is too long", Fault::Garbage(b"$99999999999999999999\r\n"), Sees::Losses);
    check_link("zeros", Fault::Garbage(&[0; 64]), Sees::Losses);
}

/// What came whole before the garbage is handed on: the client that is owed it gets it, and nobody else's in its place.
#[test]
fn replies_that_garbage_follows() {
    let policies = policies();
    for choice in ["close", "error"] {
        let redis = Redis::start();
        let link = FaultLink::start(redis.port);
        let sidecar = serve(link.port, &policies, choice);
        let mut client = sidecar.client();
        assert_eq!(client.ask("ECHO before"), "$6\r\nbefore");
        link.set(Fault::GarbageBehind(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        client.send(&[encoded(&["ECHO", "one"]), encoded(&["SET", "t:a", "1"]), encoded(&["ECHO", "two"])].concat());
        let replies: Vec<_> = (0..3).map(|_| client.try_reply()).collect();
        let expect = ["$3\r\none\r\n", "+OK\r\n", "$3\r\ntwo\r\n"].map(|reply| Some(reply.as_bytes().to_vec()));
        assert_eq!(replies, expect, "{choice}");
    }
}

#[test]
fn links_that_are_slow() {
    check_link("late", Fault::Delay(Duration::from_millis(40)), Sees::Nothing);
    check_link("a byte at a time", Fault::Drip, Sees::Nothing);
}

/// A link that passes nothing and closes nothing: the clients wait, as at a server that does not answer. When it passes
/// again, all is as it was; when it ends, they are told.
#[test]
fn links_that_are_half_open() {
    let policies = policies();
    for (end, choice) in [(Fault::None, "close"), (Fault::Refuse, "close"), (Fault::Refuse, "error")] {
        let redis = Redis::start();
        let link = FaultLink::start(redis.port);
        let sidecar = serve(link.port, &policies, choice);
        let load = Load::start(sidecar.port, CLIENTS);
        load.wait_for_rounds(5);
        link.set(Fault::HalfOpen);
        poll_until("the link to be held", || link.struck() >= 2);
        let mut waiting = sidecar.client();
        waiting.command(&[b"PING"]);
        assert!(waiting.is_silent(Duration::from_millis(300)));
        assert_eq!(load.troubles(), 0, "nobody is told what nobody knows");
        link.set(end);
        if end == Fault::None {
            assert_eq!(waiting.reply(), b"+PONG\r\n");
        } else {
            let told = waiting.try_reply().map(|reply| String::from_utf8(reply).unwrap());
            let known = |reply: &String| says_what_is_known(reply.trim_start_matches('-').trim_end());
            assert_eq!(told.as_ref().map(known), (choice == "error").then_some(true), "{told:?}");
        }
        link.set(Fault::None);
        load.wait_for_rounds(5);
        let seen = load.stop();
        if end != Fault::None {
            check_losses("half open", choice, &seen);
        }
        seen.is_all_there(&mut redis.client());
    }
}

/// A value that takes longer to send than a dead connection is waited for: the server makes room for more all the time.
#[test]
fn links_that_are_slow_to_take() {
    let (redis, policies) = (Redis::start(), policies());
    let link = FaultLink::start(redis.port);
    let sidecar = serve(link.port, &policies, "close");
    let (mut large, mut small) = (sidecar.client(), sidecar.client());
    assert_eq!(small.ask("PING"), "+PONG");
    link.set(Fault::SlowUpload);
    let value = vec![b'x'; 26_000_000];
    let sending = std::thread::spawn(move || large.ask_words(&[b"SET", b"large", &value]));
    poll_until("the value to arrive", || {
        assert_eq!(small.ask("GET nothing"), "$-1");
        sending.is_finished()
    });
    assert_eq!(sending.join().unwrap(), "+OK");
}

/// Connections that are dead and do not look it, as behind a balancer that lost its way: the server answers others, so
/// they are given up, and clients that wait are told.
#[test]
fn links_that_are_dead() {
    let policies = policies();
    for choice in ["close", "error"] {
        let redis = Redis::start();
        let link = FaultLink::start(redis.port);
        let sidecar = serve(link.port, &policies, choice);
        let mut blocked = Client::connect(sidecar.port);
        blocked.command(&[b"BLPOP", b"t:list", b"0"]);
        let load = Load::start(sidecar.port, CLIENTS);
        load.wait_for_rounds(5);
        link.set(Fault::Dead);
        poll_until("the link to be held", || link.struck() >= 4);
        link.set(Fault::None);
        load.wait_for_rounds(5);
        let seen = load.stop();
        check_losses("dead", choice, &seen);
        seen.is_all_there(&mut redis.client());
        // What blocks may wait for as long as it likes.
        assert!(blocked.is_silent(Duration::from_millis(10)));
    }
}

#[test]
fn a_server_that_is_killed_keeps_what_it_acknowledged() {
    let policies = policies();
    for choice in ["close", "error"] {
        let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let sidecar = serve(redis.port, &policies, choice);
        let load = Load::start(sidecar.port, CLIENTS);
        for _ in 0..3 {
            load.wait_for_rounds(10);
            redis.restart();
        }
        load.wait_for_rounds(5);
        let mut seen = load.stop();
        // It says so while it reads its data.
        seen.errors.retain(|error, _| !is_of_the_server(error));
        check_losses("killed", choice, &seen);
        seen.is_all_there(&mut redis.client());
        let left = redis.client().ask(&format!("PTTL {}", seen.acknowledged.keys().next().unwrap()));
        let left_ms: i64 = left.trim_start_matches(':').parse().unwrap();
        assert!(left_ms > 3_000_000, "a key that was acknowledged has its lifetime: {left}");
    }
}

/// A server that is stopped: nobody is told anything, clients that go away cost nothing, and what was sent is answered
/// to whom it belongs.
#[test]
fn a_server_that_stops_and_goes_on() {
    let policies = policies();
    let redis = Redis::start();
    let sidecar = serve(redis.port, &policies, "close");
    let load = Load::start(sidecar.port, CLIENTS);
    load.wait_for_rounds(5);
    redis.process.signal("STOP");
    let mut waiting = sidecar.client();
    waiting.command(&[b"ECHO", b"mine"]);
    for number in 0..50 {
        // Its own timeout is over: it goes away with a command in flight.
        let mut impatient = sidecar.client();
        impatient.command(&[b"ECHO", format!("impatient {number}").as_bytes()]);
    }
    assert!(waiting.is_silent(Duration::from_millis(300)));
    redis.process.signal("CONT");
    assert_eq!(waiting.reply(), b"$4\r\nmine\r\n");
    load.wait_for_rounds(5);
    let seen = load.stop();
    assert!(seen.closed == 0 && seen.errors.is_empty(), "{seen:?}");
    seen.is_all_there(&mut redis.client());
}

/// A state of the server in which it refuses: how it begins and ends, and what clients then get.
struct Refusal {
    begin: &'static [&'static str],
    end: &'static [&'static str],
    /// What a client of the sidecar says, and the beginning of what it gets. It is the same from the server itself.
    conversation: &'static [(&'static str, &'static str)],
}

fn check_refusal(refusal: &Refusal) {
    let Refusal { begin, end, conversation } = refusal;
    let (redis, policies) = (Redis::start(), policies());
    let sidecar = serve(redis.port, &policies, "close");
    let load = Load::start(sidecar.port, CLIENTS);
    let (mut admin, mut client, mut direct) = (redis.client(), sidecar.client(), redis.client());
    load.wait_for_rounds(5);
    begin.iter().for_each(|line| assert_eq!(admin.ask(line), "+OK", "{line}"));
    for (line, expect) in *conversation {
        let (got, same) = (client.ask(line), direct.ask(line));
        assert!(got == same && got.starts_with(expect), "{line}: {got}, from the server itself {same}");
    }
    end.iter().for_each(|line| assert_eq!(admin.ask(line), "+OK", "{line}"));
    load.wait_for_rounds(5);
    let seen = load.stop();
    assert_eq!(seen.closed, 0, "{begin:?}");
    assert!(seen.errors.keys().all(|error| is_of_the_server(error)), "{begin:?}: {:#?}", seen.errors);
    seen.is_all_there(&mut direct);
}

#[test]
fn servers_that_refuse() {
    check_refusal(&Refusal {
        begin: &["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"],
        end: &["CONFIG SET maxmemory 0"],
        conversation: &[
            ("SET t:a 1", "-OOM "),
            ("HSET t:a f v", "-OOM "),
            ("SETNX t:a 1", "-OOM "),
            ("MSET t:a 1 t:b 2", "-OOM "),
            ("GET t:nothing", "$-1"),
            ("MULTI", "+OK"),
            ("SET t:a 1", "-OOM "),
            ("EXEC", "-EXECABORT "),
            ("DEL t:a", ":0"),
        ],
    });
    check_refusal(&Refusal {
        begin: &["REPLICAOF 127.0.0.1 1"],
        end: &["REPLICAOF NO ONE"],
        conversation: &[
            ("SET t:a 1", "-READONLY "),
            ("SADD t:a 1", "-READONLY "),
            ("GET t:nothing", "$-1"),
            ("MULTI", "+OK"),
            ("GET t:a", "+QUEUED"),
            ("SADD t:a 1", "-READONLY "),
            ("EXEC", "-EXECABORT "),
        ],
    });
}

/// A server that ends all connections and takes no new ones for a time: too many clients, or another password.
#[test]
fn servers_that_turn_everyone_away() {
    let policies = policies();
    let full = ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal", "CONFIG SET maxclients 10000"];
    let locked = ["CONFIG SET requirepass other", "CLIENT KILL TYPE normal", "CONFIG SET requirepass s3cret"];
    for [begin, kill, end] in [full, locked] {
        for choice in ["close", "error"] {
            let redis = Redis::start_with(&["--requirepass", "s3cret"]);
            let upstream = format!(":s3cret@127.0.0.1:{}", redis.port);
            let flags = ["--client-password", "none", "--upstream-back-off-ms-max", "50"];
            let sidecar = serve_with(&upstream, &policies, choice, &flags);
            let load = Load::start(sidecar.port, CLIENTS);
            load.wait_for_rounds(5);
            let mut admin = redis.admin();
            assert_eq!(admin.ask(begin), "+OK");
            assert!(admin.ask(kill).starts_with(':'));
            let troubles = load.troubles();
            poll_until("troubles", || load.troubles() >= troubles + 10);
            assert_eq!(admin.ask(end), "+OK");
            load.wait_for_rounds(5);
            let seen = load.stop();
            check_losses(begin, choice, &seen);
            seen.is_all_there(&mut admin);
        }
    }
}

/// CLIENT PAUSE: what the server holds back is late, and still everyone's own; also when it lasts so long that a dead
/// connection would be given up.
#[test]
fn a_server_that_pauses() {
    let (redis, policies) = (Redis::start(), policies());
    let sidecar = serve(redis.port, &policies, "close");
    let load = Load::start(sidecar.port, CLIENTS);
    for pause in ["300 ALL", "300 WRITE", "14000 WRITE"] {
        load.wait_for_rounds(5);
        assert_eq!(redis.client().ask(&format!("CLIENT PAUSE {pause}")), "+OK");
    }
    load.wait_for_rounds(5);
    let seen = load.stop();
    assert!(seen.closed == 0 && seen.errors.is_empty(), "{seen:?}");
    seen.is_all_there(&mut redis.client());
}

/// A server that reads its data anew says so, and is used as soon as it has.
#[test]
fn a_server_that_loads() {
    const KEYS: usize = 200;
    let policies = policies();
    let mut redis = Redis::start();
    let sidecar = serve(redis.port, &policies, "close");
    let mut client = sidecar.client();
    for number in 0..KEYS {
        assert_eq!(client.ask(&format!("SET t:{number} value")), "+OK");
    }
    assert_eq!(client.ask("SAVE"), "+OK");
    // Microseconds a key, and a look at its clients after every few bytes.
    redis.begin_again(&["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]);
    let get = |client: &mut Client| client.try_ask("GET t:0");
    let mut client = sidecar.client();
    poll_until("LOADING", || {
        let got = get(&mut client);
        if got.is_none() {
            client = sidecar.client();
        }
        got.is_some_and(|got| got == "-LOADING Redis is loading the dataset in memory")
    });
    // The connection that was told so goes on.
    poll_until("the value", || get(&mut client).as_deref() == Some("$5\r\nvalue"));
    assert_eq!(client.ask(&format!("GET t:{}", KEYS - 1)), "$5\r\nvalue");
}

/// A server whose append-only file has so much room, by a limit on the files of its process. None: all there is.
fn leave_room(redis: &Redis, bytes: Option<u64>) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(redis.process.id()).unwrap());
    let limit = rustix::process::Rlimit { current: bytes, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
}

fn on_a_disk(fsync: &str) -> Redis {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/faults/redis-on-a-disk");
    Redis::start_program(program, free_port(), &["--appendonly", "yes", "--appendfsync", fsync])
}

/// No room for the append-only file: the server refuses writes until there is, in words that clients get.
#[test]
fn a_disk_that_is_full() {
    let policies = policies();
    let mut redis = on_a_disk("everysec");
    let sidecar = serve(redis.port, &policies, "close");
    let load = Load::start(sidecar.port, CLIENTS);
    load.wait_for_rounds(5);
    leave_room(&redis, Some(1));
    let (mut client, mut direct) = (sidecar.client(), redis.client());
    poll_until("the disk to be full", || client.ask("SET t:full 1").starts_with("-MISCONF "));
    for line in ["SET t:a 1", "HSET t:a f v", "MSET t:a 1 t:b 2", "GET t:nothing", "MULTI", "SET t:a 1", "EXEC"] {
        let (got, same) = (client.ask(line), direct.ask(line));
        assert_eq!(got, same, "{line}");
    }
    assert_eq!(client.ask("EXISTS t:a t:b"), ":0");
    leave_room(&redis, None);
    poll_until("room on the disk", || client.ask("SET t:full 1") == "+OK");
    load.wait_for_rounds(5);
    let seen = load.stop();
    assert_eq!(seen.closed, 0);
    assert!(seen.errors.keys().all(|error| is_of_the_server(error)), "{:#?}", seen.errors);
    seen.is_all_there(&mut direct);
    // It writes what it holds before it ends.
    direct.command(&[b"SHUTDOWN"]);
    assert_eq!(direct.try_reply(), None);
    redis.restart();
    seen.is_all_there(&mut redis.client());
}

/// The same where every write must be on the disk before it is answered: the server ends instead, and what it answered
/// is there when it begins again.
#[test]
fn a_disk_that_is_full_ends_a_server_that_syncs_always() {
    let policies = policies();
    for choice in ["close", "error"] {
        let mut redis = on_a_disk("always");
        let sidecar = serve(redis.port, &policies, choice);
        let load = Load::start(sidecar.port, CLIENTS);
        load.wait_for_rounds(5);
        leave_room(&redis, Some(1));
        poll_until("the end of the server", || Client::try_connect(redis.port).is_none());
        // It begins anew with room.
        redis.restart();
        load.wait_for_rounds(5);
        let mut seen = load.stop();
        seen.errors.retain(|error, _| !is_of_the_server(error));
        check_losses("full", choice, &seen);
        seen.is_all_there(&mut redis.client());
    }
}
