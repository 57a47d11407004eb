//! A cluster behind the sidecar, which looks like one server: real nodes, slots that move, nodes that die.

use crate::harness::{Cluster, Sidecar, conversation};

#[test]
fn conversations() {
    let cluster = Cluster::start(3, 0);
    conversation::check_in_cluster("transcripts", &cluster, &[]);
}

#[test]
fn smoke() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    for line in ["PING", "SET a 1", "SET b 2", "MGET a b c", "DBSIZE", "DEL a b", "SELECT 1", "CLUSTER INFO"] {
        eprintln!("{line}: {}", client.ask(line));
    }
}
