//! How often a peer may do something.

use std::time::Duration;

use crate::time::Time;

const MINUTE: Duration = Duration::from_secs(60);

/// A minute's worth of tokens, refilled evenly over a minute.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_minute: u32,
    left: f64,
    filled: Time,
}

impl Bucket {
    /// A full one.
    pub fn new(per_minute: u32, now: Time) -> Self {
        Self { per_minute, left: f64::from(per_minute), filled: now }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Time) -> bool {
        let filled = now.since(self.filled).as_secs_f64() / MINUTE.as_secs_f64() * f64::from(self.per_minute);
        self.left = (self.left + filled).min(f64::from(self.per_minute));
        self.filled = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_and_no_more() {
        let start = Time(7);
        let mut bucket = Bucket::new(60, start);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 60);
        let later = start.plus(Duration::from_millis(2500));
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 2);
        let much_later = start.plus(Duration::from_secs(3600));
        assert_eq!((0..100).filter(|_| bucket.take(much_later)).count(), 60);
    }
}
