//! Old values and leases in front of a cluster: they are at the node that has their key.

use super::{POLICIES, pipeline, text};
use crate::harness::process::poll_until;
use crate::harness::{Cluster, Sidecar};

const KEYS: [&str; 7] = ["stale:a", "stale:b", "stale:c", "stale:d", "stale:{t}:e", "stale:f}g", "stale:{h}"];

#[test]
fn names_are_where_their_keys_are() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &["--workers", "2", "--policy-folder", POLICIES]);
    let (mut winner, mut other) = (sidecar.client(), sidecar.client());
    // One with a brace that makes no tag has no old value.
    let expect = |key: &str| if key.contains("f}g") { "$-1" } else { "$3\r\nold" };
    let copy = |key: &str| match key.contains('{') {
        true => format!("bw:s::{key}"),
        false => format!("bw:s:{{{key}}}"),
    };
    for key in KEYS {
        assert_eq!(winner.ask(&format!("SET {key} old PX 100000")), "+OK");
        let mut direct = cluster.client_of(key);
        poll_until("the copy", || key.contains("f}g") || direct.ask(&format!("GET {}", copy(key))) == "$3\r\nold");
        assert_eq!(direct.ask(&format!("PEXPIRE {key} 1")), ":1");
        poll_until("the end of the key", || direct.ask(&format!("EXISTS {key}")) == ":0");
        assert_eq!(winner.ask(&format!("GET {key}")), "$-1", "{key}");
        assert_eq!(other.ask(&format!("GET {key}")), expect(key), "{key}");
    }
    // Several keys, each at a node of its own.
    assert_eq!(winner.ask(&format!("DEL {}", KEYS.join(" "))), ":0");
    for key in KEYS {
        assert_eq!((winner.ask(&format!("GET {key}")), other.ask(&format!("GET {key}"))), ("$-1".into(), "$-1".into()));
    }
    for key in ["cold:a", "cold:b", "cold:c"] {
        assert_eq!(winner.ask(&format!("GET {key}")), "$-1");
        other.send(&pipeline(&[&format!("GET {key}"), "ECHO x"]));
        assert_eq!(winner.ask(&format!("SET {key} new")), "+OK");
        assert_eq!((text(&other.reply()), text(&other.reply())), ("$3\r\nnew".to_owned(), "$1\r\nx".to_owned()));
    }
}
