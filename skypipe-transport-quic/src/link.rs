//! One QUIC connection as a link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quinn::{Connection, ConnectionError};
use skypipe_core::{
    Code, EXPORTER_LABEL, Error, Link, LinkStream, Peer, PublicKey, RelayIdentity, STREAMS_PER_LINK_MAX,
};
use skypipe_tls::LiveLink;
use tokio::time::timeout;

use crate::config::{RELAY_LINK_WINDOW_BYTES, STREAMS_AT_FIRST};
use crate::leaving::{self, LINKS};
use crate::stream::QuicStream;
use crate::{failure, socket};

/// How long to wait for a stream where the peer has as many as it takes.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// By how much the limit of streams grows when more than half of it is in use. quinn sets memory aside for each that may be opened (4,096 are
/// 280 KB), so a link of one stream, as most are, pays for few.
const STREAMS_GROWTH: u32 = 4;

/// One end of a connection.
pub(crate) struct QuicLink {
    life: Arc<Life>,
    /// Where the peer was when it connected.
    peer: SocketAddr,
    exporter: Option<[u8; 32]>,
    /// At a client: the key that was pinned.
    relay: Option<PublicKey>,
}

impl QuicLink {
    /// A client's end, to the relay that has shown this key.
    pub(crate) fn to_relay(connection: Connection, key: PublicKey) -> Self {
        Self::new(connection, Some(key))
    }

    /// A relay's end.
    pub(crate) fn from_client(connection: Connection) -> Self {
        Self::new(connection, None)
    }

    fn new(connection: Connection, relay: Option<PublicKey>) -> Self {
        let mut exported = [0; 32];
        let exporter =
            connection.export_keying_material(&mut exported, EXPORTER_LABEL, b"").is_ok().then_some(exported);
        let peer = socket::plain(connection.remote_address());
        Self { life: Arc::new(Life::new(connection, relay.is_some())), peer, exporter, relay }
    }
}

#[async_trait]
impl Link for QuicLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        let opened = timeout(OPEN_LIMIT, self.life.connection.open_bi()).await;
        let stream = opened.map_err(|_| Error::new(Code::Busy, "the other side takes no more streams on this link"))?;
        let stream = stream.map_err(failure::broken)?;
        self.life.stream_opened();
        Ok(LinkStream::bytes(QuicStream::new(stream, self.life.clone())))
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        match self.life.connection.accept_bi().await {
            Ok(stream) => {
                self.life.stream_opened();
                self.life.make_room();
                Ok(Some(LinkStream::bytes(QuicStream::new(stream, self.life.clone()))))
            }
            Err(ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed) => Ok(None),
            Err(error) => Err(failure::broken(error)),
        }
    }

    fn peer(&self) -> Peer {
        Peer::Network(self.peer.to_string())
    }

    fn path(&self) -> String {
        format!("QUIC {}", socket::plain(self.life.connection.remote_address()))
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        self.exporter
    }

    fn relay(&self) -> Option<RelayIdentity> {
        self.relay.map(RelayIdentity::Pinned)
    }

    fn admitted(&self) {
        if !self.life.is_client() {
            self.life.connection.set_receive_window(RELAY_LINK_WINDOW_BYTES.into());
            self.life.admitted.store(true, Ordering::Relaxed);
            self.life.make_room();
        }
    }
}

/// The connection, as long as the link or one of its streams lives. A client that drops all of them tells the relay.
pub(crate) struct Life {
    connection: Connection,
    /// At a client.
    counted: Option<LiveLink>,
    admitted: AtomicBool,
    /// Streams that live, whoever opened them.
    streams: AtomicUsize,
    /// Streams that the peer may have open.
    streams_max: AtomicU32,
}

impl Life {
    fn new(connection: Connection, is_client: bool) -> Self {
        Self {
            connection,
            counted: is_client.then(|| LINKS.begin()),
            admitted: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
            streams_max: AtomicU32::new(STREAMS_AT_FIRST),
        }
    }

    pub(crate) fn is_client(&self) -> bool {
        self.counted.is_some()
    }

    pub(crate) fn stream_opened(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stream_closed(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets the peer open more where it needs more. Two at once set the same limit twice at worst.
    fn make_room(&self) {
        if !self.admitted.load(Ordering::Relaxed) {
            return;
        }
        let now = self.streams_max.load(Ordering::Relaxed);
        let next = streams_max(now, self.streams.load(Ordering::Relaxed));
        if next > now {
            self.streams_max.store(next, Ordering::Relaxed);
            self.connection.set_max_concurrent_bi_streams(next.into());
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            leaving::close(self.connection.clone(), counted);
        }
    }
}

/// The limit for a peer that was admitted and has so many streams.
fn streams_max(now: u32, streams: usize) -> u32 {
    let wanted = if streams > now as usize / 2 { now.saturating_mul(STREAMS_GROWTH) } else { now };
    wanted.min(STREAMS_PER_LINK_MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_streams_follows_their_number() {
        assert_eq!((streams_max(4, 2), streams_max(4, 3)), (4, 16));
        assert_eq!((streams_max(16, 8), streams_max(16, 9)), (16, 64));
        assert_eq!((streams_max(2048, 1025), streams_max(4096, 4096)), (4096, 4096));
    }
}
