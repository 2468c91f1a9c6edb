//! What the drivers take from the machine: clocks, randomness and where to wait for a disk, injected so that tests bring their own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::{Code, Error};
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

/// Where work that waits for a disk is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Work {
    /// On threads beside the runtime, as a disk may take its time.
    #[default]
    Threads,
    /// Within the tasks of the runtime, in place: for disks that never wait, and where one thread must do everything in one order.
    Inline,
}

impl Work {
    /// Reads from a disk. A future that is dropped may leave the read going on to no end.
    pub(crate) fn read<T: Send + 'static>(
        self,
        read: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the driver")]
            Self::Threads => Box::pin(tokio::task::spawn_blocking(read).map(|done| {
                done.unwrap_or_else(|e| Err(Error::new(Code::Storage, "reading the log was cut short").because(e)))
            })),
            Self::Inline => Box::pin(async move { read() }),
        }
    }
}

/// What a driver takes from the machine, cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The randomness.
    pub random: Arc<dyn Random>,
    /// Where a disk is waited for.
    pub work: Work,
}

impl Env {
    /// The machine's own: tokio's clock, which tests may pause, and the kernel's randomness.
    pub fn system() -> Self {
        let clock = Arc::new(TokioClock { start: tokio::time::Instant::now() });
        Self { clock, random: Arc::new(SystemRandom), work: Work::Threads }
    }

    /// Monotonic time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The wall clock at the start of the monotonic one.
    pub fn wall_at_zero(&self) -> WallTime {
        WallTime(self.clock.wall().0.saturating_sub(self.now().0 / 1000))
    }

    /// A number that nobody can guess.
    pub fn secret(&self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A new session id.
    pub fn session(&self) -> SessionId {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        SessionId(id)
    }

    /// A number from 0 up to but not including `below`, for jitter; 0 if `below` is 0.
    pub fn below(&self, below: u64) -> u64 {
        self.secret().checked_rem(below).unwrap_or(0)
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

    #[expect(clippy::disallowed_methods, reason = "this is the wall clock")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The kernel's randomness.
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the randomness")]
    #[expect(clippy::expect_used, reason = "a machine without randomness cannot draw session ids that nobody guesses")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}
