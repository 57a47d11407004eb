//! The near cache in front of a cluster: values of all nodes, and what each of them says has changed.

use crate::harness::process::poll_until;
use crate::harness::{Client, Cluster, Sidecar};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/near/policies");
const HITS: &str = "bellwether_near_reads_total{rule=\"near\",result=\"hit\"}";
const KEYS: [&str; 6] = ["near:a", "near:b", "near:c", "near:d", "near:e", "near:f"];

/// Reads a key until it comes from memory, with this value.
fn until_near(sidecar: &Sidecar, client: &mut Client, key: &str, value: &str) {
    let expect = format!("${}\r\n{value}", value.len());
    poll_until(&format!("{key} to be near with {value}"), || {
        let before = sidecar.metric(HITS);
        let got = client.ask(&format!("GET {key}"));
        sidecar.metric(HITS) > before && got == expect
    });
}

#[test]
fn values_of_all_nodes() {
    let mut cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "1", "--policy-folder", POLICIES]);
    let mut client = sidecar.client();
    let owners: std::collections::BTreeSet<_> =
        KEYS.iter().map(|key| cluster.owner(crate::harness::cluster::slot_of(key))).collect();
    assert_eq!(owners.len(), 3, "the keys are at all nodes");
    for key in KEYS {
        assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
        until_near(&sidecar, &mut client, key, "1");
    }
    // Written past the sidecar: each node says so.
    for key in KEYS {
        assert_eq!(cluster.client_of(key).ask(&format!("SET {key} 2")), "+OK");
        poll_until("the new value", || client.ask(&format!("GET {key}")) == "$1\r\n2");
        until_near(&sidecar, &mut client, key, "2");
    }
    // Written through it: at once.
    for key in KEYS {
        assert_eq!(client.ask(&format!("SET {key} 3")), "+OK");
        assert_eq!(client.ask(&format!("GET {key}")), "$1\r\n3");
        until_near(&sidecar, &mut client, key, "3");
    }
    // A slot that moves takes its keys along; who kept one is told that it is gone here.
    let slot = crate::harness::cluster::slot_of("near:a");
    let from = cluster.owner(slot);
    cluster.move_slot(slot, from, (from + 1) % 3);
    assert_eq!(cluster.client_of("near:a").ask("SET near:a 4"), "+OK");
    poll_until("the value of the new node", || client.ask("GET near:a") == "$1\r\n4");
    until_near(&sidecar, &mut client, "near:a", "4");
    // A connection that is lost has lost what would have been said on it.
    let owner = cluster.owner(crate::harness::cluster::slot_of("near:b"));
    let mut direct = cluster.nodes[owner].client();
    until_near(&sidecar, &mut client, "near:b", "3");
    assert!(direct.ask("CLIENT KILL TYPE normal").starts_with(':'));
    let mut client = sidecar.client();
    assert_eq!(cluster.client_of("near:b").ask("SET near:b 5"), "+OK");
    poll_until("the value that was written meanwhile", || client.try_ask("GET near:b").as_deref() == Some("$1\r\n5"));
    cluster.restart(owner);
    cluster.wait_until_whole();
    poll_until("the node to be read again", || sidecar.client().try_ask("GET near:b").as_deref() == Some("$-1"));
}
