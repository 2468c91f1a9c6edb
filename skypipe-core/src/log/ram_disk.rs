//! Memory as a [`Disk`], which can lose its power, run full and fail.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile, Room};
use super::format::QUARANTINE;

/// A disk writes sectors whole or not at all.
const SECTOR: usize = 512;
/// What the system says of a sector that cannot be read.
const EIO: i32 = 5;

/// A disk in memory: for brokers that keep nothing, for examples, and for tests of what happens when the power goes.
#[derive(Clone, Default)]
pub struct RamDisk {
    shared: Arc<Mutex<Shared>>,
}

/// What is left of writes that were not synced, when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PowerLoss {
    /// Nothing of them.
    Nothing,
    /// All of them.
    Everything,
    /// Some sectors and names of them, chosen by this seed.
    Some(u64),
}

#[derive(Default)]
struct Shared {
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// The names as of the last sync of the folder; only kept when losing power is simulated.
    durable_names: Option<BTreeMap<String, Arc<Mutex<Content>>>>,
    bytes: u64,
    bytes_max: Option<u64>,
    reserves: bool,
    syncs: u64,
    fail_sync: Option<u64>,
    power_off_at_sync: Option<u64>,
    power_off: bool,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Option<Vec<u8>>,
    /// What cannot be read.
    spoilt: Vec<std::ops::Range<u64>>,
}

struct RamFile {
    disk: RamDisk,
    content: Arc<Mutex<Content>>,
}

impl RamDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk that remembers what was synced, so that it can lose power.
    pub fn with_power_loss() -> Self {
        let disk = Self::default();
        lock(&disk.shared).durable_names = Some(BTreeMap::new());
        disk
    }

    /// How many syncs of files were asked for.
    pub fn syncs(&self) -> u64 {
        lock(&self.shared).syncs
    }

    /// From now on the disk is full when it holds so many bytes; `None`: never.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        lock(&self.shared).bytes_max = bytes_max;
    }

    /// Whether it says that it reserved room, so that zeros are written ahead.
    pub fn set_reserves(&self, reserves: bool) {
        lock(&self.shared).reserves = reserves;
    }

    /// The `nth` sync from now, counted from 1, fails; those behind it go well.
    pub fn fail_sync(&self, nth: u64) {
        let mut shared = lock(&self.shared);
        shared.fail_sync = Some(shared.syncs + nth);
    }

    /// The power goes at the `nth` sync from now, counted from 1, before it has done anything: every call fails from then on.
    pub fn power_off_at_sync(&self, nth: u64) {
        let mut shared = lock(&self.shared);
        shared.power_off_at_sync = Some(shared.syncs + nth);
    }

    /// Flips one bit of a file.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it is shorter.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) -> io::Result<()> {
        let content = self.content(name)?;
        let mut content = lock(&content);
        let content = &mut *content;
        for bytes in [Some(&mut content.bytes), content.durable.as_mut()].into_iter().flatten() {
            *bytes.get_mut(byte).ok_or(io::ErrorKind::UnexpectedEof)? ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// From now on the disk cannot read these bytes of a file (`EIO`).
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn spoil(&self, name: &str, bytes: std::ops::Range<u64>) -> io::Result<()> {
        let content = self.content(name)?;
        lock(&content).spoilt.push(bytes);
        Ok(())
    }

    /// The names of all files, those in quarantine as well.
    pub fn names(&self) -> Vec<String> {
        lock(&self.shared).names.keys().cloned().collect()
    }

    /// What the disk holds when the power is back.
    pub fn after_power_loss(&self, loss: PowerLoss) -> Self {
        let shared = lock(&self.shared);
        let mut dice = Dice(match loss {
            PowerLoss::Some(seed) => seed,
            _ => 0,
        });
        let keep = |dice: &mut Dice| match loss {
            PowerLoss::Nothing => false,
            PowerLoss::Everything => true,
            PowerLoss::Some(_) => dice.coin(),
        };
        let durable = shared.durable_names.clone().unwrap_or_else(|| shared.names.clone());
        let mut names = durable.clone();
        for (name, content) in &shared.names {
            if !durable.contains_key(name) && keep(&mut dice) {
                names.insert(name.clone(), content.clone());
            }
        }
        for name in durable.keys().filter(|n| !shared.names.contains_key(*n)) {
            if keep(&mut dice) {
                names.remove(name);
            }
        }
        let disk = Self::with_power_loss();
        let mut fresh = lock(&disk.shared);
        for (name, content) in names {
            let bytes = lock(&content).survivors(|| keep(&mut dice));
            fresh.bytes += bytes.len() as u64;
            fresh.names.insert(
                name,
                Arc::new(Mutex::new(Content { durable: Some(bytes.clone()), bytes, spoilt: Vec::new() })),
            );
        }
        fresh.durable_names = Some(fresh.names.clone());
        drop(fresh);
        disk
    }

    fn content(&self, name: &str) -> io::Result<Arc<Mutex<Content>>> {
        Ok(lock(&self.shared).names.get(name).ok_or(io::ErrorKind::NotFound)?.clone())
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, Shared>> {
        let shared = lock(&self.shared);
        if shared.power_off {
            return Err(io::Error::other("the power is off"));
        }
        Ok(shared)
    }

    fn file(&self, content: Arc<Mutex<Content>>) -> Box<dyn DiskFile> {
        Box::new(RamFile { disk: self.clone(), content })
    }
}

impl Disk for RamDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.powered()?.names.keys().filter(|n| !n.starts_with(QUARANTINE)).cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        drop(self.powered()?);
        Ok(self.file(self.content(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut shared = self.powered()?;
        if shared.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let durable = shared.durable_names.is_some().then(Vec::new);
        let content = Arc::new(Mutex::new(Content { bytes: Vec::new(), durable, spoilt: Vec::new() }));
        shared.names.insert(name.to_owned(), content.clone());
        drop(shared);
        Ok(self.file(content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut shared = self.powered()?;
        let content = shared.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        shared.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut shared = self.powered()?;
        let content = shared.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        shared.bytes = shared.bytes.saturating_sub(lock(&content).bytes.len() as u64);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut shared = self.powered()?;
        if shared.durable_names.is_some() {
            shared.durable_names = Some(shared.names.clone());
        }
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let shared = self.powered()?;
        let total = shared.bytes_max.unwrap_or(u64::MAX);
        Ok(Room { free: total.saturating_sub(shared.bytes), total })
    }
}

impl DiskFile for RamFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        drop(self.disk.powered()?);
        let content = lock(&self.content);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let count = buffer.len().min(content.bytes.len() - from);
        let wanted = offset..offset + count as u64;
        if content.spoilt.iter().any(|s| s.start < wanted.end && wanted.start < s.end) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        buffer[..count].copy_from_slice(&content.bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut shared = self.disk.powered()?;
        let mut content = lock(&self.content);
        let mut at = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        let start = at;
        for buffer in buffers {
            let grows = (at + buffer.len()).saturating_sub(content.bytes.len()) as u64;
            let room = shared.bytes_max.map_or(u64::MAX, |max| max.saturating_sub(shared.bytes));
            let lacks = grows.saturating_sub(room) as usize;
            let taken = &buffer[..buffer.len().saturating_sub(lacks)];
            if content.bytes.len() < at + taken.len() {
                shared.bytes += (at + taken.len() - content.bytes.len()) as u64;
                content.bytes.resize(at + taken.len(), 0);
            }
            content.bytes[at..at + taken.len()].copy_from_slice(taken);
            at += taken.len();
            if lacks > 0 {
                break;
            }
        }
        if at == start && buffers.iter().any(|b| !b.is_empty()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(at - start)
    }

    fn reserve(&self, _: u64) -> io::Result<bool> {
        Ok(self.disk.powered()?.reserves)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut shared = self.disk.powered()?;
        let mut content = lock(&self.content);
        let before = content.bytes.len() as u64;
        content.bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        shared.bytes = shared.bytes.saturating_sub(before - content.bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut shared = self.disk.powered()?;
        shared.syncs += 1;
        if shared.power_off_at_sync.is_some_and(|n| shared.syncs >= n) {
            shared.power_off = true;
            return Err(io::Error::other("the power is off"));
        }
        if shared.fail_sync.is_some_and(|n| shared.syncs == n) {
            return Err(io::Error::other("a sync failed"));
        }
        let mut content = lock(&self.content);
        let content = &mut *content;
        if let Some(durable) = &mut content.durable {
            durable.clone_from(&content.bytes);
        }
        Ok(())
    }
}

impl Content {
    /// The bytes that power loss leaves, each sector old or new as `keep` says.
    fn survivors(&self, mut keep: impl FnMut() -> bool) -> Vec<u8> {
        let Some(durable) = &self.durable else { return self.bytes.clone() };
        let length = if keep() { self.bytes.len() } else { durable.len() };
        let mut left = durable.clone();
        left.resize(length, 0);
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length).min(self.bytes.len());
            if start < end && keep() {
                left[start..end].copy_from_slice(&self.bytes[start..end]);
            }
        }
        left
    }
}

/// A small generator of coins, the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) & 1 == 1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
