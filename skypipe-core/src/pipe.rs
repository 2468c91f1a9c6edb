//! A pipe as applications see it: a name to write to and to read from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::broker::{Broker, Mode, OnTape, Settings, Start, Take};
use crate::caller::Caller;
use crate::duplex::{Duplex, DuplexOptions};
use crate::env::Env;
use crate::error::Error;
use crate::event::{Event, Events};
use crate::headers::{Filter, Headers};
use crate::name::{Owner, PipeName, PipePath, PipeRef};
use crate::reader::{Reader, ReaderSide, Source};
use crate::record::Record;
use crate::request::{self, Replier, ReplierOptions, Requester};
use crate::session::{Patience, READER_WINDOW_BYTES, ReaderWants, WRITER_WINDOW_BYTES, WriterWants};
use crate::shutdown::Shutdown;
use crate::stat::PipeStat;
#[cfg(feature = "typed")]
use crate::typed::{Json, Typed};
use crate::writer::Writer;

/// One pipe. Cheap to hold: it exists at the broker only while somebody is attached or something is stored.
///
/// ```no_run
/// use skypipe_core::{Pipe, Until, connect};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let logs = connect("logs").await?;
///
///     let mut writer = logs.writer().await?;
///     writer.send(b"one line\n").await?;
///     writer.end(Until::Stored).await?;
///
///     let mut reader = logs.reader().await?;
///     while let Some(record) = reader.next().await? {
///         print!("{}", String::from_utf8_lossy(&record));
///     }
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait Pipe: Send + Sync {
    /// Which pipe of its owner this is.
    fn name(&self) -> &PipeName;

    /// Attaches a writer: [`Pipe::writer_with`] with the default options.
    ///
    /// # Errors
    /// As [`Pipe::writer_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::writer_with`].
    async fn writer(&self) -> Result<Writer, Error> {
        self.writer_with(WriterOptions::default()).await
    }

    /// Attaches a writer: a new item begins.
    ///
    /// # Errors
    /// `E_UNREACHABLE` when there is no link within [`WriterOptions::patience`], and what the broker refuses with: `E_MODE`,
    /// `E_ACCESS`, `E_STORAGE`.
    ///
    /// # Cancel safety
    /// A dropped call leaves at most an item that ends as aborted.
    async fn writer_with(&self, options: WriterOptions) -> Result<Writer, Error>;

    /// Attaches a reader: [`Pipe::reader_with`] with the default options.
    ///
    /// # Errors
    /// As [`Pipe::reader_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::reader_with`].
    async fn reader(&self) -> Result<Reader, Error> {
        self.reader_with(ReaderOptions::default()).await
    }

    /// Attaches a reader.
    ///
    /// # Errors
    /// As [`Pipe::writer_with`], and `E_EMPTY` when the reader would not wait and there is nothing to take.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing: what the broker may have set aside for the reader goes back.
    async fn reader_with(&self, options: ReaderOptions) -> Result<Reader, Error>;

    /// Attaches both ways: [`Pipe::duplex_with`] with the default options.
    ///
    /// # Errors
    /// As [`Pipe::duplex_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::duplex_with`].
    async fn duplex(&self) -> Result<Duplex, Error> {
        self.duplex_with(DuplexOptions::default()).await
    }

    /// Attaches both ways to a broadcast: what this end sends, all others get.
    ///
    /// # Errors
    /// As [`Pipe::writer_with`]; `E_MODE` when the pipe is no broadcast.
    ///
    /// # Cancel safety
    /// A dropped call leaves at most a broadcast with nothing in it.
    async fn duplex_with(&self, options: DuplexOptions) -> Result<Duplex, Error> {
        Duplex::attach(self, options).await
    }

    /// The pipe with records that are values of type `T`, a line of JSON each; [`Typed::postcard`] encodes them otherwise.
    #[cfg(feature = "typed")]
    fn typed<T>(self) -> Typed<T, Json, Self>
    where
        Self: Sized,
    {
        Typed::over(self)
    }

    /// What there is to know of the pipe. Asks once: a broken link is an error here, not something that is mended.
    ///
    /// # Errors
    /// `E_ACCESS` when there is none, or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    async fn stat(&self) -> Result<PipeStat, Error>;

    /// Removes the pipe with all it stores. Its writers and readers end with `E_ACCESS`.
    ///
    /// # Errors
    /// `E_ACCESS` when there is none, or a broken link: the pipe may be removed then.
    ///
    /// # Cancel safety
    /// A dropped call may have removed the pipe.
    async fn remove(&self) -> Result<(), Error>;
}

/// How a writer behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// End with `E_QUOTA` or `E_NO_SPACE` instead of waiting for room at the broker.
    pub no_wait: bool,
    /// Encoded bytes kept unacknowledged before `send` waits.
    pub window_bytes: usize,
    /// How long it tries to get a link.
    pub patience: Patience,
    /// How a queue or broadcast is kept from now on.
    pub settings: Settings,
    /// A queue hands each record out only so long after it was sent.
    pub delay: Option<Duration>,
    /// What its records carry, until [`Writer::headers`] says otherwise.
    pub headers: Headers,
    /// Called with what people may want to know.
    pub events: Option<Events>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let (window_bytes, patience) = (WRITER_WINDOW_BYTES, Patience::default());
        let (settings, delay, headers, events) = (Settings::default(), None, Headers::new(), None);
        Self { mode: None, no_wait: false, window_bytes, patience, settings, delay, headers, events }
    }
}

impl WriterOptions {
    /// The same, of a pipe of this mode: the first who uses a pipe sets it.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The same, with a callback for events.
    #[must_use]
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Some(Arc::new(callback));
        self
    }

    fn wants(&self) -> WriterWants {
        WriterWants {
            mode: self.mode,
            no_wait: self.no_wait,
            window_bytes: self.window_bytes,
            patience: self.patience,
            settings: self.settings,
        }
    }
}

/// Longest record [`Reader::next`] joins from pieces unless told otherwise, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records of a queue that a reader has at a time, unless told otherwise: enough that none waits for the way to the broker and back, few
/// enough that others get their share.
pub const PREFETCH: u32 = 16;

/// How a reader behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// What it takes.
    pub take: Take,
    /// Go on after the end: start again instead of ending.
    pub keep: bool,
    /// Do not wait: what is there now, or `E_EMPTY`.
    pub no_wait: bool,
    /// Encoded bytes on their way to the reader or waiting in it; at least 1 MiB.
    pub window_bytes: u64,
    /// Longest record [`Reader::next`] joins from pieces, in bytes.
    pub record_bytes_max: usize,
    /// How long it tries to get a link.
    pub patience: Patience,
    /// Where it begins in a broadcast.
    pub start: Start,
    /// The durable cursor it reads a broadcast with, by its name.
    pub cursor: Option<String>,
    /// Records of a queue that it has at a time.
    pub prefetch: u32,
    /// How a queue or broadcast is kept from now on.
    pub settings: Settings,
    /// Which records it hands over; the others it passes over. Not of a queue, where each record is for one reader.
    pub filter: Filter,
    /// Called with what people may want to know.
    pub events: Option<Events>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            mode: None,
            take: Take::Any,
            keep: false,
            no_wait: false,
            window_bytes: READER_WINDOW_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            patience: Patience::default(),
            start: Start::default(),
            cursor: None,
            prefetch: PREFETCH,
            settings: Settings::default(),
            filter: Filter::new(),
            events: None,
        }
    }
}

impl ReaderOptions {
    /// The same, of a pipe of this mode: the first who uses a pipe sets it.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The same, with a callback for events.
    #[must_use]
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Some(Arc::new(callback));
        self
    }

    /// What a reader with these options wants: of one pipe, or of all that match.
    pub(crate) fn wants(&self, pipe: Option<PipePath>) -> ReaderWants {
        ReaderWants {
            pipe,
            mode: self.mode,
            take: self.take,
            keep: self.keep,
            no_wait: self.no_wait,
            window_bytes: self.window_bytes,
            patience: self.patience,
            filter: self.filter.clone(),
            tape: OnTape {
                settings: self.settings,
                start: self.start.clone(),
                cursor: self.cursor.clone(),
                prefetch: self.prefetch,
                ..OnTape::default()
            },
        }
    }
}

/// A pipe at a broker.
#[derive(Clone)]
pub struct BrokerPipe {
    name: PipeName,
    endpoint: Endpoint,
}

/// Where a session attaches, and as whom.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) caller: Caller,
    pub(crate) pipe: PipeRef,
    pub(crate) env: Env,
    pub(crate) shutdown: Option<Shutdown>,
}

impl BrokerPipe {
    /// The pipe `name` at `broker`, as `caller` sees it. Nothing is asked of the broker yet.
    pub fn new(broker: Arc<dyn Broker>, caller: Caller, name: PipeName) -> Self {
        let (pipe, env) = (PipeRef::from(&name), Env::system());
        Self { name, endpoint: Endpoint { broker, caller, pipe, env, shutdown: None } }
    }

    /// The pipe of this name that `owner` has.
    #[must_use]
    pub fn owned_by(mut self, owner: Owner) -> Self {
        self.endpoint.pipe.owner = owner;
        self
    }

    /// The same with other clocks and randomness.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.endpoint.env = env;
        self
    }

    /// The same, whose writers and readers end with `shutdown`.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: &Shutdown) -> Self {
        self.endpoint.shutdown = Some(shutdown.clone());
        self
    }

    /// The broker that holds the pipe.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.endpoint.broker
    }

    /// Attaches whoever asks: what it sends waits in this queue, and the replies come over the broadcast `NAME/reply`.
    ///
    /// # Errors
    /// As [`Pipe::writer_with`]; `E_MODE` when the pipe is no queue.
    ///
    /// # Cancel safety
    /// As [`Pipe::writer_with`].
    pub async fn requester(&self) -> Result<Requester, Error> {
        Requester::attach(self).await
    }

    /// Asks once; who asks more often keeps a [`Requester`].
    ///
    /// # Errors
    /// As [`BrokerPipe::requester`] and [`Requester::request`].
    ///
    /// # Cancel safety
    /// As [`Requester::request`].
    pub async fn request(&self, body: &[u8], within: Duration) -> Result<Record, Error> {
        let asked = async { self.requester().await?.request(body, within).await };
        tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err(request::late()))
    }

    /// Attaches whoever replies: [`BrokerPipe::replier_with`] with the default options.
    ///
    /// # Errors
    /// As [`BrokerPipe::requester`].
    ///
    /// # Cancel safety
    /// As [`BrokerPipe::requester`].
    pub async fn replier(&self) -> Result<Replier, Error> {
        self.replier_with(ReplierOptions::default()).await
    }

    /// Attaches whoever replies.
    ///
    /// # Errors
    /// As [`BrokerPipe::requester`].
    ///
    /// # Cancel safety
    /// As [`BrokerPipe::requester`].
    pub async fn replier_with(&self, options: ReplierOptions) -> Result<Replier, Error> {
        Replier::attach(self, options).await
    }

    /// The pipe `segment` below this one.
    pub(crate) fn below(&self, segment: &str) -> Result<Self, Error> {
        let name = PipeName::new(&format!("{}/{segment}", self.name))?;
        let pipe = PipeRef { owner: self.endpoint.pipe.owner, path: name.path() };
        Ok(Self { name, endpoint: Endpoint { pipe, ..self.endpoint.clone() } })
    }

    pub(crate) fn env(&self) -> &Env {
        &self.endpoint.env
    }

    /// The pipe as the broker names it.
    pub fn pipe_ref(&self) -> &PipeRef {
        &self.endpoint.pipe
    }
}

#[async_trait]
impl Pipe for BrokerPipe {
    fn name(&self) -> &PipeName {
        &self.name
    }

    async fn writer_with(&self, options: WriterOptions) -> Result<Writer, Error> {
        let mut writer = Writer::attach(self.endpoint.clone(), options.wants(), options.events).await?;
        writer.delay(options.delay);
        writer.headers(options.headers);
        Ok(writer)
    }

    async fn reader_with(&self, options: ReaderOptions) -> Result<Reader, Error> {
        let Endpoint { broker, caller, pipe, env, shutdown } = self.endpoint.clone();
        Reader::attach(ReaderSide { broker, caller, env, shutdown, source: Source::Pipe(pipe) }, options).await
    }

    async fn stat(&self) -> Result<PipeStat, Error> {
        let Endpoint { broker, caller, pipe, .. } = &self.endpoint;
        broker.stat(caller, pipe).await
    }

    async fn remove(&self) -> Result<(), Error> {
        let Endpoint { broker, caller, pipe, .. } = &self.endpoint;
        broker.remove(caller, pipe).await
    }
}
