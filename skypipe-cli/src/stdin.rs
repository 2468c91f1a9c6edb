//! stdin as chunks. What lies ready when the command begins is read at once. The rest is read on a thread of its own: a read of a pipe
//! cannot be called off, and the command must hear signals.

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
/// Reads before there is a thread, which takes longer to start than all else that a short input needs: one gets it, one finds its end.
/// A long input is read beside the work on it.
const READS_AT_ONCE_MAX: usize = 2;

/// stdin. Bytes that were read are not lost: they wait here.
pub(crate) struct StdinChunks(State);

enum State {
    /// What lies ready is read by who asks, so many times more.
    AtOnce { reads_left: usize, spent: Option<Vec<u8>> },
    /// The rest is read ahead.
    Ahead(Ahead),
    /// There is no more.
    Ended,
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
    /// From its beginning. Nothing is read yet.
    pub(crate) const fn new() -> Self {
        Self(State::AtOnce { reads_left: READS_AT_ONCE_MAX, spent: None })
    }

    /// The next chunk; `None` at the end. May be dropped.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Chunk>> {
        if let State::AtOnce { reads_left, spent } = &mut self.0 {
            if let Some(left) = reads_left.checked_sub(1) {
                *reads_left = left;
                match read_ready(spent.take().unwrap_or_else(new_buffer)) {
                    Some(chunk) if chunk.length > 0 => return Some(Ok(chunk)),
                    Some(_) => self.0 = State::Ended,
                    None => {}
                }
            }
            if !matches!(self.0, State::Ended) {
                match Ahead::begin() {
                    Ok(ahead) => self.0 = State::Ahead(ahead),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        match &mut self.0 {
            State::Ahead(ahead) => ahead.next().await,
            _ => None,
        }
    }

    /// A chunk that was read already, and nothing that is still to come. May be dropped.
    pub(crate) async fn next_read(&mut self) -> Option<io::Result<Chunk>> {
        match &mut self.0 {
            State::Ahead(ahead) if ahead.has_read() => ahead.next().await,
            _ => None,
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, chunk: Chunk) {
        match &mut self.0 {
            State::AtOnce { spent, .. } => *spent = Some(chunk.buffer),
            State::Ahead(ahead) => ahead.give_back(chunk),
            State::Ended => {}
        }
    }
}

/// The command's side of the thread.
struct Ahead {
    chunks: mpsc::Receiver<io::Result<Chunk>>,
    spent: mpsc::Sender<Vec<u8>>,
    /// What the thread has put or is about to put into `chunks`, and what was taken out. A flag in place of the counts would still
    /// be set behind a chunk that was taken already, and a signal would wait for one that never comes.
    read: Arc<AtomicU64>,
    taken: u64,
}

impl Ahead {
    fn begin() -> io::Result<Self> {
        let (ready, chunks) = mpsc::channel(CHUNKS_READY_MAX);
        let (spent, empty) = mpsc::channel(CHUNKS_READY_MAX + 2);
        let read = Arc::new(AtomicU64::new(0));
        let thread = Reading { ready, empty, read: Arc::clone(&read) };
        std::thread::Builder::new().name("stdin".into()).spawn(move || thread.run())?;
        Ok(Self { chunks, spent, read, taken: 0 })
    }

    async fn next(&mut self) -> Option<io::Result<Chunk>> {
        let next = self.chunks.recv().await;
        self.taken += u64::from(next.is_some());
        next
    }

    fn has_read(&self) -> bool {
        self.taken < self.read.load(Ordering::Acquire)
    }

    fn give_back(&self, chunk: Chunk) {
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
            let mut buffer = self.empty.try_recv().unwrap_or_else(|_| new_buffer());
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

fn new_buffer() -> Vec<u8> {
    vec![0; READ_BYTES]
}

/// One read of what lies ready, of no length at the end; `None` where nothing does, or the system cannot tell without waiting. To ask first
/// and then read would wait where another process took the bytes in between.
#[cfg(target_os = "linux")]
fn read_ready(mut buffer: Vec<u8>) -> Option<Chunk> {
    use rustix::fs::{FileType, fstat};
    use rustix::io::{ReadWriteFlags, preadv2};

    /// As the kernel wants it told: go on where the last read stopped.
    const GO_ON: u64 = u64::MAX;
    let stdin = rustix::stdio::stdin();
    let is_pipe = || fstat(stdin).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Fifo);
    // What is wrong the thread finds as well.
    let length = preadv2(stdin, &mut [io::IoSliceMut::new(&mut buffer)], GO_ON, ReadWriteFlags::NOWAIT).ok()?;
    // Linux 5.9 and 5.10 say 0 in the middle of a file that is not in memory.
    (length > 0 || is_pipe()).then_some(Chunk { buffer, length })
}

/// No other system can.
#[cfg(not(target_os = "linux"))]
fn read_ready(_: Vec<u8>) -> Option<Chunk> {
    None
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
