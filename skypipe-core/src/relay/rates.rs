//! How fast keys may write: what they send is read no faster, and nothing of it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::identity::PublicKey;
use crate::time::Time;

/// What a key that was quiet may write at once, in time at its rate: writers send in gusts, and nobody feels a second.
const GUST: Duration = Duration::from_secs(1);

/// How fast one key writes: when what came so far would be through at its rate. What a link brings counts on when it is gone, so that
/// nobody goes faster by coming anew.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bytes_per_second: u64,
    through: Time,
}

impl Rate {
    /// So many bytes came.
    pub(super) fn spend(&mut self, bytes: u64, now: Time) {
        let takes = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        let takes = Duration::from_micros(u64::try_from(takes).unwrap_or(u64::MAX));
        self.through = self.through.max(now).plus(takes);
    }

    /// How long nothing more may come.
    pub(super) fn wait(&self, now: Time) -> Duration {
        self.through.since(now.plus(GUST))
    }
}

/// The rates of the keys that have one.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<PublicKey, SharedRate>>);

/// One rate for all links of a key.
pub(super) type SharedRate = Arc<Mutex<Rate>>;

impl Rates {
    /// The rate of this key, which may write so many bytes a second from now on.
    pub(super) fn of(&self, key: PublicKey, bytes_per_second: u64, now: Time) -> SharedRate {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() == rates.capacity() {
            // Who is through with what it sent, and gone, may begin anew.
            rates.retain(|_, rate| Arc::strong_count(rate) > 1 || lock(rate).through > now);
        }
        let rate = rates.entry(key).or_default();
        lock(rate).bytes_per_second = bytes_per_second;
        rate.clone()
    }
}

pub(super) fn lock(rate: &SharedRate) -> std::sync::MutexGuard<'_, Rate> {
    rate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::default().plus(Duration::from_secs(seconds))
    }

    fn key(number: u32) -> PublicKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        PublicKey(key)
    }

    #[test]
    fn a_second_at_once_and_then_no_faster() {
        let rates = Rates::default();
        let rate = rates.of(key(1), 1000, at(0));
        lock(&rate).spend(1000, at(0));
        assert_eq!(lock(&rate).wait(at(0)), Duration::ZERO);
        lock(&rate).spend(500, at(0));
        assert_eq!(lock(&rate).wait(at(0)), Duration::from_millis(500));
        assert_eq!(lock(&rate).wait(at(1)), Duration::ZERO);
        // Who was quiet for long has a second, not an hour.
        lock(&rate).spend(3000, at(3600));
        assert_eq!(lock(&rate).wait(at(3600)), Duration::from_secs(2));
        assert_eq!(lock(&rates.of(key(2), 1000, at(3600))).wait(at(3600)), Duration::ZERO, "others are not concerned");
    }

    #[test]
    fn coming_anew_makes_nobody_faster() {
        let rates = Rates::default();
        let mut sent = 0;
        let mut now = at(0);
        while now < at(60) {
            let rate = rates.of(key(1), 1000, now);
            let wait = lock(&rate).wait(now);
            now = now.plus(wait);
            lock(&rate).spend(700, now);
            sent += 700;
        }
        let seconds = now.0 / 1_000_000;
        assert!(sent > 1000 * seconds && sent <= 1000 * (seconds + 1) + 2 * 700, "{sent} in {seconds} s");
    }

    #[test]
    fn the_slowest_rate_and_the_largest_batch_overflow_nothing() {
        let rate = Rates::default().of(key(1), 1, at(0));
        lock(&rate).spend(u64::MAX, at(0));
        assert!(lock(&rate).wait(at(0)) > Duration::from_secs(3600));
    }

    #[test]
    fn keys_that_are_through_and_gone_are_forgotten() {
        let rates = Rates::default();
        for number in 0..10_000 {
            drop(rates.of(key(number), 1000, at(0)));
        }
        assert!(rates.0.lock().unwrap().len() < 100);
    }
}
