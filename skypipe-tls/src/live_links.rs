//! Clients' links of this process, counted for a program that is about to end.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How many links of one transport are not over yet. Each transport has one, a static.
pub struct LiveLinks(LazyLock<watch::Sender<usize>>);

impl LiveLinks {
    /// None so far.
    #[expect(clippy::new_without_default, reason = "it is made for a static, and a default cannot be")]
    pub const fn new() -> Self {
        Self(LazyLock::new(|| watch::Sender::new(0)))
    }

    /// One more, until what this gives is dropped.
    pub fn begin(&'static self) -> LiveLink {
        self.0.send_modify(|links| *links += 1);
        LiveLink(self)
    }

    /// Waits until there is none, at most `limit`. Returns at once where there is none.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn none(&self, limit: Duration) {
        // The sender lives as long as this: it never closes.
        let _ = timeout(limit, self.0.subscribe().wait_for(|links| *links == 0)).await;
    }
}

/// A link that is not over.
pub struct LiveLink(&'static LiveLinks);

impl Drop for LiveLink {
    fn drop(&mut self) {
        self.0.0.send_modify(|links| *links -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_are_waited_for_and_no_longer_than_the_limit() {
        static LINKS: LiveLinks = LiveLinks::new();
        let start = tokio::time::Instant::now();
        LINKS.none(Duration::from_secs(9)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        let link = LINKS.begin();
        LINKS.none(Duration::from_secs(9)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        tokio::join!(LINKS.none(Duration::from_secs(9)), async { drop(link) });
        assert_eq!(start.elapsed(), Duration::from_secs(9));
    }
}
