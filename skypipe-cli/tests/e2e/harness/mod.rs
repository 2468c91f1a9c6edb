//! Real processes in a home of their own.
//!
//! ```text
//! let home = Home::new();
//! home.skypipe(["write", "x", "hello"]).ok();
//! home.skypipe(["read", "x"]).ok().gave("hello\n");
//! ```
//!
//! Every wait is for a condition and has a deadline ([`until`]). When the [`Home`] goes, its relay and every process left in it
//! are ended by their ids.

mod command;
mod data;
mod done;
mod home;
mod memory;
mod output;
mod process;
mod proof;
mod running;
mod terminal;

pub use command::{Command, In, Out};
pub use data::{Data, Digest};
pub use done::Done;
pub use home::{Home, Stat};
pub use memory::Memory;
pub use process::{Pid, Signal, command_line, is_alive, send, stop};
pub use running::Running;

use std::time::{Duration, Instant};

/// How long anything may take: far more than it needs, since all tests share the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition)
}

/// As [`until`] with another patience.
#[track_caller]
pub fn until_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
