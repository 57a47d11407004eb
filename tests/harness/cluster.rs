//! A real cluster of the test's own on loopback: so many masters, each with so many replicas. Its nodes know each other
//! from the file that a cluster keeps, so that nobody has to introduce them.

use std::process::Command;

use super::Client;
use super::process::{Process, free_port, poll_for};

/// A running cluster.
pub struct Cluster {
    pub nodes: Vec<Node>,
    options: Vec<String>,
}

/// One of its servers.
pub struct Node {
    /// Where the test talks to it.
    pub port: u16,
    pub id: String,
    pub process: Process,
    places: Places,
    folder: tempfile::TempDir,
}

/// The ports of a node: where it takes clients, plain, and also over TLS; and where the other nodes reach it.
#[derive(Clone, Copy)]
struct Places {
    plain: u16,
    tls: Option<u16>,
    bus: u16,
}

/// How long a master may be silent before the others replace it.
const NODE_TIMEOUT_MS: &str = "2000";
pub const SLOTS: usize = 16_384;

impl Cluster {
    /// Starts one. Its first nodes are the masters, with the slots in their order.
    pub fn start(masters: usize, replicas: usize) -> Self {
        Self::start_with(masters, replicas, 0, &[])
    }

    /// The same with nodes that have no slots yet, and more options of the servers.
    pub fn start_with(masters: usize, replicas: usize, empty: usize, options: &[&str]) -> Self {
        Self::start_as(masters, replicas, empty, false, options)
    }

    /// Masters that speak TLS to clients and to each other, with the options that say with which certificates.
    pub fn start_tls(masters: usize, options: &[&str]) -> Self {
        Self::start_as(masters, 0, 0, true, options)
    }

    fn start_as(masters: usize, replicas: usize, empty: usize, tls: bool, options: &[&str]) -> Self {
        let count = masters * (1 + replicas) + empty;
        let ports: Vec<_> = (0..3 * count).map(|_| free_port()).collect();
        let place = |ports: &[u16]| Places { plain: ports[0], tls: tls.then_some(ports[1]), bus: ports[2] };
        let places: Vec<_> = ports.chunks_exact(3).map(place).collect();
        let id = |index: usize| format!("{index:040x}");
        let line = |of: usize, index: usize| {
            let (port, bus) = (places[index].known(), places[index].bus);
            let myself = if of == index { "myself," } else { "" };
            let has_slots = index < masters;
            let is_master = has_slots || index >= masters * (1 + replicas);
            let kind = if is_master { "master -".to_owned() } else { format!("slave {}", id(index % masters)) };
            let (first, last) = (SLOTS * index / masters, SLOTS * (index + 1) / masters);
            let slots = if has_slots { format!(" {first}-{}", last - 1) } else { String::new() };
            let epoch = if is_master { index + 1 } else { index % masters + 1 };
            format!("{} 127.0.0.1:{port}@{bus} {myself}{kind} 0 0 {epoch} connected{slots}\n", id(index))
        };
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let nodes = (0..count).map(|of| {
            let folder = tempfile::tempdir().unwrap();
            let lines: String = (0..count).map(|index| line(of, index)).collect();
            let text = format!("{lines}vars currentEpoch {count} lastVoteEpoch 0\n");
            std::fs::write(folder.path().join("nodes.conf"), text).unwrap();
            let process = begin(places[of], folder.path(), &options);
            Node { port: places[of].plain, id: id(of), process, places: places[of], folder }
        });
        let cluster = Self { nodes: nodes.collect(), options };
        cluster.wait_until_whole();
        cluster
    }

    /// How a sidecar names it.
    pub fn url(&self) -> String {
        let places: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.places.known())).collect();
        let is_tls = self.nodes.iter().any(|node| node.places.tls.is_some());
        format!("{}://{}", if is_tls { "rediss-cluster" } else { "redis-cluster" }, places.join(","))
    }

    /// Waits until all nodes that answer agree that it is whole.
    pub fn wait_until_whole(&self) {
        poll_for("a whole cluster", || {
            for node in &self.nodes {
                let Some(mut client) = node.try_client() else { continue };
                let info = client.ask("CLUSTER INFO");
                let nodes = client.ask("CLUSTER NODES");
                let synchronised = nodes.lines().filter(|line| line.contains("slave")).count() == 0
                    || !nodes.contains("myself,slave")
                    || client.ask("INFO replication").contains("master_link_status:up");
                if !info.contains("cluster_state:ok") || !synchronised {
                    return Err(format!("{info}\n{nodes}"));
                }
            }
            Ok(())
        });
    }

    /// The node that has a slot, as a node that answers says.
    pub fn owner(&self, slot: usize) -> usize {
        let asked = self.nodes.iter().find_map(Node::try_client);
        let nodes = asked.unwrap().ask("CLUSTER NODES");
        let has = |line: &&str| {
            line.contains("master")
                && !line.contains("fail")
                && line.split_whitespace().skip(8).any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let number = |text: &str| text.parse::<usize>().ok();
                    number(first).zip(number(last)).is_some_and(|(first, last)| (first..=last).contains(&slot))
                })
        };
        let line = nodes.lines().find(has).unwrap_or_else(|| panic!("nobody has {slot}: {nodes}"));
        let id = line.split_whitespace().next().unwrap();
        self.nodes.iter().position(|node| node.id == id).unwrap()
    }

    /// The node that has a key, and a client of it.
    pub fn client_of(&self, key: &str) -> Client {
        self.nodes[self.owner(slot_of(key))].client()
    }

    /// Empties it, and forgets all scripts.
    pub fn empty(&self) {
        for node in &self.nodes {
            let Some(mut client) = node.try_client() else { continue };
            for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH", "CONFIG RESETSTAT"] {
                let reply = client.ask(command);
                assert!(reply == "+OK" || reply.starts_with("-READONLY"), "{command}: {reply}");
            }
        }
    }

    /// How often nodes have sent somebody to another one.
    pub fn redirections(&self) -> usize {
        let of = |node: &Node| {
            let info = node.client().ask("INFO errorstats");
            let counts =
                info.lines().filter(|line| line.starts_with("errorstat_MOVED") || line.starts_with("errorstat_ASK"));
            counts.map(|line| line.rsplit('=').next().unwrap().trim().parse::<usize>().unwrap()).sum::<usize>()
        };
        self.nodes.iter().map(of).sum()
    }

    /// Begins to move a slot: keys that are not there are asked for at the new node.
    pub fn begin_move(&self, slot: usize, from: usize, to: usize) {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        assert_eq!(to.client().ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id)), "+OK");
        assert_eq!(from.client().ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id)), "+OK");
    }

    /// Moves the keys of a slot, a few at a time.
    pub fn move_keys(&self, slot: usize, from: usize, to: usize) {
        let (from, port) = (&self.nodes[from], self.nodes[to].places.known());
        let mut client = from.client();
        loop {
            let reply = client.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
            let keys: Vec<_> = reply.split("\r\n").skip(2).step_by(2).collect();
            if keys.is_empty() {
                return;
            }
            let reply = client.ask(&format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {}", keys.join(" ")));
            assert!(reply == "+OK" || reply == "+NOKEY", "{reply}");
        }
    }

    /// Ends a move: the new node has the slot.
    pub fn end_move(&self, slot: usize, to: usize) {
        let id = &self.nodes[to].id;
        // The new node first, so that no two nodes send clients to each other.
        let others = (0..self.nodes.len()).filter(|index| *index != to);
        for index in [to].into_iter().chain(others) {
            let Some(mut client) = self.nodes[index].try_client() else { continue };
            let reply = client.ask(&format!("CLUSTER SETSLOT {slot} NODE {id}"));
            assert!(reply == "+OK" || reply.contains("replica"), "{reply}");
        }
    }

    /// Moves a slot and its keys.
    pub fn move_slot(&self, slot: usize, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_move(slot, to);
    }

    /// Starts a node again that has ended.
    pub fn restart(&mut self, index: usize) {
        let options = self.options.clone();
        let node = &mut self.nodes[index];
        node.process.signal("KILL");
        node.process.wait();
        node.process = begin(node.places, node.folder.path(), &options);
    }
}

impl Node {
    /// A client of this node alone.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// The same, where it answers.
    pub fn try_client(&self) -> Option<Client> {
        Client::try_connect(self.port)
    }
}

impl Places {
    /// The port that the cluster knows it by.
    fn known(self) -> u16 {
        self.tls.unwrap_or(self.plain)
    }
}

fn begin(places: Places, folder: &std::path::Path, options: &[String]) -> Process {
    let (port, bus) = (places.plain.to_string(), places.bus.to_string());
    let tls = places.tls.map(|port| ["--tls-port".to_owned(), port.to_string(), "--tls-cluster".into(), "yes".into()]);
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port, "--cluster-enabled", "yes", "--cluster-port", &bus])
        .args(["--cluster-config-file", "nodes.conf", "--cluster-node-timeout", NODE_TIMEOUT_MS])
        .args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--dir"])
        .arg(folder)
        .args(tls.into_iter().flatten())
        .args(options);
    let mut process = Process::start(&mut command);
    process.wait_for("a node that is ready", |line| line.contains("Ready to accept connections").then_some(()));
    process
}

/// The slot of a key, in the tests' own words.
pub fn slot_of(key: &str) -> usize {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let mut crc: u16 = 0;
    for byte in tag.filter(|tag| !tag.is_empty()).unwrap_or(key).bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    usize::from(crc) % SLOTS
}
