//! The process: waits for the server, starts the workers, accepts clients, drains when it is told to.

mod open_files;
mod route;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

pub use route::route;

use crate::admin::{self, Status};
use crate::clock::Clock;
use crate::config::Config;
use crate::files::{self, Watch};
use crate::listen::{Arrival, Listeners, Place};
use crate::metrics::Metrics;
use crate::policy::PolicySet;
use crate::reload::Reloader;
use crate::retime::{self, Sweeping};
use crate::session::Clients;
use crate::tls;
use crate::upstream::{Control, Route, ServerFacts, Target};
use crate::users::Users;
use crate::warm::{self, Warming};
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

/// Says where the sidecar listens.
pub type Greeting = dyn FnOnce(&[Place], &mut dyn Write) -> std::io::Result<()>;

/// Workers, and what has been asked of them.
struct Crew {
    workers: Vec<Worker>,
    clients: Arc<Clients>,
    metrics: Arc<Metrics>,
    clients_max: usize,
    clock: Clock,
}

/// The server as it was found.
struct Server {
    route: Route,
    facts: Arc<ServerFacts>,
    system_clock: fn() -> i64,
}

/// How often it is looked whether the server has been away.
const FOLLOW_LOOK: Duration = Duration::from_secs(1);
/// How often the end of the workers is looked for while they drain.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Runs the sidecar until it is told to stop.
///
/// # Errors
/// It cannot be started: the policies do not load, or an address cannot be listened on.
pub async fn run(start: Start, out: &mut dyn Write) -> anyhow::Result<()> {
    let Start { config, clock, system_clock, mut reloader, greeting } = start;
    let metrics = reloader.metrics();
    // Before the policies are compiled: a mistake in the settings is told at once.
    let (route, db, password) = route(&config, clock)?;
    let door = route::door(&config)?;
    let users = Users::new(config.users_file.clone(), password.as_deref())?;
    let clients = Arc::<Clients>::default();
    // From now on: a certificate that is missing may be what the server is waited for.
    let watches = watches(&route.target, door.clone(), &users, &clients);
    if let Target::Sentinel(sentinels) = &route.target {
        drop(tokio::spawn(sentinels.clone().follow(route.connect_timeout)));
    }
    let watched = files::watch(watches, Duration::from_millis(config.files_poll_ms.max(1)))?;
    let (published, current) = watch::channel(reloader.first()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(stop);
    let status = Status::new(clock, Arc::clone(&metrics), &route, current.clone(), &reloader, &config);
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
    let listeners = Listeners::bind(&config, door)?;
    let config = Arc::new(config);
    let sweeping = sweep(&config, &route, clock, &metrics, &current, reloader.folder().is_some())?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let setup = Setup {
        users,
        clock,
        route,
        workers: if config.workers == 0 { cores } else { config.workers },
        facts: Arc::new(facts),
        metrics: Arc::clone(&metrics),
        clients,
        records: status.records(),
        current,
        config: Arc::clone(&config),
    };
    let server = Server { route: setup.route.clone(), facts: Arc::clone(&setup.facts), system_clock };
    let renewed = setup.current.clone();
    let crew = Crew::start(setup)?;
    let (warming, ready) = warm(&config, &server, &crew, renewed, &status)?.unzip();
    status.listening(crew.clients.clone(), crew.workers.iter().map(Worker::orders).collect());
    let watching = reloader.watch(published)?;
    greeting(&listeners.places()?, out)?;
    let reason = tokio::select! {
        () = crew.accept(&listeners) => "the listener failed",
        () = crew.follow(server) => "the server is not followed",
        () = warmed(ready, &status) => "nothing is warmed",
        reason = &mut stop => reason,
    };
    status.draining();
    drop((listeners, watching, watched, sweeping));
    tracing::info!(reason, "draining");
    crew.drain(warming, Duration::from_millis(config.shutdown_grace_ms)).await;
    Ok(())
}

// === impl Crew ===

impl Crew {
    fn start(setup: Setup) -> anyhow::Result<Self> {
        let (config, clock) = (Arc::clone(&setup.config), setup.clock);
        let (clients, metrics) = (Arc::clone(&setup.clients), Arc::clone(&setup.metrics));
        let workers: Vec<_> =
            (0..setup.workers).map(|index| Worker::start(index, setup.clone())).collect::<Result<_, _>>()?;
        let orders: Vec<_> = workers.iter().map(Worker::orders).collect();
        clients.on_call(move |worker, id, call| {
            if let Some(orders) = orders.get(worker) {
                // A worker that has stopped has no clients.
                drop(orders.send(Order::Call(id, call)));
            }
        });
        Ok(Self { workers, clients, metrics, clients_max: open_files::allow(config.clients_max), clock })
    }

    async fn accept(&self, listeners: &Listeners) {
        loop {
            match listeners.accept().await {
                Ok(arrival) => {
                    if let Err(error) = self.take(arrival) {
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

    /// Tells the workers when the server has come back as another: with other commands, of another version.
    async fn follow(&self, server: Server) {
        let Server { route, mut facts, system_clock } = server;
        let mut seen = route.state.interruptions();
        loop {
            tokio::time::sleep(FOLLOW_LOOK).await;
            let now = route.state.interruptions();
            if now == seen {
                continue;
            }
            // Not there yet: the next look asks again.
            let Ok(found) = Control::new(&route).facts(facts.db, system_clock).await else { continue };
            seen = now;
            note_skew(&found, Some(&facts));
            let found = Arc::new(found);
            if !found.is_like(&facts) {
                let (version, before) = (&found.version, &facts.version);
                let other_commands = found.commands != facts.commands;
                tracing::info!(%version, %before, other_commands, "the server is another");
                for worker in &self.workers {
                    worker.order(Order::Facts(Arc::clone(&found)));
                }
            }
            facts = found;
        }
    }

    fn take(&self, arrival: Arrival) -> std::io::Result<()> {
        let Arrival { incoming, peer, local } = arrival;
        if self.clients.count() >= self.clients_max {
            self.metrics.clients_refused.add(0, 1);
            return incoming.say(b"-ERR max number of clients reached\r\n");
        }
        let least = self.workers.iter().enumerate().min_by_key(|(_, worker)| worker.sessions());
        if let Some((index, worker)) = least {
            let client = self.clients.add(peer, local, index, self.clock.now());
            self.metrics.clients_accepted.add(index, 1);
            worker.order(Order::Serve(incoming, client));
        }
        Ok(())
    }

    async fn drain(self, warming: Option<Warming>, grace: Duration) {
        if let Some(warming) = warming {
            // Before the workers end, who are asked once more which keys are busy.
            warming.stop().await;
        }
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

/// Begins to read values into the near cache, and what is told when the sidecar may say that it is ready. None: nothing
/// is read.
fn warm(
    config: &Config,
    server: &Server,
    crew: &Crew,
    current: watch::Receiver<Arc<PolicySet>>,
    status: &Status,
) -> std::io::Result<Option<(Warming, oneshot::Receiver<()>)>> {
    if config.warm.0.is_empty() {
        return Ok(None);
    }
    if matches!(server.route.target, Target::Embedded(_)) {
        tracing::warn!("the embedded store has no near cache in front of it, so that nothing is warmed");
        return Ok(None);
    }
    let start = warm::Start {
        route: server.route.clone(),
        clock: crew.clock,
        db: server.facts.db,
        rules: config.warm.0.clone(),
        keys_max: config.warm_keys_max,
        keys_per_second_max: config.warm_keys_per_second_max,
        time_max: Duration::from_millis(config.warm_ms_max),
        counts_file: config.warm_counts_file.clone(),
        orders: crew.workers.iter().map(Worker::orders).collect(),
        metrics: Arc::clone(&crew.metrics),
        current,
    };
    status.warming(true);
    start.begin().map(Some)
}

/// Waits until the first values are there, then says that clients may come. Never returns.
async fn warmed(ready: Option<oneshot::Receiver<()>>, status: &Status) {
    if let Some(ready) = ready {
        // It is closed, and nothing is ever sent on it.
        drop(ready.await);
        status.warming(false);
    }
    std::future::pending().await
}

/// The files that are taken up as they change.
fn watches(target: &Target, door: Option<tls::Server>, users: &Users, clients: &Arc<Clients>) -> Vec<Watch> {
    let mut watches = Vec::new();
    if let Some(tls) = target.tls() {
        let (what, paths, tls) = ("the upstream_tls_… files", tls.paths(), tls.clone());
        watches.push(Watch { what, paths, take_up: Box::new(move || tls.read_again()) });
    }
    if let Some(door) = door {
        let (what, paths) = ("the listen_tls_… files", door.paths());
        watches.push(Watch { what, paths, take_up: Box::new(move || door.read_again()) });
    }
    let (paths, users, clients) = (users.paths(), users.clone(), Arc::clone(clients));
    let take_up = move || {
        users.read_again()?;
        // Who was taken out does not stay in.
        clients.end_users(|user| !users.has(user));
        Ok(())
    };
    watches.push(Watch { what: "the users_file", paths, take_up: Box::new(take_up) });
    watches
}

/// Asks the server about itself until it answers.
async fn wait_for_server(route: &Route, db: u32, system_clock: fn() -> i64) -> ServerFacts {
    let mut attempt = 0;
    loop {
        match Control::new(route).facts(db, system_clock).await {
            Ok(facts) => {
                note_skew(&facts, None);
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

/// Warns of a server whose clock is far from ours, unless it was as far before.
fn note_skew(facts: &ServerFacts, before: Option<&ServerFacts>) {
    /// A clock further off than this makes instants wrong enough to be told.
    const SKEW_MS_MAX: i64 = 1_000;
    let skew_ms = facts.skew_ms;
    let before_ms = before.map_or(0, |before| before.skew_ms);
    if skew_ms.abs_diff(before_ms) <= SKEW_MS_MAX.unsigned_abs() {
        return;
    }
    if skew_ms.abs() > SKEW_MS_MAX {
        tracing::warn!(skew_ms, "the server's clock differs from ours; lifetimes that end at an instant do too");
    } else {
        tracing::info!(skew_ms, "the server's clock agrees with ours again");
    }
}
