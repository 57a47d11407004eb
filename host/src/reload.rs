//! The policy folder: reads it, loads what it says, and puts it in force, all or nothing. The only place that replaces
//! the policy set; compiling happens on a thread of its own.

mod folder;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::policy::reach::Reach;
use crate::policy::{Engine, Mount, PolicySet, Rejected, Stage, one_line, reach};

pub use folder::{Fingerprint, Folder, SETTINGS_BYTES_MAX, Use, named, settings_of};

/// Loads policies and watches their folder.
pub struct Reloader {
    engine: Engine,
    folder: Folder,
    poll: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    last_refusal: Arc<Mutex<Option<Refusal>>>,
    /// The folder as it was when the set in force was read.
    seen: Fingerprint,
}

/// A policy set that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: i64,
    /// The generation that it would have been.
    pub generation: u64,
    /// The policy at fault.
    pub policy: Option<String>,
    /// How far it came.
    pub stage: Stage,
    /// Why, in one line.
    pub reason: String,
}

/// Watches until it is dropped.
pub struct Watching {
    thread: Option<(Thread, JoinHandle<()>)>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

// === impl Reloader ===

impl Reloader {
    /// A reloader of a folder over the standard policies.
    ///
    /// # Errors
    /// This machine cannot run policies.
    pub fn new(config: &Config, folder: Folder, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self {
            engine: Engine::new(config)?,
            folder,
            poll: Duration::from_millis(config.policy_poll_ms.max(1)),
            clock,
            metrics: Arc::default(),
            last_refusal: Arc::default(),
            seen: Fingerprint::default(),
        })
    }

    /// The process's counters, in which it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The last set that was refused.
    pub fn last_refusal(&self) -> Arc<Mutex<Option<Refusal>>> {
        Arc::clone(&self.last_refusal)
    }

    /// The folder that is watched.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.path()
    }

    /// Loads the first generation.
    ///
    /// # Errors
    /// It does not load: there is nothing older to serve with.
    pub fn first(&mut self) -> Result<Arc<PolicySet>, Rejected> {
        let begun = Instant::now();
        self.seen = self.folder.fingerprint();
        let set = PolicySet::load(&self.engine, 1, &self.folder.mounts()?, None)?;
        tracing::info!("generation 1 ({}) {} ms", set.digests(), begun.elapsed().as_millis());
        self.metrics.generations.add(0, 1);
        self.note_markets(&set);
        Ok(Arc::new(set))
    }

    /// The policies that the folder and the standard set make, unloaded.
    ///
    /// # Errors
    /// A file cannot be read, or says what cannot be.
    pub fn mounts(&self) -> Result<Vec<Mount>, Rejected> {
        self.folder.mounts()
    }

    /// The engine that policies are loaded with.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Watches the folder on a thread of its own, until what is returned is dropped.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn watch(self, published: watch::Sender<Arc<PolicySet>>) -> std::io::Result<Watching> {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        if self.folder.path().is_none() {
            return Ok(Watching { thread: None, stop });
        }
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || self.run(&published, &stopped))?;
        Ok(Watching { thread: Some((thread.thread().clone(), thread)), stop })
    }

    fn run(mut self, published: &watch::Sender<Arc<PolicySet>>, stop: &std::sync::atomic::AtomicBool) {
        let mut previous = self.seen.clone();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::park_timeout(self.poll);
            let now = self.folder.fingerprint();
            // Two equal looks: what is being written has been written.
            let settled = now == previous;
            previous = now.clone();
            if settled && now != self.seen {
                self.seen = now;
                self.reload(published);
            }
        }
    }

    fn reload(&self, published: &watch::Sender<Arc<PolicySet>>) {
        let begun = Instant::now();
        let old = Arc::clone(&published.borrow());
        let generation = old.generation + 1;
        let load = || PolicySet::load(&self.engine, generation, &self.folder.mounts()?, Some(&old));
        match load() {
            Ok(set) if set.is_same(&old) => match self.forget_refusal() {
                Some(_) => tracing::info!("the policy folder holds again what generation {} serves", old.generation),
                None => tracing::debug!("the policy folder changed, the policies did not"),
            },
            Ok(set) => {
                let changed = set.changes_from(&old);
                self.metrics.generations.add(0, 1);
                let set = Arc::new(set);
                // Before, so that who sees the generation does not see a refusal that is over.
                self.forget_refusal();
                published.send_replace(Arc::clone(&set));
                let ms = begun.elapsed().as_millis();
                tracing::info!("generation {} → {generation} ({changed}) {ms} ms", old.generation);
                self.note_markets(&set);
            }
            Err(rejected) => {
                self.metrics.generations_refused.add(0, 1);
                tracing::error!("generation {generation} refused, {} serves on: {rejected}", old.generation);
                let refusal = Refusal {
                    at: self.clock.now(),
                    generation,
                    policy: rejected.policy,
                    stage: rejected.stage,
                    reason: one_line(&rejected.reason),
                };
                *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            }
        }
    }

    /// Keeps how far the calendars of a new generation reach, and warns of those of its rules that end soon.
    fn note_markets(&self, set: &PolicySet) {
        let markets = match set.markets() {
            Ok(markets) => markets,
            Err(error) => {
                tracing::warn!(error = %one_line(&error), "the markets could not say how far their calendars reach");
                return;
            }
        };
        let of_rules = Reach::of_rules(&set.rules, &markets);
        let named = of_rules.iter().filter_map(Reach::horizon).collect();
        self.metrics.renew_horizons(named, |name| reach::find(&markets, name).map(|market| market.horizon));
        let now = self.clock.now();
        let warning = |of: &Reach| Some(format!("{}: {}", of.name, of.warning(now)?));
        let warnings: Vec<_> = of_rules.iter().filter_map(warning).collect();
        if !warnings.is_empty() {
            let generation = set.generation;
            tracing::warn!(generation, "markets of rules: {}; `bellwether check` says more", warnings.join("; "));
        }
    }

    /// What was refused is no longer in the folder: gives what was known of it.
    fn forget_refusal(&self) -> Option<Refusal> {
        self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

// === impl Watching ===

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some((thread, _)) = &self.thread {
            thread.unpark();
        }
    }
}
