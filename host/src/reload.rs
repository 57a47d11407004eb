//! Loads policies, watches their folder and carries out what operators order, all on one thread of low priority: from
//! files to a generation that decides, all or nothing. Where files come from is its matter; which generations there are
//! and what is in force is [`crate::rollout`]'s.

mod folder;
mod machine;
mod shadow;
mod start;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Config, FolderGate};
use crate::metrics::Metrics;
use crate::policy::reach::Reach;
use crate::policy::{Engine, Mount, PolicySet, Rejected, Stage, one_line, reach};
use crate::record::Records;
use crate::rollout::content::digest;
use crate::rollout::{Came, Content, FolderIs, Gate, Keep, Kept, KeptGeneration, Order, Rollout};

pub use crate::rollout::content::{SETTINGS_BYTES_MAX, Use, named, said_in};
pub use folder::{Fingerprint, Folder};

/// Loads policies and watches their folder.
pub struct Reloader {
    engine: Engine,
    folder: Folder,
    poll: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    last_refusal: Arc<Mutex<Option<Refusal>>>,
    rollout: Arc<Rollout>,
    records: Arc<Records>,
    /// What the folder comes to hold must keep to.
    gate: Option<Gate>,
    /// The folder as it was when it was last read. None: it is to be read.
    seen: Option<Fingerprint>,
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
    rollout: Arc<Rollout>,
    _thread: JoinHandle<()>,
}

/// What the thread that compiles gives way by. At 10 it gets a tenth of a core that a worker wants whole; were it more,
/// a policy that is tried out could exceed its time for want of a core.
const NICENESS: i32 = 10;

// === impl Reloader ===

impl Reloader {
    /// A reloader of a folder over the standard policies.
    ///
    /// # Errors
    /// This machine cannot run policies.
    pub fn new(config: &Config, folder: Folder, clock: Clock) -> anyhow::Result<Self> {
        let rollout = Rollout::new(config.rollout_history_max, config.rollout_history_bytes_max);
        Ok(Self {
            engine: Engine::new(config)?,
            folder: folder.at_most(config.policy_component_bytes_max),
            poll: Duration::from_millis(config.policy_poll_ms.max(1)),
            clock,
            metrics: Arc::default(),
            last_refusal: Arc::default(),
            rollout: Arc::new(rollout),
            records: Arc::default(),
            gate: config.policy_gate.map(|FolderGate { ms, percent }| Gate {
                span: Duration::from_millis(ms),
                differing_max: Some(percent / 100.0),
            }),
            seen: None,
        })
    }

    /// The same, with components compiled in another process ([`Engine::compiled_by`]).
    #[must_use]
    pub fn compiled_by(self, program: PathBuf, config: &Config) -> Self {
        Self { engine: self.engine.compiled_by(program, config), ..self }
    }

    /// Keeps generations in this folder, so that a restart can serve the last good one; takes up what is kept there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn keep_in(&self, folder: PathBuf) -> anyhow::Result<()> {
        let keep = Keep::new(folder)?;
        if keep.bypass() {
            tracing::warn!("bypass is on, as it was when the process ended: policies are out of the path");
            self.rollout.published.set_bypass(true)?;
        }
        self.rollout.set_keep(keep);
        Ok(())
    }

    /// The process's counters, in which it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The generations, and the way to order something.
    pub fn rollout(&self) -> Arc<Rollout> {
        Arc::clone(&self.rollout)
    }

    /// The way to listen to decisions.
    pub fn records(&self) -> Arc<Records> {
        Arc::clone(&self.records)
    }

    /// What the policy folder holds, where it was refused.
    pub fn last_refusal(&self) -> Arc<Mutex<Option<Refusal>>> {
        Arc::clone(&self.last_refusal)
    }

    /// The folder that is watched.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.path()
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

    /// Watches the folder and takes orders on a thread of its own, until what is returned is dropped.
    ///
    /// # Errors
    /// The thread cannot be made, or the first generation was not loaded.
    pub fn watch(self, published: watch::Sender<Arc<PolicySet>>) -> anyhow::Result<Watching> {
        let rollout = Arc::clone(&self.rollout);
        let first = Arc::clone(&published.borrow());
        rollout.published.open(published, first)?;
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!(%error, "policies are compiled at the workers' priority");
            }
            machine::run(self);
        })?;
        Ok(Watching { rollout, _thread: thread })
    }

    /// From files to a set that may decide. Tells how far it is as generation `number`.
    fn load(&self, number: u64, content: &Content, previous: Option<&PolicySet>) -> Result<Arc<PolicySet>, Rejected> {
        let mounts = content.mounts()?;
        if let Some(generation) = self.rollout.board().find(number) {
            generation.has_content(content.clone(), digest(&mounts));
        }
        tracing::debug!("generation {number} is read");
        let mut done = |stage| {
            if let Some(generation) = self.rollout.board().find(number) {
                generation.reached(stage, self.clock.now());
            }
        };
        let set = PolicySet::load_in_steps(&self.engine, number, &mounts, previous, &mut done)?;
        if let Some(generation) = self.rollout.board().find(number) {
            generation.loaded(&set);
        }
        Ok(Arc::new(set))
    }

    /// What the folder holds was refused: `serving` serves on.
    fn refuse_folder(&self, number: u64, rejected: Rejected, serving: u64) {
        self.metrics.generations_refused.add(0, 1);
        tracing::error!("generation {number} refused, {serving} serves on: {rejected}");
        let at = self.clock.now();
        let mut board = self.rollout.board();
        board.reject(number, &rejected, at);
        (board.folder, board.set_aside) = (FolderIs::Refused, None);
        drop(board);
        let Rejected { policy, stage, reason } = rejected;
        let refusal = Refusal { at, generation: number, policy, stage, reason: one_line(&reason) };
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    /// Keeps the generations for a restart, where there is a place for them.
    fn keep(&self) {
        let Some(keep) = self.rollout.keep() else { return };
        let board = self.rollout.board();
        let generation = |(of, content): (&crate::rollout::Generation, &Content)| KeptGeneration {
            number: of.number,
            digest: of.digest.clone(),
            at: of.active_since().unwrap_or_default(),
            content: content.clone(),
        };
        let generations = board.kept().map(generation).collect();
        let kept = Kept { active: board.active, last: board.last, set_aside: board.set_aside.clone(), generations };
        drop(board);
        tracing::debug!("generation {} is being kept", kept.active);
        let written = keep.write(&kept);
        match &written {
            Ok(()) => tracing::debug!("generation {} is kept", kept.active),
            Err(error) => {
                let error = one_line(error);
                tracing::error!(error, "generation {} is not kept: a restart cannot fall back to it", kept.active);
            }
        }
        self.rollout.board().unkept = written.err().map(|error| one_line(&error));
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
        // Nobody waits for an answer.
        drop(self.rollout.order(Order::Stop));
    }
}
