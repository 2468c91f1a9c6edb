//! Which broker, and its pipes.

use std::sync::Arc;

use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Code, Error};
use crate::pattern::PipePattern;
use crate::pipe::BrokerPipe;
use crate::registry;
use crate::shutdown::Shutdown;
use crate::target::Target;
use crate::transport::Transport;

/// The environment variable that names the relay.
pub const RELAY_VARIABLE: &str = "SKYPIPE_RELAY";

/// The pipe `name` at the default broker: the relay that `SKYPIPE_RELAY` names, else the user's local relay, which this process
/// hosts when nobody else does.
///
/// # Errors
/// `E_NAME`, `E_SCHEME`, and what makes the local relay unusable (`E_LOCKED`, `E_STORAGE`, `E_SOCKET_PATH`). A relay that is named
/// but does not answer shows at the first attach, as `E_UNREACHABLE`.
///
/// # Cancel safety
/// A dropped call leaves nothing, or a local relay that is hosted here.
pub async fn connect(name: &str) -> Result<BrokerPipe, Error> {
    // The name is the caller's own fault: it is judged before anything is started.
    Target::for_readers(name)?;
    Client::from_environment().await?.pipe(name)
}

/// The pipes of one broker.
///
/// ```
/// use skypipe_core::{Client, Env, LocalBroker, Pipe, Until};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let pipe = Client::over(LocalBroker::in_memory(Env::system())?).pipe("jobs/nightly")?;
///     let mut writer = pipe.writer().await?;
///     writer.send(b"go").await?;
///     writer.end(Until::Stored).await?;
///
///     let mut reader = pipe.reader().await?;
///     assert_eq!(reader.next().await?.as_deref(), Some(&b"go"[..]));
///     assert_eq!(reader.next().await?, None);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Client {
    broker: Arc<dyn Broker>,
    caller: Caller,
    shutdown: Option<Shutdown>,
}

impl Client {
    /// The broker at `url`, reached over `transport`. Nothing is connected yet.
    pub fn new(transport: Arc<dyn Transport>, url: &str) -> Self {
        Self::over(Arc::new(crate::remote::RemoteBroker::new(transport, url)))
    }

    /// The broker at `url`, over the transport that is installed for its scheme.
    ///
    /// # Errors
    /// `E_SCHEME` when none is.
    pub fn at(url: &str) -> Result<Self, Error> {
        Ok(Self::new(registry::lookup(url)?, url))
    }

    /// A broker in this process.
    pub fn over(broker: Arc<dyn Broker>) -> Self {
        Self { broker, caller: Caller::in_process(), shutdown: None }
    }

    /// The same, whose pipes' writers and readers end with `shutdown`.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: &Shutdown) -> Self {
        self.shutdown = Some(shutdown.clone());
        self
    }

    /// The default broker; see [`connect`].
    ///
    /// # Errors
    /// As [`connect`].
    ///
    /// # Cancel safety
    /// As [`connect`].
    pub async fn from_environment() -> Result<Self, Error> {
        match std::env::var(RELAY_VARIABLE) {
            // An empty variable is how scripts unset one.
            Ok(url) if url.is_empty() => Ok(Self::over(crate::host::local_broker().await?)),
            Ok(url) => Self::at(&url),
            Err(std::env::VarError::NotPresent) => Ok(Self::over(crate::host::local_broker().await?)),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::new(Code::Config, format!("{RELAY_VARIABLE} is not UTF-8")))
            }
        }
    }

    /// The pipe of this name, or of another owner's `@KEY/name`. Nothing is asked of the broker yet.
    ///
    /// # Errors
    /// `E_NAME`.
    pub fn pipe(&self, name: &str) -> Result<BrokerPipe, Error> {
        let Target { owner, name } = Target::for_readers(name)?;
        let pipe = BrokerPipe::new(self.broker.clone(), self.caller.clone(), name).owned_by(owner);
        Ok(match &self.shutdown {
            Some(shutdown) => pipe.with_shutdown(shutdown),
            None => pipe,
        })
    }

    /// All queues and broadcasts whose names match, such as `logs/*` or `@KEY/**`: for one reader. Nothing is asked of the broker yet.
    ///
    /// # Errors
    /// `E_NAME`.
    pub fn pattern(&self, pattern: &str) -> Result<PipePattern, Error> {
        let pattern = PipePattern::new(self.broker.clone(), self.caller.clone(), pattern.parse()?);
        Ok(match &self.shutdown {
            Some(shutdown) => pattern.with_shutdown(shutdown),
            None => pattern,
        })
    }

    /// The broker itself.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }
}
