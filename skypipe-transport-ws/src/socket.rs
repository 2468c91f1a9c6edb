//! The connection under a WebSocket: TCP that counts what comes, with TLS above it or without.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use skypipe_core::{Duplex, EXPORTER_LABEL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::limits::{READ_BYTES, UNSENT_BYTES, WRITE_BYTES, WRITE_BYTES_MAX};
use crate::mux::MESSAGE_BYTES_MAX;

/// A WebSocket whose handshake is over.
pub(crate) struct Socket {
    pub(crate) ws: WebSocketStream<Box<dyn Duplex>>,
    pub(crate) heard: Heard,
}

/// How many bytes came over a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// TCP that counts what comes.
#[derive(Debug)]
pub(crate) struct Counted {
    tcp: TcpStream,
    heard: Heard,
}

impl Counted {
    /// Messages leave at once, and little waits in the kernel.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let _ = tcp.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
        Self { tcp, heard: Heard::default() }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = space.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, space);
        let came = space.filled().len() - before;
        if came > 0 {
            self.heard.0.fetch_add(came as u64, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// How tungstenite is to behave: every limit is set.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .accept_unmasked_frames(false)
}

/// What both ends of a TLS connection derive alike.
pub(crate) fn exporter<T>(connection: &rustls::ConnectionCommon<T>) -> Option<[u8; 32]> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok()
}
