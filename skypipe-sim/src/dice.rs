//! Chance, from a seed.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::Random;

/// A source of numbers that look like chance and come again with the same seed.
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The dice of one part of a simulation. Each part has its own, so that a change in one leaves the others alone.
    pub fn new(seed: u64, part: &str) -> Self {
        let part = u64::from(crc32c::crc32c(part.as_bytes()));
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ (part << 32)))
    }

    /// A number up to but not including `below`; 0 if that is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0.next_u64().checked_rem(below).unwrap_or(0)
    }

    /// A number in `range`.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Yes, so many times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time in milliseconds.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// Dice as the [`Random`] of an [`Env`](skypipe_core::Env).
pub struct SharedDice(Mutex<Dice>);

impl SharedDice {
    /// The dice of this part.
    pub fn new(seed: u64, part: &str) -> Self {
        Self(Mutex::new(Dice::new(seed, part)))
    }
}

impl Random for SharedDice {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.fill_bytes(bytes);
    }
}
