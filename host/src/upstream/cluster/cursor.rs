//! SCAN's cursor with a node in it. Pure.
//!
//! A node's own cursor is small: below the size of its table, or below that of one slot's table times the number of
//! slots. Ours has it in the high bits, and in the low ones the first slot of the node whose turn it is, and a mark of
//! who that is. So any sidecar can go on with it, and a node that another has replaced, whose order of keys is its own,
//! is begun anew rather than left half done. For all but the largest nodes it stays below 2^53, which is as far as
//! numbers of some clients go.

use super::slot::SLOTS;

/// Where a walk over the keys of all nodes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What the node itself said.
    pub(super) of_node: u64,
    /// The node's first slot.
    pub(super) slot: u16,
    /// Which node it is.
    pub(super) mark: u8,
}

const SLOT_BITS: u32 = 14;
const MARK_BITS: u32 = 8;
const OWN_BITS: u32 = SLOT_BITS + MARK_BITS;

// === impl Cursor ===

impl Cursor {
    /// The beginning of a node's walk.
    pub(super) fn begin(slot: u16) -> Self {
        Self { of_node: 0, slot, mark: 0 }
    }

    /// Reads what a client sends.
    pub(super) fn read(number: u64) -> Self {
        let slot = u16::try_from(number % SLOTS as u64).unwrap_or_default();
        let mark = u8::try_from((number >> SLOT_BITS) & 0xFF).unwrap_or_default();
        Self { of_node: number >> OWN_BITS, slot, mark }
    }

    /// What a client is told. None: the node's own cursor leaves no room.
    pub(super) fn number(self) -> Option<u64> {
        if self.of_node >> (u64::BITS - OWN_BITS) != 0 {
            return None;
        }
        Some((self.of_node << OWN_BITS) | (u64::from(self.mark) << SLOT_BITS) | u64::from(self.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn cursors_come_back() {
        for of_node in [0, 1, 7, 1 << 20, (1 << 42) - 1] {
            for slot in [0, 1, 5461, 16_383] {
                for mark in [0, 1, 255] {
                    let cursor = Cursor { of_node, slot, mark };
                    assert_eq!(Cursor::read(cursor.number().unwrap()), cursor);
                }
            }
        }
        assert_eq!(Cursor { of_node: 1 << 42, slot: 0, mark: 0 }.number(), None);
        assert_eq!(Cursor::begin(0).number(), Some(0));
        // What a node of a billion keys says still fits the numbers of every client.
        assert!(Cursor { of_node: (1 << 30) - 1, slot: 16_383, mark: 255 }.number().unwrap() < 1 << 53);
    }
}
