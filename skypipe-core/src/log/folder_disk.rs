//! A folder of the file system as a [`Disk`].
#![expect(clippy::disallowed_methods, reason = "the Disk that is the machine's")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile, Room};
use super::format::QUARANTINE;

/// Files readable by their owner alone.
const FILE_MODE: u32 = 0o600;
/// Folders open to their owner alone.
const FOLDER_MODE: u32 = 0o700;

/// A folder of the file system.
#[derive(Debug)]
pub struct FolderDisk {
    folder: PathBuf,
}

impl FolderDisk {
    /// Uses `folder`, which is created if it does not exist, open to its owner alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(folder: &Path) -> io::Result<Self> {
        if !folder.is_dir() {
            create_folder(folder, true)?;
            if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
                // Another user's parent cannot always be opened; then its owner's habits decide.
                let _ = File::open(parent).and_then(|p| p.sync_all());
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.starts_with(QUARANTINE) {
            let folder = self.folder.join(QUARANTINE);
            if !folder.is_dir() {
                create_folder(&folder, false)?;
            }
        }
        Ok(self.folder.join(name))
    }
}

impl Disk for FolderDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                // A name that is not text is none of ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.path(name)?)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(name)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let quarantine = self.folder.join(QUARANTINE);
        if quarantine.is_dir() {
            File::open(quarantine)?.sync_all()?;
        }
        File::open(&self.folder)?.sync_all()
    }

    fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, buffers, offset)?)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, size: u64) -> io::Result<bool> {
        rustix::fs::fallocate(self, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size)?;
        Ok(true)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        // On macOS the standard library asks for F_FULLFSYNC here, which is what "on disk" means there.
        self.sync_data()?;
        // What is synced into a file that has no name any more is lost all the same.
        if self.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        Ok(())
    }
}

fn create_folder(folder: &Path, with_parents: bool) -> io::Result<()> {
    fs::DirBuilder::new().mode(FOLDER_MODE).recursive(with_parents).create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::log::disk::{read_whole, write_all_at};

    #[test]
    fn files_and_folders_are_their_owners_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        let disk = FolderDisk::new(&folder).unwrap();
        let file = disk.create("quarantine/x").unwrap();
        write_all_at(&*file, 0, &mut [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")]).unwrap();
        file.sync().unwrap();
        disk.sync_folder().unwrap();
        assert_eq!(read_whole(&disk, "quarantine/x", 100).unwrap(), b"abc");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("quarantine")), 0o700);
        assert_eq!(mode(&folder.join("quarantine/x")), 0o600);
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.room().unwrap().free > 0);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            file.sync().unwrap_err().kind(),
            io::ErrorKind::NotFound,
            "nothing is stored in a file that is gone"
        );
    }
}
