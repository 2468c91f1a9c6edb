//! The in-memory transport, scheme `mem:`: links within this process, named by any text.
//!
//! Frames cross as objects. A batch is neither copied nor checked again: it is the same memory at both ends.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::caller::Peer;
use crate::error::{Code, Error};
use crate::frame_channel::FrameChannel;
use crate::transport::{Link, LinkStream, Listener, Transport};

/// The scheme before the colon.
pub const SCHEME: &str = "mem";
/// Links and streams that wait to be accepted; who opens one more waits.
pub const BACKLOG_MAX: usize = 128;

/// Who listens, by name.
static LISTENERS: LazyLock<Mutex<HashMap<String, mpsc::Sender<MemLink>>>> = LazyLock::new(Mutex::default);

/// Reaches listeners of this process: `mem:NAME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemTransport;

#[async_trait]
impl Transport for MemTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        let name = name_in(url)?;
        let listener = listeners().get(name).cloned();
        let nobody = || Error::new(Code::Unreachable, format!("nobody listens at mem:{name} in this process"));
        let listener = listener.ok_or_else(nobody)?;
        let (near, far) = MemLink::pair();
        listener.send(far).await.map_err(|_| nobody())?;
        Ok(Box::new(near))
    }
}

/// Waits for links within this process. Its name is free again when it is dropped.
#[derive(Debug)]
pub struct MemListener {
    name: String,
    links: tokio::sync::Mutex<mpsc::Receiver<MemLink>>,
}

impl MemListener {
    /// Listens at `mem:NAME`.
    ///
    /// # Errors
    /// `E_LOCKED` when somebody listens there.
    pub fn bind(name: &str) -> Result<Self, Error> {
        let mut listeners = listeners();
        if listeners.contains_key(name) {
            return Err(Error::new(Code::Locked, format!("somebody listens at mem:{name} already")));
        }
        let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
        listeners.insert(name.to_owned(), sender);
        Ok(Self { name: name.to_owned(), links: tokio::sync::Mutex::new(receiver) })
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        listeners().remove(&self.name);
    }
}

#[async_trait]
impl Listener for MemListener {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        match self.links.lock().await.recv().await {
            Some(link) => Ok(Box::new(link)),
            None => Err(Error::new(Code::Disconnected, "nobody can connect any more")),
        }
    }

    fn url(&self) -> String {
        format!("{SCHEME}:{}", self.name)
    }
}

/// One end of a link within this process.
struct MemLink {
    opens: mpsc::Sender<FrameChannel>,
    accepts: tokio::sync::Mutex<mpsc::Receiver<FrameChannel>>,
}

impl MemLink {
    fn pair() -> (Self, Self) {
        let (there, from_here) = mpsc::channel(BACKLOG_MAX);
        let (here, from_there) = mpsc::channel(BACKLOG_MAX);
        let end = |opens, accepts| Self { opens, accepts: tokio::sync::Mutex::new(accepts) };
        (end(there, from_there), end(here, from_here))
    }
}

#[async_trait]
impl Link for MemLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = FrameChannel::pair();
        let closed = |_| Error::new(Code::Disconnected, "the other side closed the link");
        self.opens.send(far).await.map_err(closed)?;
        Ok(LinkStream::Frames(near))
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        Ok(self.accepts.lock().await.recv().await.map(LinkStream::Frames))
    }

    fn peer(&self) -> Peer {
        Peer::InProcess
    }

    fn path(&self) -> String {
        "this process".to_owned()
    }
}

fn name_in(url: &str) -> Result<&str, Error> {
    url.strip_prefix("mem:").ok_or_else(|| Error::new(Code::Usage, format!("not a mem: URL: {url}")))
}

fn listeners() -> std::sync::MutexGuard<'static, HashMap<String, mpsc::Sender<MemLink>>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_taken_once_and_free_again() {
        let first = MemListener::bind("taken").unwrap();
        assert_eq!(MemListener::bind("taken").unwrap_err().code(), Code::Locked);
        drop(first);
        assert_eq!(MemTransport.connect("mem:taken").await.err().unwrap().code(), Code::Unreachable);
        MemListener::bind("taken").unwrap();
    }
}
