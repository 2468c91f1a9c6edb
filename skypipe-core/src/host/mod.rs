//! The user's local relay: where it lives, and exactly one of it.
//!
//! ```text
//!   session ── Broker ──▶ RemoteBroker ── "local:" ──▶ LocalTransport ── relay.sock ──▶ serve(): Relay ─▶ LocalBroker
//!                                                          │ nobody answers
//!                                                          └─▶ Starter ─▶ takes relay.lock, or leaves it to who has it
//! ```
//!
//! Nobody sets anything up to use pipes on one machine: whoever finds no relay starts one, a lock sees to it that there is
//! exactly one, and the log is on disk, so the next host goes on where this one stopped.
#![expect(clippy::disallowed_methods, reason = "what a host of this machine is: a lock, a folder, a thread")]

mod folder;
mod in_process;
mod lock;
mod serve;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;

pub use folder::{LocalFolder, SOCKET_PATH_BYTES_MAX};
pub use in_process::InProcess;
pub use lock::{Holder, HostLock, HostState};
pub use serve::{Alert, DRAIN_WITHIN, HostOptions, IDLE_AFTER, Ready, Stop, serve};
pub use transport::{ANSWER_WITHIN, LocalTransport};

use crate::broker::Broker;
use crate::error::Error;
use crate::remote::RemoteBroker;

/// The scheme of the local relay's URL. There is one such relay, so nothing stands behind it.
pub const LOCAL_URL: &str = "local:";

/// Most threads that pass on what comes. More were never measured.
const THREADS_MAX: usize = 8;

/// How many threads a relay passes on with: half of the processors, as those who write and read are often on the same machine. No disk is
/// waited for on them. On a machine with two processors one is as quick as two or quicker: see docs/decisions.md.
pub fn relay_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, THREADS_MAX)
}

/// Starts a host of the local relay.
pub trait Starter: Send + Sync {
    /// Begins to start one and returns at once. Where one is hosted already, nothing happens: the lock decides. It is called
    /// again while nobody answers, so it must be cheap to call in vain.
    ///
    /// # Errors
    /// When it cannot even begin to, such as when no thread or process can be made.
    fn start(&self, folder: &LocalFolder) -> Result<(), Error>;
}

/// The user's local relay as a broker. If nobody hosts it, this process does, on a thread of its own, from the first call on.
///
/// # Errors
/// `E_SOCKET_PATH` when there is no folder to keep it in.
///
/// # Cancel safety
/// A dropped call leaves nothing behind.
#[expect(clippy::unused_async, reason = "looking for the folder may come to need it, callers must not")]
pub async fn local_broker() -> Result<Arc<dyn Broker>, Error> {
    let transport = LocalTransport::new(LocalFolder::find()?, Arc::new(InProcess));
    Ok(Arc::new(RemoteBroker::new(Arc::new(transport), LOCAL_URL)))
}
