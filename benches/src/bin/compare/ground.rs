//! Where one run takes place: folders, ports and the server, gone when it is over.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::process::{Process, until};
use crate::row::Setting;

/// How long a server may take until it accepts.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The folders of one run.
pub(crate) struct Ground {
    /// For sockets, whose paths must be short.
    sockets: TempDir,
    /// On the disk that is measured.
    data: TempDir,
}

impl Ground {
    pub(crate) fn new(setting: &Setting) -> Result<Self, Failure> {
        let (sockets, data) = (tempfile::tempdir_in(&setting.sockets)?, tempfile::tempdir_in(&setting.folder)?);
        Ok(Self { sockets, data })
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// A file with this text, for configuration.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.data().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// What stands between writers and readers.
#[derive(Default)]
pub(crate) struct Server {
    /// None where nothing does.
    pub(crate) process: Option<Process>,
    /// Where it is, in the words of its contender.
    pub(crate) at: String,
}

impl Server {
    /// Nothing runs, and both ends meet at this place.
    pub(crate) fn none(at: &Path) -> Self {
        Self { process: None, at: at.display().to_string() }
    }

    pub(crate) fn at(process: Process, at: impl Into<String>) -> Self {
        Self { process: Some(process), at: at.into() }
    }

    /// Waits until somebody accepts at a port of this machine.
    pub(crate) fn at_port(mut process: Process, port: u16) -> Result<Self, Failure> {
        until(START_LIMIT, &format!("port {port} answers"), || {
            process.is_running()?;
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(Self::at(process, format!("127.0.0.1:{port}")))
    }

    /// Waits until somebody accepts at a socket.
    pub(crate) fn at_socket(mut process: Process, socket: &Path) -> Result<Self, Failure> {
        until(START_LIMIT, &format!("{} answers", socket.display()), || {
            process.is_running()?;
            Ok(std::os::unix::net::UnixStream::connect(socket).is_ok())
        })?;
        Ok(Self::at(process, socket.display().to_string()))
    }

    pub(crate) fn cpu(&self) -> f64 {
        self.process.as_ref().map_or(0.0, Process::cpu)
    }
}

/// A port that was free just now.
pub(crate) fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
