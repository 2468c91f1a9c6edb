//! What the log needs of a disk, so that tests and strangers bring their own.

use std::io::{self, IoSlice};
use std::time::Duration;

/// One flat folder of files. A name may begin with `quarantine/`; no other folders are used.
///
/// # Contract
/// * What [`DiskFile::sync`] returned for survives power loss, and so does a name once [`Disk::sync_folder`] returned.
/// * After a failed sync the log is never written again; a disk need not know what state it is in.
/// * A full disk is told as [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`]: the log waits then. Any other error
///   of a write ends all writing.
/// * [`super::FolderDisk`] is the real one, [`super::RamDisk`] the example and the test bed.
pub trait Disk: Send + Sync {
    /// The names of all files, in any order, those in quarantine left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists, to read and write. It stays readable when it is removed.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Creates an empty file, which must not exist yet, readable by its owner alone.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created, renamed and removed names durable.
    fn sync_folder(&self) -> io::Result<()>;

    /// How much room there is.
    fn room(&self) -> io::Result<Room>;

    /// How long it is busy before it takes up the next group. Asked only where the log is written [inline](crate::Work::Inline), by
    /// simulated disks: a real one keeps its caller waiting.
    fn busy(&self) -> Duration {
        Duration::ZERO
    }
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads at `offset` and returns how many bytes; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes the buffers one behind the other at `offset`, and returns how many bytes were taken.
    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reserves room up to `size` bytes without changing the file's length; whether it did. Only speed depends on it: where there is room, zeros are
    /// written ahead into it.
    fn reserve(&self, size: u64) -> io::Result<bool> {
        let _ = size;
        Ok(false)
    }

    /// Cuts the file to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What an ordinary user may still write.
    pub free: u64,
    /// What the disk holds in all.
    pub total: u64,
}

/// Fills `buffer` from `offset` on.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter.
pub(crate) fn read_exact_at(file: &dyn DiskFile, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_some(file, offset, buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                offset += n as u64;
                buffer = &mut buffer[n..];
            }
        }
    }
    Ok(())
}

/// Reads at `offset`, again if a signal came between.
pub(crate) fn read_some(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(offset, buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes all of `buffers` at `offset`.
///
/// # Errors
/// The first error that is not an interruption; a part may have been written.
pub(crate) fn write_all_at(file: &dyn DiskFile, mut offset: u64, mut buffers: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        let few = buffers.len().min(WRITE_BUFFERS_MAX);
        match file.write_at(offset, &buffers[..few]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut buffers, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Buffers in one call: what the kernels of today take (`IOV_MAX`).
const WRITE_BUFFERS_MAX: usize = 1024;

/// Reads a short file whole.
#[cfg(test)]
pub(crate) fn read_whole(disk: &dyn Disk, name: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
    read_short(&*disk.open(name)?, bytes_max)
}

/// Reads a short file whole, or its first `bytes_max` bytes.
pub(crate) fn read_short(file: &dyn DiskFile, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut text = vec![0; bytes_max];
    let mut length = 0;
    while length < bytes_max {
        match read_some(file, length as u64, &mut text[length..])? {
            0 => break,
            n => length += n,
        }
    }
    text.truncate(length);
    Ok(text)
}

/// Whether this error says that the disk or a quota of the system is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
