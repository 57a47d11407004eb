//! Reads values into the near cache before clients ask for them: at the start, and again before markets open. Counts
//! which keys are read most, so that the busiest are known after a restart. On a thread of its own, beside the traffic.

mod alarm;
mod ask;
mod counts;
mod fill;
mod http;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::config::warm::WarmRule;
use crate::files;
use crate::metrics::Metrics;
use crate::policy::{PolicySet, one_line};
use crate::proxy::openings::{Openings, Trading};
use crate::top::Told;
use crate::upstream::Route;
use crate::worker::Order;
use alarm::Alarm;
use counts::Counts;
use fill::{Due, Fill, takes};

/// What values are read with.
pub struct Start {
    /// The way to the server.
    pub route: Route,
    /// The policies' clock.
    pub clock: Clock,
    /// The database.
    pub db: u32,
    /// Which keys, and when.
    pub rules: Vec<WarmRule>,
    /// Keys that are read at one time.
    pub keys_max: usize,
    /// Keys a second.
    pub keys_per_second_max: u32,
    /// How long it may take.
    pub time_max: Duration,
    /// Where counts of reads are kept.
    pub counts_file: Option<PathBuf>,
    /// Ways to ask the workers.
    pub orders: Vec<mpsc::UnboundedSender<Order>>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// The policy set in force.
    pub current: watch::Receiver<Arc<PolicySet>>,
}

/// What goes on until it is told to stop.
#[derive(Debug)]
pub struct Warming {
    stop: oneshot::Sender<()>,
    /// Closed when all has been kept that is to be kept.
    ended: oneshot::Receiver<()>,
}

/// The thread's own part.
struct Running {
    start: Start,
    counts: Counts,
    /// Beside the rules. None: the rule is about no market.
    alarms: Vec<Option<Alarm>>,
    openings: Openings,
    generation: u64,
    /// What has gone wrong with markets under the generation.
    told: BTreeSet<String>,
    sampled: Instant,
}

/// How often it is looked what is due, and which keys are busy.
const LOOK: Duration = Duration::from_secs(1);
/// Looks until the counts are kept in their file.
const LOOKS_UNTIL_KEPT: u32 = 10;
/// Without a market, this is a session.
const SESSION_MS: i64 = 6 * 60 * 60 * 1000;
/// How long the end waits for workers that are busy.
const END_MAX: Duration = Duration::from_millis(500);

// === impl Start ===

impl Start {
    /// Begins. The receiver is closed when the first values are there, when that cannot be, or has taken too long.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn begin(self) -> io::Result<(Warming, oneshot::Receiver<()>)> {
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("warm".into()).spawn(move || {
            runtime.block_on(async move {
                let mut running = Running::new(self);
                tokio::select! {
                    _ = stopped => {}
                    () = running.follow(ready) => {}
                }
                // Workers that do not answer any more have told most of it before.
                drop(tokio::time::timeout(END_MAX, running.sample()).await);
                running.keep();
                drop(ending);
            });
        })?;
        Ok((Warming { stop, ended }, is_ready))
    }

    fn bar(&self) -> ProgressBar {
        if !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("warming the near cache {spinner} {human_pos} keys {per_sec}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    }
}

// === impl Warming ===

impl Warming {
    /// Stops, and waits until the counts are kept.
    pub async fn stop(self) {
        drop(self.stop);
        // A disk that hangs must not hold the end up.
        drop(tokio::time::timeout(END_MAX * 2, self.ended).await);
    }
}

// === impl Running ===

impl Running {
    fn new(mut start: Start) -> Self {
        let set = Arc::clone(&start.current.borrow_and_update());
        let wanted = start.rules.iter().filter_map(|rule| Some((counted_as(rule), rule.top?)));
        let mut counts = Counts::new(wanted);
        match start.counts_file.as_deref() {
            _ if counts.is_empty() => {}
            Some(path) => take_over(&mut counts, path),
            None => tracing::warn!(
                "a [[warm]] rule has top, and warm_counts_file is not set: the counts of reads are forgotten at the end"
            ),
        }
        let alarm = |rule: &WarmRule| rule.opening.as_ref().map(|opening| Alarm::new(opening.before_ms));
        let alarms = start.rules.iter().map(alarm).collect();
        let (openings, generation) = (Openings::new(Arc::clone(&set)), set.generation);
        Self { start, counts, alarms, openings, generation, told: BTreeSet::new(), sampled: Instant::now() }
    }

    /// Reads values at the start and whenever a rule is due. Does not return while anything may be.
    async fn follow(&mut self, ready: oneshot::Sender<()>) {
        // An opening that is near is prepared for by what is done now.
        let near = self.due();
        let all = (0..self.start.rules.len()).map(|place| {
            let open = near.iter().find(|(of, _)| *of == place).map(|(_, open)| *open);
            (place, open)
        });
        self.fill(&all.collect::<Vec<_>>(), "").await;
        drop(ready);
        if self.counts.is_empty() && self.alarms.iter().all(Option::is_none) {
            return std::future::pending().await;
        }
        let mut looks = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            self.sample().await;
            looks += 1;
            if looks % LOOKS_UNTIL_KEPT == 0 {
                self.keep();
            }
            let due = self.due();
            if !due.is_empty() {
                let due: Vec<_> = due.into_iter().map(|(place, open)| (place, Some(open))).collect();
                self.fill(&due, " before the opening").await;
            }
        }
    }

    /// The rules that are due before an opening, each with it.
    fn due(&mut self) -> Vec<(usize, i64)> {
        let now = self.start.clock.now();
        let mut due = Vec::new();
        for place in 0..self.start.rules.len() {
            let Some(trading) = self.trading(place, now) else { continue };
            let alarm = self.alarms.get_mut(place).and_then(Option::as_mut);
            let open = alarm.and_then(|alarm| alarm.due(now, trading.next_open));
            due.extend(open.map(|open| (place, open)));
        }
        due
    }

    /// What the market of a rule is doing. None: it has none, or nobody knows.
    fn trading(&mut self, place: usize, now: i64) -> Option<Trading> {
        let market = &self.start.rules.get(place)?.opening.as_ref()?.market;
        if self.start.current.has_changed().unwrap_or(false) {
            let set = Arc::clone(&self.start.current.borrow_and_update());
            self.generation = set.generation;
            self.openings = Openings::new(set);
            self.told.clear();
        }
        match self.openings.at(market, now) {
            Ok(trading) => Some(trading),
            Err(error) => {
                let error = one_line(&error);
                if self.told.insert(error.clone()) {
                    let generation = self.generation;
                    tracing::warn!(%error, generation, "when {market} opens is not known; no values are read before");
                }
                None
            }
        }
    }

    /// Asks the workers which keys are read, and counts them.
    async fn sample(&mut self) {
        if self.counts.is_empty() {
            return;
        }
        let set = Arc::clone(&self.start.current.borrow());
        let mut told = Vec::new();
        for orders in &self.start.orders {
            let (tell, answer) = oneshot::channel();
            // One that has stopped tells nothing.
            if orders.send(Order::Top(set.generation, tell)).is_ok()
                && let Ok((answer, _)) = answer.await
            {
                told.push(answer);
            }
        }
        let seconds = self.sampled.elapsed().as_secs_f64();
        self.sampled = Instant::now();
        let now = self.start.clock.now();
        for place in 0..self.start.rules.len() {
            let Some(session) = self.session(place, now) else { continue };
            let Some(rule) = self.start.rules.get(place).filter(|rule| rule.top.is_some()) else { continue };
            note(&mut self.counts, rule, session, &told, &set, self.start.db, seconds);
        }
    }

    /// The session that reads are counted in now. None: the rule's market is closed, and what is read then is not what
    /// is read while it trades.
    fn session(&mut self, place: usize, now: i64) -> Option<i64> {
        let has_market = self.start.rules.get(place)?.opening.is_some();
        match self.trading(place, now) {
            Some(trading) if trading.active => Some(trading.previous_close.unwrap_or(0)),
            Some(_) => None,
            None if has_market => Some(0),
            None => Some(now / SESSION_MS),
        }
    }

    /// Writes the counts to their file, if they have changed.
    fn keep(&mut self) {
        let Some(path) = &self.start.counts_file else { return };
        let Some(text) = self.counts.take_text() else { return };
        if let Err(error) = write(path, &text) {
            tracing::warn!(error = %one_line(&error), "which keys are read most is not kept (warm_counts_file)");
        }
    }

    /// Reads the values of these rules, each for its opening, and says how it went.
    async fn fill(&mut self, due: &[(usize, Option<i64>)], when: &str) {
        let (start, begun, bar) = (&self.start, Instant::now(), self.start.bar());
        let rule = |(place, open): &(usize, Option<i64>)| Some(Due { rule: start.rules.get(*place)?, open: *open });
        let due: Vec<_> = due.iter().filter_map(rule).collect();
        start.metrics.warm_running.store(1, Ordering::Relaxed);
        let mut fill = Fill::new(start, &self.counts, &bar);
        let filled = tokio::time::timeout(start.time_max, async {
            for due in &due {
                fill.rule(*due).await?;
            }
            anyhow::Ok(())
        });
        let filled = filled.await;
        bar.finish_and_clear();
        start.metrics.warm_running.store(0, Ordering::Relaxed);
        start.metrics.warm_runs.add(0, 1);
        let Fill { found, kept, asked, .. } = fill;
        let rules = due.iter().map(|due| due.rule.to_string()).collect::<Vec<_>>().join(", ");
        let (ms, goes_on) = (begun.elapsed().as_millis(), if when.is_empty() { "; ready all the same" } else { "" });
        match filled {
            Ok(Ok(())) => {
                tracing::info!("warmed the near cache{when}: {kept} of {found} keys of {rules} in {ms} ms{asked}");
            }
            Ok(Err(error)) => tracing::warn!(
                error = %one_line(&error),
                "the near cache is not warm{when}: {kept} of {found} keys of {rules}{goes_on}{asked}"
            ),
            Err(_) => tracing::warn!(
                "the near cache was not warm within warm_ms_max{when}: {kept} of {found} keys of {rules} in {ms} \
                 ms{goes_on}{asked}"
            ),
        }
    }
}

/// The words that a rule's keys are counted under: rules about two markets have two sessions.
fn counted_as(rule: &WarmRule) -> String {
    match &rule.opening {
        None => rule.to_string(),
        Some(opening) => format!("{rule} of {}", opening.market),
    }
}

/// Counts what workers have seen of a rule's keys.
fn note(counts: &mut Counts, rule: &WarmRule, session: i64, told: &[Told], set: &PolicySet, db: u32, seconds: f64) {
    let words = counted_as(rule);
    for key in told.iter().flat_map(|told| &told.keys) {
        // Of longer keys only the beginning is known.
        let whole = key.key_bytes == key.key.len();
        if key.db == db && whole && key.reads_per_second > 0.0 && takes(rule, set, &key.key) {
            counts.note(&words, session, &key.key, key.reads_per_second * seconds);
        }
    }
}

/// Takes over the counts of a file, if there is one.
fn take_over(counts: &mut Counts, path: &Path) {
    if !path.exists() {
        return;
    }
    let text = files::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match text {
        Ok(text) if counts.take_over(&text) => {}
        Ok(_) => tracing::warn!("{} holds no counts of reads; it is written anew (warm_counts_file)", path.display()),
        Err(error) => tracing::warn!(error = %one_line(&error), "which keys were read most is not known"),
    }
}

/// Puts a text in a file's place in one step, so that nobody finds a half. Only its owner may read it: keys may say
/// something of people.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let cannot = || format!("cannot write {}", beside.display());
    // One that a dead process left may be somebody else's.
    drop(std::fs::remove_file(&beside));
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}
