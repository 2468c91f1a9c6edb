//! A connection of each library as bytes both ways.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use rustls::pki_types::ServerName;
use skypipe_core::KeyPair;
use skypipe_tls::{Trust, client_config, server_config};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Bare;
use crate::Failure;

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

const ALPN: &[u8] = b"bare";

// All that follows is as skypipe has it.
const UNIX_SEND_BYTES: usize = 1024 * 1024;
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const RELAY_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const RELAY_LINK_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const CLIENT_STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CLIENT_LINK_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Where the relay accepts.
pub(super) enum Listening {
    Unix(UnixListener),
    Tcp(TcpListener, Option<TlsAcceptor>),
    /// With all connections there were: one that is dropped throws away what is still on its way.
    Quinn(Endpoint, Mutex<Vec<Connection>>),
}

impl Listening {
    /// Listens, and says where.
    pub(super) async fn open(way: Bare, socket: &str) -> Result<(Self, String), Failure> {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        Ok(match way {
            Bare::Unix => (Self::Unix(UnixListener::bind(socket)?), socket.to_owned()),
            Bare::Quinn => {
                let endpoint =
                    Endpoint::new(EndpointConfig::default(), Some(server()?), udp(any)?, Arc::new(TokioRuntime))?;
                let at = endpoint.local_addr()?.to_string();
                (Self::Quinn(endpoint, Mutex::default()), at)
            }
            way => {
                let listener = TcpListener::bind(any).await?;
                let at = listener.local_addr()?.to_string();
                let tls = matches!(way, Bare::Tls | Bare::Wss).then(|| server_config(&key(), &[ALPN])).transpose()?;
                (Self::Tcp(listener, tls.map(TlsAcceptor::from)), at)
            }
        })
    }

    pub(super) async fn accept(&self) -> Result<Box<dyn Duplex>, Failure> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                widen(&stream)?;
                Ok(Box::new(stream))
            }
            Self::Tcp(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                match tls {
                    Some(tls) => Ok(Box::new(tls.accept(stream).await?)),
                    None => Ok(Box::new(stream)),
                }
            }
            Self::Quinn(endpoint, connections) => {
                let connection = endpoint.accept().await.ok_or("the endpoint is closed")?.await?;
                let (send, receive) = connection.accept_bi().await?;
                connections.lock().await.push(connection);
                Ok(Box::new(tokio::io::join(receive, send)))
            }
        }
    }
}

pub(super) async fn connect(way: Bare, at: &str) -> Result<Box<dyn Duplex>, Failure> {
    match way {
        Bare::Unix => {
            let stream = UnixStream::connect(at).await?;
            widen(&stream)?;
            Ok(Box::new(stream))
        }
        Bare::Quinn => {
            let endpoint = Endpoint::new(
                EndpointConfig::default(),
                None,
                udp((Ipv4Addr::UNSPECIFIED, 0).into())?,
                Arc::new(TokioRuntime),
            )?;
            let connection = endpoint.connect_with(client()?, at.parse()?, "bare")?.await?;
            let (send, receive) = connection.open_bi().await?;
            Ok(Box::new(tokio::io::join(receive, send)))
        }
        way => {
            let stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            if matches!(way, Bare::Tcp | Bare::Ws) {
                return Ok(Box::new(stream));
            }
            let tls = TlsConnector::from(client_config(Trust::Pinned(key().public()), &[ALPN])?);
            Ok(Box::new(tls.connect(ServerName::try_from("bare")?, stream).await?))
        }
    }
}

fn widen(stream: &UnixStream) -> Result<(), Failure> {
    Ok(socket2::SockRef::from(stream).set_send_buffer_size(UNIX_SEND_BYTES)?)
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[9; 32])
}

fn udp(address: SocketAddr) -> Result<std::net::UdpSocket, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server() -> Result<ServerConfig, Failure> {
    let crypto = QuicServerConfig::try_from(server_config(&key(), &[ALPN])?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(RELAY_STREAM_WINDOW_BYTES, RELAY_LINK_WINDOW_BYTES));
    Ok(config)
}

fn client() -> Result<ClientConfig, Failure> {
    let crypto = QuicClientConfig::try_from(client_config(Trust::Pinned(key().public()), &[ALPN])?)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(CLIENT_STREAM_WINDOW_BYTES, CLIENT_LINK_WINDOW_BYTES));
    Ok(config)
}

fn transport(stream_window: u32, link_window: u32) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(stream_window.into())
        .receive_window(link_window.into())
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}
