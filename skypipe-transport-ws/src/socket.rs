//! The connection under a WebSocket: TCP that counts what comes, with TLS above it or without.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use skypipe_core::{ByteStream, EXPORTER_LABEL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::limits::{AHEAD_BYTES, BUSY_BYTES_MIN, READ_BYTES, UNSENT_BYTES, WRITE_BYTES, WRITE_BYTES_MAX};
use crate::mux::MESSAGE_BYTES_MAX;

/// A WebSocket whose handshake is over.
pub(crate) struct Socket {
    pub(crate) ws: WebSocketStream<Box<dyn ByteStream>>,
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

/// TCP that counts what comes. Who reads from it asks for little at once, which is right for an idle link; while more than that
/// comes, the kernel is asked for 64 KiB instead.
#[derive(Debug)]
pub(crate) struct Counted {
    tcp: TcpStream,
    heard: Heard,
    /// What was read ahead; there while the link is busy.
    ahead: Option<Box<Ahead>>,
    /// The last read filled all the space it had.
    busy: bool,
}

#[derive(Debug)]
struct Ahead {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Counted {
    /// Messages leave at once, and little waits in the kernel.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let _ = tcp.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES);
        Self { tcp, heard: Heard::default(), ahead: None, busy: false }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl Counted {
    /// Reads into `space` itself.
    fn poll_directly(&mut self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = space.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, space))?;
        self.came(space.filled().len() - before);
        self.busy = space.remaining() == 0;
        Poll::Ready(Ok(()))
    }

    /// Reads ahead. When there is no more than would have fitted anyway, the link is busy no longer.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ahead = self.ahead.get_or_insert_with(|| Box::new(Ahead { bytes: vec![0; AHEAD_BYTES], from: 0, to: 0 }));
        let mut space = ReadBuf::new(&mut ahead.bytes);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut space))?;
        (ahead.from, ahead.to) = (0, space.filled().len());
        let came = ahead.to;
        self.busy = came > BUSY_BYTES_MIN;
        self.came(came);
        Poll::Ready(Ok(()))
    }

    fn came(&self, bytes: usize) {
        self.heard.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Gives what was read ahead; whether that was anything.
    fn give(&mut self, space: &mut ReadBuf<'_>) -> bool {
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.from < ahead.to) else { return false };
        let given = space.remaining().min(ahead.to - ahead.from);
        space.put_slice(&ahead.bytes[ahead.from..ahead.from + given]);
        ahead.from += given;
        true
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.give(space) {
            return Poll::Ready(Ok(()));
        }
        if self.busy && space.remaining() < AHEAD_BYTES {
            let read = self.poll_ahead(cx);
            if read.is_pending() {
                (self.busy, self.ahead) = (false, None);
            }
            ready!(read)?;
            self.give(space);
            return Poll::Ready(Ok(()));
        }
        self.ahead = None;
        self.poll_directly(cx, space)
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
