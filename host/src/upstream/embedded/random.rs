//! Picking members at random. What is picked follows from the seed.

use super::call::Error;

/// Numbers that look random: xorshift64*, which is enough to pick members.
#[derive(Debug)]
pub(super) struct Random(u64);

/// Which positions a command gives that takes a count.
#[derive(Debug)]
pub(super) enum Picks {
    /// Each at most once.
    Distinct(Vec<usize>),
    /// So many, drawn from so many, repeated as it comes.
    Repeated { count: usize, limit: usize },
}

// === impl Random ===

impl Random {
    pub(super) fn new(seed: i64) -> Self {
        // The state must not be zero.
        Self(seed.cast_unsigned() | 1)
    }

    /// A number below `limit`; 0 when that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.next()) * limit as u128;
        (wide >> 64) as usize
    }

    /// What a count asks for: so many distinct positions below `limit`, or, when it is negative, as many with repeats.
    pub(super) fn picks(&mut self, count: i64, limit: usize) -> Result<Picks, Error> {
        match usize::try_from(count) {
            Ok(count) => Ok(Picks::Distinct(self.distinct(count, limit))),
            // Nobody has the memory for such a reply, nor for twice as many.
            Err(_) if count < -(i64::MAX / 2) => Err(Error::RANGE),
            Err(_) if limit == 0 => Ok(Picks::Distinct(Vec::new())),
            Err(_) => Ok(Picks::Repeated { count: usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX), limit }),
        }
    }

    /// Distinct numbers below `limit`, `count` of them; all of them in order when there are no more.
    pub(super) fn distinct(&mut self, count: usize, limit: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..limit).collect();
        if count >= limit {
            return all;
        }
        for index in 0..count {
            let other = index + self.below(limit - index);
            all.swap(index, other);
        }
        all.truncate(count);
        all
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

// === impl Picks ===

impl Picks {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Distinct(picks) => picks.len(),
            Self::Repeated { count, .. } => *count,
        }
    }

    /// The position that is the next one.
    pub(super) fn iter(&self, random: &mut Random) -> impl Iterator<Item = usize> {
        (0..self.len()).map(move |index| match self {
            Self::Distinct(picks) => picks.get(index).copied().unwrap_or(0),
            Self::Repeated { limit, .. } => random.below(*limit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn distinct_numbers_are_distinct() {
        for seed in 0..50 {
            let mut picked = Random::new(seed).distinct(5, 9);
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), 5);
            assert!(picked.iter().all(|pick| *pick < 9));
        }
    }

    #[test]
    fn every_number_comes_up() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        (0..500).for_each(|_| seen[random.below(10)] = true);
        assert_eq!(seen, [true; 10]);
    }
}
