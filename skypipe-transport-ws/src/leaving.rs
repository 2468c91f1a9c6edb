//! Clients' links of this process, for a program that is about to end.

use std::time::Duration;

use skypipe_tls::LiveLinks;

/// Clients' links whose connection is not closed yet.
pub(crate) static LINKS: LiveLinks = LiveLinks::new();

/// Waits until this process has no client's link any more and what was said last has left, at most `limit`. For programs that are about
/// to end: drop all clients first, and call it within the runtime that they used. Else the last words over a link may be lost. Returns at
/// once where there is no link.
///
/// # Cancel safety
/// A dropped call leaves nothing behind.
pub async fn goodbye(limit: Duration) {
    LINKS.none(limit).await;
}
