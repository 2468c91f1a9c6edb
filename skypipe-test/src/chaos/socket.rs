//! What a proxy listens at and connects to.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A connection.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// When it is dropped next, the peer sees a reset instead of an end.
    fn will_reset(&self);
}

impl Socket for TcpStream {
    fn will_reset(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Socket for UnixStream {
    /// Local sockets know no reset.
    fn will_reset(&self) {}
}

/// Where clients come in and where they are sent to.
pub(super) trait Gate: Send + Sync + 'static {
    type Socket: Socket;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;
    fn connect(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

pub(super) struct TcpGate(pub(super) TcpListener, pub(super) SocketAddr);

impl Gate for TcpGate {
    type Socket = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.1).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

pub(super) struct UnixGate(pub(super) UnixListener, pub(super) PathBuf);

impl Gate for UnixGate {
    type Socket = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.0.accept().await?.0)
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.1).await
    }
}
