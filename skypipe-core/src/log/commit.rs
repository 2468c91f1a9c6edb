//! The one who writes, a round at a time: takes what is queued, writes it at once, syncs once, tells the owner.
//!
//! ```text
//!   small group    write · sync · tell
//!   large group    write · sync beside ············ tell
//!                          write · write            sync beside ············ tell
//! ```
//!
//! A small group is synced in place, so that nobody waits for a wake-up. A large one is synced beside, and what comes meanwhile is written
//! ahead, as soon as it is worth a write: the next sync covers it. So a stream keeps the disk busy all the time.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::contents::Contents;
use super::disk::{DiskFile, is_full, write_all_at};
use super::format::{CONTENTS_SHARE, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX, aligned, seed_of, segment_name};
use super::index::Place;
use super::reclaim::Moving;
use super::recover::OpenHead;
use super::syncer::Syncer;
use super::{Core, LogOwner, Queued, State, broken, lock, storage};
use crate::descriptors::is_lack;
use crate::error::{Code, Error};
use crate::id::{ItemNo, Lsn, PipeId};

/// Most payload bytes of one commit group: what is torn when the power goes, and is looked at when the log is opened.
const GROUP_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most entries of one commit group, so that their headers stay in the processor's cache.
const GROUP_ENTRIES_MAX: usize = 4096;
/// Room is reserved in such steps: syncing into reserved room is quicker, and a log of a few records stays small.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Zeros that are written behind a small group. The next small groups replace them, and their syncs have nothing but their bytes to write: neither
/// a length nor which blocks of the disk are in use. That takes 0.5 to 0.7 of the time (see docs/decisions.md).
const ZEROS_BYTES: u64 = 256 * 1024;
/// What so many of them are written from.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
/// A group of more brings so many bytes that zeros would cost more than they save.
const ZEROS_GROUP_BYTES_MAX: u64 = ZEROS_BYTES / 8;
/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The broker's own entries are those of this pipe.
const BROKER: PipeId = PipeId(0);

/// Where is written.
pub(super) struct Head {
    /// The highest number a segment ever had here.
    pub(super) last: u64,
    /// The segment that is written; none before the first entry.
    pub(super) open: Option<OpenHead>,
}

/// The state of who writes. `driver.rs` has it do its rounds.
pub(super) struct Committer {
    pub(super) core: Arc<Core>,
    owner: Option<Weak<dyn LogOwner>>,
    head: Head,
    /// Whether something was written since the last mark of an orderly close.
    dirty: bool,
    /// All up to this entry is on disk.
    pub(super) committed: Lsn,
    /// The segment that is being emptied.
    pub(super) moving: Option<Moving>,
    /// A group for which the disk has no room.
    stalled: Option<Vec<Queued>>,
    /// What is written and no sync covers yet: of one segment.
    written: Vec<Written>,
    /// What is synced beside; nothing while none is.
    syncing: Vec<Written>,
    /// Syncs beside; none where all is done within one task.
    syncer: Option<Syncer>,
    /// Encoded headers of a group, kept for the next one.
    headers: Vec<u8>,
}

/// What was written at once.
struct Written {
    group: Vec<Queued>,
    /// Where each entry stands.
    offsets: Vec<u64>,
    /// Where it begins in its segment, and where it ends.
    from: u64,
    to: u64,
}

/// What follows a round.
pub(super) enum Next {
    /// Another round.
    Again,
    /// Another when there is [work](Committer::has_work).
    Wait,
    /// Another after so long, or when the log is closing.
    Pause(Duration),
    /// Nothing: the log is closed or has failed.
    Over,
}

/// Why no more is written.
pub(super) enum Stop {
    /// The log is closing and the disk is full.
    Closing,
    /// A write or a sync failed.
    Failed(Error),
}

enum Work {
    Land(io::Result<()>),
    Commit(Vec<Queued>),
    Tidy,
    Stop,
    Nothing,
}

enum WriteError {
    Full(Error),
    Failed(Error),
}

impl Committer {
    /// With `syncer`, large groups are synced beside.
    pub(super) fn new(core: Arc<Core>, owner: Option<Weak<dyn LogOwner>>, head: Head, syncer: Option<Syncer>) -> Self {
        Self {
            core,
            owner,
            head,
            dirty: false,
            committed: Lsn(0),
            moving: None,
            stalled: None,
            written: Vec::new(),
            syncing: Vec::new(),
            syncer,
            headers: Vec::new(),
        }
    }

    /// Does what is next. Not to be called again after [`Next::Over`].
    pub(super) fn round(&mut self) -> Next {
        let stop = match self.do_next() {
            Ok(Next::Over) => None,
            Ok(next) => return next,
            Err(stop) => Some(stop),
        };
        lock(&self.core.state).refuse();
        if let Some(Stop::Failed(error)) = stop {
            self.tell(|owner| owner.failed(&error));
        }
        Next::Over
    }

    /// Whether a round would do something now.
    pub(super) fn has_work(&self, state: &State) -> bool {
        if !state.beside.is_idle() {
            return state.beside.is_over() || self.ahead(state).is_some();
        }
        !state.queue.is_empty() || state.closing || self.wants_tidying(state)
    }

    fn do_next(&mut self) -> Result<Next, Stop> {
        match self.next_work()? {
            Work::Land(synced) => self.land(synced),
            Work::Commit(group) => self.commit(group),
            Work::Tidy => self.tidy().map(|()| Next::Again),
            Work::Stop => self.mark_closed().map(|()| Next::Over),
            Work::Nothing => Ok(Next::Wait),
        }
    }

    fn next_work(&mut self) -> Result<Work, Stop> {
        let mut state = lock(&self.core.state);
        if let Some(synced) = state.beside.take() {
            return Ok(Work::Land(synced));
        }
        if !state.beside.is_idle() {
            let ahead = self.ahead(&state);
            return Ok(ahead.map_or(Work::Nothing, |bytes_max| Work::Commit(take_group(&mut state, bytes_max))));
        }
        if self.stalled.is_some() && state.closing {
            return Err(Stop::Closing);
        }
        // It stays a stalled one until it is written.
        if let Some(group) = &mut self.stalled {
            return Ok(Work::Commit(std::mem::take(group)));
        }
        Ok(match () {
            () if !state.queue.is_empty() => Work::Commit(take_group(&mut state, GROUP_BYTES_MAX)),
            () if state.closing => Work::Stop,
            () if self.wants_tidying(&state) => Work::Tidy,
            () => Work::Nothing,
        })
    }

    /// How many bytes of what is queued may be written ahead, if that is worth it. What does not fit into the segment waits: all of a segment
    /// is on disk before the next one begins.
    fn ahead(&self, state: &State) -> Option<u64> {
        let front = state
            .queue
            .front()
            .filter(|_| state.queued_bytes >= self.core.options.beside_bytes && self.stalled.is_none())?;
        let head = self.head.open.as_ref()?;
        let written: u64 = self.written.iter().map(|written| written.to - written.from).sum();
        let left = GROUP_BYTES_MAX.saturating_sub(written);
        let left = left.min(self.core.options.segment_bytes.saturating_sub(head.end));
        (front.header.span() <= left).then_some(left)
    }

    /// Writes a group, has it synced and tells the owner. If the disk is full, the group waits for another round.
    fn commit(&mut self, group: Vec<Queued>) -> Result<Next, Stop> {
        match self.write(group) {
            Ok(written) => {
                self.written.push(written);
                if self.stalled.take().is_some() {
                    self.tell(|owner| owner.resumed());
                }
                if self.syncing.is_empty() { self.sync() } else { Ok(Next::Again) }
            }
            Err((_, WriteError::Failed(error))) => Err(Stop::Failed(error)),
            Err((group, WriteError::Full(error))) => {
                if self.stalled.replace(group).is_none() {
                    self.tell(|owner| owner.stalled(&error));
                }
                // Frees what can be freed.
                self.tidy().map(|()| Next::Pause(FULL_RETRY))
            }
        }
    }

    /// Syncs what is written: beside where it is much, else in place and at once.
    fn sync(&mut self) -> Result<Next, Stop> {
        if self.syncs_beside() {
            return Ok(Next::Again);
        }
        if let Some(head) = &mut self.head.open {
            head.file.sync().map_err(|e| Stop::Failed(broken("the log cannot be synced", e)))?;
            head.synced = head.end;
        }
        let on_disk = std::mem::take(&mut self.written);
        self.settle(on_disk)
    }

    /// Begins to sync what is written beside, if it is much.
    fn syncs_beside(&mut self) -> bool {
        let bytes: u64 = self.written.iter().map(|written| written.to - written.from).sum();
        let (Some(head), Some(syncer)) = (&self.head.open, &mut self.syncer) else { return false };
        let begun = bytes >= self.core.options.beside_bytes && syncer.begin(&self.core, head.file.clone());
        if begun {
            self.syncing = std::mem::take(&mut self.written);
        }
        begun
    }

    /// A sync beside is over. The next one begins before anybody is told.
    fn land(&mut self, synced: io::Result<()>) -> Result<Next, Stop> {
        synced.map_err(|e| Stop::Failed(broken("the log cannot be synced", e)))?;
        let on_disk = std::mem::take(&mut self.syncing);
        if let (Some(head), Some(last)) = (&mut self.head.open, on_disk.last()) {
            head.synced = last.to;
        }
        let begun = self.syncs_beside();
        let next = self.settle(on_disk)?;
        if begun || self.written.is_empty() { Ok(next) } else { self.sync() }
    }

    /// These are on disk: the index and the owner learn of it, and a little room is given back.
    fn settle(&mut self, on_disk: Vec<Written>) -> Result<Next, Stop> {
        on_disk.into_iter().for_each(|written| self.settle_one(written));
        self.tidy().map(|()| Next::Again)
    }

    /// The index learns where, the owner that.
    fn settle_one(&mut self, Written { group, offsets, .. }: Written) {
        let segment = self.head.last;
        let mut stored: Vec<(PipeId, Lsn)> = Vec::new();
        let mut state = lock(&self.core.state);
        for (queued, &offset) in group.iter().zip(&offsets) {
            let place = Place { segment, offset };
            self.committed = self.committed.max(queued.lsn);
            if let Some(from) = queued.from {
                state.index.moved(from, place, &queued.header);
                continue;
            }
            state.index.committed(place, &queued.header);
            // A pipe's entries stand together in a group.
            match stored.last_mut().filter(|(pipe, _)| *pipe == queued.header.pipe) {
                Some((_, upto)) => *upto = queued.lsn.max(*upto),
                None => stored.push((queued.header.pipe, queued.lsn)),
            }
        }
        state.committed(self.committed);
        drop(state);
        self.tell(|owner| stored.iter().for_each(|&(pipe, upto)| owner.stored(pipe, upto)));
    }

    /// Writes a group; gives it back where that goes wrong.
    fn write(&mut self, group: Vec<Queued>) -> Result<Written, (Vec<Queued>, WriteError)> {
        match self.try_write(&group) {
            Ok((offsets, from, to)) => Ok(Written { group, offsets, from, to }),
            Err(error) => Err((group, error)),
        }
    }

    /// Returns where each entry stands, where the first begins, and where the last ends.
    fn try_write(&mut self, group: &[Queued]) -> Result<(Vec<u64>, u64, u64), WriteError> {
        if group.iter().any(|q| q.payload.len() > PAYLOAD_BYTES_MAX as usize) {
            return Err(WriteError::Failed(Error::new(Code::Storage, "an entry is too long for the log")));
        }
        self.make_room(group)?;
        let Some(head) = &mut self.head.open else {
            return Err(WriteError::Failed(Error::new(Code::Internal, "the log has no segment to write to")));
        };
        let (offsets, end) = encode(group, head, &mut self.headers);
        let mut buffers = interleave(group, &offsets, &self.headers);
        let zeros = zeros_behind(head, end);
        buffers.extend((0..zeros).step_by(ZEROS.len()).map(|at| IoSlice::new(&ZEROS[..ZEROS.len().min(zeros - at)])));
        write_all_at(&*head.file, head.end, &mut buffers).map_err(|e| failure("the log cannot be written", e))?;
        let from = std::mem::replace(&mut head.end, end);
        head.length = head.length.max(end + zeros as u64);
        let facts = group.iter().zip(&offsets).filter(|(q, _)| q.header.kind == Kind::Fact);
        head.facts.extend(facts.map(|(_, &offset)| offset));
        self.dirty = true;
        Ok((offsets, from, end))
    }

    /// Sees to it that a group has a segment and room.
    fn make_room(&mut self, group: &[Queued]) -> Result<(), WriteError> {
        let bytes = group.iter().map(|q| q.header.span()).sum();
        let segment_bytes = self.core.options.segment_bytes;
        let full = |head: &OpenHead| head.end > head.start && head.end + bytes > segment_bytes;
        let open = self.head.open.as_ref().filter(|head| !full(head));
        if open.is_some_and(|head| head.end + bytes <= head.reserved) {
            return Ok(());
        }
        self.check_room(bytes, group)?;
        if open.is_none() {
            self.begin_segment()?;
        }
        if let Some(head) = &mut self.head.open {
            head.reserved = (head.end + bytes).next_multiple_of(RESERVE_BYTES).min(segment_bytes).max(head.end + bytes);
            // Where room cannot be reserved, writing tells; and there is none for zeros.
            head.has_room = head.file.reserve(head.reserved).unwrap_or(false);
        }
        Ok(())
    }

    /// Keeps off the last percents of the disk. What frees room later, facts and moves, may use half of them.
    fn check_room(&self, bytes: u64, group: &[Queued]) -> Result<(), WriteError> {
        let Ok(room) = self.core.disk.room() else { return Ok(()) };
        let percent = u64::from(self.core.options.free_percent);
        let kept = room.total / 100 * percent;
        let left = room.free.saturating_sub(bytes);
        if left >= kept || (left >= kept / 2 && self.is_urgent(group)) {
            return Ok(());
        }
        Err(WriteError::Full(Error::new(Code::NoSpace, format!("less than {percent} % of the disk is free"))))
    }

    fn is_urgent(&self, group: &[Queued]) -> bool {
        let waits = || lock(&self.core.state).queue.iter().any(Queued::is_urgent);
        group.iter().any(Queued::is_urgent) || waits()
    }

    fn begin_segment(&mut self) -> Result<(), WriteError> {
        let number = self.head.last + 1;
        let name = segment_name(number);
        let contents = self.contents_of_head();
        if let Some(full) = &mut self.head.open {
            close(full).map_err(|e| failed("a full segment cannot be cut to its length", e))?;
        }
        let file: Arc<dyn DiskFile> = match self.core.disk.create(&name) {
            Ok(file) => file.into(),
            Err(e) => return Err(failure("no segment can be begun", e)),
        };
        let seed = seed_of(self.core.salt, number);
        let (header, payload, end) = first_entries(number, self.core.salt, seed, contents);
        if let Err(e) = write_all_at(&*file, 0, &mut [IoSlice::new(&header), IoSlice::new(&payload)]) {
            self.core.disk.remove(&name).map_err(|e| failed("a segment cannot be removed", e))?;
            return Err(failure("no segment can be begun", e));
        }
        file.sync().map_err(|e| failed("a new segment cannot be synced", e))?;
        self.core.disk.sync_folder().map_err(|e| failed("the data folder cannot be synced", e))?;
        self.head.last = number;
        self.head.open = Some(OpenHead::new(number, file, seed, end));
        let mut state = lock(&self.core.state);
        state.index.grow(number, end);
        state.head_number = number;
        state.idle_moves = false;
        Ok(())
    }

    /// What the segment that is full now holds, if telling it pays.
    fn contents_of_head(&self) -> Option<Contents> {
        let head = self.head.open.as_ref()?;
        let spans = lock(&self.core.state).index.spans_in(head.number);
        let contents = Contents { segment: head.number, end: head.end, facts: head.facts.clone(), spans };
        (contents.encoded_bytes() as u64 <= head.end / CONTENTS_SHARE).then_some(contents)
    }

    /// Leaves a mark that all before it is synced, so that opening need not doubt the last group.
    fn mark_closed(&mut self) -> Result<(), Stop> {
        let Some(head) = self.head.open.as_mut().filter(|_| self.dirty) else { return Ok(()) };
        let mut mark = Vec::with_capacity(HEADER_BYTES);
        Header { group: head.end, ..Header::closed() }.encode(head.seed, head.end, &mut mark);
        // Without room there is no mark, and no harm.
        if write_all_at(&*head.file, head.end, &mut [IoSlice::new(&mark)]).is_ok() {
            let _ = head.file.truncate(head.end + mark.len() as u64);
            head.file.sync().map_err(|e| Stop::Failed(broken("the log cannot be synced", e)))?;
        }
        Ok(())
    }

    /// Calls the owner, if there is one.
    pub(super) fn tell(&self, call: impl FnOnce(&dyn LogOwner)) {
        if let Some(owner) = self.owner.as_ref().and_then(Weak::upgrade) {
            call(&*owner);
        }
    }
}

impl State {
    /// From now on nothing is kept.
    fn refuse(&mut self) {
        self.failed = true;
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

impl Queued {
    /// Whether room comes back once it is written.
    fn is_urgent(&self) -> bool {
        self.from.is_some() || self.header.kind == Kind::Fact
    }
}

/// Takes what fits into one group off the queue, the entries of a pipe together, those of an item together where facts allow.
///
/// Those of the broker stand first: of a group that is torn the front may be kept, and that a session ended must not be lost where that
/// its pipe let go of it is known.
fn take_group(state: &mut State, bytes_max: u64) -> Vec<Queued> {
    let mut group: Vec<((usize, u32, ItemNo), Queued)> = Vec::new();
    let mut pipes: HashMap<PipeId, (usize, u32)> = HashMap::new();
    let mut bytes = 0;
    while let Some(next) = state.queue.front() {
        let span = next.header.span();
        if !group.is_empty() && (bytes + span > bytes_max || group.len() == GROUP_ENTRIES_MAX) {
            break;
        }
        bytes += span;
        let order = if next.header.pipe == BROKER { 0 } else { 1 + pipes.len() };
        let (order, run) = pipes.entry(next.header.pipe).or_insert((order, 0));
        let is_fact = u32::from(next.header.kind == Kind::Fact);
        *run += is_fact;
        let key = (*order, *run, next.header.item);
        *run += is_fact;
        group.extend(state.queue.pop_front().map(|queued| (key, queued)));
    }
    state.queued_bytes -= bytes;
    group.sort_by_key(|(key, _)| *key);
    group.into_iter().map(|(_, queued)| queued).collect()
}

/// Encodes the headers of a group, each behind the zeros that fill up the entry before; returns where each entry stands and where
/// the next group begins. Each tells how far the segment is on disk: where the group before is not, it is looked at with this one.
fn encode(group: &[Queued], head: &OpenHead, out: &mut Vec<u8>) -> (Vec<u64>, u64) {
    out.clear();
    let mut offsets = Vec::with_capacity(group.len());
    let mut at = head.end;
    for queued in group {
        let offset = aligned(at);
        out.resize(out.len() + (offset - at) as usize, 0);
        Header { group: head.synced, ..queued.header }.encode(head.seed, offset, out);
        offsets.push(offset);
        at = offset + HEADER_BYTES as u64 + queued.payload.len() as u64;
    }
    (offsets, aligned(at))
}

/// How many zeros follow a group that ends at `end`: none while there are some, or where much is written at once.
fn zeros_behind(head: &OpenHead, end: u64) -> usize {
    if end <= head.length || !head.has_room || end - head.end > ZEROS_GROUP_BYTES_MAX {
        return 0;
    }
    head.reserved.saturating_sub(end).min(ZEROS_BYTES) as usize
}

/// Cuts a full segment to its entries: off what was reserved, which only takes room, and off zeros, which would look like something lost.
fn close(full: &mut OpenHead) -> io::Result<()> {
    let cut = full.file.truncate(full.end);
    if full.length <= full.end {
        return Ok(());
    }
    cut?;
    full.length = full.end;
    full.file.sync()
}

/// The first bytes of a segment: its own entry, the header and the payload of the contents of the one before, and where the next
/// entry stands.
pub(super) fn first_entries(number: u64, salt: u64, seed: u32, contents: Option<Contents>) -> (Vec<u8>, Bytes, u64) {
    let mut headers = Vec::with_capacity(2 * HEADER_BYTES);
    Header::of_segment(number, salt).encode(0, 0, &mut headers);
    let at = HEADER_BYTES as u64;
    let Some(contents) = contents else { return (headers, Bytes::new(), at) };
    let (header, payload) = contents.encode();
    Header { group: at, ..header }.encode(seed, at, &mut headers);
    (headers, payload, at + header.span())
}

/// Headers and payloads in turn, none of them copied.
fn interleave<'a>(group: &'a [Queued], offsets: &[u64], headers: &'a [u8]) -> Vec<IoSlice<'a>> {
    let mut buffers = Vec::with_capacity(group.len() * 2);
    let mut rest = headers;
    let mut at = offsets.first().copied().unwrap_or(0);
    for (queued, &offset) in group.iter().zip(offsets) {
        let (header, behind) = rest.split_at((offset - at) as usize + HEADER_BYTES);
        rest = behind;
        at = offset + HEADER_BYTES as u64 + queued.payload.len() as u64;
        buffers.push(IoSlice::new(header));
        buffers.push(IoSlice::new(&queued.payload));
    }
    buffers
}

fn failure(what: &str, error: io::Error) -> WriteError {
    if is_lack(&error) {
        // Nothing was written, and descriptors come back: no reason to give the log up.
        return WriteError::Full(Error::new(Code::NoSpace, format!("{what}: {error}")).because(error));
    }
    if is_full(&error) { WriteError::Full(storage(what, error)) } else { failed(what, error) }
}

fn failed(what: &str, error: io::Error) -> WriteError {
    WriteError::Failed(broken(what, error))
}
