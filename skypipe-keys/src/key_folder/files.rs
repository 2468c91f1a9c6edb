//! The files of a relay's keys: read whole, replaced whole, by one process at a time.
#![expect(clippy::disallowed_methods, reason = "files that people and ssh share with it")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use skypipe_core::{Code, Error};

use crate::allow_list::LIST_BYTES_MAX;
use crate::key_file;
use crate::ticket_book::BOOK_BYTES_MAX;

/// How long another process may hold the lock, and how often it is tried meanwhile.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The files of one relay.
pub(super) struct Files {
    folder: PathBuf,
}

/// What tells one state of a file from the next: inode, length, and the times of its content and of its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

/// While it lives, no other process changes the files.
pub(super) struct Alone(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Files {
    /// The files in `folder`, which is made where it is missing.
    pub(super) fn at(folder: &Path) -> Result<Self, Error> {
        key_file::make_folder(folder).map_err(|e| failed(folder, "cannot be made", e))?;
        check_folder(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The same; a list that is missing is made with this text.
    pub(super) fn open(folder: &Path, first_list: &str) -> Result<Self, Error> {
        let files = Self::at(folder)?;
        if std::fs::symlink_metadata(files.list()).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            let _alone = files.lock()?;
            files.put(&files.list(), first_list, false)?;
        }
        Ok(files)
    }

    pub(super) fn list(&self) -> PathBuf {
        self.folder.join("authorized_keys")
    }

    pub(super) fn relay_key(&self) -> PathBuf {
        self.folder.join("relay_key")
    }

    fn book(&self) -> PathBuf {
        self.folder.join("tickets")
    }

    /// The state of the list; none when it is not there.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let about = std::fs::symlink_metadata(self.list()).ok()?;
        let written = (about.mtime(), about.mtime_nsec());
        let changed = (about.ctime(), about.ctime_nsec());
        Some(Stamp { inode: about.ino(), length: about.len(), written, changed })
    }

    /// The texts of list and book; a book that is missing is an empty one.
    pub(super) fn read(&self) -> Result<(String, String), Error> {
        let list = read(&self.list(), LIST_BYTES_MAX)?.ok_or_else(|| {
            let path = self.list();
            Error::new(Code::Key, format!("{} is gone: start the relay again to make a new one", path.display()))
        })?;
        Ok((list, read(&self.book(), BOOK_BYTES_MAX)?.unwrap_or_default()))
    }

    pub(super) fn write_list(&self, text: &str) -> Result<(), Error> {
        self.put(&self.list(), text, true)
    }

    pub(super) fn write_book(&self, text: &str) -> Result<(), Error> {
        self.put(&self.book(), text, true)
    }

    /// Waits until no other process changes the files, for five seconds at most.
    pub(super) fn lock(&self) -> Result<Alone, Error> {
        let path = self.folder.join("authorized_keys.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let file = options.open(&path).map_err(|e| failed(&path, "cannot be opened", e))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Alone(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(e)) => return Err(failed(&path, "cannot be locked", e)),
            }
        }
        Err(Error::new(Code::Locked, format!("another process holds {} for too long", path.display())))
    }

    /// Replaces a file by a whole new one that is on disk, or only makes it where it is missing.
    fn put(&self, path: &Path, text: &str, replace: bool) -> Result<(), Error> {
        let written = (|| {
            // Mode 0600 is what a temporary file has.
            let mut file = tempfile::Builder::new().prefix(".skypipe-").tempfile_in(&self.folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            let put = if replace { file.persist(path) } else { file.persist_noclobber(path) };
            match put {
                Err(e) if replace || e.error.kind() != ErrorKind::AlreadyExists => Err(e.error),
                _ => File::open(&self.folder)?.sync_all(),
            }
        })();
        written.map_err(|e| failed(path, "cannot be written", e))
    }
}

fn read(path: &Path, bytes_max: usize) -> Result<Option<String>, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path, "cannot be read", e)),
    };
    let about = file.metadata().map_err(|e| failed(path, "cannot be looked at", e))?;
    if !about.is_file() {
        return Err(unusable(path, "is no file"));
    }
    check_own(path, &about, "chmod 600")?;
    let mut text = String::new();
    let read = file.take(bytes_max as u64 + 1).read_to_string(&mut text);
    read.map_err(|e| unusable(path, &format!("cannot be read: {e}")))?;
    if text.len() > bytes_max {
        return Err(unusable(path, "is too long"));
    }
    Ok(Some(text))
}

fn check_folder(folder: &Path) -> Result<(), Error> {
    let about = std::fs::metadata(folder).map_err(|e| failed(folder, "cannot be looked at", e))?;
    check_own(folder, &about, "chmod 700")
}

/// That nobody but this user, or root, can have written what is there.
fn check_own(path: &Path, about: &std::fs::Metadata, hint: &str) -> Result<(), Error> {
    if about.uid() != rustix::process::geteuid().as_raw() && about.uid() != 0 {
        return Err(unusable(path, "belongs to another user"));
    }
    if about.mode() & 0o022 != 0 {
        return Err(unusable(path, &format!("can be written to by other users: {hint} {}", path.display())));
    }
    Ok(())
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Code::Key, format!("{} {why}", path.display()))
}

fn failed(path: &Path, what: &str, error: std::io::Error) -> Error {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let code = if full { Code::NoSpace } else { Code::Storage };
    Error::new(code, format!("{} {what}: {error}", path.display())).because(error)
}
