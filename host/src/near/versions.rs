//! Versions of keys, for the whole process: what was read before a write is told from what was read after it.

use std::hash::Hasher;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use rustc_hash::FxHasher;

/// Counts the writes to keys, many keys to a counter. A write counts when it is sent and again before its reply is
/// handed on: what is read in between may be from before it.
#[derive(Debug)]
pub struct Versions {
    stripes: Box<[AtomicU64]>,
    /// Writes whose keys are not known.
    all: AtomicU64,
    /// How many wait for writes, and who, with what it waits for.
    watches: AtomicUsize,
    watching: Mutex<Vec<(u64, u32, Waker)>>,
    watched: AtomicU64,
    /// Bytes and values that are kept, of all workers.
    bytes: AtomicU64,
    values: AtomicU64,
}

/// Somebody waits for writes to a key, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    versions: Arc<Versions>,
    number: u64,
}

/// The keys that a command may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Touched {
    /// None.
    #[default]
    Nothing,
    /// One.
    Key(u32),
    /// Several.
    Keys(Rc<[u32]>),
    /// Any.
    All,
}

/// Where the counter of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// A power of two. 64 KiB: two keys of a thousand that are written much share a counter.
const STRIPES: usize = 1 << 13;

// === impl Versions ===

impl Versions {
    /// The version of a key; another one after every write that may have changed it.
    pub fn stamp(&self, key: &[u8]) -> u64 {
        self.stamp_at(Place::of(key))
    }

    /// The version of the keys in this place.
    pub(super) fn stamp_at(&self, place: Place) -> u64 {
        let stripe = self.stripes.get(place.0 as usize).map_or(0, |stripe| stripe.load(Ordering::SeqCst));
        // Both only grow, so that the sum is the same only where both are.
        stripe.wrapping_add(self.all.load(Ordering::SeqCst))
    }

    /// Counts a write.
    pub fn bump(&self, touched: &Touched) {
        let bump = |stripe: &u32| {
            if let Some(stripe) = self.stripes.get(*stripe as usize) {
                stripe.fetch_add(1, Ordering::SeqCst);
            }
        };
        match touched {
            Touched::Nothing => return,
            Touched::Key(stripe) => bump(stripe),
            Touched::Keys(stripes) => stripes.iter().for_each(bump),
            Touched::All => drop(self.all.fetch_add(1, Ordering::SeqCst)),
        }
        if self.watches.load(Ordering::SeqCst) > 0 {
            self.wake(touched);
        }
    }

    #[cold]
    fn wake(&self, touched: &Touched) {
        let watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, stripe, waker) in watching.iter() {
            if touched.is_of(*stripe) {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes somebody with every write that may have changed a key. What was written before it is seen by whoever looks
    /// at the key's version after this.
    pub fn watch(self: &Arc<Self>, key: &[u8], waker: Waker) -> Watch {
        let number = self.watched.fetch_add(1, Ordering::Relaxed);
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).push((number, stripe(key), waker));
        self.watches.fetch_add(1, Ordering::SeqCst);
        Watch { versions: Arc::clone(self), number }
    }

    /// One worker keeps so many bytes and values where it kept others.
    pub(super) fn report(&self, before: (u64, u64), now: (u64, u64)) {
        self.bytes.fetch_add(now.0.wrapping_sub(before.0), Ordering::Relaxed);
        self.values.fetch_add(now.1.wrapping_sub(before.1), Ordering::Relaxed);
    }

    /// Bytes that all workers keep.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Values that all workers keep.
    pub fn values(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            stripes: std::iter::repeat_with(AtomicU64::default).take(STRIPES).collect(),
            all: AtomicU64::default(),
            watches: AtomicUsize::default(),
            watching: Mutex::default(),
            watched: AtomicU64::default(),
            bytes: AtomicU64::default(),
            values: AtomicU64::default(),
        }
    }
}

// === impl Watch ===

impl Drop for Watch {
    fn drop(&mut self) {
        self.versions.watches.fetch_sub(1, Ordering::SeqCst);
        let mut watching = self.versions.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.retain(|(number, ..)| *number != self.number);
    }
}

// === impl Touched ===

impl Touched {
    /// The keys at hand.
    pub fn keys<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let Some(first) = keys.next().map(stripe) else { return Self::Nothing };
        match keys.next() {
            None => Self::Key(first),
            Some(second) => Self::Keys([first, stripe(second)].into_iter().chain(keys.map(stripe)).collect()),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Nothing, touched) | (touched, Self::Nothing) => touched,
            (a, b) => Self::Keys(a.stripes().iter().chain(b.stripes()).copied().collect()),
        }
    }

    /// Whether a key may be among them.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.is_of(stripe(key))
    }

    fn is_of(&self, stripe: u32) -> bool {
        *self == Self::All || self.stripes().contains(&stripe)
    }

    fn stripes(&self) -> &[u32] {
        match self {
            Self::Nothing | Self::All => &[],
            Self::Key(stripe) => std::slice::from_ref(stripe),
            Self::Keys(stripes) => stripes,
        }
    }
}

// === impl Place ===

impl Place {
    pub(super) fn of(key: &[u8]) -> Self {
        Self(stripe(key))
    }
}

/// The hash of a key.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.finish()
}

/// The place of a key's counter. Databases are not told apart: some commands reach into another one.
fn stripe(key: &[u8]) -> u32 {
    (hash(key) >> 7) as u32 & (STRIPES as u32 - 1)
}
