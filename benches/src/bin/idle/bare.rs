//! What quinn alone costs, measured beside the relay: a server of a few lines, with as few streams set aside as a relay has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use skypipe_core::KeyPair;
use skypipe_tls::{Trust, client_config, server_config};

use super::Failure;

/// The argument that makes this program the server.
pub(crate) const SERVER: &str = "bare-quinn-server";
const ALPN: &[u8] = b"bare";
/// As a relay has it.
const STREAMS: u32 = 4;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Answers one byte on each stream and keeps it open. Prints where it listens.
pub(crate) async fn serve() -> Result<(), Failure> {
    let crypto = QuicServerConfig::try_from(server_config(&key(), &[ALPN])?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    println!("quinn:{}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let (mut up, mut down) = connection.accept_bi().await?;
            down.read_exact(&mut [0]).await?;
            up.write_all(b"!").await?;
            let _ = connection.closed().await;
            Ok::<_, Failure>(())
        });
    }
    Ok(())
}

/// A connection with one idle stream.
pub(crate) type Session = (Connection, SendStream, RecvStream);

pub(crate) fn client() -> Result<Endpoint, Failure> {
    let crypto = QuicClientConfig::try_from(client_config(Trust::Pinned(key().public()), &[ALPN])?)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

pub(crate) async fn attach(endpoint: &Endpoint, url: &str) -> Result<Session, Failure> {
    let address: SocketAddr = url.trim_start_matches("quinn:").parse()?;
    let connection = endpoint.connect(address, "bare")?.await?;
    let (mut up, mut down) = connection.open_bi().await?;
    up.write_all(b"?").await?;
    down.read_exact(&mut [0]).await?;
    Ok((connection, up, down))
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[9; 32])
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(0u8.into())
        .max_concurrent_bidi_streams(STREAMS.into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}
