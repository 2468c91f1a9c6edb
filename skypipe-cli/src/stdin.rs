//! stdin as chunks, read on a thread of its own: a read of a pipe cannot be called off, and the command must hear signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// One read. As long as a piece of a record, and longer than any pipe holds by default.
const READ_BYTES: usize = 256 * 1024;
/// Chunks that lie between the thread and the command: one in work, one ready.
const CHUNKS_READY_MAX: usize = 2;

/// stdin. Bytes that were read are not lost: they wait here.
pub(crate) struct StdinChunks {
    chunks: mpsc::Receiver<io::Result<Chunk>>,
    spent: mpsc::Sender<Vec<u8>>,
    /// Set while the thread has bytes that are not in `chunks` yet.
    holds: Arc<AtomicBool>,
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
        let holds = Arc::new(AtomicBool::new(false));
        let thread = Reading { ready, empty, holds: Arc::clone(&holds) };
        std::thread::Builder::new().name("stdin".into()).spawn(move || thread.run())?;
        Ok(Self { chunks, spent, holds })
    }

    /// The next chunk; `None` at the end. May be dropped.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Chunk>> {
        self.chunks.recv().await
    }

    /// A chunk that was read already, and nothing that is still to come.
    pub(crate) async fn next_read(&mut self) -> Option<io::Result<Chunk>> {
        match self.chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(_) if self.holds.load(Ordering::Acquire) => self.chunks.recv().await,
            // It may have been handed over between the two looks.
            Err(_) => self.chunks.try_recv().ok(),
        }
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
    holds: Arc<AtomicBool>,
}

impl Reading {
    fn run(mut self) {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_else(|_| vec![0; READ_BYTES]);
            let read = read(&mut buffer);
            self.holds.store(true, Ordering::Release);
            let sent = match read {
                Ok(0) => return self.holds.store(false, Ordering::Release),
                Ok(length) => self.ready.blocking_send(Ok(Chunk { buffer, length })).is_ok(),
                Err(e) => {
                    let _ = self.ready.blocking_send(Err(e));
                    false
                }
            };
            self.holds.store(false, Ordering::Release);
            if !sent {
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
