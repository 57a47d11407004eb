//! Sentinels, and what they watch, over TLS: asked and followed as without it.

use std::process::Command;

use crate::endpoints::certificates::Authority;
use crate::harness::process::{Process, free_port, poll_until};
use crate::harness::{Redis, Sidecar};

#[test]
fn sentinels_and_servers_are_reached_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let pair = authority.sign("127.0.0.1");
    let files = [&authority.file, &pair.certificate, &pair.key].map(|path| path.to_str().unwrap().to_owned());
    let tls = |port: u16| {
        let [ca, certificate, key] = files.clone();
        let options = [("tls-port", port.to_string()), ("tls-ca-cert-file", ca), ("tls-cert-file", certificate)];
        let more = [("tls-key-file", key), ("tls-auth-clients", "no".into()), ("tls-replication", "yes".into())];
        options.into_iter().chain(more)
    };
    let server = |port: u16, more: &[&str]| {
        let options: Vec<_> = tls(port).flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Redis::start_with(&[&options[..], &["--repl-diskless-sync-delay", "0"], more].concat())
    };
    let [first, second, sentinel] = [free_port(), free_port(), free_port()];
    let master = server(first, &[]);
    let replica = server(second, &["--replicaof", "127.0.0.1", &first.to_string()]);
    poll_until("a replica that is in step", || master.client().ask("INFO replication").contains("state=online"));
    let lines: Vec<_> = tls(sentinel).map(|(name, value)| format!("{name} {value}\n")).collect();
    let conf = format!(
        "port 0\nbind 127.0.0.1\ndir {}\n{}sentinel monitor prices 127.0.0.1 {first} 1\n\
         sentinel down-after-milliseconds prices 500\nsentinel failover-timeout prices 5000\n",
        folder.path().display(),
        lines.concat()
    );
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, conf).unwrap();
    let mut watching = Process::start(Command::new("redis-server").arg(&file).arg("--sentinel"));
    watching.wait_for("a sentinel that knows the replica", |line| line.contains("+slave slave").then_some(()));
    let url = format!("rediss-sentinel://127.0.0.1:{sentinel}/prices");
    let sidecar = Sidecar::start("serve", &["--upstream", &url, "--upstream-tls-ca-file", &files[0]]);
    let mut client = sidecar.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("WAIT 1 5000"), ":1");
    master.process.signal("KILL");
    // A connection may end with the master; the next one is at the replica, which then is one.
    poll_until("the other server", || {
        sidecar.client().try_ask("SET b 2").is_some_and(|reply| reply == "+OK")
            && replica.client().ask("GET b") == "$1\r\n2"
    });
    assert_eq!(sidecar.client().ask("GET a"), "$1\r\n1");
}
