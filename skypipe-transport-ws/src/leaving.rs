//! Clients' links of this process, for a program that is about to end.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Clients' links whose connection is not closed yet.
static LINKS: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Waits until this process has no client's link any more and what was said last has left, at most `limit`. For programs that are about
/// to end: drop all clients first, and call it within the runtime that they used. Else the last words over a link may be lost. Returns at
/// once where there is no link.
///
/// # Cancel safety
/// A dropped call leaves nothing behind.
pub async fn goodbye(limit: Duration) {
    // The sender is static: it never closes.
    let _ = timeout(limit, LINKS.subscribe().wait_for(|links| *links == 0)).await;
}

/// A client's link, as [`goodbye`] counts it.
pub(crate) struct Counted(());

impl Counted {
    pub(crate) fn new() -> Self {
        LINKS.send_modify(|links| *links += 1);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LINKS.send_modify(|links| *links -= 1);
    }
}
