//! One thread, one runtime: its sessions, its lanes, its policy instances. Workers share counters and nothing else.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::busy::Busy;
use crate::clock::Clock;
use crate::command::Table;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::near::Near;
use crate::policy::PolicySet;
use crate::proxy::Policies;
use crate::record::Records;
use crate::resp::Protocol;
use crate::session::{self, Call, Client, Clients, Incoming, Leases, Shared};
use crate::top::{Told, Top};
use crate::upstream::{Lanes, PING_EVERY, Route, ServerFacts};
use crate::users::Users;

/// What all workers are given.
#[derive(Clone)]
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may use the sidecar.
    pub users: Users,
    /// The clock.
    pub clock: Clock,
    /// The way to the server.
    pub route: Route,
    /// How many workers there are.
    pub workers: usize,
    /// What is known of the server.
    pub facts: Arc<ServerFacts>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// Every client of the process.
    pub clients: Arc<Clients>,
    /// Who listens to decisions.
    pub records: Arc<Records>,
    /// The policy set in force.
    pub current: watch::Receiver<Arc<PolicySet>>,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    sessions: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// What a worker is told from outside.
#[derive(Debug)]
pub enum Order {
    /// Serve this client.
    Serve(Incoming, Arc<Client>),
    /// Tell this client what another one has to say.
    Call(u64, Call),
    /// This is known of the server now.
    Facts(Arc<ServerFacts>),
    /// Tell which keys are busy and which large, under the rules of the generation, and which of them are near.
    Top(u64, oneshot::Sender<(Told, Vec<bool>)>),
    /// Read these values into the near cache.
    Warm(Warm),
    /// Answer what is in flight, end all clients, and stop.
    Drain,
}

/// Values that are to be read into the near cache.
#[derive(Debug)]
pub struct Warm {
    /// Their database.
    pub db: u32,
    /// Their keys.
    pub keys: Arc<[Vec<u8>]>,
    /// Told which of them are kept.
    pub done: oneshot::Sender<Vec<bool>>,
}

/// How often it is looked whether values have come.
const WARM_LOOK: Duration = Duration::from_millis(2);

// === impl Worker ===

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(index: usize, setup: Setup) -> io::Result<Self> {
        let (orders, received) = mpsc::unbounded_channel();
        let sessions = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = Arc::clone(&sessions);
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            LocalSet::new().block_on(&runtime, run(index, setup, received, counted));
        })?;
        Ok(Self { orders, sessions, thread })
    }

    /// How many clients it serves.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Tells it something. False: it has stopped.
    pub fn order(&self, order: Order) -> bool {
        if matches!(order, Order::Serve(..)) {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
        self.orders.send(order).is_ok()
    }

    /// A way to tell it something later.
    pub fn orders(&self) -> mpsc::UnboundedSender<Order> {
        self.orders.clone()
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        self.thread.is_finished()
    }
}

async fn run(index: usize, setup: Setup, mut orders: mpsc::UnboundedReceiver<Order>, counted: Arc<AtomicUsize>) {
    let shared = Rc::new(shared(index, setup));
    // So that readiness says whether the server can be reached, and the first client does not wait.
    let db = shared.facts.borrow().db;
    drop(shared.lanes.shared(Protocol::Resp2, db));
    if shared.config.busy_poll_us > 0 {
        let shared = Rc::clone(&shared);
        drop(tokio::task::spawn_local(async move { shared.busy.keep_awake().await }));
    }
    let mut sessions = JoinSet::new();
    let mut look = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Serve(incoming, client)) => {
                    drop(sessions.spawn_local(session::serve(Rc::clone(&shared), incoming, client)));
                }
                Some(Order::Call(id, call)) => session::take_call(&shared, id, call),
                Some(Order::Facts(facts)) => {
                    *shared.commands.borrow_mut() = Rc::new(Table::clone(&facts.commands));
                    *shared.facts.borrow_mut() = facts;
                }
                Some(Order::Warm(asked)) => drop(tokio::task::spawn_local(warm(Rc::clone(&shared), asked))),
                // Who asked may be gone.
                Some(Order::Top(generation, asked)) => drop(asked.send(top(&shared, generation))),
                Some(Order::Drain) | None => break,
            },
            Some(ended) = sessions.join_next() => note_end(ended, &counted),
            _ = look.tick() => {
                shared.lanes.ping_near();
                shared.top.tick();
            }
        }
    }
    shared.draining.set(true);
    for outbox in shared.outboxes.borrow().values() {
        outbox.wake();
    }
    shared.leases.wake();
    while let Some(ended) = sessions.join_next().await {
        note_end(ended, &counted);
    }
}

/// Reads values into the near cache, for as long as somebody waits for that.
async fn warm(shared: Rc<Shared>, Warm { db, keys, done }: Warm) {
    let mut asked = 0;
    while !done.is_closed() {
        let now = shared.clock.now();
        while let Some(key) = keys.get(asked) {
            // Of a rule that keeps none, or of no rule.
            let rule = shared.policies.borrow().near(key);
            if rule.is_some_and(|rule| !shared.lanes.warm(db, key, rule.ahead_percent, now)) {
                break;
            }
            asked += 1;
        }
        if asked == keys.len() && !shared.near.borrow().is_filling(db, &keys) {
            let near = shared.near.borrow();
            // Who asked may be gone by now.
            drop(done.send(keys.iter().map(|key| near.holds(db, key)).collect()));
            return;
        }
        tokio::time::sleep(WARM_LOOK).await;
    }
}

fn top(shared: &Shared, generation: u64) -> (Told, Vec<bool>) {
    let told = shared.top.told(generation);
    let near = shared.near.borrow();
    let holds = told.keys.iter().map(|key| near.holds(key.db, &key.key)).collect();
    (told, holds)
}

fn note_end(ended: Result<(), tokio::task::JoinError>, counted: &AtomicUsize) {
    counted.fetch_sub(1, Ordering::Relaxed);
    if let Err(error) = ended {
        tracing::error!(%error, "a session ended in a fault of bellwether's own");
    }
}

fn shared(worker: usize, setup: Setup) -> Shared {
    let Setup { config, users, clock, mut route, workers, facts, metrics, clients, records, mut current } = setup;
    route.back_off.seed = route.back_off.seed.wrapping_add(worker as u64);
    let set = Arc::clone(&current.borrow_and_update());
    let policies = Policies::new(set, Arc::clone(&metrics), worker, &config).recorded(&records);
    let near_bytes_max = config.near_bytes_max / workers.max(1);
    let near = Rc::new(RefCell::new(Near::new(Arc::clone(&route.versions), near_bytes_max)));
    let commands = RefCell::new(Rc::new(Table::clone(&facts.commands)));
    Shared {
        worker,
        busy: Busy::new(Duration::from_micros(config.busy_poll_us)),
        config,
        users,
        clock,
        lanes: Lanes::new(route, Rc::clone(&near)),
        near,
        top: Top::new(worker as u64 + 1),
        leases: Leases::default(),
        policies: RefCell::new(policies),
        records,
        current: RefCell::new(current),
        facts: RefCell::new(facts),
        commands,
        metrics,
        clients,
        outboxes: RefCell::default(),
        draining: Cell::new(false),
    }
}
