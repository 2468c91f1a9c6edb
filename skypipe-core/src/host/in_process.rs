//! Hosting the local relay inside this process.

use super::folder::LocalFolder;
use super::lock::HostLock;
use super::serve::{HostOptions, serve_locked};
use super::{Starter, relay_threads};
use crate::error::{Code, Error};

/// Hosts the relay in this process, on a thread and runtime of its own, until the process ends: what a library does.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Starter for InProcess {
    fn start(&self, folder: &LocalFolder) -> Result<(), Error> {
        let Some(lock) = HostLock::take(folder)? else { return Ok(()) };
        let folder = folder.clone();
        std::thread::Builder::new()
            .name("skypipe-relay".into())
            .spawn(move || host(folder, lock))
            .map(drop)
            .map_err(|e| Error::new(Code::Internal, "no thread for the local relay").because(e))
    }
}

/// Whoever waits for the socket is told that nobody answers, so an error here need not travel.
fn host(folder: LocalFolder, lock: HostLock) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(relay_threads())
        .thread_name("skypipe-relay")
        .enable_all()
        .build();
    if let Ok(runtime) = runtime {
        // A task like all others: what it accepts goes on where it is, and wakes no other thread.
        let serving = async move { serve_locked(&folder, lock, HostOptions::default()).await };
        let _ = runtime.block_on(async { tokio::spawn(serving).await });
    }
}
