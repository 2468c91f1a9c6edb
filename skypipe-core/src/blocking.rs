//! The same for programs that do not await: each call waits on its thread.
//!
//! Sessions run on one thread of their own, which the first call starts and all share.
//!
//! ```
//! use skypipe_core::{Client, Env, LocalBroker, Until, blocking};
//!
//! fn main() -> Result<(), skypipe_core::Error> {
//!     // `blocking::connect("logs")?` in life.
//!     let broker = blocking::block_on(async { LocalBroker::in_memory(Env::system()) })??;
//!     let logs = blocking::Pipe::from(Client::over(broker).pipe("logs")?);
//!
//!     let mut writer = logs.writer()?;
//!     writer.send(b"one line\n")?;
//!     writer.end(Until::Stored)?;
//!
//!     for record in logs.reader()? {
//!         assert_eq!(&record?[..], b"one line\n");
//!     }
//!     Ok(())
//! }
//! ```

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::runtime::{Builder, Handle};

use crate::client;
use crate::error::{Code, Error};
use crate::pipe::{BrokerPipe, Pipe as _, ReaderOptions, WriterOptions};
use crate::reader::Lease;
use crate::record::Record;
use crate::session::{Outcome, Progress, Until};
use crate::shutdown::Shutdown;
use crate::stat::PipeStat;
use crate::writer::Receipt;

/// The pipe `name` at the default broker; see [`crate::connect`].
///
/// # Errors
/// As [`crate::connect`]; `E_USAGE` within an asynchronous task, where nothing may wait on its thread.
pub fn connect(name: &str) -> Result<Pipe, Error> {
    block_on(client::connect(name))?.map(Pipe::from)
}

/// Waits until all writers and readers of this program are over and their last words have left, at most so long; for the end of a program. False when
/// some were not.
///
/// # Errors
/// `E_USAGE` within an asynchronous task.
pub fn finish(within: Duration) -> Result<bool, Error> {
    block_on(shutdown().ended(within))
}

/// A pipe.
#[derive(Clone)]
pub struct Pipe {
    pipe: BrokerPipe,
}

impl From<BrokerPipe> for Pipe {
    fn from(pipe: BrokerPipe) -> Self {
        Self { pipe: pipe.with_shutdown(&shutdown()) }
    }
}

impl Pipe {
    /// Attaches a writer; see [`crate::Pipe::writer_with`].
    ///
    /// # Errors
    /// As there; `E_USAGE` within an asynchronous task, as all calls here.
    pub fn writer(&self) -> Result<Writer, Error> {
        self.writer_with(WriterOptions::default())
    }

    /// Attaches a writer; see [`crate::Pipe::writer_with`].
    ///
    /// # Errors
    /// As there.
    pub fn writer_with(&self, options: WriterOptions) -> Result<Writer, Error> {
        block_on(self.pipe.writer_with(options))?.map(|writer| Writer { writer })
    }

    /// Attaches a reader; see [`crate::Pipe::reader_with`].
    ///
    /// # Errors
    /// As there.
    pub fn reader(&self) -> Result<Reader, Error> {
        self.reader_with(ReaderOptions::default())
    }

    /// Attaches a reader; see [`crate::Pipe::reader_with`].
    ///
    /// # Errors
    /// As there.
    pub fn reader_with(&self, options: ReaderOptions) -> Result<Reader, Error> {
        block_on(self.pipe.reader_with(options))?.map(|reader| Reader {
            reader,
            bytes: Bytes::new(),
            has_failed: false,
        })
    }

    /// Asks, and waits for the reply, at most so long; see [`crate::Requester::request`].
    ///
    /// # Errors
    /// As there.
    pub fn request(&self, body: &[u8], within: Duration) -> Result<Record, Error> {
        block_on(self.pipe.request(body, within))?
    }

    /// What there is to know of the pipe.
    ///
    /// # Errors
    /// As [`crate::Pipe::stat`].
    pub fn stat(&self) -> Result<PipeStat, Error> {
        block_on(self.pipe.stat())?
    }

    /// Removes the pipe with all it stores.
    ///
    /// # Errors
    /// As [`crate::Pipe::remove`].
    pub fn remove(&self) -> Result<(), Error> {
        block_on(self.pipe.remove())?
    }
}

/// Writes one item; see [`crate::Writer`]. As `io::Write` each write is one record.
pub struct Writer {
    writer: crate::writer::Writer,
}

impl Writer {
    /// Sends one record; see [`crate::Writer::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, record: &[u8]) -> Result<(), Error> {
        block_on(self.writer.send(record))?
    }

    /// Waits until all so far is stored, or delivered already.
    ///
    /// # Errors
    /// As [`crate::Writer::settled`].
    pub fn settled(&mut self) -> Result<(), Error> {
        block_on(self.writer.settled())?
    }

    /// How far the records are.
    pub fn progress(&self) -> Progress {
        self.writer.progress()
    }

    /// Ends the item, and waits until all of it got as far as `until`.
    ///
    /// # Errors
    /// As [`crate::Writer::end`].
    pub fn end(self, until: Until) -> Result<Receipt, Error> {
        block_on(self.writer.end(until))?
    }

    /// The writer beneath.
    pub fn writer(&mut self) -> &mut crate::writer::Writer {
        &mut self.writer
    }
}

impl io::Write for Writer {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.send(record).map_err(io::Error::other)?;
        Ok(record.len())
    }

    /// Waits until all was handed to the link.
    fn flush(&mut self) -> io::Result<()> {
        block_on(self.writer.flush()).and_then(|flushed| flushed).map_err(io::Error::other)
    }
}

/// Reads from a pipe; see [`crate::Reader`]. An iterator of its records, or `io::Read` of their bytes: one of these at a time.
pub struct Reader {
    reader: crate::reader::Reader,
    /// Of the run at hand.
    bytes: Bytes,
    has_failed: bool,
}

impl Reader {
    /// The next record of a queue, for this reader alone until it says what became of it; see [`crate::Reader::next_lease`].
    ///
    /// # Errors
    /// As there.
    pub fn next_lease(&mut self) -> Result<Option<Lease>, Error> {
        block_on(self.reader.next_lease())?
    }

    /// Waits until the broker knows what became of all records of a queue.
    ///
    /// # Errors
    /// As [`crate::Reader::settled`].
    pub fn settled(&mut self) -> Result<(), Error> {
        block_on(self.reader.settled())?
    }

    /// What was read so far, and whether it was all there is.
    pub fn outcome(&self) -> Outcome {
        self.reader.outcome()
    }

    /// Leaves before the end; see [`crate::Reader::leave`].
    ///
    /// # Errors
    /// As there.
    pub fn leave(self, part: bool) -> Result<Outcome, Error> {
        block_on(self.reader.leave(part))?
    }

    /// The reader beneath.
    pub fn reader(&mut self) -> &mut crate::reader::Reader {
        &mut self.reader
    }
}

/// Each record; ends when the reader is done, or behind its error. Asking for the next one acknowledges the one before.
impl Iterator for Reader {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let record = block_on(self.reader.next()).and_then(|record| record);
        self.has_failed = record.is_err();
        record.transpose()
    }
}

impl io::Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.bytes.is_empty() && !into.is_empty() {
            match block_on(self.reader.next_chunk()).and_then(|chunk| chunk).map_err(io::Error::other)? {
                Some(chunk) => self.bytes = chunk.bodies(),
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.bytes.len());
        self.bytes.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Waits for any of this library's asynchronous calls on this thread, while the sessions run on theirs.
///
/// # Errors
/// `E_USAGE` within an asynchronous task.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    if Handle::try_current().is_ok() {
        return Err(Error::new(Code::Usage, "a blocking call within an asynchronous task; use what awaits there"));
    }
    Ok(sessions()?.block_on(work))
}

/// The thread of the sessions, started by whoever needs it first.
#[expect(clippy::disallowed_methods, reason = "a program that does not await is in no simulator")]
fn sessions() -> Result<Handle, Error> {
    static SESSIONS: Mutex<Option<Handle>> = Mutex::new(None);
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*sessions {
        return Ok(handle.clone());
    }
    let failed = |error: io::Error| Error::new(Code::Internal, "no thread for sessions").because(error);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("skypipe".to_owned()).spawn(run).map_err(failed)?;
    *sessions = Some(handle.clone());
    Ok(handle)
}

/// What all sessions of blocking calls end with.
fn shutdown() -> Shutdown {
    static SHUTDOWN: Mutex<Option<Shutdown>> = Mutex::new(None);
    SHUTDOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().clone()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::broker::Mode;
    use crate::client::Client;
    use crate::env::Env;
    use crate::local_broker::LocalBroker;

    fn pipe() -> Pipe {
        // The broker's tasks run where the sessions do.
        let broker = block_on(async { LocalBroker::in_memory(Env::system()) }).unwrap().unwrap();
        Client::over(broker).pipe("p").unwrap().into()
    }

    #[test]
    fn records_and_bytes_go_both_ways_without_a_runtime() {
        let pipe = pipe();
        let mut writer = pipe.writer().unwrap();
        writer.write_all(b"one\n").unwrap();
        writer.send(b"two\n").unwrap();
        writer.end(Until::Stored).unwrap();
        assert_eq!(pipe.stat().unwrap().items, 1);
        let records: Vec<Bytes> = pipe.reader().unwrap().map(|record| record.unwrap().body).collect();
        assert_eq!(records, ["one\n", "two\n"]);

        let mut writer = pipe.writer().unwrap();
        writer.write_all(b"three\n").unwrap();
        writer.end(Until::Stored).unwrap();
        let mut text = String::new();
        pipe.reader().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "three\n");
    }

    #[test]
    fn a_queue_leases_its_records() {
        let pipe = pipe();
        let mut writer = pipe.writer_with(WriterOptions::default().with_mode(Mode::Queue)).unwrap();
        writer.send(b"job").unwrap();
        writer.end(Until::Stored).unwrap();
        let mut reader = pipe.reader().unwrap();
        reader.next_lease().unwrap().unwrap().done();
        reader.settled().unwrap();
        assert_eq!(pipe.stat().unwrap().items, 0);
    }

    #[test]
    fn within_a_task_it_is_an_error_and_no_panic() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async { connect("p") }).err().unwrap();
        assert_eq!(error.code(), Code::Usage);
    }
}
