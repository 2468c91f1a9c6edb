//! One connection of the local socket.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Writes without a wait after which nobody watches for room any more.
const PROMPT_WRITES: u8 = 64;

/// A connection whose task is woken when there is something to read, and for room to write only while it waits for that.
///
/// Linux tells of room each time that the other side has read something. Who watches all the time, as sockets of tokio do, is woken for
/// each record once more, for nothing, and often on the processor that the other side was to go on with.
#[derive(Debug)]
pub(super) struct LocalStream {
    socket: AsyncFd<UnixStream>,
    /// Watches for room.
    room: Option<AsyncFd<OwnedFd>>,
    /// Writes since one had to wait.
    prompt: u8,
}

impl LocalStream {
    /// A connection that does not block.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: watch(socket, Interest::READABLE)?, room: None, prompt: 0 })
    }

    /// The connection itself.
    pub(super) fn socket(&self) -> &UnixStream {
        self.socket.get_ref()
    }

    /// Tries until there is room.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => {
                    self.was_prompt();
                    return Poll::Ready(written);
                }
            }
            self.prompt = 0;
            let room = match &self.room {
                Some(room) => room,
                None => self.room.insert(watch_for_room(self.socket.get_ref())?),
            };
            ready!(room.poll_write_ready(cx))?.clear_ready();
        }
    }

    fn was_prompt(&mut self) {
        self.prompt = self.prompt.saturating_add(1);
        if self.prompt >= PROMPT_WRITES {
            self.room = None;
        }
    }
}

/// A descriptor of its own, since one cannot be watched twice.
fn watch_for_room(socket: &UnixStream) -> io::Result<AsyncFd<OwnedFd>> {
    watch(socket.as_fd().try_clone_to_owned()?, Interest::WRITABLE)
}

#[expect(
    deprecated,
    reason = "what follows it wants a promise in `unsafe`: that the descriptor stays the same, as these types of std see to"
)]
fn watch<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let room = space.remaining();
            match guard.try_io(|socket| socket.get_ref().read(space.initialize_unfilled())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Ok(count)) => {
                    space.advance(count);
                    if (1..room).contains(&count) {
                        // That was all there is: another look would only find so.
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |mut socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (LocalStream, LocalStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (LocalStream::new(near).unwrap(), LocalStream::new(far).unwrap())
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_room_and_arrives() {
        let (mut near, mut far) = pair();
        let sent: Vec<u8> = (0..4 << 20).map(|at: u32| (at / 7) as u8).collect();
        let mut came = Vec::new();
        let write = async {
            near.write_all(&sent).await.unwrap();
            assert!(near.room.is_some(), "a socket holds no 4 MiB");
            near.shutdown().await.unwrap();
        };
        let (_, count) = tokio::join!(write, far.read_to_end(&mut came));
        assert_eq!(count.unwrap(), sent.len());
        assert!(came == sent);
    }

    #[tokio::test]
    async fn who_has_room_again_is_not_watched_for_ever() {
        let (mut near, mut far) = pair();
        let mut space = vec![0; 8 << 20];
        let big = async { near.write_all(&vec![1; 4 << 20]).await.unwrap() };
        let (_, _) = tokio::join!(big, far.read_exact(&mut space[..4 << 20]));
        for _ in 0..PROMPT_WRITES {
            near.write_all(b"x").await.unwrap();
            far.read_exact(&mut space[..1]).await.unwrap();
        }
        assert!(near.room.is_none());
    }

    #[tokio::test]
    async fn the_end_and_a_broken_connection_are_seen() {
        let (mut near, mut far) = pair();
        near.write_all(b"last").await.unwrap();
        drop(near);
        let mut came = Vec::new();
        far.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"last");
        let error = far.write_all(b"nobody").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
