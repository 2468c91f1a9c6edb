//! Bytes and rate on stderr, for whoever watches.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::status::{self, Slot};

/// Between two looks.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Counts bytes, and shows them while it lives.
pub(crate) struct Progress {
    bytes: Arc<AtomicU64>,
    shown: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows if stderr is a terminal, and it was asked for or `total` is known.
    pub(crate) fn new(asked: bool, total: Option<u64>) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let wanted = (asked || total.is_some()) && std::io::stderr().is_terminal();
        let shown = wanted.then(|| tokio::spawn(show(Arc::clone(&bytes), total)));
        Self { bytes, shown }
    }

    /// So many more bytes went through.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(shown) = self.shown.take() {
            shown.abort();
            status::set(Slot::Progress, None);
        }
    }
}

/// How long stdin is, where it is a file.
pub(crate) fn stdin_bytes() -> Option<u64> {
    let about = rustix::fs::fstat(rustix::stdio::stdin()).ok()?;
    let is_file = FileType::from_raw_mode(about.st_mode) == FileType::RegularFile;
    is_file.then(|| u64::try_from(about.st_size).ok()).flatten()
}

async fn show(bytes: Arc<AtomicU64>, total: Option<u64>) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SHOW_EVERY, SHOW_EVERY);
    loop {
        ticks.tick().await;
        let line = line(bytes.load(Ordering::Relaxed), total, start.elapsed());
        status::set(Slot::Progress, Some(&line));
    }
}

fn line(bytes: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let of =
        total.filter(|&t| t > 0).map_or(String::new(), |t| format!(" of {} ({} %)", size(t as f64), bytes * 100 / t));
    format!("{}{of}, {}/s", size(bytes as f64), size(rate))
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(1023.0), "1023 B");
        assert_eq!(size(1536.0), "1.5 KiB");
        assert_eq!(size(5.0 * 1024f64.powi(4)), "5.0 TiB");
        assert_eq!(line(512, Some(1024), Duration::from_secs(1)), "512 B of 1.0 KiB (50 %), 512 B/s");
    }
}
