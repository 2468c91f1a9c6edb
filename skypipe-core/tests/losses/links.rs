//! Links in memory that carry bytes: recorded, and said again.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use skypipe_core::{Code, Error, Link, LinkStream, Listener, Peer, Transport};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// What a stream holds at most; more than any of the arrivals here.
pub(crate) const STREAM_BYTES: usize = 1 << 20;

/// Links in memory that carry bytes, and remember them.
pub(crate) struct Recording {
    pub(crate) relay: mpsc::Sender<Box<dyn Link>>,
    pub(crate) heard: Heard,
}

/// What went over a link, down to the client and up from it.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) down: Arc<Mutex<Vec<u8>>>,
    pub(crate) up: Arc<Mutex<Vec<u8>>>,
}

/// A link of one stream each.
struct Near {
    far: mpsc::Sender<DuplexStream>,
    heard: Heard,
}

pub(crate) struct Far(pub(crate) tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

#[async_trait]
impl Transport for Recording {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let (far, streams) = mpsc::channel(1);
        self.relay.send(Box::new(Far(tokio::sync::Mutex::new(streams)))).await.map_err(|_| nobody())?;
        Ok(Box::new(Near { far, heard: self.heard.clone() }))
    }
}

#[async_trait]
impl Link for Near {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = tokio::io::duplex(STREAM_BYTES);
        self.far.send(far).await.map_err(|_| nobody())?;
        Ok(LinkStream::bytes(Tap { stream: near, heard: self.heard.clone() }))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}

#[async_trait]
impl Link for Far {
    async fn open(&self) -> Result<LinkStream, Error> {
        Err(nobody())
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        Ok(self.0.lock().await.recv().await.map(LinkStream::bytes))
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}

pub(crate) struct Links(pub(crate) tokio::sync::Mutex<mpsc::Receiver<Box<dyn Link>>>);

#[async_trait]
impl Listener for Links {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        self.0.lock().await.recv().await.ok_or_else(nobody)
    }
    fn url(&self) -> String {
        "memory:".to_owned()
    }
}

pub(crate) fn nobody() -> Error {
    Error::new(Code::Unreachable, "nobody is there any more")
}

/// Remembers what is read and written.
struct Tap {
    stream: DuplexStream,
    heard: Heard,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.heard.down.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.heard.up.lock().unwrap().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A relay that says these bytes once, whatever it hears, and is never seen again.
pub(crate) struct Replayed(pub(crate) Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Transport for Replayed {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let says = self.0.lock().unwrap().take().ok_or_else(nobody)?;
        Ok(Box::new(Last(Mutex::new(Some(says)))))
    }
}

struct Last(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Link for Last {
    async fn open(&self) -> Result<LinkStream, Error> {
        let says = self.0.lock().unwrap().take().ok_or_else(nobody)?;
        Ok(LinkStream::bytes(tokio::io::join(io::Cursor::new(says), tokio::io::sink())))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "memory".to_owned()
    }
}
