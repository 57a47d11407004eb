//! The keys with the largest values that were written or read lately. What is seen again is known to be there.

use super::{KEY_BYTES_MAX, ToldKey};

#[derive(Debug, Default)]
pub(super) struct Large {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    db: u32,
    key: Vec<u8>,
    key_bytes: usize,
    bytes: usize,
    /// Seconds since it was seen.
    age: u32,
}

/// Smaller values are nobody's large ones.
pub(super) const BYTES_MIN: usize = 1024;
const ENTRIES_MAX: usize = 64;
/// What has not been seen for so many seconds is forgotten: it may have ended.
const AGE_MAX: u32 = 600;

// === impl Large ===

impl Large {
    /// A value was seen: from how many bytes on another is worth a word.
    pub(super) fn note(&mut self, id: u64, db: u32, key: &[u8], bytes: usize) -> usize {
        if let Some(known) = self.entries.iter_mut().find(|entry| entry.id == id) {
            (known.bytes, known.age) = (bytes, 0);
            return self.from();
        }
        if self.entries.len() >= ENTRIES_MAX {
            let least = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.bytes).map(|(place, _)| place);
            least.into_iter().for_each(|place| drop(self.entries.swap_remove(place)));
        }
        let (key_bytes, key) = (key.len(), key.get(..KEY_BYTES_MAX).unwrap_or(key).to_vec());
        self.entries.push(Entry { id, db, key, key_bytes, bytes, age: 0 });
        self.from()
    }

    pub(super) fn tick(&mut self) -> usize {
        self.entries.iter_mut().for_each(|entry| entry.age += 1);
        self.entries.retain(|entry| entry.age < AGE_MAX);
        self.from()
    }

    fn from(&self) -> usize {
        if self.entries.len() < ENTRIES_MAX {
            return BYTES_MIN;
        }
        self.entries.iter().map(|entry| entry.bytes).min().map_or(BYTES_MIN, |least| least.max(BYTES_MIN))
    }

    pub(super) fn told(&self) -> impl Iterator<Item = ToldKey> + '_ {
        self.entries.iter().map(|entry| ToldKey {
            db: entry.db,
            key: entry.key.clone(),
            key_bytes: entry.key_bytes,
            reads_per_second: 0.0,
            writes_per_second: 0.0,
            bytes: entry.bytes as u64,
        })
    }
}
