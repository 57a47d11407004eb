//! The keys that are in the most commands, by the space-saving algorithm (Metwally, Agrawal, El Abbadi, 2005): a key
//! that is not known takes the place of the least known one, and its count. So a key that is in more than its part of
//! the commands is always there. Counts fade, so that what was busy makes room.

use super::{KEY_BYTES_MAX, Rate, ToldKey, Touch};

#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Beside the entries, so that looking for one touches little memory.
    ids: Vec<u64>,
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    db: u32,
    /// The key's first bytes.
    key: Vec<u8>,
    key_bytes: usize,
    /// Commands, those of the key whose place it took among them.
    count: f64,
    reads: Rate,
    writes: Rate,
}

const ENTRIES_MAX: usize = 128;
/// What is left of a count after a second: half of it after 13.
const FADES: f64 = 0.95;

// === impl Busy ===

impl Busy {
    pub(super) fn count(&mut self, id: u64, touch: &Touch<'_>, count: f64) {
        let place = match self.ids.iter().position(|known| *known == id) {
            Some(place) => place,
            None => self.place(id, touch),
        };
        let Some(entry) = self.entries.get_mut(place) else { return };
        entry.count += count;
        let rate = if touch.writes { &mut entry.writes } else { &mut entry.reads };
        rate.recent += count;
    }

    /// A place for a key that is not known.
    fn place(&mut self, id: u64, touch: &Touch<'_>) -> usize {
        let place = if self.ids.len() < ENTRIES_MAX {
            self.ids.push(id);
            self.entries.push(Entry::default());
            self.ids.len() - 1
        } else {
            let counts = self.entries.iter().enumerate();
            counts.min_by(|a, b| a.1.count.total_cmp(&b.1.count)).map_or(0, |(place, _)| place)
        };
        if let (Some(known), Some(entry)) = (self.ids.get_mut(place), self.entries.get_mut(place)) {
            *known = id;
            // The memory of the key that was here is used again.
            entry.key.clear();
            entry.key.extend_from_slice(touch.key.get(..KEY_BYTES_MAX).unwrap_or(touch.key));
            (entry.db, entry.key_bytes) = (touch.db, touch.key.len());
            (entry.reads, entry.writes) = (Rate::default(), Rate::default());
        }
        place
    }

    pub(super) fn tick(&mut self) {
        for entry in &mut self.entries {
            entry.count *= FADES;
            entry.reads.tick();
            entry.writes.tick();
        }
    }

    pub(super) fn told(&self) -> Vec<ToldKey> {
        let told = |entry: &Entry| ToldKey {
            db: entry.db,
            key: entry.key.clone(),
            key_bytes: entry.key_bytes,
            reads_per_second: entry.reads.per_second(),
            writes_per_second: entry.writes.per_second(),
            bytes: 0,
        };
        self.entries.iter().map(told).collect()
    }
}
