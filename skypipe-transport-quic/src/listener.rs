//! The relay's end: handshakes in a task of their own, links to who asks for them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use async_trait::async_trait;
use quinn::{Connecting, Endpoint, Incoming};
use skypipe_core::{Code, Error, KeyPair, Link, Listener, PublicKey};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::config::{self, Times};
use crate::gate::{Gate, Source, Verdict};
use crate::link::QuicLink;
use crate::{SCHEME, socket};

/// Links that are ready and not asked for yet. One that waits here counts as half open still.
const READY_MAX: usize = 16;
/// Newcomers with a proven address who wait until another handshake is over: a thousand clients behind one NAT come back at once when
/// their relay was started anew. Each costs its first packet.
const WAITING_MAX: usize = 1024;

/// Waits for clients at a UDP port. Dropped, it accepts nobody any more; links that stand go on.
#[derive(Debug)]
pub struct QuicListener {
    links: Mutex<mpsc::Receiver<QuicLink>>,
    endpoint: Endpoint,
    door: AbortHandle,
    address: SocketAddr,
    key: PublicKey,
}

impl QuicListener {
    /// Listens at `address` as the relay with this key; port 0 takes a free one, `[::]` means IPv4 too. Call it within a runtime.
    ///
    /// # Errors
    /// `E_LOCKED` when another process listens there, `E_USAGE` when `address` is none of this machine or not allowed.
    pub fn bind(address: SocketAddr, key: &KeyPair) -> Result<Self, Error> {
        Self::bind_with(address, key, Times::default())
    }

    pub(crate) fn bind_with(address: SocketAddr, key: &KeyPair, times: Times) -> Result<Self, Error> {
        let server = config::server(key, &times)?;
        let endpoint = socket::serving(address, config::server_endpoint(key), server);
        let endpoint = endpoint.map_err(|e| unbound(address, e))?;
        let address = endpoint.local_addr().map_err(|e| unbound(address, e))?;
        let (ready, links) = mpsc::channel(READY_MAX);
        let door = tokio::spawn(Door::new(endpoint.clone(), ready, times).run()).abort_handle();
        Ok(Self { links: Mutex::new(links), endpoint, door, address, key: key.public() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Listener for QuicListener {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        match self.links.lock().await.recv().await {
            Some(link) => Ok(Box::new(link)),
            None => Err(Error::new(Code::Internal, format!("the UDP socket at {} failed", self.address))),
        }
    }

    fn url(&self) -> String {
        format!("{SCHEME}://{}@{}", self.key, self.address)
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.door.abort();
        // Its socket lives as long as its links. Newcomers are not kept waiting at it.
        self.endpoint.set_server_config(None);
    }
}

/// Lets newcomers in, one handshake each.
struct Door {
    endpoint: Endpoint,
    ready: mpsc::Sender<QuicLink>,
    times: Times,
    gate: Gate,
    waiting: VecDeque<(Instant, Incoming)>,
    handshakes: JoinSet<Source>,
}

impl Door {
    fn new(endpoint: Endpoint, ready: mpsc::Sender<QuicLink>, times: Times) -> Self {
        let (gate, waiting, handshakes) = (Gate::default(), VecDeque::new(), JoinSet::new());
        Self { endpoint, ready, times, gate, waiting, handshakes }
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.came(incoming, Instant::now()),
                    None => return,
                },
                Some(Ok(source)) = self.handshakes.join_next() => {
                    self.gate.ends(source);
                    self.next_waiting();
                }
            }
        }
    }

    fn came(&mut self, incoming: Incoming, since: Instant) {
        let source = Source::from(incoming.remote_address().ip());
        match self.gate.judge(source, incoming.remote_address_validated()) {
            Verdict::Admit => self.begin(incoming, source),
            // It may always be asked for: its address is not proven.
            Verdict::Retry => drop(incoming.retry()),
            Verdict::Wait if self.waiting.len() < WAITING_MAX => self.waiting.push_back((since, incoming)),
            // It asks again by itself.
            Verdict::Wait => incoming.ignore(),
        }
    }

    fn begin(&mut self, incoming: Incoming, source: Source) {
        // What cannot be understood is answered by quinn and forgotten.
        let Ok(connecting) = incoming.accept() else { return };
        self.gate.begins(source);
        self.handshakes.spawn(handshake(connecting, self.ready.clone(), self.times, source));
    }

    /// A place is free: each that waits is looked at once more. Who waited longer than a client tries is forgotten.
    fn next_waiting(&mut self) {
        for (since, incoming) in std::mem::take(&mut self.waiting) {
            if since.elapsed() > self.times.handshake {
                incoming.ignore();
            } else {
                self.came(incoming, since);
            }
        }
    }
}

/// One handshake, until the link is handed over.
async fn handshake(connecting: Connecting, ready: mpsc::Sender<QuicLink>, times: Times, source: Source) -> Source {
    // A link that fails before it is one is nobody's news.
    if let Ok(Ok(connection)) = timeout(times.handshake, connecting).await {
        let _ = ready.send(QuicLink::from_client(connection)).await;
    }
    source
}

fn unbound(address: SocketAddr, error: std::io::Error) -> Error {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => {
            Error::new(Code::Locked, format!("another process listens at {address} (UDP)")).because(error)
        }
        _ => Error::new(Code::Usage, format!("cannot listen at {address} (UDP): {error}")).because(error),
    }
}
