//! Links between machines: what a [`Transport`] must do to carry skypipe.
//!
//! One stream is one attach or one call. A transport says nothing about pipes.

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::caller::Peer;
use crate::error::Error;
use crate::frame_channel::FrameChannel;
use crate::identity::RelayIdentity;

/// A way to reach relays. The crate that implements it installs a URL scheme in [`crate::registry`].
#[async_trait]
pub trait Transport: Send + Sync {
    /// Opens a link to the relay at `url`.
    ///
    /// # Errors
    /// `E_UNREACHABLE` when nobody answers, and what the transport's own handshake finds (`E_PIN`, `E_VERSION`).
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error>;
}

/// Waits for links.
#[async_trait]
pub trait Listener: Send + Sync {
    /// The next link. A link that fails before it is one is not an error of the listener.
    ///
    /// # Errors
    /// Only when no further link can be expected.
    ///
    /// # Cancel safety
    /// A dropped call loses no link.
    async fn accept(&self) -> Result<Box<dyn Link>, Error>;

    /// The URL at which clients reach it.
    fn url(&self) -> String;
}

/// One connection to a peer, on which streams are opened and accepted.
#[async_trait]
pub trait Link: Send + Sync {
    /// Opens a stream to the peer.
    ///
    /// # Errors
    /// `E_DISCONNECTED` when the link broke, and what [`Transport::connect`] may find.
    ///
    /// # Cancel safety
    /// A dropped call leaves at most a stream that is closed at once.
    async fn open(&self) -> Result<LinkStream, Error>;

    /// The next stream the peer opens; `None` when the link is closed.
    ///
    /// # Errors
    /// `E_DISCONNECTED` when the link broke.
    ///
    /// # Cancel safety
    /// A dropped call loses no stream.
    async fn accept(&self) -> Result<Option<LinkStream>, Error>;

    /// What is at the other end.
    fn peer(&self) -> Peer;

    /// Whether that is another machine. Asked for each attach: a link that must look to name its peer answers without.
    fn is_network(&self) -> bool {
        matches!(self.peer(), Peer::Network(_))
    }

    /// How the link runs, in words for people: `local socket`, `QUIC 192.0.2.1:7473`.
    fn path(&self) -> String;

    /// Bytes that both ends of the secured channel derive alike and nobody else can, where there is such a channel: the TLS
    /// exporter of label [`EXPORTER_LABEL`] without context ([RFC 8446, section 7.5](https://www.rfc-editor.org/rfc/rfc8446#section-7.5)).
    fn exporter(&self) -> Option<[u8; 32]> {
        None
    }

    /// At a client: who the relay must prove to be. None where the machine vouches for it, or where the URL names nobody.
    fn relay(&self) -> Option<RelayIdentity> {
        None
    }

    /// At a client: an error, should the peer turn out not to answer. A transport that hands out a link without having heard the peer looks
    /// after it here while a first answer is awaited; all others never say so.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind; a new one begins anew.
    async fn silent(&self) -> Error {
        std::future::pending().await
    }

    /// At a relay: the peer has proved who it is, so what a stranger may not have, such as many streams, may be given now.
    fn admitted(&self) {}
}

/// The label of [`Link::exporter`].
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-skypipe-1";
/// The application protocol by which TLS knows skypipe (ALPN), where skypipe itself is what TLS carries.
pub const ALPN: &[u8] = b"skypipe/1";
/// The port of a relay, UDP and TCP alike, where none is named.
pub const PORT: u16 = 7473;
/// Streams that a peer may have open before it proved who it is: one to prove it on, the rest for what it asks behind.
pub const STREAMS_BEFORE_PROOF_MAX: usize = 16;
/// Streams that a peer may have open at once; who needs more opens another link.
pub const STREAMS_PER_LINK_MAX: usize = 4096;

/// What a [`Link`] opens and accepts.
#[non_exhaustive]
pub enum LinkStream {
    /// Bytes, as every transport between processes has them.
    Bytes(Box<dyn ByteStream>),
    /// Frames as objects, within one process: a batch crosses without a copy.
    Frames(FrameChannel),
}

impl LinkStream {
    /// A stream of bytes.
    pub fn bytes(duplex: impl ByteStream + 'static) -> Self {
        Self::Bytes(Box::new(duplex))
    }
}

/// An ordered stream of bytes in each direction. Vectored writes pay where [`AsyncWrite::is_write_vectored`] says so.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}
