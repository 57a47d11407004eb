//! A cluster that looks like one server: lanes speak to it over a pipe, at whose other end a task of theirs
//! ([`router`]) sends each command to the node that has its slot and gives the replies back in the order of the
//! commands.
//!
//! Here is what all of them share: which node has which slot, the scripts that have been seen, and how nodes are
//! reached. Lanes know nothing of it.

mod cursor;
mod merge;
mod node;
mod plan;
mod pub_sub;
mod redirect;
mod replies;
mod router;
mod said;
mod scripts;
mod slot;
#[cfg(test)]
mod tests;
mod topology;
mod transaction;
mod ways;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use redis::AsyncConnectionConfig;
use rustc_hash::FxHashMap;
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::control;
use super::lane::Losses;
use super::stream::{Stream, Target};
use super::{Login, Loss};
use crate::command::Table;
use crate::tls;
use router::Router;
use scripts::Scripts;
pub(super) use slot::key_slot;
use topology::{Map, NodeAddress};

/// A cluster, and what is known of it. All copies are of the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct ClusterRoute {
    /// Nodes that are asked which others there are: host and port.
    pub seeds: Vec<(String, u16)>,
    /// How connections are encrypted, and whether each node's certificate is for its own name.
    pub tls: Option<(tls::Client, bool)>,
    /// Who asks which nodes there are. Lanes log in by themselves.
    pub login: Login,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// What commands in flight see when a node is lost.
    pub loss: Loss,
    /// Bytes that may wait for nodes before no more commands are taken.
    pub bytes_max: usize,
}

struct Shared {
    route: ClusterRoute,
    map: RwLock<Arc<Map>>,
    /// The version of the map, so that it is read only when it is another.
    version: AtomicU64,
    table: RwLock<Arc<Table>>,
    scripts: Mutex<Scripts>,
    /// Somebody asks for the map.
    asking: AtomicBool,
    asked_at: Mutex<Option<Instant>>,
    /// Nodes that could not be reached: not again before then.
    unreachable: Mutex<FxHashMap<NodeAddress, Instant>>,
    /// Counts up, so that not everybody begins with the same node.
    turn: AtomicUsize,
}

/// Sets back that somebody asks, however that ends.
struct Asking(Cluster);

/// Bytes on their way between a lane and its router, each way.
const PIPE_BYTES: usize = 256 * 1024;
/// The map is not asked for more often than that.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// So old may it become without anyone having noticed anything.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long a node may take to say which slots there are.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long nobody tries a node that could not be reached.
const UNREACHABLE: Duration = Duration::from_millis(250);

// === impl Cluster ===

impl Cluster {
    /// A cluster of which only seeds are known.
    pub fn new(route: ClusterRoute) -> Self {
        Self(Arc::new(Shared {
            route,
            map: RwLock::new(Arc::new(Map::empty())),
            version: AtomicU64::new(0),
            table: RwLock::new(Arc::new(Table::newest().clone())),
            scripts: Mutex::default(),
            asking: AtomicBool::new(false),
            asked_at: Mutex::default(),
            unreachable: Mutex::default(),
            turn: AtomicUsize::new(0),
        }))
    }

    /// How connections to its nodes are encrypted.
    pub fn tls(&self) -> Option<&tls::Client> {
        self.0.route.tls.as_ref().map(|(tls, _)| tls)
    }

    /// The servers have these commands.
    pub(super) fn has_commands(&self, table: Arc<Table>) {
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// A pipe to a router of its own, which has reached one of the nodes, and what counts those that it loses. On a
    /// tokio runtime, where the router lives until the pipe is closed.
    ///
    /// # Errors
    /// No node can be reached.
    pub(super) async fn connect(&self) -> io::Result<(DuplexStream, Losses)> {
        if self.map().version == 0 {
            self.ask().await.map_err(|error| io::Error::other(format!("{error:#}")))?;
        }
        let map = self.map();
        let masters: Vec<_> = map.masters().map(|(_, address)| address.clone()).collect();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % masters.len().max(1);
        let mut refused = io::Error::other("no node of the cluster is known");
        for address in masters.iter().cycle().skip(turn).take(masters.len()) {
            match self.reach(address.clone()).await {
                Ok(stream) => {
                    let (lane, pipe) = tokio::io::duplex(PIPE_BYTES);
                    let router = Router::new(self.clone(), pipe, address.clone(), stream);
                    let losses = router.losses.clone();
                    drop(tokio::spawn(router.run()));
                    return Ok((lane, losses));
                }
                Err(error) => refused = error,
            }
        }
        self.ask_soon();
        Err(refused)
    }

    fn route(&self) -> &ClusterRoute {
        &self.0.route
    }

    /// Which node has which slot.
    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.0.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts up whenever that changes.
    fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.0.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has said that a slot is at another one. All others are asked for soon.
    fn learn(&self, slot: u16, address: &NodeAddress) {
        let mut map = self.0.map.write().unwrap_or_else(PoisonError::into_inner);
        if map.owner(slot) != Some(address)
            && let Ok(moved) = map.with(slot, address)
        {
            self.publish(&mut map, moved);
        }
        drop(map);
        self.ask_soon();
    }

    /// Asks which node has which slot, soon, unless somebody does already.
    fn ask_soon(&self) {
        if self.0.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let asking = Asking(self.clone());
        drop(tokio::spawn(async move {
            let Asking(cluster) = &asking;
            let asked_at = *cluster.asked_at();
            if let Some(at) = asked_at {
                tokio::time::sleep_until(at + ASK_EVERY).await;
            }
            if let Err(error) = cluster.ask().await {
                tracing::warn!(error = %format!("{error:#}"), "no node says which of them has which slots");
            }
        }));
    }

    /// The same, if nobody has asked for long.
    fn ask_sometimes(&self) {
        let is_old = self.asked_at().is_none_or(|at| at.elapsed() > ASK_AGAIN);
        if is_old {
            self.ask_soon();
        }
    }

    fn asked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.asked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> anyhow::Result<()> {
        *self.asked_at() = Some(Instant::now());
        let known = self.map();
        let known: Vec<_> = known.masters().map(|(_, address)| address.clone()).collect();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % known.len().max(1);
        let seeds =
            self.route().seeds.iter().map(|(host, port)| NodeAddress { host: host.as_str().into(), port: *port });
        let mut refused = None;
        for address in known.iter().cycle().skip(turn).take(known.len()).cloned().chain(seeds) {
            match self.ask_node(&address).await {
                Ok(found) => {
                    let mut map = self.0.map.write().unwrap_or_else(PoisonError::into_inner);
                    if !map.is_like(&found) {
                        let masters: Vec<_> = found.masters().map(|(_, address)| address.to_string()).collect();
                        tracing::info!(masters = masters.join(", "), "the cluster's slots are taken up anew");
                        self.publish(&mut map, found);
                    }
                    return Ok(());
                }
                Err(error) => refused = Some(error.context(format!("{address}"))),
            }
        }
        Err(refused.unwrap_or_else(|| anyhow::anyhow!("no node is known")))
    }

    async fn ask_node(&self, address: &NodeAddress) -> anyhow::Result<Map> {
        let stream = self.reach(address.clone()).await.context("cannot connect")?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_MAX));
        let login = control::login(&self.route().login);
        let mut node = control::over(stream, &login, ANSWER_MAX, config).await?;
        let answer: redis::Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut node).await?;
        Map::read(&answer, address)
    }

    fn publish(&self, map: &mut Arc<Map>, mut new: Map) {
        new.version = map.version + 1;
        *map = Arc::new(new);
        self.0.version.store(map.version, Ordering::Release);
    }

    /// Opens a connection to a node. One that could not be reached a moment ago is not tried again at once: who waits
    /// for it holds up others.
    async fn reach(&self, address: NodeAddress) -> io::Result<Stream> {
        let until = self.unreachable().get(&address).copied();
        if until.is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::other("it could not be reached a moment ago"));
        }
        let reached = match self.target(&address) {
            Ok(target) => Box::pin(target.connect(self.route().connect_timeout)).await,
            Err(error) => Err(error),
        };
        let mut unreachable = self.unreachable();
        match &reached {
            Ok(_) => drop(unreachable.remove(&address)),
            Err(_) => drop(unreachable.insert(address, Instant::now() + UNREACHABLE)),
        }
        drop(unreachable);
        reached
    }

    fn unreachable(&self) -> MutexGuard<'_, FxHashMap<NodeAddress, Instant>> {
        self.0.unreachable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, address: &NodeAddress) -> io::Result<Target> {
        let (host, port) = (address.host.to_string(), address.port);
        Ok(match &self.route().tls {
            None => Target::Tcp { host, port },
            Some((tls, false)) => Target::Tls { host, port, tls: tls.clone() },
            Some((tls, true)) => {
                let tls = tls.named(&host).map_err(|error| io::Error::other(format!("{error:#}")))?;
                Target::Tls { host, port, tls }
            }
        })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Cluster").field(&self.0.route.seeds).finish()
    }
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seeds: Vec<_> = self.0.route.seeds.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(out, "the cluster of {}", seeds.join(","))
    }
}

// === impl Asking ===

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.0.asking.store(false, Ordering::Release);
    }
}
