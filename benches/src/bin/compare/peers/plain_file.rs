//! What the disk itself allows: a file that is appended to, in the writers' own process.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::Failure;
use crate::contender::{Contender, Receiver, Sender, Work};
use crate::ground::{Ground, Server};
use crate::record::Arrivals;
use crate::roles::{self, Post};

/// What is read or written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes that wait for the disk before a writer that waits for none does wait: as many as a writer of skypipe has on their way.
const WINDOW_BYTES: usize = 4 << 20;

/// How the file is synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainFile {
    /// A thread takes what all writers have handed over, appends it, syncs, and tells them; and again.
    Grouped,
    /// Once, at the end.
    Sequential,
}

impl Contender for PlainFile {
    fn name(&self) -> String {
        match self {
            Self::Grouped => "append and fdatasync in groups".to_owned(),
            Self::Sequential => "sequential write, fsync".to_owned(),
        }
    }

    fn acknowledgement(&self) -> &'static str {
        match self {
            Self::Grouped => "stored (fdatasync)",
            Self::Sequential => "stored (one fsync at the end)",
        }
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        Ok(Server::none(&ground.data().join("plain")))
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        Box::pin(async move {
            let file = File::create(post.at)?;
            match self {
                Self::Grouped => {
                    let committer = Arc::new(Committer::start(file));
                    roles::write(post, async || Ok(Grouped { committer: committer.clone() })).await
                }
                Self::Sequential => {
                    roles::write(post, async || Ok(Sequential { file: file.try_clone()?, waits: Vec::new() })).await
                }
            }
        })
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::read(post, async move || Ok(Reading { file: File::open(at)?, space: vec![0; BLOCK_BYTES] })))
    }
}

struct Sequential {
    file: File,
    waits: Vec<u8>,
}

impl Sender for Sequential {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        if record.len() >= BLOCK_BYTES {
            self.flush().await?;
            return Ok(self.file.write_all(record)?);
        }
        self.waits.extend_from_slice(record);
        if self.waits.len() >= BLOCK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.file.write_all(&self.waits)?;
        self.waits.clear();
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        Ok(self.file.sync_all()?)
    }
}

struct Grouped {
    committer: Arc<Committer>,
}

impl Sender for Grouped {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        let waits = {
            let mut group = self.committer.group();
            group.bytes.extend_from_slice(record);
            group.bytes.len()
        };
        if waits > BLOCK_BYTES {
            self.committer.shared.1.notify_one();
        }
        if waits > WINDOW_BYTES { self.settle().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        let (told, tells) = oneshot::channel();
        self.committer.group().waiters.push(told);
        self.committer.shared.1.notify_one();
        tells.await.map_err(|_| "the file cannot be written".into())
    }
}

/// The thread that syncs.
struct Committer {
    shared: Arc<(Mutex<Group>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// What waits to be synced, and who waits for it.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    waiters: Vec<oneshot::Sender<()>>,
    is_over: bool,
}

impl Group {
    /// A record alone is not: its writer is about to say that it waits.
    fn is_wanted(&self) -> bool {
        self.bytes.len() > BLOCK_BYTES || !self.waiters.is_empty() || self.is_over
    }
}

impl Committer {
    fn start(file: File) -> Self {
        let shared = Arc::<(Mutex<Group>, Condvar)>::default();
        let commits = shared.clone();
        let thread = std::thread::spawn(move || commit(&file, &commits));
        Self { shared, thread: Some(thread) }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.group().is_over = true;
        self.shared.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends when it is over, or at the first error: the waiters then learn that nobody tells them.
fn commit(mut file: &File, (group, news): &(Mutex<Group>, Condvar)) {
    let mut bytes = Vec::with_capacity(WINDOW_BYTES);
    loop {
        let waiters = {
            let group = group.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing = |group: &mut Group| !group.is_wanted();
            let mut group = news.wait_while(group, nothing).unwrap_or_else(PoisonError::into_inner);
            if group.is_over {
                return;
            }
            bytes.clear();
            std::mem::swap(&mut bytes, &mut group.bytes);
            std::mem::take(&mut group.waiters)
        };
        if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for waiter in waiters {
            // One that is gone does not want to know.
            let _ = waiter.send(());
        }
    }
}

struct Reading {
    file: File,
    space: Vec<u8>,
}

impl Receiver for Reading {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let length = self.file.read(&mut self.space)?;
        arrivals.take(&self.space[..length]);
        Ok(length > 0)
    }
}
