//! stdout: data only, one write for each batch, and never in the way of a signal.

use std::io;
use std::sync::mpsc as blocking;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::escape::Escaper;
use crate::{startup, wide_pipe};

/// A pipe that says it has room takes so many bytes without waiting.
const PIPE_ROOM_BYTES: usize = 4096;

/// stdout of this process.
pub(crate) struct Stdout {
    kind: Kind,
    escaper: Option<Escaper>,
    thread: Option<Thread>,
    /// Whether a pipe was given more room already.
    is_wide: bool,
}

/// Why bytes could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Nobody reads any more.
    Closed,
    /// It failed.
    Failed(io::Error),
}

/// How stdout takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file or a device that never waits.
    Prompt,
    /// A pipe.
    Pipe,
    /// Anything else may wait at any time.
    Other,
}

impl Stdout {
    /// stdout as this process got it; `None` when it was closed.
    pub(crate) fn look() -> Option<Self> {
        if startup::stdout_was_closed() {
            return None;
        }
        let fd = rustix::stdio::stdout();
        let about = rustix::fs::fstat(fd).ok()?;
        let is_null = rustix::fs::stat("/dev/null").is_ok_and(|n| n.st_rdev == about.st_rdev);
        let file = FileType::from_raw_mode(about.st_mode);
        let is_null = is_null && file == FileType::CharacterDevice;
        let kind = match file {
            FileType::RegularFile => Kind::Prompt,
            FileType::CharacterDevice if is_null => Kind::Prompt,
            FileType::Fifo => Kind::Pipe,
            _ => Kind::Other,
        };
        let escaper = rustix::termios::isatty(fd).then(Escaper::default);
        Some(Self { kind, escaper, thread: None, is_wide: false })
    }

    /// Writes all of `bytes`. On a terminal control characters are written out.
    ///
    /// # Cancel safety
    /// A dropped call may have written some of it.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let bytes = match &mut self.escaper {
            Some(escaper) => escaper.push(&bytes).into(),
            None => bytes,
        };
        self.write_shown(bytes).await
    }

    /// Writes what is left of a character whose end never came.
    pub(crate) async fn finish(&mut self) -> Result<(), WriteError> {
        match self.escaper.as_mut().map(Escaper::finish).filter(|rest| !rest.is_empty()) {
            Some(rest) => self.write_shown(rest.into()).await,
            None => Ok(()),
        }
    }

    /// Writes what means to move the cursor: nothing in it is from elsewhere that was not written out.
    ///
    /// # Cancel safety
    /// As [`Stdout::write`].
    pub(crate) async fn write_shown(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        match self.kind {
            Kind::Prompt => write_all(&bytes),
            Kind::Pipe => self.write_to_pipe(bytes).await,
            Kind::Other => self.write_on_thread(bytes).await,
        }
    }

    /// What a pipe takes at once is written at once: the way to the thread and back is saved.
    async fn write_to_pipe(&mut self, mut bytes: Bytes) -> Result<(), WriteError> {
        if bytes.len() >= wide_pipe::FULL_BYTES && !self.is_wide {
            wide_pipe::widen(rustix::stdio::stdout());
            self.is_wide = true;
        }
        if bytes.len() <= PIPE_ROOM_BYTES && has_room() {
            return write_all(&bytes);
        }
        while !bytes.is_empty() {
            match wide_pipe::write_ready(rustix::stdio::stdout(), &bytes) {
                Ok(written) => bytes.advance(written),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Err(WriteError::Closed),
                // What is wrong with it, if not that it is full, the thread finds out too.
                Err(_) => return self.write_on_thread(bytes).await,
            }
        }
        Ok(())
    }

    async fn write_on_thread(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Thread::start().map_err(WriteError::Failed)?),
        };
        thread.write(bytes).await
    }
}

/// The thread that waits where stdout is slow.
struct Thread {
    work: blocking::SyncSender<Bytes>,
    done: mpsc::Receiver<Result<(), WriteError>>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (work, todo) = blocking::sync_channel::<Bytes>(1);
        let (report, done) = mpsc::channel(1);
        std::thread::Builder::new().name("stdout".into()).spawn(move || {
            for bytes in todo {
                if report.blocking_send(write_all(&bytes)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { work, done })
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let gone = || WriteError::Failed(io::Error::other("the thread of stdout ended"));
        self.work.send(bytes).map_err(|_| gone())?;
        self.done.recv().await.unwrap_or_else(|| Err(gone()))
    }
}

fn has_room() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0) && fds[0].revents().contains(PollFlags::OUT)
}

fn write_all(mut bytes: &[u8]) -> Result<(), WriteError> {
    let stdout = rustix::stdio::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(stdout, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(WriteError::Closed),
            Err(e) => return Err(WriteError::Failed(e.into())),
        }
    }
    Ok(())
}
