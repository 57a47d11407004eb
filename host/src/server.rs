//! The process: waits for the server, starts the workers, accepts clients, drains when it is told to.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Status};
use crate::clock::Clock;
use crate::config::{Config, LossChoice, Upstream};
use crate::metrics::Metrics;
use crate::policy::PolicySet;
use crate::reload::Reloader;
use crate::retime::{self, Sweeping};
use crate::session::Clients;
use crate::upstream::embedded::EmbeddedStore;
use crate::upstream::{BackOff, Control, Loss, Route, ServerFacts, Target, UpstreamState};
use crate::worker::{Order, Setup, Worker};

/// What the process is started with.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The clock, shifted.
    pub clock: Clock,
    /// The system's own clock, in milliseconds since 1970.
    pub system_clock: fn() -> i64,
    /// Loads policies and watches their folder.
    pub reloader: Reloader,
    /// Printed once the sidecar listens.
    pub greeting: Box<Greeting>,
}

/// Says on which address the sidecar listens.
pub type Greeting = dyn FnOnce(SocketAddr, &mut dyn Write) -> std::io::Result<()>;

/// Workers, and what has been asked of them.
struct Crew {
    workers: Vec<Worker>,
    clients: Arc<Clients>,
    metrics: Arc<Metrics>,
    clients_max: usize,
    clock: Clock,
}

/// How often the end of the workers is looked for while they drain.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Runs the sidecar until it is told to stop.
///
/// # Errors
/// It cannot be started: the policies do not load, or an address cannot be listened on.
pub async fn run(start: Start, out: &mut dyn Write) -> anyhow::Result<()> {
    let Start { config, clock, system_clock, mut reloader, greeting } = start;
    let metrics = reloader.metrics();
    let (published, current) = watch::channel(reloader.first()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(stop);
    let (route, db, password) = route(&config, clock)?;
    let (state, refusal) = (Arc::clone(&route.state), reloader.last_refusal());
    let status = Status::new(clock, Arc::clone(&metrics), state, current.clone(), refusal);
    if let Some(address) = config.admin_listen {
        let address = admin::start(address, Arc::clone(&status)).await?;
        tracing::info!(%address, "admin server listens");
    }
    let facts = tokio::select! {
        facts = wait_for_server(&route, db, system_clock) => facts,
        // Told to stop before there was a server.
        _ = &mut stop => return Ok(()),
    };
    // Clients find a closed door until the server has answered, rather than one that opens and shuts.
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let config = Arc::new(config);
    let sweeping = sweep(&config, &route, clock, &metrics, &current, reloader.folder().is_some())?;
    let setup = Setup {
        password,
        clock,
        route,
        facts: Arc::new(facts),
        metrics: Arc::clone(&metrics),
        clients: Arc::default(),
        current,
        config: Arc::clone(&config),
    };
    let crew = Crew::start(setup)?;
    status.listening(crew.clients.clone());
    let watching = reloader.watch(published)?;
    greeting(address, out)?;
    let reason = tokio::select! {
        () = crew.accept(&listener) => "the listener failed",
        reason = &mut stop => reason,
    };
    status.draining();
    drop(listener);
    drop((watching, sweeping));
    tracing::info!(reason, "draining");
    crew.drain(Duration::from_millis(config.shutdown_grace_ms)).await;
    Ok(())
}

// === impl Crew ===

impl Crew {
    fn start(setup: Setup) -> anyhow::Result<Self> {
        let (config, clock) = (Arc::clone(&setup.config), setup.clock);
        let (clients, metrics) = (Arc::clone(&setup.clients), Arc::clone(&setup.metrics));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = if config.workers == 0 { cores } else { config.workers };
        let workers: Vec<_> = (0..count).map(|index| Worker::start(index, setup.clone())).collect::<Result<_, _>>()?;
        let orders: Vec<_> = workers.iter().map(Worker::orders).collect();
        clients.on_call(move |worker, id, call| {
            if let Some(orders) = orders.get(worker) {
                // A worker that has stopped has no clients.
                drop(orders.send(Order::Call(id, call)));
            }
        });
        Ok(Self { workers, clients, metrics, clients_max: config.clients_max, clock })
    }

    async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    if let Err(error) = self.take(socket, peer) {
                        tracing::debug!(%error, "a client was gone before it could be served");
                    }
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others may end soon.
                    tracing::warn!(%error, "could not accept a client");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(&self, socket: tokio::net::TcpStream, peer: SocketAddr) -> std::io::Result<()> {
        if self.clients.count() >= self.clients_max {
            self.metrics.clients_refused.add(0, 1);
            socket.try_write(b"-ERR max number of clients reached\r\n")?;
            return Ok(());
        }
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let least = self.workers.iter().enumerate().min_by_key(|(_, worker)| worker.sessions());
        if let Some((index, worker)) = least {
            let client = self.clients.add(peer.to_string(), local.to_string(), index, self.clock.now());
            self.metrics.clients_accepted.add(index, 1);
            worker.order(Order::Serve(socket.into_std()?, client));
        }
        Ok(())
    }

    async fn drain(self, grace: Duration) {
        for worker in &self.workers {
            worker.order(Order::Drain);
        }
        let deadline = Instant::now() + grace;
        while !self.workers.iter().all(Worker::has_stopped) {
            if Instant::now() >= deadline {
                tracing::warn!(
                    clients = self.clients.count(),
                    "clients were still there at the end of the grace period"
                );
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        tracing::info!("drained");
    }
}

/// What walks over the keys when a market's sessions change. None: they do not, or it is not wanted.
fn sweep(
    config: &Config,
    route: &Route,
    clock: Clock,
    metrics: &Arc<Metrics>,
    current: &watch::Receiver<Arc<PolicySet>>,
    watched: bool,
) -> std::io::Result<Option<Sweeping>> {
    let keys_per_second_max = config.retime_keys_per_second_max;
    if keys_per_second_max == 0 || !watched {
        return Ok(None);
    }
    let (route, metrics, current) = (route.clone(), Arc::clone(metrics), current.clone());
    Sweeping::start(retime::Start { route, clock, metrics, current, keys_per_second_max }).map(Some)
}

/// The way to the server, the database of clients that select none, and the password that clients must give.
///
/// # Errors
/// There is no thread for the embedded store.
pub fn route(config: &Config, clock: Clock) -> anyhow::Result<(Route, u32, Option<String>)> {
    let (target, db, user, password) = match &config.upstream {
        Some(Upstream::Embedded) => {
            let store =
                EmbeddedStore::start(Arc::new(move || clock.now())).context("cannot start the embedded store")?;
            (Target::Embedded(store), 0, None, None)
        }
        Some(Upstream::Redis { host, port, db, user, password }) => {
            (Target::Tcp { host: host.clone(), port: *port }, *db, user.clone(), password.clone())
        }
        None => {
            let target = Target::Tcp { host: config.redis_host.clone(), port: config.redis_port };
            (target, config.redis_db, config.redis_user.clone(), config.redis_password.clone())
        }
    };
    let password = password.map(|password| password.reveal().to_owned());
    let client_password = match &config.client_password {
        None => password.clone(),
        Some(own) if own.reveal() == "none" => None,
        Some(own) => Some(own.reveal().to_owned()),
    };
    let route = Route {
        target,
        user,
        password,
        connect_timeout: Duration::from_millis(config.upstream_connect_ms_max),
        back_off: BackOff {
            first: Duration::from_millis(config.upstream_back_off_ms_first),
            max: Duration::from_millis(config.upstream_back_off_ms_max),
            seed: u64::from(std::process::id()),
        },
        loss: match config.on_upstream_lost {
            LossChoice::Close => Loss::Close,
            LossChoice::Error => Loss::Error,
        },
        lane_bytes_max: config.lane_bytes_max,
        idle_lanes_max: config.idle_lanes_max,
        state: Arc::new(UpstreamState::default()),
    };
    Ok((route, db, client_password))
}

/// Asks the server about itself until it answers.
async fn wait_for_server(route: &Route, db: u32, system_clock: fn() -> i64) -> ServerFacts {
    /// A clock further off than this makes instants wrong enough to be told.
    const SKEW_MS_MAX: i64 = 1_000;
    let mut attempt = 0;
    loop {
        match Control::new(route).facts(db, system_clock).await {
            Ok(facts) => {
                if facts.skew_ms.abs() > SKEW_MS_MAX {
                    let skew_ms = facts.skew_ms;
                    tracing::warn!(
                        skew_ms,
                        "the server's clock differs from ours; lifetimes that end at an instant do too"
                    );
                }
                tracing::info!(server = %route.target, version = %facts.version, "the server answers");
                return facts;
            }
            Err(error) => {
                tracing::warn!(server = %route.target, error = %format!("{error:#}"), "waiting for the server");
                tokio::time::sleep(route.back_off.after(attempt)).await;
                attempt += 1;
            }
        }
    }
}
