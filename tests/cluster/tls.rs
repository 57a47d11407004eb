//! A cluster over TLS: every node by its own certificate, also one that a slot moves to.

use super::{check, pipeline};
use crate::endpoints::certificates::Authority;
use crate::harness::cluster::slot_of;
use crate::harness::{Cluster, Sidecar};

#[test]
fn nodes_are_reached_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let pair = authority.sign("127.0.0.1");
    let [ca, certificate, key] =
        [&authority.file, &pair.certificate, &pair.key].map(|path| path.to_str().unwrap().to_owned());
    let cluster = Cluster::start_tls(
        3,
        &[
            "--tls-ca-cert-file",
            &ca,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            "no",
        ],
    );
    let sidecar = Sidecar::serve_cluster(&cluster, &["--upstream-tls-ca-file", &ca]);
    let mut client = sidecar.client();
    // Keys of all nodes, alone, at once and in one command.
    let sets: Vec<_> = (0..60).map(|number| format!("SET key:{number} {number}")).collect();
    assert!(pipeline(&mut client, &sets).iter().all(|reply| reply == "+OK"));
    let masters: std::collections::BTreeSet<_> =
        (0..60).map(|number| cluster.owner(slot_of(&format!("key:{number}")))).collect();
    assert_eq!(masters.len(), 3);
    check(
        &mut client,
        &[
            ("MSET a 1 b 2 c 3 d 4", "+OK"),
            ("MGET a b c d", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4"),
            ("DBSIZE", ":64"),
            ("MULTI", "+OK"),
            ("INCR {m}n", "+QUEUED"),
            ("EXEC", "*1\r\n:1"),
        ],
    );
    // A slot that moves: asked for, and then sent to its new node.
    let slot = slot_of("{m}");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    check(&mut client, &[("GET {m}n", "$1\r\n1"), ("SET {m}new 1", "+OK")]);
    cluster.move_keys(slot, from, to);
    cluster.end_move(slot, to);
    check(&mut client, &[("INCR {m}n", ":2"), ("GET {m}new", "$1\r\n1")]);
    assert_eq!(cluster.nodes[to].client().ask("GET {m}n"), "$1\r\n2");
}

/// An authority that did not sign the nodes' certificates.
#[test]
fn nodes_that_nobody_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "other"));
    let pair = authority.sign("127.0.0.1");
    let [ca, certificate, key, wrong] =
        [&authority.file, &pair.certificate, &pair.key, &other.file].map(|path| path.to_str().unwrap().to_owned());
    let options = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let cluster = Cluster::start_tls(1, &[&options[..], &["--tls-auth-clients", "no"]].concat());
    let args = ["retime", "--upstream", &cluster.url(), "--upstream-tls-ca-file", &wrong];
    let output = crate::harness::run(&args, folder.path());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("certificate"), "{told}");
}
