//! What a key holds: the five kinds of value and what each weighs. No names, no expiry, no replies.

use std::collections::VecDeque;

use indexmap::{IndexMap, IndexSet};

use super::sorted_set::SortedSet;
use crate::resp::parse_integer;

/// What one key holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(Vec<u8>),
    Hash(Hash),
    List(List),
    Set(Set),
    SortedSet(SortedSet),
}

/// One of the kinds of value, so that a command can ask for the kind it works on.
pub(super) trait Kind: Default {
    /// The value, when it is of this kind.
    fn of(value: &Value) -> Option<&Self>;
    /// The same, to be changed.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// This as a value.
    fn into_value(self) -> Value;
}

/// Fields and their values, in the order they came as long as they are few.
#[derive(Clone, Debug, Default)]
pub(super) struct Hash {
    fields: IndexMap<Box<[u8]>, Vec<u8>>,
    bytes: usize,
}

/// Elements in order.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    elements: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// Members: integers in their order, as long as there are only those and few; else without order.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    members: IndexSet<Box<[u8]>>,
    bytes: usize,
    /// It had another member, or more: it stays so.
    unpacked: bool,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Tail,
}

/// What an element weighs beside its bytes: its places in the collections, roughly.
pub(super) const ELEMENT_BYTES: usize = 48;
/// Up to here the server packs a sorted set, gives it in order and scans it in one step.
pub(super) const PACKED_COUNT_MAX: usize = 128;
/// The same of a hash.
const PACKED_FIELDS_MAX: usize = 512;
/// The longest element of a packed hash or sorted set.
pub(super) const PACKED_BYTES_MAX: usize = 64;
/// Up to here the server packs a set of integers.
const PACKED_INTEGERS_MAX: usize = 512;

// === impl Value ===

impl Value {
    /// The name TYPE gives.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::SortedSet(_) => "zset",
        }
    }

    /// The name OBJECT ENCODING gives: what the server would most likely use for this value.
    pub(super) fn encoding(&self) -> &'static str {
        match self {
            Self::String(text) if parse_integer(text).is_some() => "int",
            Self::String(text) if text.len() <= 44 => "embstr",
            Self::String(_) => "raw",
            Self::Hash(hash) if hash.is_packed() => "listpack",
            Self::Hash(_) => "hashtable",
            Self::List(_) => "quicklist",
            Self::Set(set) if set.is_packed() => "intset",
            Self::Set(_) => "hashtable",
            Self::SortedSet(set) if set.is_packed() => "listpack",
            Self::SortedSet(_) => "skiplist",
        }
    }

    /// Whether it is a collection without elements, which is as good as no key.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::String(_) => false,
            Self::Hash(hash) => hash.len() == 0,
            Self::List(list) => list.len() == 0,
            Self::Set(set) => set.len() == 0,
            Self::SortedSet(set) => set.len() == 0,
        }
    }

    /// What it weighs, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::String(text) => text.capacity(),
            Self::Hash(hash) => hash.bytes,
            Self::List(list) => list.bytes,
            Self::Set(set) => set.bytes,
            Self::SortedSet(set) => set.bytes(),
        }
    }
}

// === impl Kind ===

macro_rules! kind {
    ($kind:ty, $variant:ident) => {
        impl Kind for $kind {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    };
}

kind!(Vec<u8>, String);
kind!(Hash, Hash);
kind!(List, List);
kind!(Set, Set);
kind!(SortedSet, SortedSet);

// === impl Hash ===

impl Hash {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(Vec::as_slice)
    }

    /// The field at a position; positions move only down, and only when a field is removed.
    pub(super) fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get_index(index).map(|(field, value)| (field.as_ref(), value.as_slice()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(field, value)| (field.as_ref(), value.as_slice()))
    }

    /// Sets a field: whether it is new.
    pub(super) fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.bytes += value.len();
        match self.fields.get_mut(field) {
            Some(old) => {
                self.bytes -= old.len();
                *old = value.to_vec();
                false
            }
            None => {
                self.bytes += field.len() + ELEMENT_BYTES;
                self.fields.insert(field.into(), value.to_vec());
                true
            }
        }
    }

    /// Removes a field: whether it was there.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        // Keeping the order costs a move of all behind it, so only a small hash keeps it.
        let removed = if self.fields.len() <= PACKED_FIELDS_MAX {
            self.fields.shift_remove(field)
        } else {
            self.fields.swap_remove(field)
        };
        let Some(value) = removed else { return false };
        self.bytes -= field.len() + value.len() + ELEMENT_BYTES;
        true
    }

    pub(super) fn is_packed(&self) -> bool {
        let fits = |(field, value): (&[u8], &[u8])| field.len() <= PACKED_BYTES_MAX && value.len() <= PACKED_BYTES_MAX;
        self.len() <= PACKED_FIELDS_MAX && self.iter().all(fits)
    }
}

// === impl List ===

impl List {
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.elements.iter().map(AsRef::as_ref)
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.elements.get(index).map(AsRef::as_ref)
    }

    pub(super) fn push(&mut self, end: End, element: &[u8]) {
        self.bytes += element.len() + ELEMENT_BYTES;
        match end {
            End::Head => self.elements.push_front(element.into()),
            End::Tail => self.elements.push_back(element.into()),
        }
    }

    pub(super) fn pop(&mut self, end: End) -> Option<Box<[u8]>> {
        let element = match end {
            End::Head => self.elements.pop_front(),
            End::Tail => self.elements.pop_back(),
        }?;
        self.bytes -= element.len() + ELEMENT_BYTES;
        Some(element)
    }

    /// Replaces an element: whether there is one.
    pub(super) fn set(&mut self, index: usize, element: &[u8]) -> bool {
        let Some(old) = self.elements.get_mut(index) else {
            return false;
        };
        self.bytes = self.bytes + element.len() - old.len();
        *old = element.into();
        true
    }

    /// Inserts before a position, at most the length.
    pub(super) fn insert(&mut self, index: usize, element: &[u8]) {
        self.bytes += element.len() + ELEMENT_BYTES;
        self.elements.insert(index.min(self.elements.len()), element.into());
    }

    /// Keeps the elements from `start`, `count` of them.
    pub(super) fn keep_range(&mut self, start: usize, count: usize) {
        self.elements.truncate(start.saturating_add(count));
        self.elements.drain(..start.min(self.elements.len()));
        self.elements.shrink_to_fit();
        self.weigh();
    }

    /// Removes the elements equal to `element`, at most `count_max` from one end: how many.
    pub(super) fn remove_equal(&mut self, element: &[u8], from: End, count_max: usize) -> usize {
        let mut removed = 0;
        let mut keep = |other: &[u8]| {
            let stays = other != element || removed == count_max;
            removed += usize::from(!stays);
            stays
        };
        // Retaining visits from the head, so the other direction turns the list around twice.
        match from {
            End::Head => self.elements.retain(|other| keep(other)),
            End::Tail => {
                self.elements.make_contiguous().reverse();
                self.elements.retain(|other| keep(other));
                self.elements.make_contiguous().reverse();
            }
        }
        self.weigh();
        removed
    }

    fn weigh(&mut self) {
        self.bytes = self.elements.iter().map(|element| element.len() + ELEMENT_BYTES).sum();
    }
}

// === impl Set ===

impl Set {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    /// The member at a position; positions move only down, and only when a member is removed.
    pub(super) fn at(&self, index: usize) -> Option<&[u8]> {
        self.members.get_index(index).map(AsRef::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(AsRef::as_ref)
    }

    /// Adds a member: whether it is new.
    pub(super) fn insert(&mut self, member: &[u8]) -> bool {
        if self.members.contains(member) {
            return false;
        }
        self.bytes += member.len() + ELEMENT_BYTES;
        match parse_integer(member).filter(|_| !self.unpacked && self.len() < PACKED_INTEGERS_MAX) {
            None => {
                self.unpacked = true;
                self.members.insert(member.into())
            }
            number => {
                let at = self.members.partition_point(|other| parse_integer(other) < number);
                self.members.shift_insert(at, member.into())
            }
        }
    }

    /// Removes a member: whether it was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let removed = if self.unpacked { self.members.swap_remove(member) } else { self.members.shift_remove(member) };
        if removed {
            self.bytes -= member.len() + ELEMENT_BYTES;
        }
        removed
    }

    /// Removes and gives the member at a position.
    pub(super) fn take_at(&mut self, index: usize) -> Option<Box<[u8]>> {
        let members = &mut self.members;
        let taken = if self.unpacked { members.swap_remove_index(index) } else { members.shift_remove_index(index) };
        let member = taken?;
        self.bytes -= member.len() + ELEMENT_BYTES;
        Some(member)
    }

    pub(super) fn is_packed(&self) -> bool {
        !self.unpacked
    }
}
