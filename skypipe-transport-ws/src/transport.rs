//! Reaches relays by WebSocket.

use std::io;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use skypipe_core::{ByteStream, Code, Error, Link, RelayIdentity, Transport};
use skypipe_tls::{RelayUrl, Trust};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_EXTENSIONS;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};

use crate::limits::{CONNECT, HANDSHAKE};
use crate::link::{Facts, WsLink};
use crate::mux::Side;
use crate::socket::{Counted, Heard, Socket, config, exporter};
use crate::{HTTP_ALPN, SCHEME, SCHEME_TLS, SUBPROTOCOL, TLS_BUFFER_BYTES};

/// Reaches relays at `ws://[KEY@]host[:port][/path]` and `wss://[KEY@]host[:port][/path]`.
///
/// `wss` with a key is a relay that ends TLS itself: its key is checked, whatever its certificate says. Without a key an authority
/// that the system trusts must vouch for the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsTransport;

#[async_trait]
impl Transport for WsTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        let url: RelayUrl = url.parse()?;
        let tls = match url.scheme.as_str() {
            SCHEME => false,
            SCHEME_TLS => true,
            _ => return Err(Error::new(Code::Usage, format!("not a ws:// or wss:// URL: {url}"))),
        };
        let tcp = reach(&url).await?;
        let link = timeout(HANDSHAKE, greet(&url, tls, tcp)).await;
        let slow = |_| unreachable(&url, "it took too long to answer");
        Ok(Box::new(link.map_err(slow)??))
    }
}

/// TCP to the first address that takes it.
async fn reach(url: &RelayUrl) -> Result<TcpStream, Error> {
    let reaching = async {
        let addresses = skypipe_tls::resolve(&url.host, url.port).await?;
        skypipe_tls::race(&addresses, |address| async move {
            TcpStream::connect(address).await.map_err(|e| unreachable(url, &e.to_string()).because(e))
        })
        .await
    };
    timeout(CONNECT, reaching).await.map_err(|_| unreachable(url, "it took too long to connect"))?
}

async fn greet(url: &RelayUrl, tls: bool, tcp: TcpStream) -> Result<WsLink, Error> {
    let from = tcp.peer_addr().map_err(|e| unreachable(url, &e.to_string()))?;
    let tcp = Counted::new(tcp);
    let heard = tcp.heard();
    let mut facts = Facts { peer: from.to_string(), tls, exporter: None, relay: identity(url, tls) };
    if !tls {
        return upgrade(url, Box::new(tcp), heard, facts).await;
    }
    let trust = url.key.map_or(Trust::Authorities, Trust::Pinned);
    let connector = TlsConnector::from(skypipe_tls::client_config(trust, &[HTTP_ALPN])?);
    let name = ServerName::try_from(url.host.clone()).map_err(|e| unreachable(url, &e.to_string()))?;
    let mut stream = connector.connect(name, tcp).await.map_err(|e| no_tls(url, e))?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    // Where an authority vouches, a proxy may end TLS: what it derives, the relay behind it cannot know.
    facts.exporter = url.key.and_then(|_| exporter(stream.get_ref().1));
    upgrade(url, Box::new(stream), heard, facts).await
}

/// Who the relay must prove to be.
fn identity(url: &RelayUrl, tls: bool) -> Option<RelayIdentity> {
    match url.key {
        Some(key) => Some(RelayIdentity::Pinned(key)),
        None if tls => Some(RelayIdentity::Named(url.host.clone())),
        None => None,
    }
}

async fn upgrade(url: &RelayUrl, stream: Box<dyn ByteStream>, heard: Heard, facts: Facts) -> Result<WsLink, Error> {
    let asked = client_async_with_config(request(url)?, stream, Some(config())).await;
    let (ws, response) = asked.map_err(|e| no_websocket(url, e))?;
    if response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Error::new(
            Code::Version,
            format!("{} answered with an extension nobody asked for", url.authority()),
        ));
    }
    Ok(WsLink::new(Side::Client, Socket { ws, heard }, facts))
}

fn request(url: &RelayUrl) -> Result<Request, Error> {
    let default = if url.scheme == SCHEME_TLS { 443 } else { 80 };
    let authority = url.authority();
    let host = authority.strip_suffix(&format!(":{default}")).unwrap_or(&authority);
    let request = Request::builder()
        .uri(format!("{}://{authority}{}", url.scheme, url.path))
        .header("Host", host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", SUBPROTOCOL);
    request.body(()).map_err(|e| Error::new(Code::Usage, format!("not a URL for HTTP: {url}")).because(e))
}

fn no_tls(url: &RelayUrl, error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => skypipe_tls::refusal(tls, &url.authority()),
        None => unreachable(url, &error.to_string()).because(error),
    }
}

fn no_websocket(url: &RelayUrl, error: WsError) -> Error {
    let at = url.authority();
    match error {
        WsError::Http(response) => refused(url, response.status(), response.headers()),
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Error::new(Code::Version, format!("{at} speaks WebSocket, but not {SUBPROTOCOL}"))
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => unreachable(url, "it closed the connection"),
        WsError::Io(error) => unreachable(url, &error.to_string()).because(error),
        other => unreachable(url, &format!("its answer is no WebSocket's: {}", other.to_string().escape_debug())),
    }
}

fn refused(url: &RelayUrl, status: StatusCode, headers: &HeaderMap) -> Error {
    let at = url.authority();
    let offered = headers.get("sec-websocket-protocol").is_some_and(|offered| offered != SUBPROTOCOL);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Error::new(Code::Access, format!("{at} refused the WebSocket: {status}"))
        }
        _ if offered => Error::new(Code::Version, format!("{at} does not speak {SUBPROTOCOL}: {status}")),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            unreachable(url, &format!("{status}; a proxy is there, the relay behind it is not"))
        }
        _ => unreachable(url, &format!("it answered {status}, which is no WebSocket")),
    }
}

fn unreachable(url: &RelayUrl, why: &str) -> Error {
    Error::new(Code::Unreachable, format!("no relay answers at {}: {why}", url.authority()))
}
