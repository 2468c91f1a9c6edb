//! The embedded broker: pipes in this process, their records in memory for whoever reads promptly and in a log on disk for the rest.
//!
//! ```text
//!  attach.rs, pattern.rs (of many pipes) ─▶ halves.rs ─▶ cell.rs: one pipe = state machine (delivery) + lock ─▶ log (one for all pipes)
//!                               ▲  ▲                                                  │
//!   timers.rs, vanished.rs: due ┘  └───────── shared.rs: what became durable ◀────────┘
//! ```

mod attach;
mod burial;
mod cell;
mod closed;
mod directory;
mod halves;
mod log_reading;
mod meter;
#[cfg(test)]
mod owner_tests;
mod owners;
mod pattern;
mod pressure;
#[cfg(test)]
mod read_only_tests;
mod recovery;
#[cfg(test)]
mod rest_tests;
#[cfg(test)]
mod room_tests;
mod shared;
#[cfg(test)]
mod tests;
mod timers;
mod vanished;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::{
    Broker, Features, LIST_PAGE_MAX, ListPage, ListQuery, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves,
};
use crate::caller::{Caller, ProcessId};
use crate::delivery::limits::PIPE_BYTES_MAX;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::log::{Disk, FolderDisk, LogOptions, RamDisk};
use crate::memory::Memory;
use crate::name::{PatternRef, PipeRef};
use crate::stat::PipeStat;
use shared::Shared;

/// How a [`LocalBroker`] runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalBrokerOptions {
    /// How its log is kept.
    pub log: LogOptions,
    /// Bytes each pipe may have in the log; past it its writers wait.
    pub pipe_bytes_max: u64,
    /// What it may hold in memory.
    pub memory: Memory,
    /// Whether a process that had a session when the last host stopped is still there. A session of a dead process is lost at once.
    pub is_alive: fn(ProcessId) -> bool,
}

impl Default for LocalBrokerOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            pipe_bytes_max: PIPE_BYTES_MAX,
            memory: Memory::default(),
            is_alive: crate::local_socket::is_alive,
        }
    }
}

/// A broker in this process.
///
/// # Examples
/// ```
/// use skypipe_core::{BrokerPipe, Caller, Env, LocalBroker, Pipe, PipeName, Until};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), skypipe_core::Error> {
/// let broker = LocalBroker::in_memory(Env::system())?;
/// let pipe = BrokerPipe::new(broker, Caller::in_process(), PipeName::new("logs")?);
///
/// let mut writer = pipe.writer().await?;
/// writer.send(b"hello\n").await?;
/// writer.end(Until::Stored).await?;
///
/// let mut reader = pipe.reader().await?;
/// let record = reader.next().await?.expect("one record is stored");
/// assert_eq!(&record.body[..], b"hello\n");
/// assert!(reader.next().await?.is_none(), "the item has ended, and so has its reader");
/// # Ok(())
/// # }
/// ```
pub struct LocalBroker {
    shared: Arc<Shared>,
}

impl LocalBroker {
    /// Opens the broker whose data lie in `folder`, or begins one. Reads the log's headers, so it blocks; must be called within a
    /// tokio runtime, on which its timers run.
    ///
    /// # Errors
    /// `E_FORMAT` when the folder has a newer format, `E_PROTOCOL` when the log has facts this version does not know, `E_STORAGE`,
    /// `E_NO_SPACE`.
    pub fn open(folder: &Path, env: Env, options: LocalBrokerOptions) -> Result<Arc<Self>, Error> {
        let disk = FolderDisk::new(folder)
            .map_err(|e| Error::new(Code::Storage, format!("cannot use {}: {e}", folder.display())))?;
        Self::on_disk(Arc::new(disk), env, options)
    }

    /// A broker that forgets everything with the process: for tests and for pipes within one program.
    ///
    /// # Errors
    /// `E_STORAGE` when the system gives no thread.
    pub fn in_memory(env: Env) -> Result<Arc<Self>, Error> {
        Self::on_disk(Arc::new(RamDisk::new()), env, LocalBrokerOptions::default())
    }

    /// A broker whose log lies on any [`Disk`]; else as [`LocalBroker::open`].
    ///
    /// # Errors
    /// As [`LocalBroker::open`].
    pub fn on_disk(disk: Arc<dyn Disk>, env: Env, options: LocalBrokerOptions) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { shared: Shared::open(disk, env, &options)? }))
    }

    /// What was found wrong with the data when they were opened, and what was done about it: a line for people each.
    pub fn found(&self) -> Vec<String> {
        self.shared.log.recovery().lines()
    }

    /// Resolves when the log fails, with the error that everybody is told from then on.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn failed(&self) -> Error {
        loop {
            let notified = self.shared.failing.notified();
            if let Some(error) = self.shared.failure() {
                return error;
            }
            notified.await;
        }
    }

    /// Commits what is queued and closes the log. Sessions that are attached then go on with the next host of the data. What
    /// waits for room on a full disk is given up after `within`; its writers still have it.
    ///
    /// # Cancel safety
    /// A dropped call may leave the log open; call it again.
    pub async fn close(&self, within: std::time::Duration) {
        let _ = tokio::time::timeout(within, self.drain()).await;
        self.shared.log.closed().await;
    }
}

#[async_trait]
impl Broker for LocalBroker {
    fn features(&self) -> Features {
        let read_only = self.shared.failure().is_some();
        Features { queue: true, broadcast: true, stored: !read_only, delivered: true, read_only, patterns: true }
    }

    async fn attach_writer(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: WriterAttach,
    ) -> Result<WriterHalves, Error> {
        attach::writer(&self.shared, caller, pipe, attach).await
    }

    async fn attach_reader(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        attach::reader(&self.shared, caller, pipe, attach).await
    }

    async fn attach_pattern_reader(
        &self,
        caller: &Caller,
        pattern: &PatternRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        pattern::attach(&self.shared, caller, pattern, attach).await
    }

    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        if !caller.rights.read {
            return Err(attach::no_access());
        }
        let limit = query.limit.min(LIST_PAGE_MAX) as usize;
        let mut cells = self.shared.directory().page(&query, limit + 1);
        let more = cells.len() > limit;
        cells.truncate(limit);
        let pipes = cells.iter().filter_map(|cell| cell.stat(&self.shared, false)).collect();
        Ok(ListPage { pipes, more })
    }

    async fn stat(&self, caller: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        let cell = self.shared.directory().get(pipe).filter(|_| caller.rights.read);
        cell.and_then(|cell| cell.stat(&self.shared, true)).ok_or_else(attach::no_access)
    }

    async fn remove(&self, caller: &Caller, pipe: &PipeRef) -> Result<(), Error> {
        let cell = self.shared.directory().get(pipe).filter(|_| caller.rights.manage).ok_or_else(attach::no_access)?;
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        cell.change(&self.shared, |pipe| pipe.remove()).ok_or_else(attach::no_access)?;
        cell.all_stored(&self.shared).await
    }

    async fn drain(&self) {
        self.shared.drain().await;
    }
}
