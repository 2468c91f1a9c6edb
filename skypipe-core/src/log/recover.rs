//! Finds out, when a log is opened, what is in it.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use super::commit::Head;
use super::contents::Contents;
use super::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use super::format::{FLAG_START, HEADER_BYTES, Header, Kind, QUARANTINE, aligned, seed_of, segment_name};
use super::index::{Index, Place};
use super::salvage::{self, Folder};
use super::scan_ahead::{Replay, scan_ahead};
use super::tolerant::Tolerant;
use super::walk::{Step, Walker};
use super::{LogOptions, batch_of, segment_salt, storage};
use crate::env::Work;
use crate::error::Error;
use crate::id::PipeId;

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Bytes at the end that were being written when the power went, and were never said to be stored.
    pub torn_bytes: u64,
    /// Where those bytes are kept, in the folder of the log.
    pub quarantined: Option<String>,
    /// Places in the middle where nothing could be read: segment, first byte, and the byte behind the last.
    pub damaged: Vec<(u64, u64, u64)>,
    /// What else was odd, and what was done about it.
    pub notes: Vec<String>,
    /// Segments that are gone.
    pub missing: Vec<u64>,
}

impl Recovery {
    /// Whether something that was stored cannot be read.
    pub fn has_damage(&self) -> bool {
        !self.damaged.is_empty() || !self.missing.is_empty()
    }

    /// What was found, a line for people each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.notes.clone();
        if self.torn_bytes > 0 {
            let kept = self.quarantined.as_ref().map_or(String::new(), |name| format!(", kept in {name}"));
            lines.push(format!(
                "{} bytes at the end of the log were never stored and are cut off{kept}",
                self.torn_bytes
            ));
        }
        let damage = |(segment, from, to): &(u64, u64, u64)| {
            format!(
                "{} cannot be read from byte {from} to {to}: readers are told what is missing",
                segment_name(*segment)
            )
        };
        lines.extend(self.damaged.iter().take(DAMAGE_LINES_MAX).map(damage));
        if let Some(more) = self.damaged.len().checked_sub(DAMAGE_LINES_MAX).filter(|more| *more > 0) {
            lines.push(format!("and {more} places more cannot be read"));
        }
        lines
    }
}

/// More places than this tell nobody more.
const DAMAGE_LINES_MAX: usize = 20;

/// Everything a log needs to go on.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) salt: u64,
    pub(super) head: Head,
    pub(super) head_number: u64,
    pub(super) recovery: Recovery,
}

/// How much of a torn tail is copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Most copies of one torn tail: each is left by a crash while the log was opened, or by a tail that was torn at the same place again.
const ASIDE_MAX: u32 = 10_000;

/// Opens the log on `disk`, or begins one.
pub(super) fn recover(disk: &dyn Disk, options: &LogOptions, replay: &mut Replay<'_>) -> Result<Recovered, Error> {
    let folder = salvage::look(disk, options)?;
    // One segment is read faster than two threads are worth.
    if folder.segments.len() <= 1 || options.work == Work::Inline {
        return scan(disk, folder, replay);
    }
    scan_ahead(|replay| scan(disk, folder, replay), replay)
}

fn scan(disk: &dyn Disk, folder: Folder, replay: &mut Replay<'_>) -> Result<Recovered, Error> {
    let Folder { salt, segments, last, missing, notes } = folder;
    let recovery = Recovery { missing, notes, ..Recovery::default() };
    let mut scan = Scan { disk, salt, index: Index::default(), recovery, removed_last: false, replay };
    let head = scan.all(&segments).map_err(|e| storage("the log cannot be read", e))?;
    // Numbers have no hole: one would say that a segment is missing.
    let last = if scan.removed_last { last.saturating_sub(1) } else { last };
    let head_number = head.as_ref().map_or(0, |h| h.number);
    let head = Head { last, open: head };
    Ok(Recovered { index: scan.index, salt, head, head_number, recovery: scan.recovery })
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    salt: u64,
    index: Index,
    recovery: Recovery,
    /// The last segment was never used, and is gone.
    removed_last: bool,
    replay: &'a mut Replay<'a>,
}

/// The last segment, to go on in.
pub(super) struct OpenHead {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) seed: u32,
    pub(super) end: u64,
    /// All before this place is on disk.
    pub(super) synced: u64,
    pub(super) reserved: u64,
    /// Whether what was reserved is there.
    pub(super) has_room: bool,
    /// Where the file ends: at `end`, or behind zeros.
    pub(super) length: u64,
    /// Where entries begin, behind what is told of the segment before.
    pub(super) start: u64,
    /// Where the facts in it stand.
    pub(super) facts: Vec<u64>,
}

impl OpenHead {
    /// One that is synced as far as it goes.
    pub(super) fn new(number: u64, file: Arc<dyn DiskFile>, seed: u32, end: u64) -> Self {
        let (synced, reserved, length, start) = (end, end, end, end);
        Self { number, file, seed, end, synced, reserved, has_room: false, length, start, facts: Vec::new() }
    }
}

impl Scan<'_> {
    fn all(&mut self, numbers: &[u64]) -> io::Result<Option<OpenHead>> {
        let Some((&last, sealed)) = numbers.split_last() else { return Ok(None) };
        for (&number, &next) in sealed.iter().zip(&numbers[1..]) {
            if self.by_contents(number, next)? {
                continue;
            }
            let file = self.open(number)?;
            let seed = self.seed(&file, number)?;
            let size = file.size()?;
            self.segment(&file, number, seed, size)?;
        }
        let file = Arc::new(self.open(last)?);
        let seed = seed_of(segment_salt(&*file)?.unwrap_or(self.salt), last);
        let Some(end) = self.settle_tail(&file, last, seed)? else {
            // What cannot be read may be what was stored last. Nothing is cut, nothing is written behind it.
            self.seed(&*file, last)?;
            self.segment(&*file, last, seed, file.size()?)?;
            return Ok(None);
        };
        if end == 0 {
            // Nothing was ever said to be stored in it.
            self.disk.remove(&segment_name(last))?;
            self.disk.sync_folder()?;
            self.removed_last = true;
            return Ok(None);
        }
        self.seed(&*file, last)?;
        let facts = self.segment(&*file, last, seed, end)?;
        let head = OpenHead::new(last, file, seed, aligned(end));
        Ok(Some(OpenHead { reserved: 0, start: HEADER_BYTES as u64, facts, ..head }))
    }

    fn open(&self, number: u64) -> io::Result<Tolerant> {
        Ok(Tolerant::new(self.disk.open(&segment_name(number))?))
    }

    /// The seed of a segment; a damaged first entry is noted.
    fn seed(&mut self, file: &dyn DiskFile, number: u64) -> io::Result<u32> {
        let salt = segment_salt(file)?;
        if salt.is_none() {
            self.damage(number, 0, HEADER_BYTES as u64);
        }
        Ok(seed_of(salt.unwrap_or(self.salt), number))
    }

    fn damage(&mut self, number: u64, from: u64, to: u64) {
        self.index.grow(number, 0);
        self.index.damaged(number);
        self.recovery.damaged.push((number, from, to));
    }

    /// Takes in a segment as the next one tells; false where that is not possible.
    fn by_contents(&mut self, number: u64, next: u64) -> io::Result<bool> {
        let Some(contents) = self.contents(number, next)? else { return Ok(false) };
        let file = self.open(number)?;
        let size = file.size()?;
        if aligned(size) > contents.end {
            return Ok(false);
        }
        let seed = self.seed(&file, number)?;
        if aligned(size) < contents.end {
            // Its end was cut off. What stood there is known from the contents, and read as a gap.
            self.damage(number, size, contents.end);
        }
        self.index.grow(number, contents.end);
        contents.spans.into_iter().for_each(|span| self.index.place_span(span));
        let mut walker = Walker::new(&file, seed, HEADER_BYTES as u64, size);
        for offset in contents.facts {
            walker.go_to(offset);
            let step = if walker.at_entry()? { walker.next()? } else { None };
            match step {
                Some(Step::Entry(_, header)) if header.kind == Kind::Fact => {
                    let body = walker.payload(offset, &header)?;
                    self.fact(Place { segment: number, offset }, &header, body);
                }
                _ => self.damage(number, offset, offset + HEADER_BYTES as u64),
            }
        }
        Ok(true)
    }

    /// The contents of segment `number` out of segment `next`.
    fn contents(&self, number: u64, next: u64) -> io::Result<Option<Contents>> {
        let file = self.open(next)?;
        let seed = seed_of(segment_salt(&file)?.unwrap_or(self.salt), next);
        let mut walker = Walker::new(&file, seed, HEADER_BYTES as u64, file.size()?);
        if !walker.at_entry()? {
            return Ok(None);
        }
        let Some(Step::Entry(offset, header)) = walker.next()? else { return Ok(None) };
        if header.kind != Kind::Contents || header.pipe != PipeId(number) {
            return Ok(None);
        }
        Ok(Contents::decode(&header, walker.payload(offset, &header)?))
    }

    /// Takes in all entries of a segment, and returns where its facts stand.
    fn segment(&mut self, file: &dyn DiskFile, number: u64, seed: u32, end: u64) -> io::Result<Vec<u64>> {
        let mut facts = Vec::new();
        let mut walker = Walker::new(file, seed, HEADER_BYTES as u64, end);
        self.index.grow(number, end);
        while let Some(step) = walker.next()? {
            match step {
                Step::Damage(from, to) => self.damage(number, from, to),
                Step::Entry(offset, header) if header.kind == Kind::Fact => {
                    facts.push(offset);
                    let body = walker.payload(offset, &header)?;
                    self.fact(Place { segment: number, offset }, &header, body);
                }
                Step::Entry(offset, header) => self.index.place(Place { segment: number, offset }, &header),
            }
        }
        Ok(facts)
    }

    fn fact(&mut self, place: Place, header: &Header, body: Bytes) {
        if crc32c::crc32c(&body) != header.checksum {
            self.damage(place.segment, place.offset, place.offset + header.span());
            return;
        }
        let starts = header.flags & FLAG_START != 0;
        // What stands before the start was restated by it, and what came before may be gone. But where something is damaged,
        // that may be the start itself: then the owner gets all there is.
        if !starts && !self.index.has_facts(header.pipe) && !self.recovery.has_damage() {
            return;
        }
        self.index.place(place, header);
        (self.replay)(header.pipe, body);
    }

    /// Cuts what was being written when the power went off the last segment, makes the rest durable, and returns where it ends; none
    /// where the disk cannot read it.
    fn settle_tail(&mut self, file: &Tolerant, number: u64, seed: u32) -> io::Result<Option<u64>> {
        let size = file.size()?;
        let (end, group) = find_end(file, seed, size)?;
        if file.met_unreadable() {
            return Ok(None);
        }
        let used = end_of_bytes(file, end, size)?;
        if end < used {
            self.put_aside(file, number, end, used)?;
        }
        if end < size {
            file.truncate(end)?;
        }
        // A process that was killed may have left bytes that can be read and are not on disk; and after a failed sync the system
        // may take bytes for written that are not. Writing the last group once more settles both.
        match rewrite(file, group.min(end), end) {
            Err(e) if !super::disk::is_full(&e) => return Err(e),
            _ => {}
        }
        file.sync()?;
        self.disk.sync_folder()?;
        Ok(Some(end))
    }

    /// Keeps a tail that was torn, before it is cut off.
    fn put_aside(&mut self, file: &dyn DiskFile, number: u64, end: u64, size: u64) -> io::Result<()> {
        self.recovery.torn_bytes = size - end;
        match self.keep_aside(file, &format!("{QUARANTINE}/{number:012}-{end}"), end, size) {
            Ok(name) => self.recovery.quarantined = Some(name),
            // On a full disk the log must open, so that room can be made; nobody was told that these bytes are stored.
            Err(e) if super::disk::is_full(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Copies bytes into a file of this name, and returns the name it has. The copy is durable before anything is cut: the power may go
    /// between the two.
    fn keep_aside(&self, file: &dyn DiskFile, name: &str, mut from: u64, size: u64) -> io::Result<String> {
        let (copy, name) = self.create_aside(name)?;
        let start = from;
        let mut buffer = vec![0; COPY_BYTES];
        while from < size {
            let part = usize::try_from(size - from).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            read_exact_at(file, from, &mut buffer[..part])?;
            write_all_at(&*copy, from - start, &mut [IoSlice::new(&buffer[..part])])?;
            from += part as u64;
        }
        copy.sync()?;
        self.disk.sync_folder()?;
        Ok(name)
    }

    /// A new file of this name, or of this name and a number: what was put aside before is never replaced.
    fn create_aside(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, String)> {
        let again = (2..=ASIDE_MAX).map(|n| format!("{name}-{n}"));
        for name in std::iter::once(name.to_owned()).chain(again) {
            match self.disk.create(&name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                created => return Ok((created?, name)),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} and so many more are in the way")))
    }
}

/// Where the last entry ends that may have been said to be stored, and where its group begins.
fn find_end(file: &dyn DiskFile, seed: u32, size: u64) -> io::Result<(u64, u64)> {
    let first = HEADER_BYTES as u64;
    if size < first {
        return Ok((0, 0));
    }
    let mut walker = Walker::new(file, seed, first, size);
    let mut holes: Vec<u64> = Vec::new();
    let header_bad = segment_salt(file)?.is_none();
    holes.extend(header_bad.then_some(0));
    let mut last = (first, first);
    while let Some(step) = walker.next()? {
        match step {
            Step::Damage(from, _) => holes.push(from),
            Step::Entry(_, header) => {
                // Its group was written after all before it was synced: holes there are damage, not a torn tail.
                holes.retain(|&hole| hole >= header.group);
                if holes.is_empty() {
                    last = (walker.pos().min(size), header.group);
                }
            }
        }
    }
    match holes.first() {
        // Something was being written behind the last good entry, so that one was synced before, or is of the same group.
        Some(&hole) if hole >= first => check_group(file, seed, last.1, hole),
        Some(_) => Ok((0, 0)),
        None => check_group(file, seed, last.1, last.0),
    }
}

/// Where the last byte of `from..to` ends that is not one of the zeros which are written ahead.
fn end_of_bytes(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<u64> {
    let (mut buffer, mut at, mut end) = (vec![0; COPY_BYTES], from, from);
    while at < to {
        let part = usize::try_from(to - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        read_exact_at(file, at, &mut buffer[..part])?;
        end = buffer[..part].iter().rposition(|byte| *byte != 0).map_or(end, |last| at + last as u64 + 1);
        at += part as u64;
    }
    Ok(end)
}

/// Looks at the payloads of the last group, which may be torn although its headers are good.
fn check_group(file: &dyn DiskFile, seed: u32, group: u64, end: u64) -> io::Result<(u64, u64)> {
    let mut walker = Walker::new(file, seed, group, end);
    while let Some(step) = walker.next()? {
        let Step::Entry(offset, header) = step else { break };
        let payload = walker.payload(offset, &header)?;
        let good = match header.kind {
            Kind::Batch => batch_of(&header, payload).is_some(),
            _ => crc32c::crc32c(&payload) == header.checksum,
        };
        if !good {
            return Ok((offset, group));
        }
    }
    Ok((end, group))
}

/// Writes `from..end` again, as it is.
fn rewrite(file: &dyn DiskFile, mut from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    while from < end {
        let part = usize::try_from(end - from).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        read_exact_at(file, from, &mut buffer[..part])?;
        write_all_at(file, from, &mut [IoSlice::new(&buffer[..part])])?;
        from += part as u64;
    }
    Ok(())
}
