//! Which keys are asked for and written most, and which are large: about, and in some KB a worker. One command in so
//! many is looked at, so that a busy worker looks at some thousands a second and a quiet one at all. Pure.

mod busy;
mod large;

use std::cell::{Cell, RefCell};
use std::hash::Hasher;

use rustc_hash::FxHasher;

use busy::Busy;
use large::Large;

/// What one worker has seen of its keys.
#[derive(Debug)]
pub struct Top {
    /// Commands until one is looked at.
    left: Cell<u32>,
    /// The bytes from which a written value is worth a look.
    large_from: Cell<usize>,
    seen: RefCell<Seen>,
}

/// A key in its database, and what a command does with it.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: &'a [u8],
    /// Whether it is written.
    pub writes: bool,
    /// The rule it is under, by its place.
    pub rule: Option<usize>,
}

/// What one worker tells.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Commands a second.
    pub commands_per_second: f64,
    /// The keys, in no order.
    pub keys: Vec<ToldKey>,
    /// Commands a second by rule, with its place.
    pub rules: Vec<(usize, f64)>,
}

/// What is told of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldKey {
    /// Its database.
    pub db: u32,
    /// Its first bytes.
    pub key: Vec<u8>,
    /// How long it is.
    pub key_bytes: usize,
    /// Commands a second that read it.
    pub reads_per_second: f64,
    /// Commands a second that write it.
    pub writes_per_second: f64,
    /// The size of its value, where it was seen. 0: it was not, or is small.
    pub bytes: u64,
}

#[derive(Debug)]
struct Seen {
    /// One command in so many is looked at, on average.
    every: u32,
    /// How many were until this one.
    passed: u32,
    /// Commands that were looked at since the last tick.
    looks: u32,
    random: u64,
    commands: Rate,
    /// By the place of the rule, in the generation.
    rules: Vec<Rate>,
    generation: u64,
    busy: Busy,
    large: Large,
}

/// How often something happens: the mean of the last seconds, in which the last ones count most.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// Since the last tick.
    recent: f64,
    mean: f64,
    /// What of the mean is made of seconds that have been.
    weight: f64,
}

/// The key's first bytes that are kept.
const KEY_BYTES_MAX: usize = 256;
/// Looks that a worker takes in a second, about.
const LOOKS_PER_SECOND: u32 = 4096;
const EVERY_MAX: u32 = 256;
/// The part of a mean that the last second makes up.
const LAST_PART: f64 = 0.2;

// === impl Top ===

impl Top {
    /// Nothing has been seen. `seed` sets workers apart.
    pub fn new(seed: u64) -> Self {
        let seen = Seen {
            every: 1,
            passed: 1,
            looks: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            commands: Rate::default(),
            rules: Vec::new(),
            generation: 0,
            busy: Busy::default(),
            large: Large::default(),
        };
        Self { left: Cell::new(1), large_from: Cell::new(large::BYTES_MIN), seen: RefCell::new(seen) }
    }

    /// A command has come. True: its keys are to be handed to [`Top::look`].
    #[inline]
    pub fn is_due(&self) -> bool {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        left == 0
    }

    /// Whether a value of so many bytes is worth a word to [`Top::large`].
    #[inline]
    pub fn is_large(&self, bytes: usize) -> bool {
        bytes >= self.large_from.get()
    }

    /// The keys of the command that was due, under the rules of a generation.
    pub fn look<'a>(&self, touches: impl Iterator<Item = Touch<'a>>, generation: u64) {
        let seen = &mut *self.seen.borrow_mut();
        let count = f64::from(seen.every);
        seen.commands.recent += f64::from(seen.passed);
        if seen.generation != generation {
            seen.generation = generation;
            seen.rules.clear();
        }
        for touch in touches {
            seen.busy.count(id(touch.db, touch.key), &touch, count);
            if let Some(rule) = touch.rule {
                if seen.rules.len() <= rule {
                    seen.rules.resize(rule + 1, Rate::default());
                }
                seen.rules.get_mut(rule).into_iter().for_each(|rate| rate.recent += count);
            }
        }
        seen.looks += 1;
        if seen.looks > LOOKS_PER_SECOND {
            // Much more comes than in the last second.
            seen.every = (seen.every * 4).min(EVERY_MAX);
            seen.looks /= 2;
        }
        self.left.set(seen.next());
    }

    /// A value of so many bytes was seen.
    pub fn large(&self, db: u32, key: &[u8], bytes: usize) {
        let seen = &mut *self.seen.borrow_mut();
        self.large_from.set(seen.large.note(id(db, key), db, key, bytes));
    }

    /// A second has passed.
    pub fn tick(&self) {
        let seen = &mut *self.seen.borrow_mut();
        // Those that were passed since the last look.
        let open = seen.passed.saturating_sub(self.left.get());
        seen.passed -= open;
        seen.commands.recent += f64::from(open);
        let in_a_second = seen.commands.recent as u32;
        // After a rest the next rush is met with fewer looks than all.
        seen.every = (in_a_second / LOOKS_PER_SECOND).max(seen.every / 2).clamp(1, EVERY_MAX);
        seen.looks = 0;
        seen.commands.tick();
        seen.rules.iter_mut().for_each(Rate::tick);
        seen.busy.tick();
        self.large_from.set(seen.large.tick());
    }

    /// What has been seen, under the rules of a generation.
    pub fn told(&self, generation: u64) -> Told {
        let seen = &*self.seen.borrow();
        let rules = if seen.generation == generation { seen.rules.as_slice() } else { &[] };
        let mut keys = seen.busy.told();
        for large in seen.large.told() {
            match keys.iter_mut().find(|key| (key.db, &key.key) == (large.db, &large.key)) {
                Some(key) => key.bytes = large.bytes,
                None => keys.push(large),
            }
        }
        let rules = rules.iter().map(Rate::per_second).enumerate().collect();
        Told { commands_per_second: seen.commands.per_second(), keys, rules }
    }
}

// === impl Seen ===

impl Seen {
    /// After how many commands the next is looked at. Not always the same: clients may repeat themselves in step.
    fn next(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.passed = if self.every == 1 { 1 } else { 1 + (self.random >> 33) as u32 % (2 * self.every - 1) };
        self.passed
    }
}

// === impl Rate ===

impl Rate {
    fn tick(&mut self) {
        self.mean += (std::mem::take(&mut self.recent) - self.mean) * LAST_PART;
        self.weight += (1.0 - self.weight) * LAST_PART;
    }

    /// Before the first second has passed: what was counted in it.
    fn per_second(&self) -> f64 {
        if self.weight > 0.0 { self.mean / self.weight } else { self.recent }
    }
}

fn id(db: u32, key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.write_u32(db);
    hasher.finish()
}

#[cfg(test)]
mod tests;
