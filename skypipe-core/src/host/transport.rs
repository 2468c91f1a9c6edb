//! The way to the local relay, which begins with starting one where there is none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use super::folder::LocalFolder;
use super::lock::{Holder, HostState};
use super::{LOCAL_URL, Starter};
use crate::error::{Code, Error};
use crate::local_socket::LocalSocketTransport;
use crate::remote::RemoteBroker;
use crate::transport::{Link, Transport};
use crate::wire::SoftwareVersion;

/// How long a relay may take to answer before it is named to the user. It is never pushed aside: what it holds is data.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A starter may lose its process to a signal or the lock to a host that is just leaving, so it is asked again.
const START_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Waits between looks at the socket: short at first, since a relay with a small log is there within milliseconds.
const LOOK_AFTER_MIN: Duration = Duration::from_millis(1);
/// See [`LOOK_AFTER_MIN`].
const LOOK_AFTER_MAX: Duration = Duration::from_millis(20);

/// Links to the local relay, starting it where nobody answers, so that a session that lost it to `kill -9` brings it back by
/// attaching again.
pub struct LocalTransport {
    folder: LocalFolder,
    starter: Arc<dyn Starter>,
    socket: Arc<dyn Transport>,
}

impl LocalTransport {
    /// The relay of `folder`, started by `starter`.
    pub fn new(folder: LocalFolder, starter: Arc<dyn Starter>) -> Self {
        Self { folder, starter, socket: Arc::new(LocalSocketTransport) }
    }

    /// Returns when a relay of this version or a newer one answers.
    async fn reach(&self) -> Result<(), Error> {
        let mut deadline = Instant::now() + ANSWER_WITHIN;
        let mut start_at = Instant::now();
        let mut look_after = LOOK_AFTER_MIN;
        loop {
            match self.greet(deadline).await {
                Greeting::Answers => return Ok(()),
                Greeting::SteppedDown => deadline = Instant::now() + ANSWER_WITHIN,
                Greeting::Failed(error) => return Err(error),
                Greeting::Nobody if Instant::now() >= deadline => return Err(self.nobody_answered()),
                Greeting::Nobody if Instant::now() >= start_at => {
                    self.starter.start(&self.folder)?;
                    start_at = Instant::now() + START_AGAIN_AFTER;
                }
                Greeting::Nobody => {}
            }
            sleep(look_after).await;
            look_after = (look_after * 2).min(LOOK_AFTER_MAX);
        }
    }

    /// Says hello on a stream of its own: a process that was stopped still lets itself be connected to.
    async fn greet(&self, deadline: Instant) -> Greeting {
        let relay = RemoteBroker::new(Arc::clone(&self.socket), &self.folder.url());
        match timeout_at(deadline, relay.ping(Default::default())).await {
            Err(_) => Greeting::Nobody,
            Ok(Err(error)) if error.is_disconnected() => Greeting::Nobody,
            Ok(Err(error)) => Greeting::Failed(error),
            Ok(Ok(pong)) if pong.software < SoftwareVersion::CURRENT => {
                match timeout_at(deadline, relay.step_down()).await {
                    Ok(Ok(())) => Greeting::SteppedDown,
                    _ => Greeting::Nobody,
                }
            }
            Ok(Ok(_)) => Greeting::Answers,
        }
    }

    /// A host that is opening or closing its log comes back by itself, so a session may go on trying. One that says it
    /// serves and does not answer needs a person.
    fn nobody_answered(&self) -> Error {
        match Holder::of(&self.folder) {
            Some(holder) if holder.state == HostState::Serving => {
                let text = "the local relay does not answer; it is process";
                Error::new(Code::Locked, format!("{text} {}: end it to start another", holder.pid))
            }
            Some(holder) => {
                let text = format!("the local relay, process {}, is not ready yet", holder.pid);
                Error::new(Code::Unreachable, text)
            }
            None => {
                let log = self.folder.log();
                let text = format!("the local relay did not start; {} may say why", log.display());
                Error::new(Code::Unreachable, text)
            }
        }
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        if url != LOCAL_URL {
            return Err(Error::new(Code::Scheme, "there is one local relay: its URL is `local:`"));
        }
        self.reach().await?;
        self.socket.connect(&self.folder.url()).await
    }
}

/// How a relay took a hello.
enum Greeting {
    /// It is there, and new enough.
    Answers,
    /// It was older and leaves.
    SteppedDown,
    /// There is none, or it says nothing.
    Nobody,
    /// It is there, and cannot be used.
    Failed(Error),
}
