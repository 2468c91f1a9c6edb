//! What the tasks of one proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::faults::{Blow, Faults, Times, Way};

/// Faults and counts.
pub(super) struct Shared {
    faults: watch::Sender<Faults>,
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    pub(super) seed: u64,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            faults: watch::Sender::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            seed,
        })
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    pub(super) fn faults(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    /// Strikes when a connection that carried so many is to be cut; a cut for one connection is used up by it.
    pub(super) fn cut(&self, way: Way, carried: u64) -> bool {
        let mut struck = false;
        self.faults.send_if_modified(|faults| {
            let faults = faults.of_mut(way);
            struck = faults.cuts(carried);
            let used_up = struck && matches!(faults.cut_at, Some((_, Times::Once)));
            if used_up {
                faults.cut_at = None;
            }
            used_up
        });
        struck
    }

    /// Resolves when connections that stand now are ended by hand.
    pub(super) async fn blow(&self) -> Blow {
        let mut faults = self.faults();
        let before = faults.borrow().blows.0;
        let changed = faults.wait_for(|now| now.blows.0 > before).await;
        changed.ok().and_then(|faults| faults.blows.1).unwrap_or(Blow::Close)
    }

    pub(super) fn carried(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(super) fn count(&self, way: Way, bytes: usize) {
        self.carried(way).fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The number of a new connection, from 0.
    pub(super) fn connected(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}
