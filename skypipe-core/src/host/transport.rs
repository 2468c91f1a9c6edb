//! The way to the local relay, which begins with starting one where there is none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::folder::LocalFolder;
use super::lock::{Holder, HostState};
use super::{LOCAL_URL, Starter};
use crate::caller::Peer;
use crate::error::{Code, Error};
use crate::local_socket::LocalSocketTransport;
use crate::remote::RemoteBroker;
use crate::transport::{Link, LinkStream, Transport};
use crate::wire::SoftwareVersion;

/// How long a relay may take to answer before it is named to the user. It is never pushed aside: what it holds is data.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A relay that says it serves answers in less than this, a sync of a slow disk included. Only one that does not is asked whether it is there.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// A starter may lose its process to a signal or the lock to a host that is just leaving, so it is asked again.
const START_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Waits between looks at the socket are this part of what was waited already, so that they add little to whatever a start takes.
const LOOK_AFTER_PART: u32 = 16;
/// A relay with a small log is there within milliseconds.
const LOOK_AFTER_MIN: Duration = Duration::from_millis(1);
/// See [`LOOK_AFTER_PART`].
const LOOK_AFTER_MAX: Duration = Duration::from_millis(20);

/// Links to the local relay, starting it where nobody answers, so that a session that lost it to `kill -9` brings it back by
/// attaching again.
pub struct LocalTransport(Arc<LocalRelay>);

impl LocalTransport {
    /// The relay of `folder`, started by `starter`.
    pub fn new(folder: LocalFolder, starter: Arc<dyn Starter>) -> Self {
        Self(Arc::new(LocalRelay { folder, starter, socket: Arc::new(LocalSocketTransport) }))
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        if url != LOCAL_URL {
            return Err(Error::new(Code::Scheme, "there is one local relay: its URL is `local:`"));
        }
        if let Some(link) = self.0.at_once().await {
            return Ok(link);
        }
        self.0.reach().await?;
        self.0.link().await
    }
}

/// The local relay as its clients know it.
struct LocalRelay {
    folder: LocalFolder,
    starter: Arc<dyn Starter>,
    socket: Arc<dyn Transport>,
}

impl LocalRelay {
    async fn link(&self) -> Result<Box<dyn Link>, Error> {
        self.socket.connect(&self.folder.url()).await
    }

    /// A link to a relay whose lock says that it serves and is new enough: nothing is asked before what is to be asked.
    async fn at_once(self: &Arc<Self>) -> Option<Box<dyn Link>> {
        let holder = Holder::of(&self.folder)?;
        let serves = holder.state == HostState::Serving && holder.version >= SoftwareVersion::CURRENT;
        let link = if serves { self.link().await.ok()? } else { return None };
        Some(Box::new(Unheard { link, relay: Arc::clone(self) }))
    }

    /// Returns when a relay of this version or a newer one answers.
    async fn reach(&self) -> Result<(), Error> {
        let begin = Instant::now();
        let mut deadline = begin + ANSWER_WITHIN;
        let mut start_at = begin;
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
            sleep((begin.elapsed() / LOOK_AFTER_PART).clamp(LOOK_AFTER_MIN, LOOK_AFTER_MAX)).await;
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

/// A link to a relay that was not heard yet: a process that was stopped still lets itself be connected to.
struct Unheard {
    link: Box<dyn Link>,
    relay: Arc<LocalRelay>,
}

#[async_trait]
impl Link for Unheard {
    async fn open(&self) -> Result<LinkStream, Error> {
        self.link.open().await
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        self.link.accept().await
    }

    fn peer(&self) -> Peer {
        self.link.peer()
    }

    fn is_network(&self) -> bool {
        self.link.is_network()
    }

    fn path(&self) -> String {
        self.link.path()
    }

    /// One that answers a hello may take its time for the rest.
    async fn silent(&self) -> Error {
        let deadline = Instant::now() + ANSWER_WITHIN;
        sleep(ASKED_AFTER).await;
        match self.relay.greet(deadline).await {
            Greeting::Nobody => {
                sleep_until(deadline).await;
                self.relay.nobody_answered()
            }
            Greeting::Failed(error) => error,
            Greeting::Answers | Greeting::SteppedDown => std::future::pending().await,
        }
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::env::Env;
    use crate::host::InProcess;
    use crate::local_broker::LocalBroker;
    use crate::mem::{MemListener, MemTransport};
    use crate::relay::Relay;

    /// The relay of this name in this process, whatever it is asked for; without a name, nobody.
    struct InPlace(Option<&'static str>);

    #[async_trait]
    impl Transport for InPlace {
        async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
            match self.0 {
                Some(name) => MemTransport.connect(&format!("mem:{name}")).await,
                None => std::future::pending().await,
            }
        }
    }

    /// A link to a relay that serves under `name`, and the folder in which its lock says that it is this process.
    async fn unheard(name: &'static str, answers: bool) -> (tempfile::TempDir, Unheard) {
        let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap());
        let relay = relay.listen(Box::new(MemListener::bind(name).unwrap()));
        tokio::spawn(async move { relay.serve().await });
        let temp = tempfile::tempdir().unwrap();
        let folder = LocalFolder::at(temp.path().join("home")).unwrap();
        let line = format!("{} {} serving\n", std::process::id(), SoftwareVersion::CURRENT);
        std::fs::write(folder.lock(), line).unwrap();
        let socket = Arc::new(InPlace(answers.then_some(name)));
        let link = InPlace(Some(name)).connect(LOCAL_URL).await.unwrap();
        (temp, Unheard { link, relay: Arc::new(LocalRelay { folder, starter: Arc::new(InProcess), socket }) })
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_a_hello_may_take_its_time_for_the_rest() {
        let (_temp, link) = unheard("slow-disk", true).await;
        assert!(timeout(ANSWER_WITHIN * 100, link.silent()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_serves_and_answers_nothing_is_named() {
        let (_temp, link) = unheard("stopped", false).await;
        let start = Instant::now();
        let error = link.silent().await;
        assert_eq!((error.code(), start.elapsed()), (Code::Locked, ANSWER_WITHIN));
        assert!(error.text().contains(&std::process::id().to_string()), "{error}");
    }

    #[tokio::test]
    async fn only_a_lock_that_says_serving_is_believed_and_no_older_version() {
        let (_temp, link) = unheard("believed", true).await;
        let older = SoftwareVersion::new(0, 0, 1);
        let newer = SoftwareVersion::new(99, 0, 0);
        for (version, state, believed) in [
            (newer, "serving", true),
            (older, "serving", false),
            (newer, "starting", false),
            (newer, "stopping", false),
        ] {
            let line = format!("{} {version} {state}\n", std::process::id());
            std::fs::write(link.relay.folder.lock(), &line).unwrap();
            assert_eq!(link.relay.at_once().await.is_some(), believed, "{line}");
        }
        std::fs::remove_file(link.relay.folder.lock()).unwrap();
        assert!(link.relay.at_once().await.is_none());
    }
}
