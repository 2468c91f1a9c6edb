//! What the drivers take from the machine: clocks and randomness, injected so that tests bring their own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::SessionId;
use crate::time::{Time, WallTime};

/// The clocks of one process.
pub trait Clock: Send + Sync {
    /// Monotonic time.
    fn now(&self) -> Time;
    /// Wall-clock time.
    fn wall(&self) -> WallTime;
}

/// A source of unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Clocks and randomness together, cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The randomness.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The machine's own: tokio's clock, which tests may pause, and the kernel's randomness.
    pub fn system() -> Self {
        Self { clock: Arc::new(TokioClock { start: tokio::time::Instant::now() }), random: Arc::new(SystemRandom) }
    }

    /// Monotonic time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A new session id.
    pub fn session(&self) -> SessionId {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        SessionId(id)
    }

    /// A number from 0 up to but not including `below`, for jitter; 0 if `below` is 0.
    pub fn below(&self, below: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(below).unwrap_or(0)
    }
}

/// The clock that tokio's timers follow.
struct TokioClock {
    start: tokio::time::Instant,
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        Time::default().plus(self.start.elapsed())
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The kernel's randomness.
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "a machine without randomness cannot draw session ids that nobody guesses")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}
