//! Which keys are asked for, drawn before the clock runs: what is drawn while it runs would be measured too.

/// Keys in the order in which they are asked for, again and again.
pub(crate) struct Keys {
    drawn: Vec<u32>,
}

/// Xorshift: what matters is that neither a processor nor a cache can guess the next number.
pub(crate) struct Draw(u64);

/// A power of two, and more than any cache of keys holds.
const DRAWN: usize = 1 << 17;
/// What one request may take beyond the end.
pub(crate) const KEYS_OF_REQUEST_MAX: usize = 10;

// === impl Keys ===

impl Keys {
    /// Keys below `count`, all equally likely, or by Zipf's law: the n-th with a chance of 1/n^exponent.
    pub(crate) fn draw(count: u32, zipf: Option<f64>, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut drawn: Vec<u32> = match zipf {
            None => (0..DRAWN).map(|_| draw.below(u64::from(count)) as u32).collect(),
            Some(exponent) => {
                let mut total = 0.0;
                let weight = |rank: u32| f64::from(rank + 1).powf(-exponent);
                let sums: Vec<f64> = (0..count)
                    .map(|rank| {
                        total += weight(rank);
                        total
                    })
                    .collect();
                let mut one = || {
                    let at = draw.below(1 << 53) as f64 / (1_u64 << 53) as f64 * total;
                    (sums.partition_point(|sum| *sum <= at) as u32).min(count - 1)
                };
                (0..DRAWN).map(|_| one()).collect()
            }
        };
        drawn.extend_from_within(..KEYS_OF_REQUEST_MAX);
        Self { drawn }
    }

    /// One key, whatever is asked.
    pub(crate) fn only(key: u32) -> Self {
        Self { drawn: vec![key; KEYS_OF_REQUEST_MAX] }
    }

    /// The keys of the request at a place.
    pub(crate) fn at(&self, place: u64) -> &[u32] {
        let first = place as usize & (DRAWN - 1);
        self.drawn.get(first..first + KEYS_OF_REQUEST_MAX).unwrap_or_default()
    }
}

// === impl Draw ===

impl Draw {
    /// The same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws() {
        let check = |zipf: Option<f64>, first_percent: std::ops::RangeInclusive<usize>| {
            let keys = Keys::draw(100, zipf, 7);
            let firsts = (0..DRAWN as u64).filter_map(|place| keys.at(place).first().copied());
            let (of_first, of_all) = firsts.fold((0, 0), |(first, all), key| {
                assert!(key < 100);
                (first + usize::from(key == 0), all + 1)
            });
            assert_eq!(of_all, DRAWN);
            assert!(first_percent.contains(&(of_first * 100 / DRAWN)), "{zipf:?}: {of_first} of {DRAWN}");
        };
        check(None, 0..=1);
        // 1 of 1 + 1/2 + … + 1/100 = 5.19.
        check(Some(1.0), 18..=20);
    }
}
