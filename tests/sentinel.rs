//! A master that sentinels watch: found through them, followed when it is another, and errors that say what is wrong.

mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::load::{Load, Seen};
use crate::harness::process::{free_port, poll_for, poll_until};
use crate::harness::scripted::Scripted;
use crate::harness::sentinel::{NAME, Options, Watched};
use crate::harness::{Client, Redis, Sidecar, folder, run};

const CLIENTS: usize = 6;

fn policies() -> tempfile::TempDir {
    folder(&[
        ("namespaces.toml", b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.t]\nprefix = \"t:\""),
        ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000"),
    ])
}

fn serve_url(url: &str, policies: &tempfile::TempDir, flags: &[&str]) -> Sidecar {
    let folder = policies.path().to_str().unwrap();
    let all = ["--upstream", url, "--policy-folder", folder, "--workers", "2", "--upstream-back-off-ms-max", "50"];
    Sidecar::start("serve", &[&all[..], flags].concat())
}

/// What clients may have seen of a failover.
fn check_seen(choice: &str, seen: &Seen) {
    let told = format!("{choice}: {} closed, errors {:#?}", seen.closed, seen.errors);
    let known = |error: &String| {
        error.starts_with("READONLY ")
            || error.starts_with("EXECABORT ")
            || error.starts_with(&format!("ERR bellwether lost the server at {NAME} ("))
                && (error.ends_with("whether the command ran is not known") || error.ends_with("command was not sent"))
    };
    assert!(seen.errors.keys().all(known), "{told}");
    assert!(choice == "error" || !seen.errors.keys().any(|error| error.starts_with("ERR ")), "{told}");
    // While there is no master a round fails as often as it is tried; what is lost on the way is bounded.
    let on_the_way: usize =
        seen.errors.iter().filter(|(error, _)| error.contains("not known")).map(|(_, count)| count).sum();
    assert!(on_the_way <= CLIENTS * 4 * 4, "{told}");
}

fn says(sidecar: &mut Sidecar, port: u16) {
    let line = format!("master {NAME} is now 127.0.0.1:{port}");
    sidecar.process.wait_for(&line, |said| said.contains(&line).then_some(()));
}

/// A client that counts a write as done when enough replicas have it, too.
struct Writer {
    port: u16,
    /// How many replicas are enough. 0: it is to end.
    needed: AtomicUsize,
    done: Mutex<Vec<String>>,
}

impl Writer {
    fn run(&self) {
        let (mut client, mut round) = (Client::connect(self.port), 0);
        loop {
            round += 1;
            let needed = match self.needed.load(Ordering::SeqCst) {
                0 => return,
                needed => needed,
            };
            let written = client.try_ask(&format!("SET t:wait:{round} {round}")).as_deref() == Some("+OK");
            let push = format!("RPUSH t:order {round}");
            let pushed = written && client.try_ask(&push).is_some_and(|got| got.starts_with(':'));
            let have = |got: &str| got.strip_prefix(':').is_some_and(|count| count.parse::<usize>().unwrap() >= needed);
            match client.try_ask(&format!("WAIT {needed} 500")) {
                Some(got) if pushed && have(&got) => self.done.lock().unwrap().push(round.to_string()),
                Some(_) => {}
                None => client = Client::connect(self.port),
            }
        }
    }

    fn wait_for_more(&self) {
        let begun = self.done.lock().unwrap().len();
        poll_until("writes that replicas have", || self.done.lock().unwrap().len() >= begun + 10);
    }
}

/// What was counted as done is there, in its order, and nothing is there twice.
fn check_done(direct: &mut Client, done: &[String]) {
    for value in done {
        assert_eq!(direct.ask(&format!("GET t:wait:{value}")), format!("${}\r\n{value}", value.len()));
    }
    let order = direct.ask("LRANGE t:order 0 -1");
    let order: Vec<usize> =
        order.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).map(|line| line.parse().unwrap()).collect();
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    assert!(done.iter().all(|value| order.binary_search(&value.parse().unwrap()).is_ok()));
}

#[test]
fn failovers_under_load() {
    let policies = policies();
    let mut watched = Watched::start(Options { password: "s3cret", ..Options::default() });
    let flags = |choice| ["--client-password", "none", "--on-upstream-lost", choice];
    let url = watched.url();
    // The two do not share keys, so that each finds its own.
    let mut sidecars = [("close", &url), ("error", &format!("{url}/1"))]
        .map(|(choice, url)| (choice, serve_url(url, &policies, &flags(choice))));
    let first = watched.master_port();
    sidecars.iter_mut().for_each(|(_, sidecar)| says(sidecar, first));
    let running = sidecars.each_ref().map(|(_, sidecar)| {
        let port = sidecar.port;
        let writer = Arc::new(Writer { port, needed: AtomicUsize::new(2), done: Mutex::default() });
        let running = Arc::clone(&writer);
        (Load::start(port, CLIENTS), writer, std::thread::spawn(move || running.run()))
    });
    let more_rounds = || {
        running.iter().for_each(|(load, ..)| load.wait_for_rounds(10));
        running.iter().for_each(|(_, writer, _)| writer.wait_for_more());
    };
    more_rounds();
    // One that has to be.
    let server = watched.servers.iter_mut().find(|server| server.port == first).unwrap();
    server.process.signal("KILL");
    server.process.wait();
    watched.wait_for_another(first);
    let second = watched.master_port();
    sidecars.iter_mut().for_each(|(_, sidecar)| says(sidecar, second));
    running.iter().for_each(|(_, writer, _)| writer.needed.store(1, Ordering::SeqCst));
    more_rounds();
    // One that is asked for, while the sentinel that was asked and listened to is gone.
    watched.sentinels[0].process.signal("KILL");
    watched.sentinels[0].process.wait();
    poll_for("a failover", || {
        let got = watched.sentinels[1].client().ask(&format!("SENTINEL FAILOVER {NAME}"));
        if got == "+OK" { Ok(()) } else { Err(got) }
    });
    watched.wait_for_another(second);
    let third = watched.master_port();
    sidecars.iter_mut().for_each(|(_, sidecar)| says(sidecar, third));
    running.iter().for_each(|(load, ..)| load.wait_for_rounds(10));
    running.iter().for_each(|(_, writer, _)| writer.needed.store(0, Ordering::SeqCst));
    for (db, ((choice, sidecar), (load, writer, thread))) in sidecars.iter().zip(running).enumerate() {
        check_seen(choice, &load.stop());
        thread.join().unwrap();
        let mut direct = watched.master().admin();
        assert_eq!(direct.ask(&format!("SELECT {db}")), "+OK");
        check_done(&mut direct, &writer.done.lock().unwrap());
        let upstream = format!("{NAME} (127.0.0.1:{third})");
        assert_eq!(sidecar.admin("/readyz"), (200, format!("ready\nupstream {upstream}\n")));
        assert_eq!(sidecar.metric(&format!("bellwether_upstream{{server=\"{upstream}\"}}")), 1.0);
    }
}

/// What `bellwether retime`, which reaches the server as the sidecar does and then ends, says.
fn check_error(url: &str, flags: &[&str], expect: &[&str]) {
    let output = run(&[&["retime", "--upstream", url], flags].concat(), std::path::Path::new("."));
    let told = String::from_utf8(output.stderr).unwrap();
    for expect in expect {
        assert!(!output.status.success() && told.contains(expect), "{url} {flags:?}\nexpected {expect}\ngot {told}");
    }
}

#[test]
fn what_sentinels_do_not_say() {
    let watched = Watched::start(Options { sentinel_password: "wh0", ..Options::default() });
    let (url, password) = (watched.url(), ["--sentinel-password", "wh0"]);
    let [first, second, third] = [0, 1, 2].map(|index: usize| format!("127.0.0.1:{}", watched.sentinels[index].port));
    let asks = format!("{first} asks for a password; set sentinel_password, and sentinel_user if it has users");
    check_error(&url, &[], &[&format!("no sentinel says which server is the master {NAME}: "), &asks]);
    let refuses = format!("{second} refuses sentinel_user and sentinel_password: WRONGPASS");
    check_error(&url, &["--sentinel-user", "x", "--sentinel-password", "wh0"], &[&refuses]);
    let unknown = format!("{third} knows no master of this name; it knows {NAME}");
    check_error(&watched.url_of("other"), &password, &[&unknown]);
    let (gone, server) = (free_port(), watched.servers[0].port);
    let url = format!("redis-sentinel://127.0.0.1:{gone},127.0.0.1:{server}/{NAME}");
    let refused = format!("127.0.0.1:{gone} cannot be reached: Connection refused");
    check_error(&url, &[], &[&refused, &format!("127.0.0.1:{server} is no sentinel: ERR unknown command 'SENTINEL'")]);
    check_error(&format!("redis://:wh0@{first}"), &[], &["it is a sentinel; use redis-sentinel://"]);
    check_error(
        &format!("redis://127.0.0.1:{server}"),
        &password,
        &["sentinel_password is set, and no sentinels are; use upstream = \"redis-sentinel://host:port/NAME\""],
    );
    // One that is gone is left out.
    let url = format!("redis-sentinel://127.0.0.1:{gone},{first}/{NAME}");
    let output = run(&[&["retime", "--upstream", &url], &password[..]].concat(), std::path::Path::new("."));
    assert!(output.status.success(), "{output:?}");
}

/// A sentinel that says what a test tells it to, and two servers, of which the second is the first one's replica.
struct Told {
    sentinel: Scripted,
    first: Redis,
    second: Redis,
}

impl Told {
    fn start() -> Self {
        let first = Redis::start();
        let port = first.port.to_string();
        let second = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let told = Self { sentinel: Scripted::start(&json!([])), first, second };
        told.sentinel.answer("SENTINEL SENTINELS", &json!([]));
        // It tells of no new master by itself.
        told.sentinel.answer("SUBSCRIBE", &json!(null));
        told
    }

    /// What it says from now on.
    fn name(&self, port: u16, epoch: u32) {
        let port = port.to_string();
        self.sentinel.answer("SENTINEL GET-MASTER-ADDR-BY-NAME", &json!(["127.0.0.1", port]));
        self.sentinel.answer("SENTINEL MASTER ", &json!(["name", NAME, "config-epoch", epoch.to_string()]));
    }

    fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/{NAME}", self.sentinel.port)
    }

    /// Makes the second one the master.
    fn promote(&self) {
        assert_eq!(self.second.client().ask("REPLICAOF NO ONE"), "+OK");
        assert_eq!(self.first.client().ask(&format!("REPLICAOF 127.0.0.1 {}", self.second.port)), "+OK");
    }
}

#[test]
fn who_is_named_and_is_no_master_is_waited_for() {
    let (told, policies) = (Told::start(), policies());
    told.name(told.second.port, 1);
    let folder = policies.path().to_str().unwrap();
    let mut sidecar = Sidecar::begin("serve", &["--upstream", &told.url(), "--policy-folder", folder], &[]);
    let none = format!("127.0.0.1:{}, the master {NAME}, says that it is none", told.second.port);
    sidecar.wait_for(&none, |line| line.contains(&none).then_some(()));
    assert!(!sidecar.lines().iter().any(|line| line.contains("bellwether listens on")), "it listens without a master");
    told.promote();
    let port = sidecar.wait_for("sidecar that listens", |line| {
        line.split_once("bellwether listens on 127.0.0.1:")?.1.split_whitespace().next()?.parse().ok()
    });
    assert_eq!(Client::connect(port).ask("SET t:a 1"), "+OK");
    assert_eq!(told.second.client().ask("GET t:a"), "$1\r\n1");
}

/// Another master is found where no sentinel tells of it: by what the old one says, or by asking. Values that were kept
/// of the old one are not served, and a client that waits for replicas of what it wrote there is told.
#[test]
fn masters_that_nobody_tells_of() {
    let policies = folder(&[
        (
            "namespaces.toml",
            b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.t]\nprefix = \"t:\"\nnear_ms = 3600000",
        ),
        ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000"),
    ]);
    for writes in [true, false] {
        let told = Told::start();
        told.name(told.first.port, 1);
        let mut sidecar = serve_url(&told.url(), &policies, &["--on-upstream-lost", "error"]);
        let (mut client, mut blocked) = (sidecar.client(), sidecar.client());
        assert_eq!(client.ask("SET t:a old"), "+OK");
        poll_until("a value that is near", || {
            assert_eq!(client.ask("GET t:a"), "$3\r\nold");
            sidecar.metric("bellwether_near_reads_total{rule=\"t\",result=\"hit\"}") > 0.0
        });
        poll_until("a replica that has it", || told.second.client().ask("GET t:a") == "$3\r\nold");
        blocked.command(&[b"BLPOP", b"t:list", b"0"]);
        poll_until("a client that waits", || told.first.client().ask("INFO clients").contains("blocked_clients:1"));
        told.promote();
        assert_eq!(told.second.client().ask("SET t:a new"), "+OK");
        told.name(told.second.port, 2);
        if writes {
            let got = client.ask("SET t:b 1");
            assert!(got.starts_with("-READONLY ") || got == "+OK" || got.contains("lost the server"), "{got}");
        }
        says(&mut sidecar, told.second.port);
        poll_for("the new master's value", || {
            let got = client.ask("GET t:a");
            if got == "$3\r\nnew" { Ok(()) } else { Err(got) }
        });
        let ended = blocked.try_reply().map(|got| String::from_utf8(got).unwrap()).unwrap_or_default();
        assert!(ended.starts_with("-UNBLOCKED ") || ended.contains("bellwether lost the server"), "{ended}");
        let lost =
            "-ERR bellwether lost the server after this client wrote; whether what it wrote is there is not known";
        assert!([lost, ":0", ":1"].contains(&&*client.ask("WAIT 0 100")));
        assert_eq!((client.ask("SET t:b 2"), told.second.client().ask("GET t:b")), ("+OK".into(), "$1\r\n2".into()));
        // A sentinel that is behind is not believed while the master says that it is one.
        told.name(told.first.port, 1);
        assert!(told.second.client().ask("CLIENT KILL TYPE normal").starts_with(':'));
        poll_for("the master again", || {
            let got = client.ask("SET t:b 3");
            if got == "+OK" { Ok(()) } else { Err(got) }
        });
        assert_eq!(told.second.client().ask("GET t:b"), "$1\r\n3");
    }
}

/// A server that comes back as another: its version is told to clients, and its clock is compared again.
#[test]
fn what_is_known_of_a_server_is_renewed() {
    let server = Scripted::start(&json!([]));
    server.set_clock(0);
    let mut sidecar = Sidecar::start("serve", &["--upstream", &format!("redis://127.0.0.1:{}", server.port)]);
    let hello = |sidecar: &Sidecar| sidecar.client().ask("HELLO");
    assert!(hello(&sidecar).contains("99.0.0"));
    const DIFFERS: &str = "the server's clock differs from ours";
    assert!(!sidecar.process.lines().iter().any(|line| line.contains(DIFFERS)));
    server.set_clock(60);
    server.answer("INFO", &json!("redis_version:99.1.0\r\nredis_mode:standalone\r\n"));
    server.restart(&json!([]));
    sidecar.process.wait_for("another clock", |line| line.contains(DIFFERS).then_some(()));
    poll_until("another version", || hello(&sidecar).contains("99.1.0"));
    server.set_clock(0);
    server.restart(&json!([]));
    sidecar.process.wait_for("a clock that agrees", |line| line.contains("clock agrees with ours again").then_some(()));
}
