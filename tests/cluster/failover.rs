//! Masters that die under load: the cluster replaces them, and the sidecar follows. What was acknowledged and is at
//! another master, or has been waited for (WAIT), is not lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::cluster::slot_of;
use crate::harness::load::Load;
use crate::harness::process::poll_until;
use crate::harness::{Client, Cluster, Sidecar};

const NOT_SENT: &str = "the command was not sent";
const NOT_KNOWN: &str = "whether the command ran is not known";

/// Kills a master under load, with clients that are told of a loss in this way.
fn check(choice: &str) {
    let mut cluster = Cluster::start(3, 1);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "2", "--on-upstream-lost", choice]);
    let load = Load::start(sidecar.port, 6);
    let stop = Arc::new(AtomicBool::new(false));
    let waiting = wait_for_replicas(sidecar.port, Arc::clone(&stop));
    load.wait_for_rounds(10);
    let killed = cluster.owner(slot_of("t:hash"));
    cluster.nodes[killed].process.signal("KILL");
    cluster.nodes[killed].process.wait();
    // Other masters go on meanwhile.
    let alive = ["a", "b", "c"].into_iter().find(|key| slot_of(key) / (16_384 / 3 + 1) != killed).unwrap();
    poll_until("the others to be served", || ask(&sidecar, &format!("SET {alive} 1")) == "+OK");
    poll_until("the dead one's replica to be served", || ask(&sidecar, "HGET t:hash nothing") == "$-1");
    load.wait_for_rounds(10);
    stop.store(true, Ordering::Relaxed);
    let waited = waiting.join().unwrap();
    let seen = load.stop();
    for error in seen.errors.keys() {
        let told = error.ends_with(NOT_SENT) || (error.ends_with(NOT_KNOWN) && choice == "error");
        assert!(told || error.starts_with("CLUSTERDOWN") || error.starts_with("EXECABORT"), "{error}");
    }
    // Each client has something in flight when a connection is lost, and transactions have connections of their own.
    assert!(seen.closed <= 24, "{}", seen.closed);
    let mut client = sidecar.client();
    for (key, value) in &waited {
        assert_eq!(client.ask(&format!("GET {key}")), format!("${}\r\n{value}", value.len()), "{key}");
    }
    let kept: BTreeMap<_, _> =
        seen.acknowledged.iter().filter(|(key, _)| slot_of(key) * 3 / 16_384 != killed).collect();
    assert!(!kept.is_empty() && !waited.is_empty());
    for (key, value) in kept {
        assert_eq!(client.ask(&format!("GET {key}")), format!("${}\r\n{value}", value.len()), "{key}");
    }
}

fn ask(sidecar: &Sidecar, line: &str) -> String {
    sidecar.client().try_ask(line).unwrap_or_default()
}

/// Writes keys all over the cluster and waits for a replica of every master to have them: those that it has.
fn wait_for_replicas(port: u16, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeMap<String, String>> {
    std::thread::spawn(move || {
        let (mut kept, mut client) = (BTreeMap::new(), Client::connect(port));
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let (key, value) = (format!("w:{number}"), format!("value {number}").replace(' ', "-"));
            let set = client.try_ask(&format!("SET {key} {value}"));
            let waited = set.as_ref().and_then(|_| client.try_ask("WAIT 1 500"));
            match (set.as_deref(), waited.as_deref()) {
                (Some("+OK"), Some(":1")) => drop(kept.insert(key, value)),
                (Some(_), Some(_)) => {}
                _ => client = Client::connect(port),
            }
        }
        kept
    })
}

#[test]
fn a_master_dies_and_clients_are_closed() {
    check("close");
}

#[test]
fn a_master_dies_and_clients_are_told() {
    check("error");
}

/// A node that is stopped is replaced by the others, and what it was asked is given up.
#[test]
fn a_master_hangs() {
    let cluster = Cluster::start(3, 1);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "1", "--on-upstream-lost", "error"]);
    let mut client = sidecar.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    let owner = cluster.owner(slot_of("a"));
    assert_eq!(cluster.nodes[owner].client().ask("WAIT 1 5000"), ":1");
    cluster.nodes[owner].process.signal("STOP");
    let mut waiting = sidecar.client();
    waiting.command(&[b"WAIT", b"0", b"100"]);
    let reply = client.ask("INCR a");
    assert!(reply.ends_with(NOT_KNOWN), "{reply}");
    let reply = String::from_utf8_lossy(&waiting.reply()).into_owned();
    assert!(reply.contains("it is silent, and another node has its slots"), "{reply}");
    poll_until("the replica to be served", || ask(&sidecar, "GET a") == "$1\r\n1");
    cluster.nodes[owner].process.signal("CONT");
}

/// Who waits for replicas is not told of those of the server that took a lost one's place: they have less than it had.
#[test]
fn waiting_for_what_was_lost() {
    let mut cluster = Cluster::start(3, 2);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "1", "--on-upstream-lost", "error"]);
    let mut client = sidecar.client();
    let owner = cluster.owner(slot_of("a"));
    let port = cluster.nodes[owner].port.to_string();
    let follows = |node: &usize| cluster.nodes[*node].client().ask("ROLE").contains(&format!("127.0.0.1\r\n:{port}"));
    let replicas: Vec<_> = (0..cluster.nodes.len()).filter(|node| *node != owner && follows(node)).collect();
    assert_eq!(replicas.len(), 2);
    let signal = |cluster: &Cluster, name| replicas.iter().for_each(|node| cluster.nodes[*node].process.signal(name));
    signal(&cluster, "STOP");
    // What is on its way to them would reach them all the same.
    assert_eq!(cluster.nodes[owner].client().ask("CLIENT KILL TYPE replica"), ":2");
    assert_eq!(client.ask("SET a 1"), "+OK");
    cluster.nodes[owner].process.signal("KILL");
    cluster.nodes[owner].process.wait();
    signal(&cluster, "CONT");
    poll_until("a replica to be served", || ask(&sidecar, "GET a") == "$-1");
    let lost = "-ERR bellwether lost the server after this client wrote; whether what it wrote is there is not known";
    assert_eq!(client.ask("WAIT 1 1000"), lost);
    // It is told once.
    assert_eq!(client.ask("SET a 2"), "+OK");
    assert_eq!(client.ask("WAIT 1 10000"), ":1");
}
