//! A sorted set and the ranges one can ask it for. No arguments, no replies.
//!
//! Members are found by a hash table and ordered by a tree. The tree does not count its nodes, so a rank is found by
//! walking: linear, which is enough for a store on a laptop.

use std::{cmp::Ordering, collections::BTreeSet, ops::Bound, rc::Rc};

use indexmap::IndexMap;

use super::value::{ELEMENT_BYTES, PACKED_BYTES_MAX, PACKED_COUNT_MAX};

/// A member and its score.
pub(super) type Scored = (Rc<[u8]>, f64);

/// Members ordered by score, then by bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct SortedSet {
    scores: IndexMap<Rc<[u8]>, f64>,
    order: BTreeSet<(Score, Rc<[u8]>)>,
    bytes: usize,
}

/// A score; never NaN, and the two zeros are equal.
#[derive(Clone, Copy, Debug)]
struct Score(f64);

/// Scores between two bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreRange {
    pub(super) min: f64,
    pub(super) min_excluded: bool,
    pub(super) max: f64,
    pub(super) max_excluded: bool,
}

/// Members between two bounds, by their bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct LexRange<'a> {
    pub(super) min: LexBound<'a>,
    pub(super) max: LexBound<'a>,
}

/// An end of a [`LexRange`].
#[derive(Clone, Copy, Debug)]
pub(super) enum LexBound<'a> {
    /// `-`: before every member.
    First,
    /// `+`: behind every member.
    Last,
    /// `[member`.
    Included(&'a [u8]),
    /// `(member`.
    Excluded(&'a [u8]),
}

/// Which members are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selection<'a> {
    /// Positions, negative ones counted from the end.
    Ranks(i64, i64),
    Scores(ScoreRange),
    Lex(LexRange<'a>),
}

/// Members, in which order, and which part of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) selection: Selection<'a>,
    pub(super) reverse: bool,
    /// Members skipped, and how many at most; a negative count is no limit, a negative offset gives nothing.
    pub(super) limit: Option<(i64, i64)>,
}

// === impl SortedSet ===

impl SortedSet {
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// The member at a position without order; positions move only down, and only when a member is removed.
    pub(super) fn at(&self, index: usize) -> Option<(&[u8], f64)> {
        self.scores.get_index(index).map(|(member, score)| (member.as_ref(), *score))
    }

    /// All members in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Rc<[u8]>, f64)> {
        self.order.iter().map(|(score, member)| (member, score.0))
    }

    /// How many members stand before this one.
    pub(super) fn rank(&self, member: &[u8], reverse: bool) -> Option<usize> {
        let (member, score) = self.scores.get_key_value(member)?;
        let before = self.order.range(..(Score(*score), Rc::clone(member))).count();
        Some(if reverse { self.len() - 1 - before } else { before })
    }

    /// Adds a member or gives it another score: whether it is new.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> bool {
        // The server forgets the sign of zero, too, in all but its largest sets.
        let score = score + 0.0;
        if let Some((index, _, old)) = self.scores.get_full_mut(member) {
            let old = std::mem::replace(old, score);
            if let Some((member, _)) = self.scores.get_index(index) {
                self.order.remove(&(Score(old), Rc::clone(member)));
                self.order.insert((Score(score), Rc::clone(member)));
            }
            return false;
        }
        let shared: Rc<[u8]> = member.into();
        self.bytes += member.len() + 2 * ELEMENT_BYTES;
        self.order.insert((Score(score), Rc::clone(&shared)));
        self.scores.insert(shared, score);
        true
    }

    /// Removes a member: whether it was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some((member, score)) = self.scores.swap_remove_entry(member) else {
            return false;
        };
        self.bytes -= member.len() + 2 * ELEMENT_BYTES;
        self.order.remove(&(Score(score), member));
        true
    }

    /// Removes and gives the first or the last member.
    pub(super) fn pop(&mut self, last: bool) -> Option<Scored> {
        let (score, member) = if last { self.order.pop_last() } else { self.order.pop_first() }?;
        self.scores.swap_remove(&member);
        self.bytes -= member.len() + 2 * ELEMENT_BYTES;
        Some((member, score.0))
    }

    /// The members of a query, in its order.
    pub(super) fn select(&self, query: &Query<'_>) -> Vec<Scored> {
        let (skip, take) = match query.limit {
            None => (0, usize::MAX),
            Some((offset, count)) => match usize::try_from(offset) {
                Ok(offset) => (offset, usize::try_from(count).unwrap_or(usize::MAX)),
                Err(_) => return Vec::new(),
            },
        };
        let part = |found: &mut dyn Iterator<Item = &(Score, Rc<[u8]>)>| -> Vec<Scored> {
            found.skip(skip).take(take).map(|(score, member)| (Rc::clone(member), score.0)).collect()
        };
        match &query.selection {
            Selection::Ranks(start, end) => {
                let Some((start, count)) = positions(*start, *end, self.len()) else {
                    return Vec::new();
                };
                match query.reverse {
                    false => part(&mut self.order.iter().skip(start).take(count)),
                    true => part(&mut self.order.iter().rev().skip(start).take(count)),
                }
            }
            Selection::Scores(range) => match query.reverse {
                false => part(&mut self.in_scores(range)),
                true => part(&mut self.in_scores(range).rev()),
            },
            Selection::Lex(range) => {
                let within = |(_, member): &&(Score, Rc<[u8]>)| range.contains(member);
                match query.reverse {
                    false => part(&mut self.order.iter().filter(within)),
                    true => part(&mut self.order.iter().rev().filter(within)),
                }
            }
        }
    }

    /// How many members have such a score.
    pub(super) fn count_scores(&self, range: &ScoreRange) -> usize {
        self.in_scores(range).count()
    }

    /// How many members are between such bounds.
    pub(super) fn count_lex(&self, range: &LexRange<'_>) -> usize {
        self.order.iter().filter(|(_, member)| range.contains(member)).count()
    }

    pub(super) fn is_packed(&self) -> bool {
        self.len() <= PACKED_COUNT_MAX && self.scores.keys().all(|member| member.len() <= PACKED_BYTES_MAX)
    }

    fn in_scores(&self, range: &ScoreRange) -> impl DoubleEndedIterator<Item = &(Score, Rc<[u8]>)> {
        // The tree's range panics on bounds in the wrong order, so an empty range is one that selects nothing.
        let first = |score: f64| (Score(score), Rc::<[u8]>::default());
        let above = |score: f64| (score < f64::INFINITY).then(|| first(score.next_up()));
        let low = if range.min_excluded { above(range.min) } else { Some(first(range.min)) };
        let high = if range.max_excluded { Some(first(range.max)) } else { above(range.max) };
        let bounds = match (low, high) {
            (Some(low), Some(high)) if low < high => Some((Bound::Included(low), Bound::Excluded(high))),
            (Some(low), None) => Some((Bound::Included(low), Bound::Unbounded)),
            _ => None,
        };
        bounds.map(|bounds| self.order.range(bounds)).into_iter().flatten()
    }
}

// === impl Score ===

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

// === impl LexRange ===

impl LexRange<'_> {
    fn contains(&self, member: &[u8]) -> bool {
        let above = match self.min {
            LexBound::First => true,
            LexBound::Last => false,
            LexBound::Included(min) => member >= min,
            LexBound::Excluded(min) => member > min,
        };
        let below = match self.max {
            LexBound::First => false,
            LexBound::Last => true,
            LexBound::Included(max) => member <= max,
            LexBound::Excluded(max) => member < max,
        };
        above && below
    }
}

/// The first position and the count of an inclusive range, negative positions counted from the end. None: nothing.
pub(super) fn positions(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, end) = (from_end(start).max(0), from_end(end).min(len - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end - start + 1).ok()?))
}
