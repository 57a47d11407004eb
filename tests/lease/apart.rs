//! What everyone else sees of old values and leases, and what becomes of those who wait when something ends.

use std::time::{Duration, Instant};

use super::{POLICIES, SOON, end, ended, leased, pipeline, serve, text, time_left, wait_for_copy};
use crate::harness::fault::{Fault, FaultLink};
use crate::harness::process::poll_until;
use crate::harness::{Client, Redis, Sidecar};

/// Commands about a key that has ended, whose lease another client has: they are answered as the server answers them.
#[test]
fn only_a_get_looks_further() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let (mut client, mut other) = (sidecar.client(), sidecar.client());
    let mut check = |commands: &str, expect: &str| {
        ended(&redis, &sidecar, "stale:a");
        assert!(["$-1", "$3\r\nold"].contains(&other.ask("GET stale:a").as_str()));
        let replies: Vec<_> = commands.split("; ").map(|command| client.ask(command)).collect();
        assert_eq!(replies.last().unwrap(), expect, "{commands}");
        drop(redis.client().ask("DEL stale:a"));
    };
    check("GET stale:a", "$3\r\nold");
    check("GETEX stale:a", "$3\r\nold");
    check("GETEX stale:a PX 100000", "$3\r\nold");
    check("MGET stale:a", "*1\r\n$-1");
    check("TTL stale:a", ":-2");
    check("EXISTS stale:a", ":0");
    check("STRLEN stale:a", ":0");
    check("GETDEL stale:a", "$-1");
    check("GETSET stale:a x", "$-1");
    check("INCR stale:a", ":1");
    check("SET stale:a x NX", "+OK");
    check("SET stale:a x XX", "$-1");
    check("SET stale:a x GET", "$-1");
    check("EVAL return(redis.call('get','stale:a')) 0", "$-1");
    check("MULTI; GET stale:a; EXEC", "*1\r\n$-1");
    check("WATCH stale:a; GET stale:a", "$-1");
    check("UNWATCH; GET stale:a", "$3\r\nold");
    check("SELECT 1; GET stale:a", "$-1");
    check("SELECT 0; GET stale:a", "$3\r\nold");
    check("HELLO 3; GET stale:a", "$3\r\nold");
    check("GET stale:nothing; GET stale:nothing", "_");
    check("HELLO 2; GET stale:nothing", "$-1");
    check("GET stale:a}b; GET stale:a}b", "$-1");
    assert!(client.ask("KEYS bw:*").contains("bw:s:{stale:a}"), "what is kept is no secret");
}

/// Replies stay in their order, whatever is looked up for how long, and a read counts on what its own client wrote.
#[test]
fn replies_keep_their_order() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let mut other = sidecar.client();
    for hello in ["HELLO 2", "HELLO 3"] {
        for key in ["stale:a", "stale:b"] {
            ended(&redis, &sidecar, key);
            assert_eq!(other.ask(&format!("GET {key}")), "$-1");
        }
        assert_eq!(other.ask("SET both:a 1"), "+OK");
        let mut client = sidecar.client();
        drop(client.ask(hello));
        let nil = if hello == "HELLO 2" { "$-1\r\n" } else { "_\r\n" };
        let old = "$3\r\nold\r\n";
        let steps = [
            ("ECHO 1", "$1\r\n1\r\n"),
            ("GET stale:a", old),
            ("ECHO 2", "$1\r\n2\r\n"),
            ("CLIENT GETNAME", nil),
            ("GET stale:a", old),
            ("GET stale:b", old),
            ("GET both:a", "$1\r\n1\r\n"),
            ("LPUSH both:a x", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("MULTI", "+OK\r\n"),
            ("GET stale:a", "+QUEUED\r\n"),
            ("EXEC", &format!("*1\r\n{nil}")),
            // The read was sent before the write.
            ("GET stale:b", nil),
            ("SET stale:b new PX 100000", "+OK\r\n"),
            ("GET stale:b", "$3\r\nnew\r\n"),
            ("DEL stale:b", ":1\r\n"),
            ("CLIENT REPLY SKIP", ""),
            ("GET stale:a", ""),
            ("SELECT 1", "+OK\r\n"),
            ("ECHO 3", "$1\r\n3\r\n"),
        ];
        client.send(&pipeline(&steps.map(|(command, _)| command)));
        for (command, expect) in steps.iter().filter(|(_, reply)| !reply.is_empty()) {
            assert_eq!(String::from_utf8_lossy(&client.reply()), *expect, "{hello}: {command}");
        }
        assert!(client.rest().is_empty());
    }
}

/// A key of which values are in memory, too: the old value never is.
#[test]
fn memory_has_no_old_values() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let (mut one, mut other) = (sidecar.client(), sidecar.client());
    assert_eq!(one.ask("SET both:a old PX 100000"), "+OK");
    wait_for_copy(&redis, "both:a");
    let hits = || sidecar.metric("bellwether_near_reads_total{rule=\"both\",result=\"hit\"}");
    poll_until("the value to be near", || other.ask("GET both:a") == "$3\r\nold" && hits() > 0.0);
    end(&redis, "both:a");
    poll_until("the end", || one.ask("GET both:a") == "$-1" || leased(&sidecar, "both", "won") > 0.0);
    let before = hits();
    assert!((0..20).all(|_| other.ask("GET both:a") == "$3\r\nold"));
    assert_eq!((hits(), leased(&sidecar, "both", "won")), (before, 1.0));
    assert_eq!(one.ask("SET both:a new"), "+OK");
    assert!((0..20).all(|_| other.ask("GET both:a") == "$3\r\nnew"));
}

/// A value in memory is recomputed by one client before it ends, and all others have it until then.
#[test]
fn one_recomputes_ahead() {
    let redis = Redis::start();
    let sidecars = [serve(&redis, &[]), serve(&redis, &[])];
    let mut clients: Vec<_> = sidecars.iter().cycle().take(16).map(Sidecar::client).collect();
    assert_eq!(clients[0].ask("SET ahead:a old PX 100000"), "+OK");
    poll_until("its lifetime", || redis.client().ask("GET bw:t:{ahead:a}") == "$6\r\n100000");
    let (mut told, mut others) = (Vec::new(), 0);
    let tried = |sidecar: &Sidecar| leased(sidecar, "ahead", "ahead");
    poll_until("both workers of both to try", || {
        for (place, client) in clients.iter_mut().enumerate() {
            match client.ask("GET ahead:a").as_str() {
                "$-1" => told.push(place),
                reply => others += usize::from(reply == "$3\r\nold"),
            }
        }
        sidecars.iter().map(tried).sum::<f64>() >= 4.0
    });
    assert_eq!((told.len(), others % clients.len()), (1, clients.len() - 1), "{told:?} {others}");
    // The server still has it, and what else asks for it sees that.
    let mut direct = redis.client();
    assert!(time_left(&mut direct, "ahead:a") > 0);
    assert_eq!(clients[1].ask("MGET ahead:a plain:a"), "*2\r\n$3\r\nold\r\n$-1");
    assert_eq!(clients[1].ask("MULTI"), "+OK");
    assert_eq!((clients[1].ask("GET ahead:a"), clients[1].ask("EXEC")), ("+QUEUED".into(), "*1\r\n$3\r\nold".into()));
    assert_eq!(clients[told[0]].ask("SET ahead:a new PX 100000"), "+OK");
    poll_until("the new value", || clients.iter_mut().all(|client| client.ask("GET ahead:a") == "$3\r\nnew"));
    // Written without an end, and past the sidecar: nobody is told so ahead.
    assert_eq!(clients[0].ask("SET ahead:a forever"), "+OK");
    poll_until("no lifetime", || direct.ask("EXISTS bw:t:{ahead:a} bw:l:{ahead:a}") == ":0");
    assert_eq!(direct.ask("SET ahead:b past PX 100000"), "+OK");
    let before = sidecars.iter().map(tried).sum::<f64>();
    for client in &mut clients {
        assert!((0..9).all(|_| client.ask("GET ahead:a") == "$7\r\nforever"));
        assert!((0..9).all(|_| client.ask("GET ahead:b") == "$4\r\npast"));
    }
    assert_eq!(sidecars.iter().map(tried).sum::<f64>(), before);
}

/// A client that waits for a key, with what it sends behind; and its number.
fn waits(sidecar: &Sidecar, behind: &[&str]) -> (Client, String) {
    let mut winner = sidecar.client();
    assert_eq!(winner.ask("GET cold:a"), "$-1");
    let mut client = sidecar.client();
    let number = client.ask("CLIENT ID").replace(':', "");
    client.send(&pipeline(&[&["GET cold:a"], behind].concat()));
    (client, number)
}

fn waiting(sidecar: &Sidecar, behind: &[&str]) -> Client {
    let (mut client, _) = waits(sidecar, behind);
    assert!(client.is_silent(Duration::from_millis(20)), "it does not wait");
    client
}

#[test]
fn what_ends_a_wait() {
    let redis = Redis::start();
    let mut sidecar = serve(&redis, &[]);
    let begun = Instant::now();
    let write = |sidecar: &Sidecar| assert_eq!(sidecar.client().ask("SET cold:a x PX 100000"), "+OK");
    let delete = |sidecar: &Sidecar| drop(sidecar.client().ask("DEL cold:a"));
    // The value, which what is behind waits for.
    for (behind, expect) in [
        (&["QUIT"][..], "$1\r\nx\r\n+OK\r\n"),
        (&["RESET", "PING"], "$1\r\nx\r\n+RESET\r\n+PONG\r\n"),
        (&["SELECT 1", "GET cold:a"], "$1\r\nx\r\n+OK\r\n$-1\r\n"),
        (&["HELLO 9", "PING"], "$1\r\nx\r\n-NOPROTO unsupported protocol version\r\n+PONG\r\n"),
        (&[], "$1\r\nx\r\n"),
    ] {
        let mut client = waiting(&sidecar, behind);
        write(&sidecar);
        let first = client.reply();
        let all = [first, client.rest()].concat();
        assert_eq!(String::from_utf8_lossy(&all), expect, "{behind:?}");
        delete(&sidecar);
    }
    // The client is ended by another one.
    let (mut client, number) = waits(&sidecar, &["PING"]);
    assert!(client.is_silent(Duration::from_millis(20)));
    assert_eq!(sidecar.client().ask(&format!("CLIENT KILL ID {number}")), ":1");
    assert!(client.rest().is_empty());
    // It sends nothing more: it is told that the key is not there.
    delete(&sidecar);
    let mut client = waiting(&sidecar, &["ECHO x"]);
    assert_eq!(String::from_utf8_lossy(&client.rest()), "$-1\r\n$1\r\nx\r\n");
    // It leaves by itself.
    delete(&sidecar);
    drop(waiting(&sidecar, &[]));
    delete(&sidecar);
    // The sidecar is told to stop.
    let mut client = waiting(&sidecar, &[]);
    sidecar.process.signal("TERM");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "$-1\r\n");
    assert_eq!(sidecar.process.wait().code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// The server is lost while somebody waits.
#[test]
fn a_lost_server_ends_a_wait() {
    for (choice, expect) in [("close", ""), ("error", "-ERR bellwether lost the server")] {
        let mut redis = Redis::start();
        let sidecar = serve(&redis, &["--on-upstream-lost", choice]);
        let mut client = waiting(&sidecar, &["PING"]);
        redis.process.signal("KILL");
        assert!(!redis.process.wait().success());
        let reply = client.try_reply().map(|reply| text(&reply));
        let told = reply.as_ref().is_some_and(|reply| reply.starts_with(expect));
        assert!(if expect.is_empty() { reply.is_none() } else { told }, "{choice}: {reply:?}");
    }
}

/// The server is lost when it has deleted a key, and before anyone knows that the old value is gone, too: nobody is
/// told that the key is deleted.
#[test]
fn a_deletion_is_told_when_all_is_gone() {
    let redis = Redis::start();
    let link = FaultLink::start(redis.port);
    let upstream = format!("redis://127.0.0.1:{}", link.port);
    let sidecar = Sidecar::start("serve", &["--workers", "1", "--policy-folder", POLICIES, "--upstream", &upstream]);
    for (key, expect) in [("plain:a", ":1\r\n"), ("stale:a", "")] {
        let mut client = sidecar.client();
        assert_eq!(client.ask(&format!("SET {key} x PX 100000")), "+OK");
        assert_eq!(client.ask("PING"), "+PONG");
        link.set(Fault::Cut(":1\r\n".len()));
        client.send(&pipeline(&[&format!("DEL {key}"), "PING"]));
        poll_until("the cut", || link.struck() > 0);
        assert_eq!(text(&client.rest()), expect.trim_end(), "{key}");
        link.set(Fault::None);
        poll_until("the server", || sidecar.client().try_ask("PING").as_deref() == Some("+PONG"));
        assert_eq!(redis.client().ask(&format!("EXISTS {key}")), ":0");
    }
}

/// What is behind a reply to come counts for the limit.
#[test]
fn what_is_behind_is_limited() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &["--client-output-bytes-max", "100000"]);
    let value = "x".repeat(40_000);
    let mut writer = sidecar.client();
    assert_eq!(writer.ask(&format!("SET plain:a {value}")), "+OK");
    let begun = Instant::now();
    let (mut client, _) = waits(&sidecar, &["GET plain:a"; 3]);
    assert_eq!(client.try_reply(), None, "the client is over its limit");
    assert_eq!(writer.ask("DEL cold:a"), ":0");
    // Below it, all comes in its turn, and more than is held is not read on.
    let mut client = waiting(&sidecar, &["GET plain:a"; 2]);
    assert_eq!(writer.ask("SET cold:a x"), "+OK");
    assert_eq!(text(&client.reply()), "$1\r\nx");
    assert!((0..2).all(|_| client.reply().len() == value.len() + "$40000\r\n\r\n".len()));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// More waits behind a reply to come than the session holds: it goes on when that has come.
#[test]
fn much_is_behind() {
    let redis = Redis::start();
    let sidecar = serve(&redis, &[]);
    let value = "x".repeat(60_000);
    let mut writer = sidecar.client();
    assert_eq!(writer.ask(&format!("SET plain:a {value}")), "+OK");
    let mut client = waiting(&sidecar, &["GET plain:a"; 100]);
    assert_eq!(writer.ask("SET cold:a x"), "+OK");
    assert_eq!(text(&client.reply()), "$1\r\nx");
    assert!((0..100).all(|_| client.reply().len() == value.len() + "$60000\r\n\r\n".len()));
}
