//! The keys: what each holds, until when, what they weigh together, and which are watched. No commands, no replies.
//!
//! Keys stand in an index that moves a key only down, and only when another is removed. A scan that goes from the end
//! to the front therefore meets every key that is there from its beginning to its end, and its cursor is a position.
//! An expired key is absent to every reader; its memory comes back by [`Keyspace::sweep`].

use std::{cell::Cell, collections::BTreeSet, collections::HashMap, rc::Rc};

use indexmap::IndexMap;

use super::{
    call::Error,
    value::{ELEMENT_BYTES, Kind, Value},
};

/// A key's name, shared by the index, the deadlines and the watches.
type Key = Rc<[u8]>;

/// What an edit gives, and whether it changed the value: an unchanged value wakes no watch, and a value that was made
/// for the edit and is unchanged goes again.
pub(super) type Edited<R> = Result<(R, bool), Error>;

/// All keys of the database.
#[derive(Debug, Default)]
pub(super) struct Keyspace {
    /// The time of the command that runs.
    pub(super) now_ms: i64,
    entries: IndexMap<Key, Entry>,
    deadlines: BTreeSet<(i64, Key)>,
    watched: HashMap<Key, Watched>,
    used_bytes: usize,
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// The key lives up to and including this instant.
    pub(super) expires_at_ms: Option<i64>,
    bytes: usize,
    used_at_ms: Cell<i64>,
}

/// A key as it was when a session began to watch it.
#[derive(Debug)]
pub(super) struct Watch {
    key: Key,
    version: u64,
}

#[derive(Debug, Default)]
struct Watched {
    version: u64,
    sessions: usize,
}

// === impl Keyspace ===

impl Keyspace {
    /// How many keys there are, expired ones that are not yet swept included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys have an expiry.
    pub(super) fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// What all keys weigh, roughly.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The key, when it is there.
    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| !entry.is_expired(self.now_ms))
    }

    /// The key at a position, when it is there.
    pub(super) fn at(&self, index: usize) -> Option<(&[u8], &Entry)> {
        let (key, entry) = self.entries.get_index(index)?;
        (!entry.is_expired(self.now_ms)).then_some((key.as_ref(), entry))
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.entry(key).is_some()
    }

    /// What the key holds.
    ///
    /// # Errors
    /// It holds something of another kind.
    pub(super) fn read<T: Kind>(&self, key: &[u8]) -> Result<Option<&T>, Error> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        entry.touch(self.now_ms);
        T::of(&entry.value).map(Some).ok_or(Error::WRONG_TYPE)
    }

    /// Changes what the key holds, beginning with an empty value when there is none.
    pub(super) fn edit<T: Kind, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<R, Error> {
        self.drop_expired(key);
        let (index, created) = match self.entries.get_index_of(key) {
            Some(index) => (index, false),
            None => (self.insert(key, T::default().into_value()), true),
        };
        self.edit_at(index, created, change)
    }

    /// Changes what the key holds; none when there is no key.
    pub(super) fn edit_present<T: Kind, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<Option<R>, Error> {
        self.drop_expired(key);
        match self.entries.get_index_of(key) {
            Some(index) => self.edit_at(index, false, change).map(Some),
            None => Ok(None),
        }
    }

    /// Sets what the key holds and when it expires, whatever was there.
    pub(super) fn put(&mut self, key: &[u8], value: Value, expires_at_ms: Option<i64>) {
        let index = match self.entries.get_full_mut(key) {
            Some((index, _, entry)) => {
                entry.value = value;
                index
            }
            None => self.insert(key, value),
        };
        self.set_deadline(index, expires_at_ms);
        self.settle(index);
    }

    /// Sets when the key expires: whether there is such a key.
    pub(super) fn set_expiry(&mut self, key: &[u8], expires_at_ms: Option<i64>) -> bool {
        self.drop_expired(key);
        let Some(index) = self.entries.get_index_of(key) else {
            return false;
        };
        self.set_deadline(index, expires_at_ms);
        self.wake(key);
        true
    }

    /// Removes the key: what was there.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.get_index_of(key).and_then(|index| self.remove_at(index))?;
        (!entry.is_expired(self.now_ms)).then_some(entry)
    }

    /// Removes all keys.
    pub(super) fn clear(&mut self) {
        for (key, watched) in &mut self.watched {
            watched.version += u64::from(self.entries.contains_key(key));
        }
        (self.entries, self.deadlines, self.used_bytes) = (IndexMap::new(), BTreeSet::new(), 0);
    }

    /// Gives back the memory of expired keys, the longest expired first: how many, at most `count_max`.
    pub(super) fn sweep(&mut self, count_max: usize) -> usize {
        self.shrink();
        for count in 0..count_max {
            match self.deadlines.first() {
                Some((deadline, key)) if *deadline < self.now_ms => {
                    let key = Rc::clone(key);
                    self.drop_expired(&key);
                }
                _ => return count,
            }
        }
        count_max
    }

    /// Begins to watch the key.
    pub(super) fn watch(&mut self, key: &[u8]) -> Watch {
        self.drop_expired(key);
        let key: Key = key.into();
        let watched = self.watched.entry(Rc::clone(&key)).or_default();
        watched.sessions += 1;
        Watch { key, version: watched.version }
    }

    /// Whether the key was changed since, or is expired.
    pub(super) fn is_changed(&self, watch: &Watch) -> bool {
        self.watched.get(&watch.key).is_none_or(|watched| watched.version != watch.version)
            || self.entries.get(&watch.key).is_some_and(|entry| entry.is_expired(self.now_ms))
    }

    /// Ends a watch.
    pub(super) fn unwatch(&mut self, watch: &Watch) {
        if let Some(watched) = self.watched.get_mut(&watch.key) {
            watched.sessions -= 1;
            if watched.sessions == 0 {
                self.watched.remove(&watch.key);
            }
        }
    }

    /// Gives back the index's own memory, when most of it stands empty.
    fn shrink(&mut self) {
        /// Below this it is not worth the move.
        const CAPACITY_MIN: usize = 1024;
        if self.entries.capacity() > CAPACITY_MIN && self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    fn edit_at<T: Kind, R>(
        &mut self,
        index: usize,
        created: bool,
        change: impl FnOnce(&mut T) -> Edited<R>,
    ) -> Result<R, Error> {
        let now_ms = self.now_ms;
        let outcome = match self.entries.get_index_mut(index) {
            Some((_, entry)) => {
                entry.touch(now_ms);
                T::of_mut(&mut entry.value).ok_or(Error::WRONG_TYPE).and_then(change)
            }
            None => Err(Error::NO_SUCH_KEY),
        };
        match outcome {
            Ok((_, true)) => self.settle(index),
            // What was made for the edit was never there for anyone: it has no weight, no deadline and no watch.
            Ok((_, false)) | Err(_) if created => drop(self.entries.swap_remove_index(index)),
            Ok((_, false)) | Err(_) => {}
        }
        outcome.map(|(result, _)| result)
    }

    fn insert(&mut self, key: &[u8], value: Value) -> usize {
        let entry = Entry { value, expires_at_ms: None, bytes: 0, used_at_ms: Cell::new(self.now_ms) };
        self.entries.insert_full(key.into(), entry).0
    }

    /// Weighs a changed key, wakes who watches it, and lets it go when nothing is left in it.
    fn settle(&mut self, index: usize) {
        let Some((key, entry)) = self.entries.get_index_mut(index) else {
            return;
        };
        let key = Rc::clone(key);
        if entry.value.is_empty() {
            self.remove_at(index);
            return;
        }
        let bytes = key.len() + ELEMENT_BYTES + entry.value.bytes();
        self.used_bytes = self.used_bytes + bytes - entry.bytes;
        entry.bytes = bytes;
        self.wake(&key);
    }

    fn set_deadline(&mut self, index: usize, expires_at_ms: Option<i64>) {
        let Some((key, entry)) = self.entries.get_index_mut(index) else {
            return;
        };
        let old = std::mem::replace(&mut entry.expires_at_ms, expires_at_ms);
        if let Some(old) = old {
            self.deadlines.remove(&(old, Rc::clone(key)));
        }
        if let Some(deadline) = expires_at_ms {
            self.deadlines.insert((deadline, Rc::clone(key)));
        }
    }

    fn remove_at(&mut self, index: usize) -> Option<Entry> {
        let (key, entry) = self.entries.swap_remove_index(index)?;
        self.used_bytes -= entry.bytes;
        self.wake(&key);
        if let Some(deadline) = entry.expires_at_ms {
            self.deadlines.remove(&(deadline, key));
        }
        Some(entry)
    }

    fn drop_expired(&mut self, key: &[u8]) {
        if let Some((index, _, entry)) = self.entries.get_full(key)
            && entry.is_expired(self.now_ms)
        {
            self.remove_at(index);
        }
    }

    fn wake(&mut self, key: &[u8]) {
        if let Some(watched) = self.watched.get_mut(key) {
            watched.version += 1;
        }
    }
}

// === impl Entry ===

impl Entry {
    /// What the key weighs, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whole seconds since it was read or written.
    pub(super) fn idle_seconds(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.used_at_ms.get()).max(0) / 1000
    }

    /// Remembers that it was used.
    pub(super) fn touch(&self, now_ms: i64) {
        self.used_at_ms.set(now_ms);
    }

    fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|deadline| deadline < now_ms)
    }
}

// === impl Watch ===

impl Watch {
    /// Whether it watches this key.
    pub(super) fn is_of(&self, key: &[u8]) -> bool {
        self.key.as_ref() == key
    }

    /// What the key's name weighs.
    pub(super) fn bytes(&self) -> usize {
        self.key.len()
    }
}
