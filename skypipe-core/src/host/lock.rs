//! The lock that makes one host of many: a lock of the kernel's on a file that is never deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::folder::LocalFolder;
use crate::error::{Code, Error};
use crate::wire::SoftwareVersion;

/// Longest content of a lock file that is read: three short words.
const CONTENT_BYTES_MAX: u64 = 256;

/// The right to host the relay of one folder. Freed by the kernel when the process ends, however it ends.
#[derive(Debug)]
pub struct HostLock {
    file: File,
    /// What the host calls itself.
    version: SoftwareVersion,
}

/// Who holds the lock, as the file says. Only the lock itself is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its version of skypipe.
    pub version: SoftwareVersion,
    /// What it is doing.
    pub state: HostState,
}

/// What a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostState {
    /// It opens its log; the socket is not there yet.
    Starting,
    /// It answers.
    Serving,
    /// It lets its clients go.
    Stopping,
}

impl HostLock {
    /// Takes the lock of `folder` if nobody has it; `None` when somebody does.
    ///
    /// # Errors
    /// `E_SOCKET_PATH` when the file cannot be opened, or is a symbolic link.
    pub fn take(folder: &LocalFolder) -> Result<Option<Self>, Error> {
        let file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {
                let lock = Self { file, version: SoftwareVersion::CURRENT };
                lock.say(HostState::Starting)?;
                Ok(Some(lock))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed(folder, e)),
        }
    }

    /// The same for a host that calls itself this version.
    #[must_use]
    pub(super) fn of_version(self, version: SoftwareVersion) -> Self {
        Self { version, ..self }
    }

    /// Writes into the file what the host is doing, for those who wait.
    ///
    /// # Errors
    /// `E_STORAGE` when the file cannot be written.
    pub fn say(&self, state: HostState) -> Result<(), Error> {
        let line = format!("{} {} {}\n", std::process::id(), self.version, state.word());
        write_over(&self.file, &line)
            .map_err(|e| Error::new(Code::Storage, format!("the lock file cannot be written: {e}")).because(e))
    }
}

impl Holder {
    /// Who holds the lock of `folder` now; `None` when nobody does or it cannot be read.
    ///
    /// Nothing is locked to find out, so a host that starts at this moment is not disturbed: what a dead process left in the
    /// file is told apart by its pid.
    pub fn of(folder: &LocalFolder) -> Option<Self> {
        let mut text = String::with_capacity(CONTENT_BYTES_MAX as usize);
        File::open(folder.lock()).ok()?.take(CONTENT_BYTES_MAX).read_to_string(&mut text).ok()?;
        Self::parse(&text).filter(|h| is_alive(h.pid))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let version = words.next()?.parse().ok()?;
        let state = HostState::from_word(words.next().unwrap_or_default());
        Some(Self { pid, version, state })
    }
}

impl HostState {
    const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Stopping => "stopping",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "starting" => Self::Starting,
            "stopping" => Self::Stopping,
            _ => Self::Serving,
        }
    }
}

fn open(folder: &LocalFolder) -> Result<File, Error> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(folder.lock())
        .map_err(|e| failed(folder, e))
}

fn write_over(mut file: &File, line: &str) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)
}

fn failed(folder: &LocalFolder, error: std::io::Error) -> Error {
    let text = format!("the lock {} cannot be used: {error}", folder.lock().display());
    Error::new(Code::SocketPath, text).because(error)
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // Permission denied means that there is such a process, of somebody else.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_takes_it_the_next_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = LocalFolder::at(dir.path()).unwrap();
        assert_eq!(Holder::of(&folder), None);
        let lock = HostLock::take(&folder).unwrap().unwrap();
        assert!(HostLock::take(&folder).unwrap().is_none());
        lock.say(HostState::Serving).unwrap();
        let holder = Holder::of(&folder).unwrap();
        assert_eq!((holder.pid, holder.state), (std::process::id(), HostState::Serving));
        drop(lock);
        assert!(HostLock::take(&folder).unwrap().is_some());
    }

    #[test]
    fn what_a_dead_process_left_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let folder = LocalFolder::at(dir.path()).unwrap();
        for left in ["", "nonsense", "4194305 1.0.0 serving\n", "0 1.0.0", "1 one serving", "\u{1f980}"] {
            std::fs::write(folder.lock(), left).unwrap();
            assert_eq!(Holder::of(&folder), None, "{left:?}");
        }
        assert!(HostLock::take(&folder).unwrap().is_some());
    }
}
