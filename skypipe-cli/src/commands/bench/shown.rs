//! What goes on, in one line on stderr.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::row::Unit;
use crate::status::{self, Slot};

/// Between two looks.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Counts what happens, and shows it while it lives.
pub(super) struct Shown {
    amount: Arc<AtomicU64>,
    showing: tokio::task::JoinHandle<()>,
}

impl Shown {
    /// `title` says what is measured.
    pub(super) fn begin(title: String, unit: Unit) -> Self {
        let amount = Arc::new(AtomicU64::new(0));
        let showing = tokio::spawn(show(title, unit, amount.clone()));
        Self { amount, showing }
    }

    /// Where to count.
    pub(super) fn count(&self) -> Arc<AtomicU64> {
        self.amount.clone()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.showing.abort();
        status::set(Slot::Progress, None);
    }
}

async fn show(title: String, unit: Unit, amount: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    let (mut before, mut then) = (0, Instant::now());
    loop {
        let now = ticks.tick().await;
        let count = amount.load(Ordering::Relaxed);
        let seconds = now.duration_since(then).as_secs_f64();
        let rate = if seconds > 0.0 { (count - before) as f64 / seconds } else { 0.0 };
        (before, then) = (count, now);
        let rate = if rate > 0.0 { format!(", {}", unit.rate(rate)) } else { String::new() };
        status::set(Slot::Progress, Some(&format!("{title}{rate}")));
    }
}
