//! One WebSocket connection as a link.

use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;
use skypipe_core::{Error, Link, LinkStream, Peer, RelayIdentity};

use crate::driver::Driver;
use crate::leaving::LINKS;
use crate::mux::Side;
use crate::shared::Shared;
use crate::socket::Socket;
use crate::stream::WsStream;

/// A link. When it is dropped, its streams go on; behind the last one the connection is closed.
pub(crate) struct WsLink {
    shared: Arc<Shared>,
    facts: Facts,
}

/// What is known of a connection.
pub(crate) struct Facts {
    /// `IP:port` of the peer.
    pub(crate) peer: String,
    /// Whether TLS ends here.
    pub(crate) tls: bool,
    pub(crate) exporter: Option<[u8; 32]>,
    pub(crate) relay: Option<RelayIdentity>,
}

impl WsLink {
    /// A link over this connection, driven by a task of its own.
    pub(crate) fn new(side: Side, socket: Socket, facts: Facts) -> Self {
        let counted = matches!(side, Side::Client).then(|| LINKS.begin());
        let shared = Arc::new(Shared::new(side));
        tokio::spawn(Driver::new(socket, shared.clone(), counted).run());
        Self { shared, facts }
    }

    fn stream(&self, id: crate::mux::StreamId) -> LinkStream {
        LinkStream::bytes(WsStream::new(self.shared.clone(), id))
    }
}

impl Drop for WsLink {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.dropped = true;
            state.mux.deafen();
        });
    }
}

#[async_trait]
impl Link for WsLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        poll_fn(|cx| self.shared.poll_open(cx)).await.map(|id| self.stream(id))
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        Ok(poll_fn(|cx| self.shared.poll_accept(cx)).await?.map(|id| self.stream(id)))
    }

    fn peer(&self) -> Peer {
        Peer::Network(self.facts.peer.clone())
    }

    fn path(&self) -> String {
        let over = if self.facts.tls { "WebSocket over TLS" } else { "WebSocket" };
        format!("{over} {}", self.facts.peer)
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        self.facts.exporter
    }

    fn relay(&self) -> Option<RelayIdentity> {
        self.facts.relay.clone()
    }

    fn admitted(&self) {
        self.shared.with(|state| state.mux.admit());
    }
}
