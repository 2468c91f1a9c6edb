//! The local socket, scheme `unix:`: relays on this machine, for their own user alone.
//!
//! A stream is a connection. The file mode keeps other users out, and each side checks who is at the other end.
#![expect(clippy::disallowed_methods, reason = "sockets and processes of this machine")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use crate::caller::Peer;
use crate::descriptors::{ACCEPT_PAUSE, Shortage};
use crate::error::{Code, Error};
use crate::transport::{Link, LinkStream, Listener, Transport};

mod process;
mod stream;

use stream::LocalStream;

pub use process::{is_alive, process_id};

/// The scheme before the colon.
pub const SCHEME: &str = "unix";
/// Longest path of a socket in bytes that Linux takes (`sun_path` less its NUL).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Connections that wait to be accepted, as many as a shell loop starts at once and more.
const BACKLOG: i32 = 1024;
/// Asked of the kernel for each direction: batches of 1 KB go two to three times as fast as with its default, as the two
/// processes take turns less often.
const SOCKET_BUFFER_BYTES: usize = 1024 * 1024;
/// A line about strangers at most this often.
const STRANGER_LINE_EVERY: Duration = Duration::from_secs(60);

/// Reaches the relay at a socket: `unix:PATH`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalSocketTransport;

#[async_trait]
impl Transport for LocalSocketTransport {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        let path = path_in(url)?;
        let (first, pid) = connect(&path).await?;
        Ok(Box::new(LocalLink { path, first: Mutex::new(Some(first)), pid }))
    }
}

/// A client's link: each stream is a connection of its own.
struct LocalLink {
    path: PathBuf,
    /// The connection that showed that somebody is there; the first stream takes it.
    first: Mutex<Option<LocalStream>>,
    /// The relay's process.
    pid: u32,
}

#[async_trait]
impl Link for LocalLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(stream) => Ok(LinkStream::bytes(stream)),
            None => connect(&self.path).await.map(|(stream, _)| LinkStream::bytes(stream)),
        }
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        Ok(None)
    }

    fn peer(&self) -> Peer {
        Peer::Process(process_id(self.pid))
    }

    fn is_network(&self) -> bool {
        false
    }

    fn path(&self) -> String {
        "local socket".to_owned()
    }
}

/// A relay's link: one connection, which is its one stream.
struct AcceptedLink {
    stream: Mutex<Option<LocalStream>>,
    peer: Peer,
}

#[async_trait]
impl Link for AcceptedLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        Err(Error::new(Code::Unsupported, "a relay opens no stream on a local socket"))
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(stream.map(LinkStream::bytes))
    }

    fn peer(&self) -> Peer {
        self.peer.clone()
    }

    fn path(&self) -> String {
        "local socket".to_owned()
    }
}

/// Waits at a socket of mode 0600. The file goes when the listener is dropped.
#[derive(Debug)]
pub struct LocalSocketListener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that no other's is removed.
    file: (u64, u64),
    strangers: Mutex<Strangers>,
    shortage: Mutex<Shortage>,
}

impl LocalSocketListener {
    /// Makes the socket and listens. A dead socket of one's own at `path` is replaced.
    ///
    /// # Errors
    /// `E_SOCKET_PATH` when the path is too long, is a link, another user's or no socket; `E_LOCKED` when somebody listens there.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        length_fits(&path)?;
        remove_dead(&path)?;
        let socket = listen(&path).map_err(|e| failed(&path, "cannot be listened at", e))?;
        let meta = std::fs::symlink_metadata(&path).map_err(|e| failed(&path, "vanished", e))?;
        let file = (meta.dev(), meta.ino());
        Ok(Self { socket, path, file, strangers: Mutex::default(), shortage: Mutex::default() })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn admit(&self, stream: UnixStream) -> Option<Box<dyn Link>> {
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(cred) if cred.uid() == own => {
                let peer = Peer::Process(process_id(pid_of(&stream)));
                let stream = stream.into_std().and_then(LocalStream::new).ok()?;
                widen(&stream);
                Some(Box::new(AcceptedLink { stream: Mutex::new(Some(stream)), peer }))
            }
            Ok(cred) => {
                self.strangers.lock().unwrap_or_else(PoisonError::into_inner).came(cred.uid());
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for LocalSocketListener {
    fn drop(&mut self) {
        let same = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.file);
        if same {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[async_trait]
impl Listener for LocalSocketListener {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        loop {
            let accepted = self.socket.accept().await.map(|(stream, _)| stream);
            if self.shortage.lock().unwrap_or_else(PoisonError::into_inner).is_felt(&accepted) {
                drop(accepted);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            match accepted {
                Ok(stream) => {
                    if let Some(link) = self.admit(stream) {
                        return Ok(link);
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => return Err(failed(&self.path, "accepts no more", error)),
            }
        }
    }

    fn url(&self) -> String {
        format!("{SCHEME}:{}", self.path.display())
    }
}

/// Other users who tried, told on stderr at most once a minute.
#[derive(Debug, Default)]
struct Strangers {
    untold: u64,
    told: Option<Instant>,
}

impl Strangers {
    fn came(&mut self, uid: u32) {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < STRANGER_LINE_EVERY) {
            return;
        }
        eprintln!("skypipe: refused {} connection(s) of other users, the last of user {uid}", self.untold);
        *self = Self { untold: 0, told: Some(Instant::now()) };
    }
}

fn path_in(url: &str) -> Result<PathBuf, Error> {
    let path = url.strip_prefix("unix:").filter(|p| !p.is_empty());
    path.map(PathBuf::from).ok_or_else(|| Error::new(Code::Usage, format!("not a unix:PATH URL: {url}")))
}

fn length_fits(path: &Path) -> Result<(), Error> {
    let length = path.as_os_str().len();
    if length <= SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    let text =
        format!("the socket path {} is {length} bytes long, at most {SOCKET_PATH_BYTES_MAX} work", path.display());
    Err(Error::new(Code::SocketPath, text))
}

/// Whether a socket of this user is at `path`; an error when anything else is.
fn own_socket_at(path: &Path) -> Result<bool, Error> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(path, "cannot be looked at", error)),
    };
    let wrong = |what: &str| Err(Error::new(Code::SocketPath, format!("{} {what}", path.display())));
    if !meta.file_type().is_socket() {
        return wrong("is not a socket");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return wrong("belongs to another user");
    }
    Ok(true)
}

fn remove_dead(path: &Path) -> Result<(), Error> {
    if !own_socket_at(path)? {
        return Ok(());
    }
    match std_unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "cannot be removed", error)),
            _ => Ok(()),
        },
        _ => Err(Error::new(Code::Locked, format!("somebody listens at {} already", path.display()))),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    bind_private(&socket, path)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let socket = std_unix::UnixListener::from(socket);
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

/// Binds with mode 0600. On Linux the file takes the mode of the descriptor, so it is never open to others, not for a moment;
/// elsewhere the mode is set after.
fn bind_private(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let private = Mode::RUSR | Mode::WUSR;
    let _ = rustix::fs::fchmod(socket, private);
    rustix::net::bind(socket, &SocketAddrUnix::new(path)?)?;
    Ok(rustix::fs::chmod(path, private)?)
}

/// A connection, and the process at its other end.
async fn connect(path: &Path) -> Result<(LocalStream, u32), Error> {
    length_fits(path)?;
    let nobody =
        |e: io::Error| Error::new(Code::Unreachable, format!("no relay answers at {}: {e}", path.display())).because(e);
    if !own_socket_at(path)? {
        return Err(nobody(io::ErrorKind::NotFound.into()));
    }
    let stream = UnixStream::connect(path).await.map_err(nobody)?;
    let cred = stream.peer_cred().map_err(nobody)?;
    if cred.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(Code::SocketPath, format!("another user listens at {}", path.display())));
    }
    let pid = pid_of(&stream);
    let stream = stream.into_std().and_then(LocalStream::new).map_err(nobody)?;
    widen(&stream);
    Ok((stream, pid))
}

/// More room in the kernel; as much as it gives will do.
fn widen(stream: &LocalStream) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream.socket(), SOCKET_BUFFER_BYTES);
}

fn pid_of(stream: &UnixStream) -> u32 {
    let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
    pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn failed(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(Code::SocketPath, format!("the socket {} {what}: {error}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn url(path: &Path) -> String {
        format!("unix:{}", path.display())
    }

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = LocalSocketListener::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.url(), url(&path));
        assert_eq!(LocalSocketListener::bind(&path).unwrap_err().code(), Code::Locked);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_strange_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, file, link) = (folder.path().join("d"), folder.path().join("f"), folder.path().join("l"));
        drop(std_unix::UnixListener::bind(&dead).unwrap());
        assert!(dead.exists());
        assert_eq!(LocalSocketTransport.connect(&url(&dead)).await.err().unwrap().code(), Code::Unreachable);
        let alive = LocalSocketListener::bind(&dead).unwrap();
        std::fs::write(&file, "x").unwrap();
        symlink(&dead, &link).unwrap();
        for wrong in [&file, &link] {
            assert_eq!(LocalSocketListener::bind(wrong).unwrap_err().code(), Code::SocketPath);
            assert_eq!(LocalSocketTransport.connect(&url(wrong)).await.err().unwrap().code(), Code::SocketPath);
        }
        assert!(file.exists() && link.exists());
        drop(alive);
    }

    #[tokio::test]
    async fn a_path_too_long_says_so() {
        let path = PathBuf::from("/").join("x".repeat(SOCKET_PATH_BYTES_MAX));
        assert_eq!(LocalSocketListener::bind(&path).unwrap_err().code(), Code::SocketPath);
        assert_eq!(LocalSocketTransport.connect(&url(&path)).await.err().unwrap().code(), Code::SocketPath);
        let none = LocalSocketTransport.connect("unix:/nowhere/at/all").await.err().unwrap();
        assert_eq!(none.code(), Code::Unreachable);
    }

    #[tokio::test]
    async fn both_ends_know_the_process_at_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let listener = LocalSocketListener::bind(folder.path().join("s")).unwrap();
        let near = LocalSocketTransport.connect(&listener.url()).await.unwrap();
        let far = listener.accept().await.unwrap();
        let own = Peer::Process(process_id(std::process::id()));
        assert_eq!((near.peer(), far.peer()), (own.clone(), own));
        assert!(far.accept().await.unwrap().is_some() && far.accept().await.unwrap().is_none());
    }
}
