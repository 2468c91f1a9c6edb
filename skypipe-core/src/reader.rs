//! Reading from a pipe.

mod io;
mod join;
mod lease;
mod leases;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::{Broker, Mode, ReaderAttach};
use crate::caller::Caller;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::id::Seq;
use crate::name::{PatternRef, PipePath, PipeRef};
use crate::pipe::ReaderOptions;
use crate::record::{Chunk, Record, Taken};
use crate::session::drive::{self, Halves, Shared, Side};
use crate::session::{Outcome, ReaderSession};
use crate::shutdown::Shutdown;

use join::Join;
pub use lease::Lease;
use leases::Leases;

/// Reads from a pipe: run by run ([`Reader::next_chunk`]), record by record ([`Reader::next`], or as a `Stream`), or as bytes
/// (`AsyncRead`). One of these at a time.
///
/// Asking for more acknowledges what was handed over before. A reader that is dropped before the end is a lost one: what it did
/// not acknowledge goes to the next reader, an item it took alone goes back whole.
pub struct Reader {
    shared: Arc<Shared<ReaderSession>>,
    /// What was handed over last and is acknowledged with the next call.
    handed: Option<Taken>,
    /// Records of the run at hand.
    join: Join,
    /// Bytes of the run at hand that were not read yet.
    bytes: Bytes,
    /// Acknowledged by the application, and since when the session was not told so.
    untold: Option<Taken>,
    told: Option<Instant>,
    /// Whether the stream has given its error.
    has_failed: bool,
    leases: Leases,
}

/// A reader of many small records tells its session at most so often which it is done with, and at the end of each run: one
/// message for many. Too short to matter when one is lost.
const TELL_EVERY: Duration = Duration::from_millis(1);

impl Reader {
    pub(crate) async fn attach(side: ReaderSide, options: ReaderOptions) -> Result<Self, Error> {
        let (pipe, env) = (side.source.pipe(), &side.env);
        let record_bytes_max = options.record_bytes_max;
        let machine = ReaderSession::new(env.session(), options.wants(pipe), env.now());
        let shared = Shared::new(machine, options.events, env.clone());
        if let Some(shutdown) = &side.shutdown {
            shared.ends_with(shutdown);
            shutdown.tell(&shared);
        }
        let reader = Self {
            shared,
            handed: None,
            join: Join::new(record_bytes_max),
            bytes: Bytes::new(),
            untold: None,
            told: None,
            has_failed: false,
            leases: Leases::default(),
        };
        tokio::spawn(drive::run(reader.shared.clone(), side));
        poll_fn(|cx| reader.shared.poll(cx, poll_attached)).await?;
        Ok(reader)
    }

    /// The next run of records, as they travelled together. Acknowledges the one before. `None` when the reader is done and what
    /// it took is durably taken.
    ///
    /// # Errors
    /// The error with which the session ended, behind all that came before it.
    ///
    /// # Cancel safety
    /// Nothing is lost; the run before is acknowledged.
    pub async fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The next record, its pieces joined. Acknowledges the one before. `None` as in [`Reader::next_chunk`].
    ///
    /// # Errors
    /// As [`Reader::next_chunk`], and `E_FRAME_SIZE` for a record longer than
    /// [`record_bytes_max`](crate::ReaderOptions::record_bytes_max): such a record is for `next_chunk`.
    ///
    /// # Cancel safety
    /// Nothing is lost; the record before is acknowledged.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        poll_fn(|cx| self.poll_record(cx)).await
    }

    /// Acknowledges all that was handed over, without asking for more.
    pub fn ack(&mut self) {
        self.untold = self.handed.take().or(self.untold.take());
        self.tell();
    }

    /// Acknowledges the records below `next` of the run that was handed over last. The rest is not acknowledged unless more is asked
    /// for.
    pub fn ack_part(&mut self, chunk: &Chunk, next: Seq) {
        if next >= chunk.next() {
            self.handed = None;
        }
        self.tell();
        self.shared.with(|machine| machine.take(chunk.taken(next)));
    }

    /// The next record of a queue, to be done with at any time, also beside others. `None` when the reader would not wait and nothing is
    /// left. Acknowledges nothing; not for use together with the other ways of reading.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`]; `E_MODE` for a pipe that is no queue; `E_FRAME_SIZE` for a record longer than
    /// [`record_bytes_max`](crate::ReaderOptions::record_bytes_max), which goes back: such a record is for [`Reader::begin_lease`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next_lease(&mut self) -> Result<Option<Lease>, Error> {
        self.is_queue()?;
        poll_fn(|cx| self.poll_whole_lease(cx)).await
    }

    /// As [`Reader::next_lease`], but as soon as the record begins: of a long one its body is the first part, and [`Reader::more`] gives the rest.
    /// What was not asked for of the one before is passed over.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`]; `E_MODE` for a pipe that is no queue.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn begin_lease(&mut self) -> Result<Option<Lease>, Error> {
        self.is_queue()?;
        poll_fn(|cx| self.poll_begun_lease(cx)).await
    }

    /// The next part of the record that [`Reader::begin_lease`] gave; `None` behind the last.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`]; `E_LEASE_LOST` when the rest does not come, since the record is somebody else's by now.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn more(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// Waits until the relay knows what became of all records of a queue that were settled.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn settled(&mut self) -> Result<(), Error> {
        let settled = |machine: &mut ReaderSession| {
            if machine.is_settled() {
                return Poll::Ready(Ok(()));
            }
            machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
        };
        poll_fn(|cx| self.shared.poll(cx, settled)).await
    }

    /// The mode of the pipe.
    pub fn mode(&self) -> Mode {
        self.shared.with(|machine| machine.mode())
    }

    /// Leaves before the end and waits until the broker knows. With `part` the acknowledged part of an item taken alone is
    /// taken for good and the rest stays in front; without it such an item goes back whole. What was handed over and not
    /// acknowledged goes back.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`]; `E_UNKNOWN` when it cannot be known what the broker heard.
    ///
    /// # Cancel safety
    /// A dropped call drops the reader: the broker may have heard.
    pub async fn leave(mut self, part: bool) -> Result<Outcome, Error> {
        self.tell();
        self.shared.with(|machine| machine.leave(part));
        poll_fn(|cx| self.shared.poll(cx, poll_left)).await
    }

    /// What was read so far, and whether it was all there is. Final when [`Reader::next_chunk`] gave `None`.
    pub fn outcome(&self) -> Outcome {
        self.shared.with(|machine| machine.outcome())
    }

    fn poll_chunk(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        self.ack();
        let chunk = std::task::ready!(self.poll_unacknowledged(cx))?;
        self.handed = chunk.as_ref().map(|chunk| chunk.taken(chunk.next()));
        Poll::Ready(Ok(chunk))
    }

    /// The next run, leaving acknowledgements to the caller.
    fn poll_unacknowledged(&self, cx: &Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        self.shared.poll(cx, |machine| {
            if machine.is_stopping() {
                return poll_stopped(machine).map_ok(|()| None);
            }
            poll_next(machine)
        })
    }

    fn is_queue(&self) -> Result<(), Error> {
        let mode = self.mode();
        let wrong = || Error::new(Code::Mode, format!("records of a {} pipe are not leased", mode.word()));
        if mode == Mode::Queue { Ok(()) } else { Err(wrong()) }
    }

    fn poll_record(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Record>, Error>> {
        loop {
            if self.shared.is_stopping() {
                self.join.clear();
            }
            if let Some((record, taken)) = self.join.next()? {
                self.ack_record();
                self.handed = Some(taken);
                return Poll::Ready(Ok(Some(record)));
            }
            self.ack();
            match std::task::ready!(self.poll_unacknowledged(cx))? {
                Some(chunk) => self.join.load(&chunk),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Acknowledges the record before, as one of many.
    fn ack_record(&mut self) {
        self.untold = self.handed.take().or(self.untold.take());
        let now = Instant::now();
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            self.tell();
        }
    }

    /// Tells the session what was acknowledged and not told yet.
    fn tell(&mut self) {
        if let Some(taken) = self.untold.take() {
            self.shared.with(|machine| machine.take(taken));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tell();
        self.shared.with(ReaderSession::close);
    }
}

fn poll_attached(machine: &mut ReaderSession) -> Poll<Result<(), Error>> {
    if machine.connection().was_attached() {
        return Poll::Ready(Ok(()));
    }
    machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
}

fn poll_next(machine: &mut ReaderSession) -> Poll<Result<Option<Chunk>, Error>> {
    if let Some(chunk) = machine.next_chunk() {
        return Poll::Ready(Ok(Some(chunk)));
    }
    if machine.is_finished() {
        return Poll::Ready(Ok(None));
    }
    machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
}

/// Leaves once the broker knows what became of the records that it gave.
fn poll_stopped(machine: &mut ReaderSession) -> Poll<Result<(), Error>> {
    if machine.is_settled() {
        machine.leave(false);
        return poll_left(machine).map_ok(drop);
    }
    machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
}

fn poll_left(machine: &mut ReaderSession) -> Poll<Result<Outcome, Error>> {
    if machine.is_finished() {
        return Poll::Ready(Ok(machine.outcome()));
    }
    machine.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
}

/// How a reader's session gets a link.
pub(crate) struct ReaderSide {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) caller: Caller,
    pub(crate) env: Env,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) source: Source,
}

/// What is read.
pub(crate) enum Source {
    Pipe(PipeRef),
    Pattern(PatternRef),
}

impl Source {
    fn pipe(&self) -> Option<PipePath> {
        match self {
            Self::Pipe(pipe) => Some(pipe.path.clone()),
            Self::Pattern(_) => None,
        }
    }
}

#[async_trait]
impl Side for ReaderSide {
    type Machine = ReaderSession;

    async fn attach(&self, attach: ReaderAttach) -> Result<Halves<ReaderSession>, Error> {
        let halves = match &self.source {
            Source::Pipe(pipe) => self.broker.attach_reader(&self.caller, pipe, attach).await?,
            Source::Pattern(pattern) => self.broker.attach_pattern_reader(&self.caller, pattern, attach).await?,
        };
        Ok(Halves { welcome: halves.welcome, up: halves.up, down: halves.down })
    }
}
