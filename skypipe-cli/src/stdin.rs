//! stdin as chunks, read on a thread of its own: a read of a pipe cannot be called off, and the command must hear signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::wide_pipe;

/// One read. As long as a piece of a record, and longer than any pipe holds by default.
const READ_BYTES: usize = 256 * 1024;
/// Chunks that lie between the thread and the command: one in work, one ready.
const CHUNKS_READY_MAX: usize = 2;

/// stdin. Bytes that were read are not lost: they wait here.
pub(crate) struct StdinChunks {
    chunks: mpsc::Receiver<io::Result<Chunk>>,
    spent: mpsc::Sender<Vec<u8>>,
    /// What the thread has put or is about to put into `chunks`, and what was taken out. A flag in place of the counts would still
    /// be set behind a chunk that was taken already, and a signal would wait for one that never comes.
    read: Arc<AtomicU64>,
    taken: u64,
}

/// Some bytes of stdin, in a buffer that goes back to be filled again.
pub(crate) struct Chunk {
    buffer: Vec<u8>,
    length: usize,
}

impl Chunk {
    /// The bytes, at least one.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl StdinChunks {
    /// Begins to read.
    pub(crate) fn open() -> io::Result<Self> {
        let (ready, chunks) = mpsc::channel(CHUNKS_READY_MAX);
        let (spent, empty) = mpsc::channel(CHUNKS_READY_MAX + 2);
        let read = Arc::new(AtomicU64::new(0));
        let thread = Reading { ready, empty, read: Arc::clone(&read) };
        std::thread::Builder::new().name("stdin".into()).spawn(move || thread.run())?;
        Ok(Self { chunks, spent, read, taken: 0 })
    }

    /// The next chunk; `None` at the end. May be dropped.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Chunk>> {
        let next = self.chunks.recv().await;
        self.taken += u64::from(next.is_some());
        next
    }

    /// A chunk that was read already, and nothing that is still to come. May be dropped.
    pub(crate) async fn next_read(&mut self) -> Option<io::Result<Chunk>> {
        if self.taken < self.read.load(Ordering::Acquire) { self.next().await } else { None }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&self, chunk: Chunk) {
        let _ = self.spent.try_send(chunk.buffer);
    }
}

/// The thread's side.
struct Reading {
    ready: mpsc::Sender<io::Result<Chunk>>,
    empty: mpsc::Receiver<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Reading {
    fn run(mut self) {
        let mut is_wide = false;
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_else(|_| vec![0; READ_BYTES]);
            let chunk = match read(&mut buffer) {
                Ok(0) => return,
                Ok(length) if length >= wide_pipe::FULL_BYTES && !is_wide => {
                    wide_pipe::widen(rustix::stdio::stdin());
                    is_wide = true;
                    Ok(Chunk { buffer, length })
                }
                Ok(length) => Ok(Chunk { buffer, length }),
                Err(e) => Err(e),
            };
            let is_last = chunk.is_err();
            self.read.fetch_add(1, Ordering::Release);
            if self.ready.blocking_send(chunk).is_err() || is_last {
                return;
            }
        }
    }
}

/// One read that waits, also where somebody made the file non-blocking.
fn read(buffer: &mut [u8]) -> io::Result<usize> {
    let stdin = rustix::stdio::stdin();
    loop {
        match rustix::io::read(stdin, &mut *buffer) {
            Ok(length) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            Err(e) => return Err(e.into()),
        }
    }
}
