//! From what a [`super::RecordingDisk`] wrote down: what a power cut may leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::{FileId, Image, Op};

/// A disk writes sectors of so many bytes whole or not at all.
const SECTOR: usize = 512;

/// What a power cut leaves of the calls that no sync covers yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// Some calls of them, whole, in their order; which, the number says.
    Some(u64),
    /// Of each write some sectors, and some names.
    Torn(u64),
    /// All calls up to one of them, of which some first sectors.
    Prefix(u64),
    /// The lengths of files, with zeros where bytes were written, and all names.
    LengthsOnly,
    /// All names, and nothing in the files.
    NamesOnly,
    /// All bytes, and no names.
    BytesOnly,
}

impl Loss {
    /// Each kind, those with a choice `count` times, chosen from `seed` on.
    pub fn kinds(seed: u64, count: u64) -> impl Iterator<Item = Self> {
        let plain = [Self::Nothing, Self::Everything, Self::LengthsOnly, Self::NamesOnly, Self::BytesOnly];
        let chosen = (seed..seed + count).flat_map(|s| [Self::Some(s), Self::Torn(s), Self::Prefix(s)]);
        plain.into_iter().chain(chosen)
    }
}

/// What is durable, and what was called since.
#[derive(Clone, Default)]
pub struct Unsynced {
    names: BTreeMap<Arc<str>, FileId>,
    files: BTreeMap<FileId, Arc<Vec<u8>>>,
    pending: Vec<Op>,
}

impl Unsynced {
    /// All of an image is durable.
    pub fn new(image: &Image) -> Self {
        let ids = || (0..).map(FileId);
        Self {
            names: image.files.keys().cloned().zip(ids()).collect(),
            files: ids().zip(image.files.values().cloned()).collect(),
            pending: Vec::new(),
        }
    }

    /// One more call.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Sync(file) => {
                let (synced, rest): (Vec<Op>, Vec<Op>) =
                    std::mem::take(&mut self.pending).into_iter().partition(|op| written_file(op) == Some(*file));
                synced.iter().for_each(|op| change_file(&mut self.files, op));
                self.pending = rest;
            }
            Op::SyncFolder => {
                let (synced, rest): (Vec<Op>, Vec<Op>) =
                    std::mem::take(&mut self.pending).into_iter().partition(|op| written_file(op).is_none());
                change_names(&mut self.names, &synced);
                self.pending = rest;
            }
            other => self.pending.push(other.clone()),
        }
    }

    /// How many calls no sync covers.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What is left after a power cut now.
    pub fn after(&self, loss: Loss) -> Image {
        let (mut names, mut files) = (self.names.clone(), self.files.clone());
        let left = self.left(loss);
        left.iter().for_each(|op| change_file(&mut files, op));
        let left: Vec<Op> = left.into_iter().filter(|op| written_file(op).is_none()).collect();
        change_names(&mut names, &left);
        let content = |id: FileId| files.get(&id).cloned().unwrap_or_default();
        Image { files: names.into_iter().map(|(name, id)| (name, content(id))).collect() }
    }

    /// The calls that are left, changed where only a part of them is.
    fn left(&self, loss: Loss) -> Vec<Op> {
        let pending = || self.pending.iter().cloned();
        let is_name = |op: &Op| written_file(op).is_none();
        match loss {
            Loss::Nothing => Vec::new(),
            Loss::Everything => self.pending.clone(),
            Loss::NamesOnly => pending().filter(is_name).collect(),
            Loss::BytesOnly => pending().filter(|op| !is_name(op)).collect(),
            Loss::LengthsOnly => pending().map(zeroed).collect(),
            Loss::Some(seed) => {
                let mut dice = dice(seed);
                pending().filter(|_| coin(&mut dice)).collect()
            }
            Loss::Torn(seed) => {
                let mut dice = dice(seed);
                pending().flat_map(|op| torn(op, &mut dice)).collect()
            }
            Loss::Prefix(seed) => {
                let mut dice = dice(seed);
                let count = below(&mut dice, self.pending.len() + 1);
                let mut left: Vec<Op> = pending().take(count).collect();
                left.extend(self.pending.get(count).and_then(|op| first_sectors(op, &mut dice)));
                left
            }
        }
    }
}

fn written_file(op: &Op) -> Option<FileId> {
    match op {
        Op::Write(file, ..) | Op::Truncate(file, _) => Some(*file),
        _ => None,
    }
}

fn change_file(files: &mut BTreeMap<FileId, Arc<Vec<u8>>>, op: &Op) {
    match op {
        Op::Write(file, offset, bytes) => {
            let content = Arc::make_mut(files.entry(*file).or_default());
            let (from, to) = (*offset as usize, *offset as usize + bytes.len());
            content.resize(content.len().max(to), 0);
            content[from..to].copy_from_slice(bytes);
        }
        Op::Truncate(file, size) => Arc::make_mut(files.entry(*file).or_default()).resize(*size as usize, 0),
        _ => {}
    }
}

fn change_names(names: &mut BTreeMap<Arc<str>, FileId>, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Op::Rename(from, to) => {
                // Without the call that gave the first name nothing is renamed.
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Op::Remove(name) => drop(names.remove(name)),
            _ => {}
        }
    }
}

/// A write of which only the length is left. What was there before stays.
fn zeroed(op: Op) -> Op {
    match op {
        Op::Write(file, offset, bytes) => Op::Write(file, offset + bytes.len() as u64, Bytes::new()),
        other => other,
    }
}

/// Some sectors of a write, or nothing or all of another call.
fn torn(op: Op, dice: &mut Xoshiro256PlusPlus) -> Vec<Op> {
    let Op::Write(file, offset, bytes) = &op else {
        return if coin(dice) { vec![op] } else { Vec::new() };
    };
    sectors(*offset, bytes)
        .filter(|_| coin(dice))
        .map(|(from, to)| Op::Write(*file, offset + from as u64, bytes.slice(from..to)))
        .collect()
}

/// The first sectors of a write, and nothing of another call.
fn first_sectors(op: &Op, dice: &mut Xoshiro256PlusPlus) -> Option<Op> {
    let Op::Write(file, offset, bytes) = op else { return None };
    let ends: Vec<usize> = sectors(*offset, bytes).map(|(_, to)| to).collect();
    let end = *ends.get(below(dice, ends.len().max(1)))?;
    Some(Op::Write(*file, *offset, bytes.slice(..end)))
}

/// Where the bytes of each sector begin and end in a write at `offset`.
fn sectors(offset: u64, bytes: &Bytes) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (length, skew) = (bytes.len(), offset as usize % SECTOR);
    (0..(length + skew).div_ceil(SECTOR)).map(move |n| {
        let from = (n * SECTOR).saturating_sub(skew);
        (from, ((n + 1) * SECTOR - skew).min(length))
    })
}

fn dice(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn coin(dice: &mut Xoshiro256PlusPlus) -> bool {
    dice.next_u64() & 1 == 1
}

fn below(dice: &mut Xoshiro256PlusPlus, below: usize) -> usize {
    (dice.next_u64() % below as u64) as usize
}
