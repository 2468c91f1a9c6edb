//! Taking the place of a relay that a command started by itself.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skypipe_core::Error;
use skypipe_core::host::{DRAIN_WITHIN, Holder, HostLock, LocalFolder};
use tokio::time::{Instant, sleep};

/// What such a relay was started with, which tells it from one that a person started.
const DETACHED: &str = "--detached";
/// Longest that is waited for its end: it drains, and has a moment for its log.
const RELIEVED_WITHIN: Duration = DRAIN_WITHIN.saturating_add(Duration::from_secs(5));
/// Between two looks at the lock. Commands whose relay goes start another within milliseconds, and this must be faster.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Asks the relay that serves this folder to end, if a command started it by itself, and returns when its lock is free. Whatever is
/// attached goes on at the next relay. One that a person or a service manager started is left alone.
///
/// # Errors
/// What makes the lock unusable.
///
/// # Cancel safety
/// A dropped call may have asked.
pub(crate) async fn relieve(folder: &LocalFolder) -> Result<(), Error> {
    let end = Instant::now() + RELIEVED_WITHIN;
    let mut asked = None;
    while HostLock::take(folder)?.is_none() && Instant::now() < end {
        match holder(folder) {
            Some(pid) if asked == Some(pid) => {}
            Some(pid) if is_detached(pid) => {
                let _ = kill_process(pid, Signal::TERM);
                asked = Some(pid);
            }
            // Whoever hosts next will be told who has it.
            Some(_) => return Ok(()),
            None => {}
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn holder(folder: &LocalFolder) -> Option<Pid> {
    let holder = Holder::of(folder)?;
    Pid::from_raw(i32::try_from(holder.pid).ok()?)
}

fn is_detached(pid: Pid) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let mut words = line.split(|&b| b == 0).skip(1);
    words.next() == Some(b"relay") && words.any(|word| word == DETACHED.as_bytes())
}
