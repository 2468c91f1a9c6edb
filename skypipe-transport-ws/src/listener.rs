//! Waits for WebSocket connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use skypipe_core::descriptors::{ACCEPT_PAUSE, Shortage};
use skypipe_core::{ByteStream, Code, Error, KeyPair, Link, Listener};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::gate::{Gate, Place};
use crate::limits::{BACKLOG, FAREWELL, HALF_OPEN_MAX, HANDSHAKE};
use crate::link::{Facts, WsLink};
use crate::mux::Side;
use crate::socket::{Counted, Heard, Socket, config, exporter};
use crate::upgrade::{Doorman, TOO_SLOW, refuse, upgrade};
use crate::{HTTP_ALPN, TLS_BUFFER_BYTES};

/// What a listener is to be.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WsOptions {
    /// The relay's key: TLS ends here, with a certificate of its own for this key. None: plain, for loopback and behind a proxy that
    /// ends TLS.
    pub key: Option<KeyPair>,
    /// Pages that may connect, as browsers tell their origin: `https://relay.example`. Programs send none and always may.
    pub origins: Vec<String>,
    /// Host names by which a client may call the relay, without port; empty is any.
    pub hosts: Vec<String>,
}

impl WsOptions {
    /// TLS with the relay's own certificate.
    #[must_use]
    pub fn with_key(mut self, key: &KeyPair) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Pages of this origin may connect too.
    #[must_use]
    pub fn with_origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }

    /// Only clients that call the relay by this name, or another one that was allowed, may connect.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }
}

/// Listens for WebSocket connections; TLS and HTTP of many run at once, each for five seconds at most.
#[derive(Debug)]
pub struct WsListener {
    url: String,
    links: Mutex<mpsc::Receiver<(WsLink, Place)>>,
    accepting: JoinHandle<()>,
}

impl WsListener {
    /// Listens at `address`; port 0 is any that is free.
    ///
    /// # Errors
    /// `E_LOCKED` when somebody listens there, `E_CONFIG` when the address is not this machine's or not allowed.
    ///
    /// # Cancel safety
    /// A dropped call listens nowhere.
    pub async fn bind(address: SocketAddr, options: WsOptions) -> Result<Self, Error> {
        let tcp = listen(address).map_err(|e| not_bound(address, e))?;
        let local = tcp.local_addr().map_err(|e| not_bound(address, e))?;
        let url = match &options.key {
            Some(key) => format!("wss://{}@{local}", key.public()),
            None => format!("ws://{local}"),
        };
        let tls = options.key.as_ref().map(|key| skypipe_tls::server_config(key, &[HTTP_ALPN])).transpose()?;
        let door = Door {
            tls: tls.map(TlsAcceptor::from),
            doorman: Doorman { origins: options.origins, hosts: options.hosts },
        };
        let (sender, receiver) = mpsc::channel(HALF_OPEN_MAX);
        let accepting = tokio::spawn(accept_all(tcp, Arc::new(door), sender));
        Ok(Self { url, links: Mutex::new(receiver), accepting })
    }
}

impl Drop for WsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[async_trait]
impl Listener for WsListener {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        match self.links.lock().await.recv().await {
            Some((link, _)) => Ok(Box::new(link)),
            None => Err(Error::new(Code::Disconnected, format!("nobody can connect to {} any more", self.url))),
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// What every connection passes.
struct Door {
    tls: Option<TlsAcceptor>,
    doorman: Doorman,
}

/// Accepts until nobody takes links any more.
async fn accept_all(tcp: TcpListener, door: Arc<Door>, links: mpsc::Sender<(WsLink, Place)>) {
    let gate = Gate::new();
    let mut shortage = Shortage::default();
    while let Some(permit) = gate.room().await {
        let (accepted, from) = match tcp.accept().await {
            Ok((stream, from)) => (Ok(stream), Some(from)),
            Err(error) => (Err(error), None),
        };
        if shortage.is_felt(&accepted) {
            drop(accepted);
            sleep(ACCEPT_PAUSE).await;
            continue;
        }
        // Any other error was that one client's.
        let (Ok(stream), Some(from)) = (accepted, from) else { continue };
        if let Some(place) = gate.enter(permit, from.ip()) {
            tokio::spawn(let_in(door.clone(), stream, from, place, links.clone()));
        }
    }
}

/// A handshake that fails is nobody's error.
async fn let_in(door: Arc<Door>, tcp: TcpStream, from: SocketAddr, place: Place, links: mpsc::Sender<(WsLink, Place)>) {
    tokio::select! {
        link = door.pass(tcp, from) => {
            if let Some(link) = link {
                // There is room: each link that waits here has a place.
                let _ = links.try_send((link, place));
            }
        }
        () = links.closed() => {}
    }
}

impl Door {
    async fn pass(&self, tcp: TcpStream, from: SocketAddr) -> Option<WsLink> {
        let end = Instant::now() + HANDSHAKE;
        let tcp = Counted::new(tcp);
        let heard = tcp.heard();
        let mut facts = Facts { peer: from.to_string(), tls: false, exporter: None, relay: None };
        let Some(acceptor) = &self.tls else { return self.greet(Box::new(tcp), heard, facts, end).await };
        let mut stream = timeout_at(end, acceptor.accept(tcp)).await.ok()?.ok()?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        facts.tls = true;
        facts.exporter = Some(exporter(stream.get_ref().1)?);
        self.greet(Box::new(stream), heard, facts, end).await
    }

    async fn greet(&self, mut stream: Box<dyn ByteStream>, heard: Heard, facts: Facts, end: Instant) -> Option<WsLink> {
        let refusal = match timeout_at(end, upgrade(&mut stream, &self.doorman)).await {
            Ok(Ok(())) => {
                let ws = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
                return Some(WsLink::new(Side::Relay, Socket { ws, heard }, facts));
            }
            Ok(Err(refusal)) => refusal?,
            Err(_) => TOO_SLOW,
        };
        let _ = timeout(FAREWELL, refuse(&mut stream, &refusal)).await;
        let _ = timeout(FAREWELL, drain(&mut stream)).await;
        None
    }
}

/// Reads on for a moment: a connection that is closed with bytes unread is reset, and the client might lose the answer.
async fn drain(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut space = [0; 1024];
    for _ in 0..64 {
        match tokio::io::AsyncReadExt::read(stream, &mut space).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A relay that starts again need not wait until the last connections of the one before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn not_bound(address: SocketAddr, error: io::Error) -> Error {
    let (code, what) = match error.kind() {
        io::ErrorKind::AddrInUse => (Code::Locked, "somebody listens there already".to_owned()),
        _ => (Code::Config, error.to_string()),
    };
    Error::new(code, format!("cannot listen at TCP {address}: {what}")).because(error)
}
