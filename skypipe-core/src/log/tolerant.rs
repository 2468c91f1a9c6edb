//! A file whose disk cannot read some of its sectors: zeros stand there, and the checksums find them.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::DiskFile;

/// What a disk fails to read at least, when it fails.
const SECTOR: u64 = 4096;
/// The error of a disk that found a sector unreadable: `EIO` wherever this is built.
const UNREADABLE: i32 = 5;

/// A file that can be read over what its disk cannot read.
pub(super) struct Tolerant {
    file: Arc<dyn DiskFile>,
    met: AtomicBool,
}

impl Tolerant {
    pub(super) fn new(file: impl Into<Arc<dyn DiskFile>>) -> Self {
        Self { file: file.into(), met: AtomicBool::new(false) }
    }

    /// Whether something was met that cannot be read.
    pub(super) fn met_unreadable(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    /// One sector, or zeros in its place.
    fn read_sector(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.size()?.saturating_sub(offset);
        let sector = (SECTOR - offset % SECTOR).min(left);
        let length = usize::try_from(sector).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read_at(offset, &mut buffer[..length]) {
            Err(e) if e.raw_os_error() == Some(UNREADABLE) => {
                self.met.store(true, Ordering::Relaxed);
                buffer[..length].fill(0);
                Ok(length)
            }
            other => other,
        }
    }
}

impl DiskFile for Tolerant {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(offset, buffer) {
            Err(e) if e.raw_os_error() == Some(UNREADABLE) => self.read_sector(offset, buffer),
            other => other,
        }
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_at(offset, buffers)
    }

    fn reserve(&self, size: u64) -> io::Result<bool> {
        self.file.reserve(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
