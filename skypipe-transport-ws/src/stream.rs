//! One stream of a link, as bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::mux::StreamId;
use crate::shared::Shared;

/// Bytes in both directions. Dropped, it ends behind what was flushed. Dropped in the middle of a write it is cut: the peer sees an
/// error and never a clean end.
pub(crate) struct WsStream {
    shared: Arc<Shared>,
    id: StreamId,
}

impl WsStream {
    pub(crate) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id }
    }
}

impl Drop for WsStream {
    fn drop(&mut self) {
        self.shared.with(|state| state.drop_stream(self.id));
    }
}

impl AsyncRead for WsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let now = self.shared.now();
        let room = space.remaining();
        self.shared.with(|state| match state.mux.read(self.id, room, |bytes| space.put_slice(bytes), now) {
            Ok(Some(_)) => Poll::Ready(Ok(())),
            Ok(None) => {
                state.wait_to_read(self.id, cx);
                Poll::Pending
            }
            Err(gone) => Poll::Ready(Err(state.gone(gone))),
        })
    }
}

impl AsyncWrite for WsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.with(|state| {
            let mut written = 0;
            for slice in slices.iter().filter(|slice| !slice.is_empty()) {
                match state.mux.write(self.id, slice) {
                    Ok(Some(taken)) => written += taken,
                    Ok(None) if written > 0 => break,
                    Ok(None) => {
                        state.wait_to_write(self.id, cx);
                        return Poll::Pending;
                    }
                    Err(gone) => return Poll::Ready(Err(state.gone(gone))),
                }
            }
            Poll::Ready(Ok(written))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: what was written leaves without being asked. But now it is whole, and arrives though the stream is dropped.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.driving(|state| state.mux.flush(self.id));
        Poll::Ready(Ok(()))
    }

    /// Ready when all that was written, and the end behind it, was handed to the socket and flushed.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| match state.mux.finish(self.id) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                state.wait_to_write(self.id, cx);
                Poll::Pending
            }
            Err(gone) => Poll::Ready(Err(state.gone(gone))),
        })
    }
}
