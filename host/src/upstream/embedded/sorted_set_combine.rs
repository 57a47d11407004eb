//! Unions, intersections and differences of sorted sets; plain sets count as sorted sets whose scores are 1.

use std::{cmp::Ordering, collections::HashMap, rc::Rc};

use super::{
    call::{Args, Call, Error, double, is},
    keyspace::Keyspace,
    set_combine,
    sorted_set::{Scored, SortedSet},
    sorted_set_ranges::{give_members, store},
    value::{Set, Value},
};

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of a member's scores.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

/// What the arguments ask for.
struct Request<'a> {
    keys: Args<'a>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// One of the sets.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(&'a Set),
    SortedSet(&'a SortedSet),
}

pub(super) fn zunion(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Union)
}

pub(super) fn zinter(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Intersection)
}

pub(super) fn zdiff(call: &mut Call<'_>) -> Result<(), Error> {
    give(call, Operation::Difference)
}

pub(super) fn zunionstore(call: &mut Call<'_>) -> Result<(), Error> {
    put(call, Operation::Union)
}

pub(super) fn zinterstore(call: &mut Call<'_>) -> Result<(), Error> {
    put(call, Operation::Intersection)
}

pub(super) fn zdiffstore(call: &mut Call<'_>) -> Result<(), Error> {
    put(call, Operation::Difference)
}

pub(super) fn zintercard(call: &mut Call<'_>) -> Result<(), Error> {
    let (keys, rest) = input_keys(call, 1)?;
    let limit = set_combine::parse_limit(rest)?;
    let request = Request { keys, weights: Vec::new(), aggregate: Aggregate::Sum, with_scores: false };
    let found = request.combine(call.keys, Operation::Intersection)?.len();
    call.reply.count(if limit == 0 { found } else { found.min(limit) });
    Ok(())
}

fn give(call: &mut Call<'_>, operation: Operation) -> Result<(), Error> {
    let request = Request::parse(call, 1, operation)?;
    let found = request.combine(call.keys, operation)?;
    give_members(call, &found, request.with_scores);
    Ok(())
}

fn put(call: &mut Call<'_>, operation: Operation) -> Result<(), Error> {
    let request = Request::parse(call, 2, operation)?;
    let found = request.combine(call.keys, operation)?;
    let count = found.len();
    store(call, found);
    call.reply.count(count);
    Ok(())
}

/// The keys behind their number, all of a kind that can be combined, and what stands behind them.
fn input_keys<'a>(call: &Call<'a>, start: usize) -> Result<(Args<'a>, Args<'a>), Error> {
    let Ok(count @ 1..) = usize::try_from(call.integer(start)?) else {
        return Err(Error::about(format!("ERR at least 1 input key is needed for '{}' command", call.name())));
    };
    let (keys, rest) = call.args_from(start + 1).split_at_checked(count).ok_or(Error::SYNTAX)?;
    for key in keys {
        Source::of(call.keys, key)?;
    }
    Ok((keys, rest))
}

// === impl Request ===

impl<'a> Request<'a> {
    /// Reads the arguments from `start` on; one that stands behind a target key asks for no scores.
    fn parse(call: &Call<'a>, start: usize, operation: Operation) -> Result<Self, Error> {
        let (keys, mut rest) = input_keys(call, start)?;
        let storing = start > 1;
        let count = keys.len();
        let mut request = Self { keys, weights: Vec::new(), aggregate: Aggregate::Sum, with_scores: false };
        let weighs = operation != Operation::Difference;
        while let [word, tail @ ..] = rest {
            match (word.to_ascii_uppercase().as_slice(), tail) {
                (b"WEIGHTS", tail) if weighs && tail.len() >= count => {
                    let (weights, tail) = tail.split_at_checked(count).ok_or(Error::SYNTAX)?;
                    let error = |_| Error::fixed("ERR weight value is not a float");
                    let weights = weights.iter().map(|weight| double(weight).map_err(error));
                    request.weights = weights.collect::<Result<_, _>>()?;
                    rest = tail;
                }
                (b"AGGREGATE", [aggregate, tail @ ..]) if weighs => {
                    request.aggregate = Aggregate::parse(aggregate)?;
                    rest = tail;
                }
                _ if !storing && is(word, "WITHSCORES") => {
                    request.with_scores = true;
                    rest = tail;
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(request)
    }

    /// The members of the combination, in order.
    fn combine(&self, keys: &Keyspace, operation: Operation) -> Result<Vec<Scored>, Error> {
        let sources = self.keys.iter().map(|key| Source::of(keys, key)).collect::<Result<Vec<_>, _>>()?;
        let mut weighed: Vec<(Source<'_>, f64)> = sources
            .iter()
            .enumerate()
            .map(|(index, source)| (*source, self.weights.get(index).copied().unwrap_or(1.0)))
            .collect();
        if !matches!(operation, Operation::Difference) {
            // The small ones come first, which shows in how sums are rounded.
            weighed.sort_by_key(|(source, _)| source.len());
        }
        let Some((first, others)) = weighed.split_first() else {
            return Ok(Vec::new());
        };
        let mut found = match operation {
            Operation::Union => self.union(&weighed),
            Operation::Intersection => {
                let common = |(member, score): Scored| {
                    let scores = others.iter().map(|(source, weight)| Some(times(source.score(&member)?, *weight)));
                    let score =
                        scores.into_iter().try_fold(score, |sum, score| Some(self.aggregate.of(sum, score?)))?;
                    Some((member, score))
                };
                first.0.members().into_iter().map(|(m, s)| (m, times(s, first.1))).filter_map(common).collect()
            }
            Operation::Difference => {
                let mut members = first.0.members();
                members.retain(|(member, _)| !others.iter().any(|(source, _)| source.score(member).is_some()));
                members
            }
        };
        found.sort_by(|(one, one_score), (other, other_score)| {
            one_score.partial_cmp(other_score).unwrap_or(Ordering::Equal).then_with(|| one.cmp(other))
        });
        Ok(found)
    }

    fn union(&self, weighed: &[(Source<'_>, f64)]) -> Vec<Scored> {
        let mut scores: HashMap<Rc<[u8]>, f64> = HashMap::new();
        for (source, weight) in weighed {
            for (member, score) in source.members() {
                let score = times(score, *weight);
                scores.entry(member).and_modify(|sum| *sum = self.aggregate.of(*sum, score)).or_insert(score);
            }
        }
        scores.into_iter().collect()
    }
}

// === impl Source ===

impl<'a> Source<'a> {
    fn of(keys: &'a Keyspace, key: &[u8]) -> Result<Self, Error> {
        match keys.entry(key).map(|entry| &entry.value) {
            None => Ok(Self::Missing),
            Some(Value::Set(set)) => Ok(Self::Set(set)),
            Some(Value::SortedSet(set)) => Ok(Self::SortedSet(set)),
            Some(Value::String(_) | Value::Hash(_) | Value::List(_)) => Err(Error::WRONG_TYPE),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Set(set) => set.len(),
            Self::SortedSet(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Set(set) => set.contains(member).then_some(1.0),
            Self::SortedSet(set) => set.score(member),
        }
    }

    fn members(&self) -> Vec<Scored> {
        match self {
            Self::Missing => Vec::new(),
            Self::Set(set) => set.iter().map(|member| (member.into(), 1.0)).collect(),
            Self::SortedSet(set) => set.iter().map(|(member, score)| (Rc::clone(member), score)).collect(),
        }
    }
}

// === impl Aggregate ===

impl Aggregate {
    fn parse(word: &[u8]) -> Result<Self, Error> {
        match word.to_ascii_uppercase().as_slice() {
            b"SUM" => Ok(Self::Sum),
            b"MIN" => Ok(Self::Min),
            b"MAX" => Ok(Self::Max),
            _ => Err(Error::SYNTAX),
        }
    }

    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Sum => number_or_zero(one + other),
            Self::Min => one.min(other),
            Self::Max => one.max(other),
        }
    }
}

fn times(score: f64, weight: f64) -> f64 {
    number_or_zero(score * weight)
}

/// The sum of opposite infinities, and infinity times zero, count as zero.
fn number_or_zero(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}
