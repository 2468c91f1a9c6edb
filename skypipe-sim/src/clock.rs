//! Time in a simulation: nothing waits for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use skypipe_core::{Clock, Time, WallTime};
use tokio::time::Instant;

/// Autumn of 2023, in milliseconds since 1970.
const WALL_START: i64 = 1_700_000_000_000;

/// Tokio's paused clock, and a wall clock that jumps.
pub struct SimClock {
    start: Instant,
    /// How far the wall clock is from where it should be, in milliseconds.
    wall_off: AtomicI64,
}

impl SimClock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { start: Instant::now(), wall_off: AtomicI64::new(0) }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Sets the wall clock wrong by so many milliseconds.
    pub fn set_wall_off(&self, millis: i64) {
        self.wall_off.store(millis, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        Time::default().plus(self.elapsed())
    }

    fn wall(&self) -> WallTime {
        let elapsed = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = WALL_START.saturating_add(elapsed).saturating_add(self.wall_off.load(Ordering::Relaxed));
        WallTime(u64::try_from(now).unwrap_or(0))
    }
}
