//! Syncs beside the one who writes, so that more is written meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use super::disk::DiskFile;
use super::{Core, lock};

/// How the sync beside is.
#[derive(Default)]
pub(super) enum Beside {
    /// There is none.
    #[default]
    Idle,
    /// It goes on.
    Running,
    /// It is over, and nobody took notice yet.
    Over(io::Result<()>),
}

impl Beside {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }

    /// What came of it, once it is over; said once.
    pub(super) fn take(&mut self) -> Option<io::Result<()>> {
        if !self.is_over() {
            return None;
        }
        match std::mem::take(self) {
            Self::Over(synced) => Some(synced),
            Self::Idle | Self::Running => None,
        }
    }
}

/// A thread that syncs one file at a time; there is none before the first.
#[derive(Default)]
pub(super) struct Syncer {
    thread: Option<Running>,
}

/// What it is given files by, and the thread.
type Running = (SyncSender<Arc<dyn DiskFile>>, JoinHandle<()>);

impl Syncer {
    /// Begins to sync `file`, while no other sync goes on; the state of the log tells when it is over. False where the system gives no thread.
    pub(super) fn begin(&mut self, core: &Arc<Core>, file: Arc<dyn DiskFile>) -> bool {
        if self.thread.is_none() {
            self.thread = spawn(core.clone()).ok();
        }
        let Some((files, _)) = &self.thread else { return false };
        lock(&core.state).beside = Beside::Running;
        let begun = files.send(file).is_ok();
        if !begun {
            lock(&core.state).beside = Beside::Idle;
        }
        begun
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if let Some((files, thread)) = self.thread.take() {
            drop(files);
            // A panic of the disk was told where it happened.
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread that syncs while the log is written")]
fn spawn(core: Arc<Core>) -> io::Result<Running> {
    let (files, given) = mpsc::sync_channel::<Arc<dyn DiskFile>>(1);
    let work = move || {
        for file in given {
            let mut tells = Tells { core: &core, synced: Err(io::Error::other("the sync was cut short")) };
            tells.synced = file.sync();
        }
    };
    let thread = thread::Builder::new().name("skypipe-sync".to_owned()).spawn(work)?;
    Ok((files, thread))
}

/// Tells what came of a sync when it is dropped: a disk that panics must not leave the log waiting.
struct Tells<'a> {
    core: &'a Core,
    synced: io::Result<()>,
}

impl Drop for Tells<'_> {
    fn drop(&mut self) {
        let synced = std::mem::replace(&mut self.synced, Ok(()));
        lock(&self.core.state).beside = Beside::Over(synced);
        self.core.wake.wake();
    }
}
