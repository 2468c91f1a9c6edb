//! Hands facts over to whoever opens the log while a second thread looks for the next ones.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;

use super::storage;
use crate::error::Error;
use crate::id::PipeId;

/// Takes a fact, of this pipe.
pub(super) type Replay<'a> = dyn FnMut(PipeId, Bytes) + 'a;

/// Bytes of facts that go over together: a wake-up for hundreds of them. An allocator tidies up when it gets larger pieces back.
const RUN_BYTES: usize = 32 * 1024;
/// Runs that may wait: a side that stops for a moment does not stop the other. 1 MiB of short facts; a long one, such as what restates a queue, is a
/// run of its own.
const RUNS_AHEAD: usize = 32;

/// Facts behind each other.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Whose each is, and where it ends.
    facts: Vec<(PipeId, usize)>,
}

/// Lets `scan` look for facts on a thread of its own; `replay` takes them here, in the same order. Returns when both are through.
///
/// # Errors
/// What `scan` says; `E_STORAGE` when the system gives no thread.
pub(super) fn scan_ahead<T: Send>(
    scan: impl FnOnce(&mut Replay<'_>) -> Result<T, Error> + Send,
    replay: &mut Replay<'_>,
) -> Result<T, Error> {
    let (sender, receiver) = sync_channel(RUNS_AHEAD);
    thread::scope(|scope| {
        let scanner = thread::Builder::new().name("skypipe-log-scan".into());
        let scanner = scanner.spawn_scoped(scope, move || {
            let mut run = Run::default();
            let scanned = scan(&mut |pipe, body| run.add(pipe, &body, &sender));
            run.hand_over(&sender);
            scanned
        });
        let scanner = scanner.map_err(|e| storage("no thread to read the log", e))?;
        receiver.into_iter().for_each(|run: Run| run.replay(replay));
        scanner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Run {
    fn add(&mut self, pipe: PipeId, body: &[u8], sender: &SyncSender<Self>) {
        self.bytes.extend_from_slice(body);
        self.facts.push((pipe, self.bytes.len()));
        if self.bytes.len() >= RUN_BYTES {
            self.hand_over(sender);
        }
    }

    fn hand_over(&mut self, sender: &SyncSender<Self>) {
        // Whoever opens the log takes runs until there is no sender any more.
        let _ = sender.send(std::mem::take(self));
    }

    fn replay(self, replay: &mut Replay<'_>) {
        let mut from = 0;
        for (pipe, end) in self.facts {
            // Each for itself: what is kept of one does not keep the others.
            replay(pipe, Bytes::copy_from_slice(&self.bytes[from..end]));
            from = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn facts_of_many_runs_come_in_order_and_then_what_the_scan_says() {
        let fact = |n: u64| vec![n as u8; n as usize % 100];
        let count = 4 * (RUNS_AHEAD * RUN_BYTES / 100) as u64;
        let scan = |replay: &mut Replay<'_>| {
            (0..count).for_each(|n| replay(PipeId(n), fact(n).into()));
            Err::<(), _>(Error::new(Code::Storage, "the end cannot be read"))
        };
        let mut next = 0;
        let scanned = scan_ahead(scan, &mut |pipe, body| {
            assert_eq!((pipe, &body[..]), (PipeId(next), &fact(next)[..]));
            next += 1;
        });
        assert_eq!((scanned.unwrap_err().code(), next), (Code::Storage, count));
    }
}
