//! Many pipes as applications read them: all that match a pattern.

use std::sync::Arc;

use crate::broker::Broker;
use crate::caller::Caller;
use crate::env::Env;
use crate::error::Error;
use crate::name::PatternRef;
use crate::pipe::ReaderOptions;
use crate::reader::{Reader, ReaderSide, Source};
use crate::shutdown::Shutdown;
use crate::target::TargetPattern;

/// All queues and broadcasts of one owner that match a pattern, those too that begin later.
///
/// ```
/// use skypipe_core::{Client, Env, LocalBroker, Mode, Pipe, ReaderOptions, Start, Until, WriterOptions};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let client = Client::over(LocalBroker::in_memory(Env::system())?);
///     for name in ["logs/web", "logs/db"] {
///         let mut writer = client.pipe(name)?.writer_with(WriterOptions::default().with_mode(Mode::Broadcast)).await?;
///         writer.send(name.as_bytes()).await?;
///         writer.end(Until::Stored).await?;
///     }
///
///     let mut options = ReaderOptions::default();
///     options.start = Start::Beginning;
///     let mut reader = client.pattern("logs/**")?.reader_with(options).await?;
///     for _ in 0..2 {
///         let record = reader.next().await?.expect("it stays");
///         assert_eq!(record.pipe.display().as_bytes(), &record.body[..]);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct PipePattern {
    broker: Arc<dyn Broker>,
    caller: Caller,
    pattern: PatternRef,
    env: Env,
    shutdown: Option<Shutdown>,
}

impl PipePattern {
    /// What matches at `broker`, as `caller` sees it. Nothing is asked of the broker yet.
    pub fn new(broker: Arc<dyn Broker>, caller: Caller, wanted: TargetPattern) -> Self {
        let pattern = PatternRef { owner: wanted.owner, pattern: wanted.pattern, within: Vec::new() };
        Self { broker, caller, pattern, env: Env::system(), shutdown: None }
    }

    /// The same with other clocks and randomness.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// The same, whose readers end with `shutdown`.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: &Shutdown) -> Self {
        self.shutdown = Some(shutdown.clone());
        self
    }

    /// Attaches a reader: [`PipePattern::reader_with`] with the default options.
    ///
    /// # Errors
    /// As [`PipePattern::reader_with`].
    ///
    /// # Cancel safety
    /// As [`PipePattern::reader_with`].
    pub async fn reader(&self) -> Result<Reader, Error> {
        self.reader_with(ReaderOptions::default()).await
    }

    /// Attaches one reader of all of them; each record tells its pipe. Pipes that there are begin where the options say, those that begin
    /// later at their beginning. Of queues it has [`ReaderOptions::prefetch`] records at a time, of all of them together. No pipe is begun.
    ///
    /// # Errors
    /// As [`Pipe::reader_with`](crate::Pipe::reader_with); `E_UNSUPPORTED` from a relay too old for it, `E_USAGE` for options of one pipe (items, keeping on,
    /// settings, a position), `E_QUOTA` when more than [`PATTERN_PIPES_MAX`](crate::PATTERN_PIPES_MAX) match.
    ///
    /// # Cancel safety
    /// As [`Pipe::reader_with`](crate::Pipe::reader_with).
    pub async fn reader_with(&self, options: ReaderOptions) -> Result<Reader, Error> {
        let Self { broker, caller, pattern, env, shutdown } = self.clone();
        Reader::attach(ReaderSide { broker, caller, env, shutdown, source: Source::Pattern(pattern) }, options).await
    }
}
