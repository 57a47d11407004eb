//! The near cache: values of hot keys in the sidecar's own memory, as the bytes they came as. Pure: what is read and
//! when, and what arrives, is told by others.
//!
//! What must hold: nobody who asks after a write through this sidecar was acknowledged is given the value from before
//! it. [`Versions`] sees to that for the writes that pass here, on any worker; the server's invalidations, which arrive
//! in the order of its replies, see to it for those that do not.

mod versions;

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use versions::Place;
pub use versions::{Touched, Versions, Watch};

use crate::resp::reply;

/// One worker's values.
pub struct Near {
    versions: Arc<Versions>,
    values: Values,
    value_bytes_max: usize,
    /// Keys that were lately asked for, by their hash: only what is asked for again is kept.
    asked: Box<[u32]>,
    /// What is being read.
    filling: FxHashSet<Key>,
    /// The value that has come and whose lifetime is still to come.
    half: Option<Rc<Fill>>,
    /// The databases whose keys the server watches for us.
    tracked: FxHashSet<u32>,
    /// The databases whose values are left from before the server was lost.
    left_over: FxHashMap<u32, Loss>,
    /// What was last reported.
    reported: (u64, u64),
}

/// When the server was lost.
struct Loss {
    since: Instant,
    /// The same by the clock, once somebody has asked.
    at: Option<i64>,
}

/// A value on its way from the server: read, then asked for its lifetime.
pub struct Fill {
    key: Key,
    place: Place,
    stamp: u64,
    since: i64,
    /// It is to be recomputed when less than so many hundredths of its whole lifetime are left.
    ahead_percent: Option<u8>,
    /// That lifetime, in milliseconds.
    span: Cell<Option<u64>>,
    value: RefCell<Option<Box<[u8]>>>,
}

/// A key in its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    db: u32,
    key: Box<[u8]>,
}

/// The same, borrowed.
#[derive(PartialEq, Eq)]
struct KeyRef<'a> {
    db: u32,
    key: &'a [u8],
}

/// A value.
struct Value {
    /// The reply, as it came.
    reply: Box<[u8]>,
    /// The version of its key when it was asked for, and where that is counted.
    stamp: u64,
    place: Place,
    /// When it was asked for.
    since: i64,
    /// First instant at which it is not served without a further look.
    until: i64,
    /// First instant at which the server has it no more. In between, one client recomputes it.
    end: i64,
    /// A client of this worker has tried for the right to.
    is_tried: Cell<bool>,
}

type Values = Cache<Key, Value, Bytes, FxBuildHasher>;

/// What a value counts for.
#[derive(Clone)]
struct Bytes;

/// What a value takes beside its bytes: its place in the cache and in the allocator, about.
const OVERHEAD_BYTES: usize = 128;
/// Values that are read at one time; more asks than that are for another day.
const FILLING_MAX: usize = 1024;
/// A power of two.
const ASKED_SLOTS: usize = 1 << 16;
/// One value takes at most this part of what a worker may keep.
const VALUE_PART: usize = 16;

// === impl Loss ===

impl Loss {
    fn at(&mut self, now: i64) -> i64 {
        let elapsed = || i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        *self.at.get_or_insert_with(|| now.saturating_sub(elapsed()))
    }
}

// === impl Near ===

impl Near {
    /// Keeps at most `bytes_max` bytes; 0: nothing at all.
    pub fn new(versions: Arc<Versions>, bytes_max: usize) -> Self {
        let items = bytes_max / 1024;
        Self {
            versions,
            values: Cache::with(items, bytes_max as u64, Bytes, FxBuildHasher, DefaultLifecycle::default()),
            value_bytes_max: bytes_max / VALUE_PART,
            asked: if bytes_max > 0 { vec![0; ASKED_SLOTS].into() } else { Box::default() },
            filling: FxHashSet::default(),
            half: None,
            tracked: FxHashSet::default(),
            left_over: FxHashMap::default(),
            reported: (0, 0),
        }
    }

    /// The reply that a GET of this key would have, if it is known.
    pub fn get(&self, db: u32, key: &[u8], near_ms: u64, now: i64) -> Option<&[u8]> {
        let value = self.values.get(&KeyRef { db, key })?;
        let fresh = now >= value.since && now.abs_diff(value.since) < near_ms && now < value.until;
        (fresh && self.tracks(db) && value.stamp == self.versions.stamp_at(value.place)).then_some(&value.reply)
    }

    /// The reply that it had when the server was lost, within so long of that: however old it is, but not from before a
    /// write through this sidecar, even one that failed. To be asked only while there is no server.
    pub fn get_left_over(&mut self, db: u32, key: &[u8], fail_safe_ms: u64, now: i64) -> Option<&[u8]> {
        let lost_at = self.left_over.get_mut(&db)?.at(now);
        let value = self.values.get(&KeyRef { db, key })?;
        let soon = now >= lost_at && now.abs_diff(lost_at) < fail_safe_ms;
        (soon && value.stamp == self.versions.stamp_at(value.place)).then_some(&value.reply)
    }

    /// The same of a value that is near its end, and whether a client of this worker has tried for the right to
    /// recompute it.
    pub fn get_late(&self, db: u32, key: &[u8], near_ms: u64, now: i64) -> Option<(&[u8], bool)> {
        let value = self.values.get(&KeyRef { db, key })?;
        let late = now >= value.until && now < value.end && now.abs_diff(value.since) < near_ms;
        let known = late && self.tracks(db) && value.stamp == self.versions.stamp_at(value.place);
        known.then_some((&*value.reply, value.is_tried.get()))
    }

    /// A client of this worker tries for the right to recompute a value that is near its end.
    pub fn try_late(&self, db: u32, key: &[u8]) {
        if let Some(value) = self.values.peek(&KeyRef { db, key }) {
            value.is_tried.set(true);
        }
    }

    /// Whether a value of this key is kept that no write through this sidecar has changed.
    pub fn holds(&self, db: u32, key: &[u8]) -> bool {
        self.values.peek(&KeyRef { db, key }).is_some_and(|value| value.stamp == self.versions.stamp(key))
    }

    /// Whether any of these keys is being read.
    pub fn is_filling(&self, db: u32, keys: &[Vec<u8>]) -> bool {
        keys.iter().any(|key| self.filling.contains(&Key { db, key: key.as_slice().into() }))
    }

    /// Takes note that a key was asked for and its value not known. A fill: it is worth reading, and the caller reads
    /// it; the value counts as read at `now`.
    pub fn begin(
        &mut self,
        db: u32,
        key: &[u8],
        near_ms: u64,
        ahead_percent: Option<u8>,
        now: i64,
    ) -> Option<Rc<Fill>> {
        let known = self.values.peek(&KeyRef { db, key }).is_some();
        if known | self.was_asked(db, key, near_ms, now) { self.fill(db, key, ahead_percent, now) } else { None }
    }

    /// A fill of a key that is worth reading whoever has asked for it. None: it is being read, or too many are.
    pub fn fill(&mut self, db: u32, key: &[u8], ahead_percent: Option<u8>, now: i64) -> Option<Rc<Fill>> {
        if self.filling.len() >= FILLING_MAX {
            return None;
        }
        let key = Key { db, key: key.into() };
        if !self.filling.insert(key.clone()) {
            return None;
        }
        let place = Place::of(&key.key);
        let stamp = self.versions.stamp_at(place);
        let (span, value) = (Cell::default(), RefCell::default());
        Some(Rc::new(Fill { key, place, stamp, since: now, ahead_percent, span, value }))
    }

    /// Whether this key was asked for in the same stretch of time; from now on it was.
    fn was_asked(&mut self, db: u32, key: &[u8], near_ms: u64, now: i64) -> bool {
        let stretch = now.unsigned_abs() / near_ms.max(1);
        let hash = versions::hash(key) ^ (u64::from(db) << 32);
        // Odd, so that it is never that of an empty slot.
        let mark = ((hash >> 32) as u32 ^ ((stretch as u32) << 1)) | 1;
        let Some(slot) = self.asked.get_mut(hash as usize & (ASKED_SLOTS - 1)) else { return false };
        std::mem::replace(slot, mark) == mark
    }

    /// The reply of the GET of a fill.
    pub fn value_came(&mut self, fill: &Rc<Fill>, frame: &[u8]) {
        // Only what is there is kept: who finds nothing is about to write.
        let there = frame.first() == Some(&reply::kind::BULK) && !reply::is_nil(frame);
        if there && frame.len() <= self.value_bytes_max {
            fill.value.replace(Some(frame.into()));
            self.half = Some(Rc::clone(fill));
        }
    }

    /// The reply of the GET for its whole lifetime, before that.
    pub fn span_came(&mut self, fill: &Rc<Fill>, frame: &[u8]) {
        let text = reply::text(frame).and_then(|text| std::str::from_utf8(text).ok());
        fill.span.set(text.and_then(|text| text.parse().ok()));
    }

    /// The reply of the PTTL behind it: the value is kept.
    pub fn lifetime_came(&mut self, fill: &Rc<Fill>, frame: &[u8]) {
        self.half = None;
        self.filling.remove(&fill.key);
        let (Some(reply), Some(left)) = (fill.value.take(), reply::integer(frame)) else { return };
        let end = match left {
            -1 => i64::MAX,
            // The key has ended in between.
            left if left <= 0 => return,
            left => fill.since.saturating_add(left),
        };
        let last_part = fill.span.get().zip(fill.ahead_percent).map_or(0, |(span, percent)| {
            i64::try_from(span.saturating_mul(u64::from(percent)) / 100).unwrap_or(i64::MAX)
        });
        let until = if left == -1 { end } else { end.saturating_sub(last_part) };
        if self.tracked.contains(&fill.key.db) {
            let (stamp, place, since) = (fill.stamp, fill.place, fill.since);
            let value = Value { reply, stamp, place, since, until, end, is_tried: Cell::default() };
            self.values.insert(fill.key.clone(), value);
            self.report();
        }
    }

    /// What the server says unasked on the connection that reads: keys that are no longer what they were.
    pub fn push_came(&mut self, db: u32, frame: &[u8]) {
        let Some(elements) = reply::elements(frame) else { return };
        if elements.first().and_then(|kind| reply::text(kind)) != Some(b"invalidate") {
            return;
        }
        match elements.get(1).and_then(|keys| reply::elements(keys)) {
            // The whole database was emptied; the message does not say which.
            None => self.forget(db),
            Some(keys) => {
                for key in keys.iter().filter_map(|key| reply::text(key)) {
                    if let Some(half) = self.half.take_if(|half| *half.key.key == *key) {
                        half.value.take();
                    }
                    self.values.remove(&KeyRef { db, key });
                }
            }
        }
        self.report();
    }

    /// The server watches the keys of this database from now on; what is left from before is of no use.
    pub fn track(&mut self, db: u32) {
        self.forget(db);
        self.tracked.insert(db);
        self.report();
    }

    /// Whether it does.
    pub fn tracks(&self, db: u32) -> bool {
        self.tracked.contains(&db)
    }

    /// The connection that the keys of a database were watched on is gone, and what it would have said with it. Values
    /// are left over for the time without a server.
    pub fn lose(&mut self, db: u32) {
        self.stop(db);
        self.left_over.entry(db).or_insert_with(|| Loss { since: Instant::now(), at: None });
    }

    /// The same of a connection that is given up: nothing is left over.
    pub fn give_up(&mut self, db: u32) {
        self.stop(db);
        self.forget(db);
        self.report();
    }

    fn stop(&mut self, db: u32) {
        self.tracked.remove(&db);
        self.filling.retain(|key| key.db != db);
        if let Some(half) = self.half.take_if(|half| half.key.db == db) {
            half.value.take();
        }
    }

    fn forget(&mut self, db: u32) {
        self.left_over.remove(&db);
        if let Some(half) = self.half.take_if(|half| half.key.db == db) {
            half.value.take();
        }
        self.values.retain(|key, _| key.db != db);
    }

    /// Adds what has changed since the last time to what the process tells.
    fn report(&mut self) {
        let now = (self.values.weight(), self.values.len() as u64);
        self.versions.report(self.reported, now);
        self.reported = now;
    }
}

impl std::fmt::Debug for Near {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Near").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

// === impl Fill ===

impl Fill {
    /// The key that is read.
    pub fn key(&self) -> &[u8] {
        &self.key.key
    }

    /// Whether its whole lifetime is to be known.
    pub fn needs_span(&self) -> bool {
        self.ahead_percent.is_some()
    }

    /// Its database.
    pub fn db(&self) -> u32 {
        self.key.db
    }
}

impl PartialEq for Fill {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Fill {}

impl std::fmt::Debug for Fill {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Fill").field("db", &self.key.db).finish_non_exhaustive()
    }
}

// === impl KeyRef ===

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.db.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.db == key.db && *self.key == *key.key
    }
}

// === impl Bytes ===

impl Weighter<Key, Value> for Bytes {
    fn weight(&self, key: &Key, value: &Value) -> u64 {
        (key.key.len() + value.reply.len() + OVERHEAD_BYTES) as u64
    }
}

#[cfg(test)]
mod tests;
