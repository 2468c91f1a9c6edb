//! How much memory a process needs at its peak.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::process::Pid;

/// Samples one process until it ends or the sampler is dropped.
///
/// Counted are `RssAnon` and `RssShmem`: what the process made its own. Pages of its program file and of files it reads are the
/// kernel's to take back.
pub struct Memory {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

impl Memory {
    /// Begins to sample.
    pub fn watch(pid: Pid) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let sampler = std::thread::spawn({
            let (peak, stop) = (peak.clone(), stop.clone());
            move || {
                while let Some(now) = own_bytes(pid)
                    && !stop.load(Ordering::Relaxed)
                {
                    peak.fetch_max(now, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { peak, stop, sampler: Some(sampler) }
    }

    /// Bytes at the peak so far.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Asserts that the peak stayed below `limit` bytes, and that there was one.
    #[track_caller]
    pub fn stayed_below(&self, limit: u64, who: &str) {
        let peak = self.peak();
        println!("memory: {who} {} KiB at its peak", peak / 1024);
        assert!(peak > 0, "{who} was never sampled");
        assert!(peak < limit, "{who} needed {peak} bytes, allowed are {limit}");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            let _ = sampler.join();
        }
    }
}

/// What the process holds of its own now; `None` when it is gone.
fn own_bytes(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let kib = |field: &str| -> Option<u64> {
        status.lines().find_map(|l| l.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) * 1024)
}
