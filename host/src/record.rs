//! Decisions as they were made, for whoever asked to see them: workers put them into bounded queues and never wait.
//! When nobody listens, a decision costs one look at one number. Knows policies by what they answer, and never how.

mod compare;
mod trace;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;

pub use compare::{Candidate, Verdict};
pub use trace::{Head, Line, TRACE_VERSION};

use crate::command::Data;
use crate::policy::{Cost, Expiry, MarketError, MarketSession};

/// One decision with all that it was made from. The key is the client's, and may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one it is of those that this process has made records of, from 1.
    pub id: u64,
    /// When, by the system's clock, in milliseconds since 1970.
    pub time: i64,
    /// The policy set that was in force.
    pub generation: u64,
    /// The policy that was asked.
    pub policy: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The rule the key is under.
    pub rule: String,
    /// The rule's prefix.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// What the write does.
    pub command: Data,
    /// The size of the value.
    pub value_bytes: u64,
    /// The lifetime the client asked for.
    pub client_ttl: Option<u64>,
    /// The policies' clock, which may be shifted.
    pub now: i64,
    /// The key's market.
    pub market: Option<RecordedMarket>,
    /// What was decided, or why nothing was, in one line.
    pub decision: Result<Decided, String>,
    /// What asking took. None: the policy was not asked.
    pub cost: Option<Cost>,
    /// An earlier decision was still valid.
    pub memoized: bool,
    /// The lifetime of the rule's fallback, where it applied.
    pub fallback: Option<u64>,
}

/// A key's market, and what it was doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedMarket {
    /// Its name.
    pub name: String,
    /// Its session. None: it could not be asked for one.
    pub session: Option<Result<MarketSession, MarketError>>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The lifetime.
    pub expiry: Expiry,
    /// The span before its end over which keys are spread.
    pub spread_ms: u64,
    /// First instant at which it is not valid. None: it is valid for good.
    pub valid_until: Option<i64>,
    /// Why. Empty of a decision that was remembered, since reasons are not.
    pub reason: String,
}

/// How many of all decisions are recorded: one of so many, taken at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(NonZeroU32);

/// Who listens to the decisions of this process.
#[derive(Debug, Default)]
pub struct Records {
    /// Which listeners there are, as a number that changes with them. 0: none.
    version: AtomicU64,
    slots: Mutex<Slots>,
    made: AtomicU64,
    dropped: AtomicU64,
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    records: Arc<Records>,
    slot: Arc<Slot>,
    queue: Receiver<Arc<Record>>,
}

/// A worker's end: where its decisions go.
#[derive(Debug)]
pub struct Tap {
    records: Arc<Records>,
    /// The listeners that it knows are those of this version.
    version: u64,
    slots: Vec<Arc<Slot>>,
    /// Those that want the next one, a bit each.
    wanted: u32,
    random: u64,
}

#[derive(Debug, Default)]
struct Slots {
    versions: u64,
    all: Vec<Arc<Slot>>,
}

/// The way to one listener.
#[derive(Debug)]
struct Slot {
    sample: Sample,
    queue: SyncSender<Arc<Record>>,
    /// Bytes of the records that wait.
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Listeners at one time: each costs every decision a little.
pub const LISTENERS_MAX: usize = 8;
/// Records that one listener's queue may hold.
pub const CAPACITY_MAX: usize = 65_536;
/// Bytes that they may have together: keys and reasons are as long as clients and policies make them.
pub const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often a listener that waits looks. It is not woken: that would cost the worker a call of the system.
const LOOK: Duration = Duration::from_millis(5);

// === impl Sample ===

impl Sample {
    /// Every decision.
    pub const ALL: Self = Self(NonZeroU32::MIN);

    /// One of so many. None: of none.
    pub fn one_of(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Reads `1/100`, or `1` for all.
    pub fn parse(text: &str) -> Option<Self> {
        Self::one_of(text.strip_prefix('1').and_then(|rest| match rest.strip_prefix('/') {
            Some(number) => number.parse().ok(),
            None => rest.is_empty().then_some(1),
        })?)
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "1/{}", self.0)
    }
}

// === impl Records ===

impl Records {
    /// Begins to listen: to a sample of all decisions from now on, with room for so many that have not been taken, and
    /// for [`WAITING_BYTES_MAX`]. What comes when there is no room is dropped and counted. Ends when the listener is
    /// dropped.
    ///
    /// # Errors
    /// There are as many listeners as there may be.
    pub fn listen(self: &Arc<Self>, sample: Sample, capacity: usize) -> anyhow::Result<Listener> {
        let (sender, queue) = sync_channel(capacity.clamp(1, CAPACITY_MAX));
        let slot =
            Arc::new(Slot { sample, queue: sender, waiting_bytes: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
        let mut slots = self.slots();
        ensure!(slots.all.len() < LISTENERS_MAX, "{LISTENERS_MAX} listen to decisions already; end one of them");
        slots.all.push(Arc::clone(&slot));
        self.renew(&mut slots);
        Ok(Listener { records: Arc::clone(self), slot, queue })
    }

    /// A worker's end. `seed` sets workers apart.
    pub fn tap(self: &Arc<Self>, seed: u64) -> Tap {
        let random = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Tap { records: Arc::clone(self), version: 0, slots: Vec::new(), wanted: 0, random }
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.slots().all.len()
    }

    /// Decisions that records were made of.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Records that a listener had no room for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the workers that the listeners are others.
    fn renew(&self, slots: &mut Slots) {
        slots.versions += 1;
        let version = if slots.all.is_empty() { 0 } else { slots.versions };
        self.version.store(version, Ordering::Relaxed);
    }
}

// === impl Listener ===

impl Listener {
    /// The next record, if there is one.
    pub fn try_recv(&self) -> Option<Arc<Record>> {
        // The listener holds a way into its own queue, so that this is empty at worst and has no end.
        let record = self.queue.try_recv().ok()?;
        self.slot.waiting_bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        Some(record)
    }

    /// The next record, for which the thread waits so long. Not for a thread that runs tasks.
    pub fn recv(&self, timeout: Duration) -> Option<Arc<Record>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(record) = self.try_recv() {
                return Some(record);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left.min(LOOK));
        }
    }

    /// Records that there was no room for.
    pub fn dropped(&self) -> u64 {
        self.slot.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut slots = self.records.slots();
        slots.all.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        self.records.renew(&mut slots);
    }
}

// === impl Slot ===

impl Slot {
    /// Takes a record if there is room for it. One that nobody will take, since its listener ends, is no loss.
    fn takes(&self, record: &Arc<Record>, bytes: usize) -> bool {
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = waiting.saturating_add(bytes) <= WAITING_BYTES_MAX
            && !matches!(self.queue.try_send(Arc::clone(record)), Err(TrySendError::Full(_)));
        if !taken {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }
}

// === impl Record ===

impl Record {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let told = self.decision.as_ref().map_or_else(String::len, |decided| decided.reason.len());
        let texts = [&self.policy, &self.digest, &self.rule, &self.namespace, &self.key];
        let texts = texts.iter().map(|text| text.len()).sum::<usize>();
        size_of::<Self>() + texts + told + self.market.as_ref().map_or(0, |market| market.name.len())
    }
}

// === impl Tap ===

impl Tap {
    /// Whether the next decision is to be recorded.
    #[inline]
    pub fn wants(&mut self) -> bool {
        self.records.version.load(Ordering::Relaxed) != 0 && self.draws()
    }

    /// Hands a decision to those who wanted it; its `id` is given here.
    pub fn push(&mut self, mut record: Record) {
        record.id = self.records.made.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = record.bytes();
        let record = Arc::new(record);
        for (place, slot) in self.slots.iter().enumerate() {
            if self.wanted >> place & 1 == 1 && !slot.takes(&record, bytes) {
                slot.dropped.fetch_add(1, Ordering::Relaxed);
                self.records.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn draws(&mut self) -> bool {
        let version = self.records.version.load(Ordering::Relaxed);
        if version != self.version {
            self.version = version;
            self.slots = self.records.slots().all.clone();
        }
        self.wanted = 0;
        for (place, slot) in self.slots.iter().enumerate() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let number = (self.random >> 32) as u32;
            self.wanted |= u32::from(number.is_multiple_of(slot.sample.0.get())) << place;
        }
        self.wanted != 0
    }
}

#[cfg(test)]
mod tests;
