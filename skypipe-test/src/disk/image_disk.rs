//! A disk made of an image, which copies what is written to.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use skypipe_core::log::{Disk, DiskFile, QUARANTINE, Room};

use super::{Image, lock};

/// A disk in memory that begins as an [`Image`] and costs next to nothing until it is written to.
#[derive(Clone, Default)]
pub struct ImageDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    names: Vec<(Arc<str>, Content)>,
    bytes_max: Option<u64>,
    reserves: bool,
}

/// A file lives on after its name is gone.
type Content = Arc<Mutex<Arc<Vec<u8>>>>;

struct ImageFile {
    disk: ImageDisk,
    content: Content,
}

impl ImageDisk {
    /// A disk that holds `image`.
    pub fn new(image: &Image) -> Self {
        let names = image.files.iter().map(|(name, bytes)| (name.clone(), Arc::new(Mutex::new(bytes.clone()))));
        let shared = Shared { names: names.collect(), bytes_max: None, reserves: false };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// What it holds now.
    pub fn image(&self) -> Image {
        let shared = lock(&self.shared);
        Image { files: shared.names.iter().map(|(name, content)| (name.clone(), lock(content).clone())).collect() }
    }

    /// From now on it is full when it holds so many bytes; `None`: never.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        lock(&self.shared).bytes_max = bytes_max;
    }

    /// Whether it reserves room where it has some.
    pub fn set_reserves(&self, reserves: bool) {
        lock(&self.shared).reserves = reserves;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        lock(&self.shared).bytes()
    }
}

impl Shared {
    fn bytes(&self) -> u64 {
        self.names.iter().map(|(_, content)| lock(content).len() as u64).sum()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(n, _)| &**n == name)
    }

    fn take(&mut self, name: &str) -> io::Result<Content> {
        let place = self.place(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.names.remove(place).1)
    }
}

impl Disk for ImageDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let shared = lock(&self.shared);
        Ok(shared.names.iter().filter(|(n, _)| !n.starts_with(QUARANTINE)).map(|(n, _)| n.to_string()).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let shared = lock(&self.shared);
        let place = shared.place(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(ImageFile { disk: self.clone(), content: shared.names[place].1.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut shared = lock(&self.shared);
        if shared.place(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Content::default();
        shared.names.push((name.into(), content.clone()));
        Ok(Box::new(ImageFile { disk: self.clone(), content }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        let content = shared.take(from)?;
        let _ = shared.take(to);
        shared.names.push((to.into(), content));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.shared).take(name).map(drop)
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let shared = lock(&self.shared);
        let total = shared.bytes_max.unwrap_or(u64::MAX);
        let used = if shared.bytes_max.is_some() { shared.bytes() } else { 0 };
        Ok(Room { free: total.saturating_sub(used), total })
    }
}

impl DiskFile for ImageFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = lock(&self.content);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let shared = lock(&self.disk.shared);
        let room = shared.bytes_max.map(|max| max.saturating_sub(shared.bytes()));
        let mut content = lock(&self.content);
        let content = Arc::make_mut(&mut *content);
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        let end_max = room.map_or(usize::MAX, |room| content.len().saturating_add(room as usize));
        let mut at = from;
        for buffer in buffers {
            let taken = buffer.len().min(end_max.saturating_sub(at));
            content.resize(content.len().max(at + taken), 0);
            content[at..at + taken].copy_from_slice(&buffer[..taken]);
            at += taken;
            if taken < buffer.len() {
                break;
            }
        }
        if at == from && buffers.iter().any(|b| !b.is_empty()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(at - from)
    }

    fn reserve(&self, size: u64) -> io::Result<bool> {
        let shared = lock(&self.disk.shared);
        let grows = size.saturating_sub(lock(&self.content).len() as u64);
        Ok(shared.reserves && shared.bytes_max.is_none_or(|max| shared.bytes() + grows <= max))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        Arc::make_mut(&mut *content).truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
