//! Who answers in a relay's place, and counts what it is told behind the handshake.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skypipe_core::KeyPair;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::counted::runtime;
use crate::harness::until;

/// The record types of TLS ([RFC 8446, section 5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
const APPLICATION_DATA: u8 = 23;
const RECORD_HEADER_BYTES: usize = 5;

/// Somebody on loopback.
pub struct Impostor {
    pub address: SocketAddr,
    heard: Arc<Heard>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    /// Bytes of the application.
    bytes: AtomicU64,
    /// Connections that are over.
    connections: AtomicU64,
}

impl Impostor {
    /// One that speaks QUIC with this key and protocol.
    pub fn quic(key: &KeyPair, alpn: &[u8]) -> Self {
        let tls = skypipe_tls::server_config(key, &[alpn]).unwrap();
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let _on = runtime().enter();
        let endpoint = quinn::Endpoint::server(config, any_port()).unwrap();
        Self::serve(endpoint.local_addr().unwrap(), |heard| over_quic(endpoint, heard))
    }

    /// One that speaks TLS 1.3 with this key and protocol.
    pub fn tls(key: &KeyPair, alpn: &[u8]) -> Self {
        let tls = skypipe_tls::server_config(key, &[alpn]).unwrap();
        let listener = listener();
        Self::serve(listener.local_addr().unwrap(), |heard| over_tls(listener, tls.into(), heard))
    }

    /// One that answers with TLS 1.2.
    pub fn tls_1_2() -> Self {
        let listener = listener();
        Self::serve(listener.local_addr().unwrap(), |heard| over_tls_1_2(listener, heard))
    }

    fn serve<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(Arc<Heard>) -> F,
    ) -> Self {
        let heard = Arc::<Heard>::default();
        Self { address, serving: runtime().spawn(serve(heard.clone())), heard }
    }

    /// How many bytes of the application it was told.
    pub fn bytes(&self) -> u64 {
        self.heard.bytes.load(Ordering::SeqCst)
    }

    /// Somebody came, has gone, and has told nothing.
    #[track_caller]
    pub fn heard_nothing(&self) {
        until("a connection is over", || (self.heard.connections.load(Ordering::SeqCst) > 0).then_some(()));
        assert_eq!(self.bytes(), 0, "bytes of the application");
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Heard {
    fn bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::SeqCst);
    }

    fn over(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listener() -> TcpListener {
    runtime().block_on(TcpListener::bind(any_port())).unwrap()
}

async fn over_quic(endpoint: quinn::Endpoint, heard: Arc<Heard>) {
    while let Some(incoming) = endpoint.accept().await {
        if let Ok(connection) = incoming.await {
            while let Ok((_answer, asked)) = connection.accept_bi().await {
                listen(asked, &heard).await;
            }
        }
        heard.over();
    }
}

async fn over_tls(listener: TcpListener, tls: tokio_rustls::TlsAcceptor, heard: Arc<Heard>) {
    while let Ok((tcp, _)) = listener.accept().await {
        if let Ok(stream) = tls.accept(tcp).await {
            listen(stream, &heard).await;
        }
        heard.over();
    }
}

async fn listen(mut from: impl AsyncRead + Unpin, heard: &Heard) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        heard.bytes(count);
    }
}

async fn over_tls_1_2(listener: TcpListener, heard: Arc<Heard>) {
    while let Ok((mut tcp, _)) = listener.accept().await {
        let _client_hello = record(&mut tcp).await;
        let _ = tcp.write_all(&server_hello_1_2()).await;
        while let Some((kind, length)) = record(&mut tcp).await {
            if kind == APPLICATION_DATA {
                heard.bytes(length);
            }
        }
        heard.over();
    }
}

/// Type and length of the next record.
async fn record(tcp: &mut TcpStream) -> Option<(u8, usize)> {
    let mut header = [0; RECORD_HEADER_BYTES];
    tcp.read_exact(&mut header).await.ok()?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    tcp.read_exact(&mut vec![0; length]).await.ok()?;
    Some((header[0], length))
}

/// What an old server chooses: TLS 1.2 with `ECDHE_RSA_WITH_AES_128_GCM_SHA256`, no session, no compression, no extension.
fn server_hello_1_2() -> Vec<u8> {
    let random = [7; 32];
    let body = [&[3, 3][..], &random, &[0, 0xc0, 0x2f, 0]].concat();
    let message = [&[2, 0, 0, body.len() as u8][..], &body].concat();
    [&[22, 3, 3, 0, message.len() as u8][..], &message].concat()
}
