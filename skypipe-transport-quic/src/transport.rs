//! The client's way to a relay.

use std::net::SocketAddr;

use async_trait::async_trait;
use quinn::ClientConfig;
use skypipe_core::{Code, Error, Link, PublicKey, Transport};
use skypipe_tls::{RelayUrl, race, resolve};
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Times};
use crate::link::QuicLink;
use crate::{SCHEME, failure, socket};

/// The name that a client asks for and nobody looks at: the key decides.
const SERVER_NAME: &str = "skypipe";

/// Reaches relays at `quic://KEY@host[:port]`. Each link is a connection and a UDP socket of its own.
#[derive(Clone, Debug, Default)]
pub struct QuicTransport {
    pub(crate) times: Times,
}

#[async_trait]
impl Transport for QuicTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        let (url, key) = parse(url)?;
        let (place, end) = (url.authority(), Instant::now() + self.times.connect);
        let addresses = timeout_at(end, resolve(&url.host, url.port)).await.map_err(|_| failure::silent(&place))??;
        let config = config::client(key, &self.times)?;
        let attempt = |address| {
            let (config, place) = (config.clone(), place.as_str());
            async move {
                timeout_at(end, call(address, config, place)).await.unwrap_or_else(|_| Err(failure::silent(place)))
            }
        };
        let connection = race(&addresses, attempt).await?;
        Ok(Box::new(QuicLink::to_relay(connection, key)))
    }
}

/// One attempt. The endpoint lives as long as the connection.
async fn call(address: SocketAddr, config: ClientConfig, place: &str) -> Result<quinn::Connection, Error> {
    let endpoint = socket::calling(address).map_err(|e| failure::unsent(e, place))?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME).map_err(|e| failure::unsent(e, place))?;
    connecting.await.map_err(|e| failure::connecting(e, place))
}

fn parse(text: &str) -> Result<(RelayUrl, PublicKey), Error> {
    let url: RelayUrl = text.parse()?;
    let usage = |what: &str| Error::new(Code::Usage, format!("quic://KEY@host[:port] {what}"));
    match url.key {
        _ if url.scheme != SCHEME => Err(usage("begins with quic")),
        _ if url.path != "/" => Err(usage("has no path")),
        None => Err(usage("needs the relay's KEY before the host")),
        Some(key) => Ok((url, key)),
    }
}
