//! A router before nodes that are made up: they send on what is not theirs, ask for patience, and cut what they say
//! into pieces. Whatever they do, every command runs once, in the order of its slot, and has its own reply.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use rustc_hash::FxHashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::slot::key_slot;
use super::{Cluster, ClusterRoute};
use crate::resp::reply::Splitter;
use crate::resp::request::{Limits, Scanned, Scanner};
use crate::resp::write;
use crate::upstream::{Login, Loss};

/// What all made-up nodes share.
#[derive(Default)]
struct World {
    ports: Mutex<Vec<u16>>,
    /// The commands that ran, by key.
    ran: Mutex<FxHashMap<Vec<u8>, Vec<Vec<u8>>>>,
    /// How many commands ran, by slot.
    runs: Mutex<FxHashMap<u16, u32>>,
    /// In pieces of so many bytes they speak.
    piece: usize,
    /// After so many commands for it, a slot is on its way to the next node, or there. 0: it stays.
    move_every: u32,
}

const NODES: u16 = 3;
const LIMITS: Limits = Limits { args_max: 100, bulk_bytes_max: 100_000, command_bytes_max: 100_000 };

// === impl World ===

impl World {
    /// How far a slot is: its node, and whether it is on its way to the next one. It moves twice, each time when so
    /// many more commands for it have run.
    fn stage(&self, slot: u16) -> (u16, bool) {
        const STAGES: u32 = 4;
        let runs = self.runs.lock().unwrap().get(&slot).copied().unwrap_or(0);
        let stage = runs.checked_div(self.move_every).unwrap_or(0).min(STAGES);
        (u16::try_from(stage / 2).unwrap().wrapping_add(slot) % NODES, stage % 2 == 1)
    }

    /// What a node says to a command.
    fn answer(&self, own: u16, args: &[&[u8]], asked: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match args {
            [b"CLUSTER", b"SLOTS"] => self.slots(&mut out),
            [b"APPEND", key, what] => {
                let slot = key_slot(key);
                let (owner, moving) = self.stage(slot);
                let next = (owner + 1) % NODES;
                let port = |node: u16| self.ports.lock().unwrap()[usize::from(node)];
                match (own == owner, moving) {
                    (true, true) => write::error(&mut out, &format!("ASK {slot} 127.0.0.1:{}", port(next))),
                    (false, _) if !(own == next && moving && asked) => {
                        write::error(&mut out, &format!("MOVED {slot} 127.0.0.1:{}", port(owner)));
                    }
                    _ => {
                        *self.runs.lock().unwrap().entry(slot).or_default() += 1;
                        self.ran.lock().unwrap().entry(key.to_vec()).or_default().push(what.to_vec());
                        write::bulk(&mut out, what);
                    }
                }
            }
            _ => write::simple(&mut out, "OK"),
        }
        out
    }

    /// A map on which a third of the slots is wrong.
    fn slots(&self, out: &mut Vec<u8>) {
        let ports = self.ports.lock().unwrap().clone();
        write::array(out, ports.len());
        for (index, port) in ports.iter().enumerate() {
            let first = 16_384 * index / ports.len();
            let last = 16_384 * (index + 1) / ports.len() - 1;
            write::array(out, 3);
            write::integer(out, i64::try_from(first).unwrap());
            write::integer(out, i64::try_from(last).unwrap());
            write::array(out, 3);
            write::bulk(out, b"127.0.0.1");
            write::integer(out, i64::from(*port));
            write::bulk(out, format!("node {port}").as_bytes());
        }
    }
}

async fn serve(world: Arc<World>, own: u16, mut socket: TcpStream) {
    let (mut scanner, mut inbox, mut asked) = (Scanner::new(LIMITS), BytesMut::new(), false);
    loop {
        while let Ok(Scanned::Command(length)) = scanner.scan(&inbox) {
            let args: Vec<&[u8]> = scanner.args().iter().map(|arg| arg.of(&inbox)).collect();
            let answer = world.answer(own, &args, asked);
            asked = args == [b"ASKING"];
            inbox.advance(length);
            scanner.reset();
            for piece in answer.chunks(world.piece) {
                if socket.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
        if socket.read_buf(&mut inbox).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

async fn start(piece: usize, move_every: u32) -> (Arc<World>, Cluster) {
    let world = Arc::new(World { piece, move_every, ..World::default() });
    for own in 0..NODES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.ports.lock().unwrap().push(listener.local_addr().unwrap().port());
        let world = Arc::clone(&world);
        drop(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(tokio::spawn(serve(Arc::clone(&world), own, socket)));
            }
        }));
    }
    let seed = ("127.0.0.1".to_owned(), world.ports.lock().unwrap()[0]);
    let cluster = Cluster::new(ClusterRoute {
        seeds: vec![seed],
        tls: None,
        login: Login::default(),
        connect_timeout: Duration::from_secs(10),
        loss: Loss::Error,
        bytes_max: 1 << 20,
    });
    (world, cluster)
}

/// Sends commands in pieces: their replies, as bytes.
async fn converse(cluster: &Cluster, bytes: &[u8], piece: usize, count: usize) -> Vec<Vec<u8>> {
    let (mut reader, mut writer) = tokio::io::split(cluster.connect().await.unwrap().0);
    let write = async {
        for piece in bytes.chunks(piece) {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        let (mut splitter, mut inbox, mut found) = (Splitter::default(), BytesMut::new(), Vec::new());
        while found.len() < count {
            assert_ne!(reader.read_buf(&mut inbox).await.unwrap(), 0, "the pipe ends after {} replies", found.len());
            while let Some(length) = splitter.split(&inbox).unwrap() {
                found.push(inbox.split_to(length).to_vec());
            }
        }
        found
    };
    tokio::join!(write, read).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_runs_once_and_in_order(
        keys in vec(0..12_u8, 1..300),
        node_piece in 1..40_usize,
        own_piece in 1..2000_usize,
        move_every in prop::sample::select(vec![0, 5, 9, 20, 50]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (world, cluster) = start(node_piece, move_every).await;
            let (mut bytes, mut expect, mut order) = (Vec::new(), Vec::new(), FxHashMap::default());
            for (number, key) in keys.iter().enumerate() {
                let (key, what) = (format!("key {key}").into_bytes(), format!("number {number}").into_bytes());
                write::array(&mut bytes, 3);
                [b"APPEND".as_slice(), &key, &what].iter().for_each(|arg| write::bulk(&mut bytes, arg));
                let mut reply = Vec::new();
                write::bulk(&mut reply, &what);
                expect.push(reply);
                order.entry(key).or_insert_with(Vec::new).push(what);
            }
            assert_eq!(converse(&cluster, &bytes, own_piece, expect.len()).await, expect);
            assert_eq!(*world.ran.lock().unwrap(), order);
        });
    }
}
