//! A master that sentinels watch: found through them, followed when it is another, and errors that say what is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::load::{Load, Seen};
use crate::harness::process::{free_port, poll_for, poll_until};
use crate::harness::sentinel::{NAME, Options, Watched};
use crate::harness::{Client, Redis, Sidecar, folder, run};

const CLIENTS: usize = 6;

fn policies() -> tempfile::TempDir {
    folder(&[
        ("namespaces.toml", b"[settings]\ndefaults = false\njson = \"any\"\n[settings.rules.t]\nprefix = \"t:\""),
        ("ttl.toml", b"[settings.namespaces.default]\nfixed_ttl_ms = 3600000"),
    ])
}

fn serve(watched: &Watched, policies: &tempfile::TempDir, flags: &[&str]) -> Sidecar {
    let (url, folder) = (watched.url(), policies.path().to_str().unwrap());
    let all = ["--upstream", &url, "--policy-folder", folder, "--workers", "2", "--upstream-back-off-ms-max", "50"];
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

#[test]
fn failovers_under_load() {
    let policies = policies();
    for choice in ["close", "error"] {
        let mut watched = Watched::start(Options { password: "s3cret", ..Options::default() });
        let mut sidecar = serve(&watched, &policies, &["--on-upstream-lost", choice, "--client-password", "none"]);
        let first = watched.master_port();
        says(&mut sidecar, first);
        let load = Load::start(sidecar.port, CLIENTS);
        load.wait_for_rounds(10);
        // One that is asked for.
        assert_eq!(watched.sentinels[0].client().ask(&format!("SENTINEL FAILOVER {NAME}")), "+OK");
        watched.wait_for_another(first);
        let second = watched.master_port();
        says(&mut sidecar, second);
        load.wait_for_rounds(10);
        // One that has to be.
        poll_for("replicas of the new master", || {
            let info = watched.master().admin().ask("INFO replication");
            if info.matches("state=online").count() == 2 { Ok(()) } else { Err(info) }
        });
        let server = watched.servers.iter_mut().find(|server| server.port == second).unwrap();
        server.process.signal("KILL");
        server.process.wait();
        watched.wait_for_another(second);
        let third = watched.master_port();
        says(&mut sidecar, third);
        load.wait_for_rounds(10);
        let seen = load.stop();
        check_seen(choice, &seen);
        let upstream = format!("upstream {NAME} (127.0.0.1:{third})");
        assert_eq!(sidecar.admin("/readyz"), (200, format!("ready\n{upstream}\n")));
        assert_eq!(sidecar.metric(&format!("bellwether_upstream{{server=\"{NAME} (127.0.0.1:{third})\"}}")), 1.0);
        assert_eq!(sidecar.client().ask("SET t:a 1"), "+OK");
        assert_eq!(watched.master().admin().ask("GET t:a"), "$1\r\n1");
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
    check_error(&url, &["--sentinel-password", "x"], &[&refuses]);
    check_error(&url, &["--sentinel-user", "x", "--sentinel-password", "wh0"], &[&refuses]);
    let unknown = format!("{third} knows no master of this name; it knows {NAME}");
    check_error(&watched.url_of("other"), &password, &[&unknown]);
    let gone = free_port();
    let url = format!("redis-sentinel://127.0.0.1:{gone}/{NAME}");
    check_error(&url, &password, &[&format!("127.0.0.1:{gone} cannot be reached: Connection refused")]);
    let server = watched.servers[0].port;
    let url = format!("redis-sentinel://127.0.0.1:{server}/{NAME}");
    check_error(&url, &[], &[&format!("127.0.0.1:{server} is no sentinel: ERR unknown command 'SENTINEL'")]);
    check_error(&format!("redis://:wh0@{first}"), &[], &["it is a sentinel; use redis-sentinel://"]);
    check_error(
        &format!("redis://127.0.0.1:{server}"),
        &password,
        &["sentinel_password is set, and no sentinels are; use upstream = \"redis-sentinel://host:port/NAME\""],
    );
    // One that is gone is left out, and one that only the others name is asked when those are.
    let url = format!("redis-sentinel://127.0.0.1:{gone},{first}/{NAME}");
    let output = run(&[&["retime", "--upstream", &url], &password[..]].concat(), std::path::Path::new("."));
    assert!(output.status.success(), "{output:?}");
}
