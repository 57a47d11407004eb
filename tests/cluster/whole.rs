//! A cluster at rest: every command as in front of one server, and what is about all nodes.

use std::collections::BTreeSet;

use super::{check, pipeline};
use crate::harness::process::poll_until;
use crate::harness::{Cluster, Sidecar, conversation};

/// What is another conversation in a cluster, with the reason.
const LEFT_OUT: [(&str, &str); 22] = [
    ("binary.txt", "the order of KEYS"),
    ("blocking.txt", "keys of several slots; the same with tags is in cluster/conversations"),
    ("client_given.txt", "SELECT"),
    ("client_reply.txt", "keys of several slots in a transaction"),
    ("client_unblock.txt", "each node numbers its connections by itself"),
    ("command.txt", "the order of COMMAND LIST, which differs from node to node"),
    ("hello_held.txt", "PUBLISH counts the listeners of one node"),
    ("pubsub_edges.txt", "PUBLISH counts the listeners of one node; the rest is in cluster/conversations"),
    ("pubsub_edges_resp3.txt", "keys of several slots in a transaction"),
    ("pubsub_resp2.txt", "PUBLISH counts the listeners of one node"),
    ("pubsub_resp3.txt", "PUBLISH counts the listeners of one node"),
    ("reset_quit.txt", "SELECT"),
    ("ruled_pipelines.txt", "keys of several slots in MSETNX"),
    ("ruled_transactions.txt", "keys of several slots; the same with tags is in cluster/conversations"),
    ("refused_transactions.txt", "keys of several slots in a transaction"),
    ("scan.txt", "SCAN goes over the nodes; what it finds is looked at by itself"),
    ("scripts.txt", "scripts that were seen are known, and keys that were not declared are another node's"),
    ("select.txt", "SELECT"),
    ("shared_state.txt", "PUBLISH counts the listeners of one node"),
    ("tracking_redirect.txt", "each node numbers its connections by itself"),
    ("transactions.txt", "keys of several slots; the same with tags is in cluster/conversations"),
    ("transactions_of_the_connection.txt", "SELECT"),
];

#[test]
fn conversations() {
    let cluster = Cluster::start(3, 0);
    conversation::check_in_cluster("transcripts", &cluster, &LEFT_OUT.map(|(name, _)| name));
    conversation::check_in_cluster("cluster/conversations", &cluster, &[]);
    // No command went to a node that has not its slot.
    assert_eq!(cluster.redirections(), 0);
}

#[test]
fn lifetimes() {
    let cluster = Cluster::start(6, 0);
    // Both have commands with keys of several slots.
    conversation::check_in_cluster("lifetimes", &cluster, &["destinations.txt", "set.txt"]);
    assert_eq!(cluster.redirections(), 0);
}

#[test]
fn what_is_about_all_nodes() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = sidecar.client();
        client.ask(hello);
        let nil = if hello == "HELLO 2" { "$-1" } else { "_" };
        cluster.empty();
        check(
            &mut client,
            &[
                ("RANDOMKEY", nil),
                ("MSET a 1 b 2 c 3 d 4", "+OK"),
                ("MGET d nothing a c b", &format!("*5\r\n$1\r\n4\r\n{nil}\r\n$1\r\n1\r\n$1\r\n3\r\n$1\r\n2")),
                ("EXISTS a b c nothing a", ":4"),
                ("TOUCH a b nothing", ":2"),
                ("DBSIZE", ":4"),
                ("DEL a b nothing", ":2"),
                ("UNLINK c d", ":2"),
                ("DBSIZE", ":0"),
                ("SET a 1", "+OK"),
                ("RANDOMKEY", "$1\r\na"),
                ("KEYS *", "*1\r\n$1\r\na"),
                ("MSETNX a 1 b 2", "-CROSSSLOT Keys in request don't hash to the same slot"),
                ("SINTERSTORE a b c", "-CROSSSLOT Keys in request don't hash to the same slot"),
                ("SCRIPT LOAD return(1)", "$40\r\n930269f31393d0be681588b6ab08dccee7d6bb67"),
                ("SELECT 1", "-ERR DB index is out of range"),
                ("SWAPDB 0 1", "-ERR SWAPDB is not allowed in cluster mode"),
                ("WAIT 0 100", ":0"),
                ("FLUSHALL", "+OK"),
                ("DBSIZE", ":0"),
                ("PUBLISH a b", ":0"),
                ("SPUBLISH a b", ":0"),
                (
                    "SHUTDOWN",
                    "-ERR bellwether does not pass this on to a cluster, since it is about one node; ask that node",
                ),
            ],
        );
    }
}

/// Every node is told who is there, also those that are met later.
#[test]
fn users_are_known_to_every_node() {
    let cluster = Cluster::start_with(3, 0, 0, &["--user", "sidecar", "on", ">secret", "~*", "&*", "+@all"]);
    let url = |password: &str| cluster.url().replace("://", &format!("://sidecar:{password}@"));
    let sidecar = Sidecar::start("serve", &["--upstream", &url("secret"), "--client-password", "none"]);
    let mut client = sidecar.client();
    for key in ["a", "b", "c"] {
        check(&mut client, &[(&*format!("SET {key} 1"), "+OK")]);
        let connections = cluster.client_of(key).ask("CLIENT LIST TYPE normal");
        let own: Vec<_> = connections.lines().filter(|line| line.contains("name=bellwether ")).collect();
        assert!(!own.is_empty() && own.iter().all(|line| line.contains("user=sidecar")), "{connections}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = crate::harness::run(&["retime", "--upstream", &url("wrong")], folder.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("it refuses us"), "{told}");
}

/// A login, or tracking, that is refused leaves a connection as it was, for whoever has it next and on every node.
#[test]
fn what_is_refused_changes_nothing() {
    let cluster = Cluster::start_with(3, 0, 0, &["--user", "sidecar", "on", ">secret", "~*", "&*", "+@all"]);
    let url = cluster.url().replace("://", "://sidecar:secret@");
    let options = ["--upstream", &url, "--client-password", "none", "--workers", "1"];
    let sidecar = Sidecar::start("serve", &options);
    let refused = "-WRONGPASS invalid username-password pair or user is disabled.";
    for key in ["a", "b", "c"] {
        assert_eq!(sidecar.client().ask("AUTH nobody x"), refused);
        let mut client = sidecar.client();
        check(&mut client, &[("MULTI", "+OK"), (&format!("GET {key}"), "+QUEUED"), ("ACL WHOAMI", "+QUEUED")]);
        check(&mut client, &[("EXEC", "*2\r\n$-1\r\n$7\r\nsidecar")]);
    }
    let mut client = sidecar.client();
    assert!(client.ask("HELLO 3").starts_with('%'));
    check(&mut client, &[("CLIENT TRACKING ON", "+OK")]);
    let switch = "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                  re-enabling it with a different mode.";
    check(&mut client, &[("CLIENT TRACKING ON BCAST", switch), ("GET a", "_"), ("GET b", "_"), ("GET c", "_")]);
    for key in ["a", "b", "c"] {
        assert_eq!(cluster.client_of(key).ask(&format!("SET {key} 1")), "+OK");
        let told = String::from_utf8_lossy(&client.reply()).into_owned();
        assert_eq!(told, format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\n{key}\r\n"));
    }
}

/// Users are made, and unmade, on all nodes.
#[test]
fn users_are_changed_on_every_node() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    let know = |name: &str| cluster.nodes.iter().filter(|node| node.client().ask("ACL USERS").contains(name)).count();
    check(&mut client, &[("ACL SETUSER bob on >pw ~* +@all", "+OK")]);
    assert_eq!(know("bob"), 3);
    check(&mut client, &[("ACL DELUSER bob", ":1")]);
    assert_eq!(know("bob"), 0);
}

/// Who leaves while it is blocked is unblocked, however much it has sent behind that.
#[test]
fn who_leaves_while_it_is_blocked() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let blocked = || cluster.client_of("{t}").ask("INFO clients").contains("blocked_clients:1");
    let mut client = sidecar.client();
    client.command(&[b"BLPOP", b"{t}q", b"0"]);
    poll_until("the client to be blocked", blocked);
    for _ in 0..2000 {
        client.command(&[b"SET", b"{t}k", &[b'x'; 100]]);
    }
    drop(client);
    poll_until("the client to be unblocked", || !blocked());
    check(&mut sidecar.client(), &[("RPUSH {t}q 1", ":1"), ("LRANGE {t}q 0 -1", "*1\r\n$1\r\n1")]);
}

#[test]
fn scan_goes_over_all_nodes() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    let names: BTreeSet<_> = (0..3000).map(|number| format!("key:{number}")).collect();
    let sets: Vec<_> = names.iter().map(|name| format!("SET {name} 1")).collect();
    assert!(pipeline(&mut client, &sets).iter().all(|reply| reply == "+OK"));
    let (mut cursor, mut found, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 50 MATCH key:*"));
        let words: Vec<_> = reply.split("\r\n").collect();
        cursor = words[2].to_owned();
        found.extend(words.iter().skip(5).step_by(2).map(|key| (*key).to_owned()));
        steps += 1;
        if cursor == "0" {
            break;
        }
        assert!(cursor.parse::<u64>().unwrap() < 1 << 53, "{cursor}");
    }
    assert_eq!(found, names);
    assert!(steps > 40, "{steps}");
    assert_eq!(client.ask("SCAN x"), "-ERR invalid cursor");
    assert_eq!(client.ask("DBSIZE"), ":3000");
    assert_eq!(cluster.redirections(), 0);
}

#[test]
fn keys_are_retimed() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    let mut direct = 0;
    for number in 0..60 {
        let key = format!("fyntrix:general:{number}");
        assert_eq!(cluster.client_of(&key).ask(&format!("SET {key} 1")), "+OK");
        direct += 1;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = crate::harness::run(&["retime", "--upstream", &cluster.url()], folder.path());
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains(&format!("looked at {direct} keys of database 0 at the cluster of 127.0.0.1:")), "{told}");
    for number in 0..60 {
        let left: i64 = client.ask(&format!("PTTL fyntrix:general:{number}"))[1..].parse().unwrap();
        assert!(left > 0, "{number}: {left}; {told}");
    }
}

#[test]
fn shard_channels_are_at_their_nodes() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let (mut listener, mut publisher) = (sidecar.client(), sidecar.client());
    let frame = |words: &str, count: Option<i64>| {
        let words: Vec<_> = words.split(' ').collect();
        let length = words.len() + usize::from(count.is_some());
        let texts: String = words.iter().map(|word| format!("\r\n${}\r\n{word}", word.len())).collect();
        format!("*{length}{texts}{}", count.map_or(String::new(), |count| format!("\r\n:{count}")))
    };
    let next = |client: &mut crate::harness::Client| String::from_utf8_lossy(&client.reply()).trim_end().to_owned();
    // On three nodes, and counted together.
    for (count, channel) in (1..).zip(["a", "b", "c"]) {
        assert_eq!(
            listener.ask(&format!("SSUBSCRIBE {channel}")),
            frame(&format!("ssubscribe {channel}"), Some(count))
        );
    }
    assert_eq!(listener.ask("SUBSCRIBE plain"), frame("subscribe plain", Some(1)));
    for channel in ["c", "a", "b"] {
        assert_eq!(publisher.ask(&format!("SPUBLISH {channel} hello")), ":1");
        assert_eq!(next(&mut listener), frame(&format!("smessage {channel} hello"), None));
    }
    // A node counts its own listeners.
    assert!([":0", ":1"].contains(&&*publisher.ask("PUBLISH plain hello")));
    assert_eq!(next(&mut listener), frame("message plain hello", None));
    let refused = listener.ask("GET a");
    assert!(refused.starts_with("-ERR Can't execute 'get'"), "{refused}");
    assert_eq!(listener.ask("PING"), "*2\r\n$4\r\npong\r\n$0");
    assert_eq!(listener.ask("SUNSUBSCRIBE b"), frame("sunsubscribe b", Some(2)));
    listener.command(&[b"SUNSUBSCRIBE"]);
    let mut left: Vec<_> = [next(&mut listener), next(&mut listener)].into();
    left.sort();
    assert!(left[0].ends_with(":1") || left[0].ends_with(":0"), "{left:?}");
    assert_eq!(listener.ask("UNSUBSCRIBE"), frame("unsubscribe plain", Some(0)));
    assert_eq!(listener.ask("PING"), "+PONG");
    // Of several slots the node itself says that it cannot be.
    assert_eq!(listener.ask("SSUBSCRIBE a b"), "-CROSSSLOT Keys in request don't hash to the same slot");
    assert_eq!(listener.ask("PING"), "+PONG");
}

#[test]
fn transactions_are_at_the_node_of_their_slot() {
    let cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot";
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    check(
        &mut client,
        &[
            ("MULTI", "+OK"),
            ("EXEC", "*0"),
            ("MULTI", "+OK"),
            ("PING", "+QUEUED"),
            ("SET a 1", "+QUEUED"),
            ("INCR a", "+QUEUED"),
            ("TIME x", "-ERR wrong number of arguments for 'time' command"),
            ("EXEC", aborted),
            ("MULTI", "+OK"),
            ("PING", "+QUEUED"),
            ("SET a 1", "+QUEUED"),
            ("INCR a", "+QUEUED"),
            ("EXEC", "*3\r\n+PONG\r\n+OK\r\n:2"),
            ("MULTI", "+OK"),
            ("SET a 1", "+QUEUED"),
            ("SET b 1", cross),
            ("EXEC", aborted),
            ("GET a", "$1\r\n2"),
            ("MULTI", "+OK"),
            ("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: "),
            ("SET a 5", "+QUEUED"),
            ("EXEC", aborted),
            ("MULTI", "+OK"),
            ("MULTI", "-ERR MULTI calls can not be nested"),
            ("WATCH a", "-ERR WATCH inside MULTI is not allowed"),
            ("DISCARD", "+OK"),
            ("EXEC", "-ERR EXEC without MULTI"),
            ("DISCARD", "-ERR DISCARD without MULTI"),
            ("WATCH a b", cross),
            ("WATCH a", "+OK"),
            ("WATCH b", cross),
            ("MULTI", "+OK"),
            ("SET b 1", cross),
            ("EXEC", aborted),
            ("WATCH a", "+OK"),
            ("MULTI", "+OK"),
            ("SET a 7", "+QUEUED"),
            ("EXEC", "*1\r\n+OK"),
            ("WATCH a", "+OK"),
            ("SET a 8", "+OK"),
            ("MULTI", "+OK"),
            ("SET a 9", "+QUEUED"),
            ("EXEC", "*-1"),
            ("WATCH b", "+OK"),
            ("SET b 8", "+OK"),
            ("UNWATCH", "+OK"),
            ("MULTI", "+OK"),
            ("GET b", "+QUEUED"),
            ("EXEC", "*1\r\n$1\r\n8"),
        ],
    );
    assert_eq!(cluster.redirections(), 0);
}

#[test]
fn scripts_are_known_to_every_node() {
    let mut cluster = Cluster::start(3, 0);
    let sidecar = Sidecar::serve_cluster(&cluster, &[]);
    let mut client = sidecar.client();
    let set = "return redis.call('SET', KEYS[1], ARGV[1])";
    let load = |client: &mut crate::harness::Client, text: &str| {
        client.ask_words(&[b"SCRIPT", b"LOAD", text.as_bytes()])[5..].to_owned()
    };
    let digest = load(&mut client, set);
    for key in ["a", "b", "c"] {
        assert_eq!(client.ask(&format!("EVALSHA {digest} 1 {key} 1")), "+OK");
    }
    assert_eq!(client.ask(&format!("SCRIPT EXISTS {digest} 0000")), "*2\r\n:1\r\n:0");
    assert_eq!(
        client.ask(&format!("EVALSHA {digest} 2 a b 1")),
        "-CROSSSLOT Keys in request don't hash to the same slot"
    );
    // A node forgets what it knew, as a new one has never heard of it: it is told, and asked again.
    let owner = cluster.owner(crate::harness::cluster::slot_of("b"));
    cluster.restart(owner);
    cluster.wait_until_whole();
    crate::harness::process::poll_until("the node to be reached", || {
        sidecar.client().try_ask("SET b 0").is_some_and(|reply| reply == "+OK")
    });
    let mut client = sidecar.client();
    let lines = [format!("EVALSHA {digest} 1 b 2"), "GET b".to_owned(), format!("EVALSHA {} 1 b 2", "0".repeat(40))];
    let replies = pipeline(&mut client, &lines);
    assert_eq!(replies[..2], ["+OK", "$1\r\n2"]);
    assert!(replies[2].starts_with("-NOSCRIPT"), "{replies:?}");
    // One that was only run is remembered, too.
    assert_eq!(client.ask_words(&[b"EVAL", b"return 7", b"1", b"a"]), ":7");
    let known = "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9";
    assert_eq!(client.ask(&format!("EVALSHA {known} 1 b")), ":7");
    assert_eq!(client.ask("SCRIPT FLUSH"), "+OK");
    assert!(client.ask(&format!("EVALSHA {known} 1 b")).starts_with("-NOSCRIPT"));
}
