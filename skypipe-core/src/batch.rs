//! Batches: the unit in which records travel and rest. Made by the writer, never changed after.
//!
//! Byte by byte (all numbers little-endian; `docs/wire.md` draws it):
//!
//! ```text
//!  0  u8   version
//!  1  u8   flags           1 end · 2 interrupted
//!  2  u16  extension bytes (each: u16 type, u16 length, value)
//!  4  u32  checksum        CRC32C of bytes 0..4 and 8..
//!  8  u32  length          of the whole batch
//! 12  u32  count           of records or pieces
//! 16  u8   session[16]
//! 32  u64  first           number of the first record
//! 40  u32  epoch
//! 44  …    extensions, then a table of u32 per record (length, bit 31 first piece, bit 30 last piece), then the bodies
//! ```
//!
//! The table stands before the bodies so that the bodies are one run of bytes: a reader of lines writes them to its
//! stdout with a single call.

use bytes::{BufMut, Bytes};

use crate::budget::Reservation;
use crate::buffers::Buffer;
use crate::error::{Code, Error};
use crate::headers::Headers;
use crate::id::{Epoch, Seq, SessionId};
use crate::time::WallTime;

/// The version in the first byte.
pub const BATCH_VERSION: u8 = 1;
/// Longest batch in bytes, header included: what one frame carries, one credit overdraws and one read returns.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Bytes before the extensions.
pub const BATCH_HEADER_BYTES: usize = 44;
/// Most bytes of extensions: they describe a batch, they do not carry data.
pub const EXTENSION_BYTES_MAX: usize = 4096;
/// Bytes of the table for each record.
pub const TABLE_ENTRY_BYTES: usize = 4;
/// Longest piece of a record in bytes; a longer record travels in several. Half a batch, so that a piece and lines
/// around it share one.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;

const FLAG_END: u8 = 1;
const FLAG_INTERRUPTED: u8 = 2;
const FIRST: u32 = 1 << 31;
const LAST: u32 = 1 << 30;
const LENGTH: u32 = LAST - 1;
const EXTENSION_END: u16 = 1;
const EXTENSION_NOT_BEFORE: u16 = 2;
const EXTENSION_HEADERS: u16 = 3;
const EXTENSION_BESIDE: u16 = 4;

/// Bytes before an extension's value.
const EXTENSION_HEAD_BYTES: usize = 4;
/// Bytes of the extensions with their heads.
const END_BYTES: usize = 16;
const NOT_BEFORE_BYTES: usize = 12;
/// Of extensions that are known only when a batch is made.
const LATE_BYTES_MAX: usize = END_BYTES + NOT_BEFORE_BYTES + EXTENSION_HEAD_BYTES;
/// Room for one in so many more than the batch before had.
const ROOM_SPARE: usize = 16;

/// How a writer ended its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum EndKind {
    /// The writer said that this is all.
    Finished = 0,
    /// The writer was told to stop (SIGINT, SIGTERM, SIGHUP) and sent what it had.
    Interrupted = 1,
    /// The writer vanished; only a broker says so.
    Aborted = 2,
}

impl EndKind {
    /// The kind of this stable number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Finished),
            1 => Some(Self::Interrupted),
            2 => Some(Self::Aborted),
            _ => None,
        }
    }
}

/// The end mark of an item: how much it holds in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMark {
    /// How it ended.
    pub kind: EndKind,
    /// Bytes of all records together.
    pub bytes: u64,
    /// CRC32C over the checksums of all batches of the item in order, this one's left out.
    pub digest: u32,
}

/// A run of records of one writer, with its checksum: encoded bytes that are cheap to clone and never change.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    encoded: Bytes,
    extension_bytes: u16,
    count: u32,
}

impl Batch {
    /// Checks encoded bytes and takes them as they are, without a copy.
    ///
    /// # Errors
    /// `E_FRAME_SIZE` when the length is over [`BATCH_BYTES_MAX`], `E_VERSION` for a newer version, `E_PROTOCOL` when lengths do
    /// not add up, `E_INTEGRITY` when the checksum is wrong.
    pub fn decode(encoded: Bytes) -> Result<Self, Error> {
        if encoded.len() > BATCH_BYTES_MAX {
            return Err(Error::new(Code::FrameSize, "a batch is longer than 512 KiB"));
        }
        if encoded.len() < BATCH_HEADER_BYTES {
            return Err(malformed("is shorter than its header"));
        }
        if encoded[0] != BATCH_VERSION {
            return Err(Error::new(Code::Version, format!("batch version {} is not known here", encoded[0])));
        }
        if u32_at(&encoded, 8) as usize != encoded.len() {
            return Err(malformed("has another length than it says"));
        }
        if u32_at(&encoded, 4) != checksum(&encoded) {
            return Err(Error::new(Code::Integrity, "the checksum of a batch is wrong"));
        }
        let batch = Self { extension_bytes: u16_at(&encoded, 2), count: u32_at(&encoded, 12), encoded };
        batch.lengths_add_up()?;
        Ok(batch)
    }

    /// The encoded bytes, as they travel and rest.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The same, whose memory is paid for by a part of `reserved` until the last clone of it is gone.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "for the drivers"))]
    pub(crate) fn paid_from(mut self, reserved: &mut Reservation) -> Self {
        self.encoded = reserved.split(self.encoded.len() as u64).own(self.encoded);
        self
    }

    /// The writer's session, which is also the item's identity.
    pub fn session(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.encoded[16..32]);
        SessionId(id)
    }

    /// The attach of the session in which the batch was made.
    pub fn epoch(&self) -> Epoch {
        Epoch(u32_at(&self.encoded, 40))
    }

    /// The number of the first record or piece; of the end mark, when there is no record.
    pub fn first(&self) -> Seq {
        let mut number = [0; 8];
        number.copy_from_slice(&self.encoded[32..40]);
        Seq(u64::from_le_bytes(number))
    }

    /// How many records and pieces it carries; the end mark is not counted.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The number that follows the last one in this batch, the end mark's own included.
    pub fn next(&self) -> Seq {
        self.first().plus(u64::from(self.count) + u64::from(self.is_end()))
    }

    /// Whether it carries the end mark of its item.
    pub fn is_end(&self) -> bool {
        self.encoded[1] & FLAG_END != 0
    }

    /// The end mark, if it carries one.
    pub fn end(&self) -> Option<EndMark> {
        let kind = if self.encoded[1] & FLAG_INTERRUPTED != 0 { EndKind::Interrupted } else { EndKind::Finished };
        let value = self.is_end().then(|| self.extension(EXTENSION_END)).flatten()?;
        (value.len() == 12).then(|| EndMark {
            kind,
            bytes: u64::from_le_bytes([value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7]]),
            digest: u32_at(&value, 8),
        })
    }

    /// The moment before which a queue hands it to nobody, if it names one.
    pub fn not_before(&self) -> Option<WallTime> {
        let value = self.extension(EXTENSION_NOT_BEFORE)?;
        <[u8; 8]>::try_from(&value[..]).ok().map(|ms| WallTime(u64::from_le_bytes(ms)))
    }

    /// Whether its one record is empty and stands for a long one, which lies beside the tape that this batch is on.
    pub fn is_beside(&self) -> bool {
        self.extension(EXTENSION_BESIDE).is_some()
    }

    /// What its writer says about its records; none, if nothing.
    pub fn headers(&self) -> Headers {
        self.extension(EXTENSION_HEADERS).map(Headers::of_extension).unwrap_or_default()
    }

    /// The checksum in the header.
    pub fn checksum(&self) -> u32 {
        u32_at(&self.encoded, 4)
    }

    /// The bodies of all records, one behind the other.
    pub fn bodies(&self) -> Bytes {
        self.encoded.slice(self.bodies_at()..)
    }

    /// Each record or piece in order: its number, flags and body, sharing the batch's memory.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let (mut at, first) = (self.bodies_at(), self.first());
        self.entries().zip(0..).map(move |(entry, index)| {
            let length = (entry & LENGTH) as usize;
            let body = self.encoded.slice(at..at + length);
            at += length;
            Piece { seq: first.plus(index), first: entry & FIRST != 0, last: entry & LAST != 0, body }
        })
    }

    /// How many records end at `from` or behind.
    pub fn ends_from(&self, from: Seq) -> u64 {
        let skipped = from.0.saturating_sub(self.first().0).min(u64::from(self.count)) as usize;
        self.entries().skip(skipped).filter(|entry| entry & LAST != 0).count() as u64
    }

    /// Whether all its records are whole: none is a piece of a longer one.
    pub fn are_whole(&self) -> bool {
        self.entries().all(|entry| entry & (FIRST | LAST) == FIRST | LAST)
    }

    /// Whether the last record goes on in the next batch.
    pub fn is_open(&self) -> bool {
        self.count > 0 && self.table(self.count as usize - 1) & LAST == 0
    }

    /// The number of the first record that begins in this batch, if one does.
    pub fn first_start(&self) -> Option<Seq> {
        self.entries().position(|entry| entry & FIRST != 0).map(|index| self.first().plus(index as u64))
    }

    /// The value of the first extension of this type.
    pub fn extension(&self, wanted: u16) -> Option<Bytes> {
        let mut at = BATCH_HEADER_BYTES;
        let end = at + self.extension_bytes as usize;
        while at + 4 <= end {
            let length = u16_at(&self.encoded, at + 2) as usize;
            if u16_at(&self.encoded, at) == wanted {
                return Some(self.encoded.slice(at + 4..at + 4 + length));
            }
            at += 4 + length;
        }
        None
    }

    fn table_at(&self) -> usize {
        BATCH_HEADER_BYTES + self.extension_bytes as usize
    }

    fn bodies_at(&self) -> usize {
        self.table_at() + self.count as usize * TABLE_ENTRY_BYTES
    }

    fn table(&self, index: usize) -> u32 {
        u32_at(&self.encoded, self.table_at() + index * TABLE_ENTRY_BYTES)
    }

    /// The whole table.
    fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        let (entries, _) = self.encoded[self.table_at()..self.bodies_at()].as_chunks();
        entries.iter().map(|entry| u32::from_le_bytes(*entry))
    }

    fn lengths_add_up(&self) -> Result<(), Error> {
        let extensions_end = self.table_at();
        let bodies_at = extensions_end as u64 + u64::from(self.count) * TABLE_ENTRY_BYTES as u64;
        if self.extension_bytes as usize > EXTENSION_BYTES_MAX || bodies_at > self.encoded.len() as u64 {
            return Err(malformed("has lengths that do not fit"));
        }
        let mut at = BATCH_HEADER_BYTES;
        while at < extensions_end {
            if at + 4 > extensions_end {
                return Err(malformed("has a torn extension"));
            }
            at += 4 + u16_at(&self.encoded, at + 2) as usize;
        }
        if at != extensions_end {
            return Err(malformed("has a torn extension"));
        }
        let bodies: u64 = self.entries().map(|entry| u64::from(entry & LENGTH)).sum();
        if bodies_at + bodies != self.encoded.len() as u64 {
            return Err(malformed("has bodies of another length than its table"));
        }
        if self.first().0.checked_add(u64::from(self.count) + 1).is_none() {
            return Err(malformed("has numbers past the end of numbers"));
        }
        if self.is_end() && (self.end().is_none() || self.is_open()) {
            return Err(malformed("has a malformed end mark"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.is_end() { " end" } else { "" };
        write!(f, "Batch({} {}..{}{end}, {} B)", self.session(), self.first().0, self.next().0, self.encoded.len())
    }
}

/// One record, or one piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number in the session.
    pub seq: Seq,
    /// Whether the record begins with it.
    pub first: bool,
    /// Whether the record ends with it.
    pub last: bool,
    /// Its bytes.
    pub body: Bytes,
}

/// Gathers records into one batch.
///
/// Bodies are copied once, to where they stay: behind as much room as header and table are likely to need, which are written last.
#[derive(Debug)]
pub struct BatchBuilder {
    session: SessionId,
    epoch: Epoch,
    first: Seq,
    table: Vec<u32>,
    /// Room for header and table, and the bodies behind it. Empty until something is pushed.
    buffer: Buffer,
    bodies_at: usize,
    room: Room,
    not_before: Option<WallTime>,
    headers: Headers,
    is_beside: bool,
}

/// What a batch is likely to need.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    entries: usize,
    bodies: usize,
}

impl Room {
    /// With some to spare, so that the next one, which is never quite the same, fits too.
    fn of(entries: usize, bodies: usize) -> Self {
        Self { entries: entries + entries / ROOM_SPARE, bodies: bodies + bodies / ROOM_SPARE }
    }
}

impl BatchBuilder {
    /// An empty batch whose first record will have the number `first`.
    pub fn new(session: SessionId, epoch: Epoch, first: Seq) -> Self {
        Self {
            session,
            epoch,
            first,
            table: Vec::new(),
            buffer: Buffer::default(),
            bodies_at: 0,
            room: Room::default(),
            not_before: None,
            headers: Headers::new(),
            is_beside: false,
        }
    }

    /// The same, with room for as much as the batch before it had: the next one is likely to be like it.
    #[must_use]
    pub fn like(mut self, before: &Self) -> Self {
        self.room = if before.is_empty() { before.room } else { Room::of(before.table.len(), before.bodies_bytes()) };
        self
    }

    /// The same, handed out by a queue not before this moment.
    #[must_use]
    pub fn not_before(mut self, moment: Option<WallTime>) -> Self {
        self.not_before = moment;
        self
    }

    /// The same, with these headers for all its records.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// The same, standing for a long record: see [`Batch::is_beside`].
    #[must_use]
    pub fn beside(mut self) -> Self {
        self.is_beside = true;
        self
    }

    /// Whether a piece of this length still fits, with room for the extensions.
    pub fn fits(&self, length: usize) -> bool {
        self.encoded_bytes() + TABLE_ENTRY_BYTES + length + LATE_BYTES_MAX <= BATCH_BYTES_MAX
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How long the batch is so far, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.headers_bytes() + self.table.len() * TABLE_ENTRY_BYTES + self.bodies_bytes()
    }

    /// Adds a record or piece, copying its bytes once. Returns false, and adds nothing, when it does not fit or is longer than
    /// [`PIECE_BYTES_MAX`].
    #[must_use]
    pub fn push(&mut self, body: &[u8], first: bool, last: bool) -> bool {
        if body.len() > PIECE_BYTES_MAX || !self.fits(body.len()) {
            return false;
        }
        if self.table.is_empty() {
            self.make_room(body.len());
        }
        let flags = if first { FIRST } else { 0 } | if last { LAST } else { 0 };
        self.table.push(body.len() as u32 | flags);
        self.buffer.extend_from_slice(body);
        true
    }

    /// The number behind the last piece pushed.
    pub fn next(&self) -> Seq {
        self.first.plus(self.table.len() as u64)
    }

    /// Makes the batch, with the item's end mark if `end` is given. `bytes` and `digest` of the mark are taken as they are:
    /// see [`ItemDigest`].
    pub fn build(mut self, end: Option<EndMark>) -> Batch {
        let (count, extension_bytes) = (self.table.len(), self.extension_bytes(end.is_some()));
        let bodies_at = BATCH_HEADER_BYTES + extension_bytes + count * TABLE_ENTRY_BYTES;
        let length = bodies_at + self.bodies_bytes();
        self.room_for(bodies_at);
        let start = self.bodies_at - bodies_at;
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write_head(&mut buffer[start..start + bodies_at], length, extension_bytes, end);
        let sum = checksum(&buffer[start..]);
        buffer[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        let is_roomy = buffer.capacity() > 2 * length;
        let encoded = if is_roomy { Bytes::copy_from_slice(&buffer[start..]) } else { buffer.freeze_from(start) };
        Batch { encoded, extension_bytes: extension_bytes as u16, count: count as u32 }
    }

    fn headers_bytes(&self) -> usize {
        if self.headers.is_empty() { 0 } else { EXTENSION_HEAD_BYTES + self.headers.encoded().len() }
    }

    /// Bytes of all extensions.
    fn extension_bytes(&self, has_end: bool) -> usize {
        let end = if has_end { END_BYTES } else { 0 };
        let not_before = if self.not_before.is_some() { NOT_BEFORE_BYTES } else { 0 };
        let beside = if self.is_beside { EXTENSION_HEAD_BYTES } else { 0 };
        end + not_before + beside + self.headers_bytes()
    }

    fn bodies_bytes(&self) -> usize {
        self.buffer.len() - self.bodies_at
    }

    /// Before the first body, which is so long.
    fn make_room(&mut self, length: usize) {
        let Room { entries, bodies } = self.room;
        let extension_bytes = self.headers_bytes() + LATE_BYTES_MAX;
        self.bodies_at = BATCH_HEADER_BYTES + extension_bytes + entries.max(1) * TABLE_ENTRY_BYTES;
        self.table.reserve(entries);
        self.buffer = Buffer::with_capacity(self.bodies_at + bodies.max(length));
        self.buffer.resize(self.bodies_at, 0);
    }

    /// Makes sure that so many bytes are there before the bodies, which are moved if not.
    fn room_for(&mut self, bytes: usize) {
        let (at, end) = (self.bodies_at, self.buffer.len());
        let missing = bytes.saturating_sub(at);
        if missing > 0 {
            self.buffer.resize(end + missing, 0);
            self.buffer.copy_within(at..end, at + missing);
            self.bodies_at += missing;
        }
    }

    fn write_head(&self, mut out: &mut [u8], length: usize, extension_bytes: usize, end: Option<EndMark>) {
        out.put_u8(BATCH_VERSION);
        out.put_u8(match end.map(|e| e.kind) {
            None => 0,
            Some(EndKind::Interrupted) => FLAG_END | FLAG_INTERRUPTED,
            Some(_) => FLAG_END,
        });
        out.put_u16_le(extension_bytes as u16);
        out.put_u32_le(0);
        out.put_u32_le(length as u32);
        out.put_u32_le(self.table.len() as u32);
        out.put_slice(&self.session.0);
        out.put_u64_le(self.first.0);
        out.put_u32_le(self.epoch.0);
        if let Some(end) = end {
            out.put_u16_le(EXTENSION_END);
            out.put_u16_le(12);
            out.put_u64_le(end.bytes);
            out.put_u32_le(end.digest);
        }
        if let Some(moment) = self.not_before {
            out.put_u16_le(EXTENSION_NOT_BEFORE);
            out.put_u16_le(8);
            out.put_u64_le(moment.0);
        }
        if self.is_beside {
            out.put_u16_le(EXTENSION_BESIDE);
            out.put_u16_le(0);
        }
        if !self.headers.is_empty() {
            out.put_u16_le(EXTENSION_HEADERS);
            out.put_u16_le(self.headers.encoded().len() as u16);
            out.put_slice(self.headers.encoded());
        }
        for (slot, entry) in out.as_chunks_mut().0.iter_mut().zip(&self.table) {
            *slot = entry.to_le_bytes();
        }
    }
}

/// Sums up the batches of one item, at the writer to make its end mark and at a reader to check it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemDigest {
    bytes: u64,
    digest: u32,
}

impl ItemDigest {
    /// Counts a batch that carries no end mark. The last batch's own bodies are counted with [`ItemDigest::end`].
    pub fn add(&mut self, batch: &Batch) {
        self.bytes += batch.bodies().len() as u64;
        self.digest = crc32c::crc32c_append(self.digest, &batch.checksum().to_le_bytes());
    }

    /// The end mark of an item whose last batch carries `last_bytes` of bodies beside it.
    pub fn end(&self, kind: EndKind, last_bytes: u64) -> EndMark {
        EndMark { kind, bytes: self.bytes + last_bytes, digest: self.digest }
    }

    /// Whether `last`, which carries the end mark, ends what was summed up.
    pub fn matches(&self, last: &Batch) -> bool {
        last.end().is_some_and(|mark| mark == self.end(mark.kind, last.bodies().len() as u64))
    }
}

/// CRC32C (as of RFC 3720) of all but itself.
fn checksum(encoded: &[u8]) -> u32 {
    let mut sum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    sum.update(&encoded[..4]);
    sum.update(&encoded[8..]);
    sum.finalize() as u32
}

fn malformed(what: &str) -> Error {
    Error::new(Code::Protocol, format!("a batch {what}"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn builder() -> BatchBuilder {
        BatchBuilder::new(SessionId([7; 16]), Epoch(3), Seq(10))
    }

    #[test]
    fn a_batch_survives_its_encoding() {
        let mut builder = builder();
        assert!(
            builder.push(b"one\n", true, true) && builder.push(b"", true, true) && builder.push(b"tw", true, false)
        );
        let batch = builder.build(None);
        let again = Batch::decode(batch.encoded().clone()).unwrap();
        assert_eq!(again, batch);
        assert_eq!((again.first(), again.next(), again.epoch()), (Seq(10), Seq(13), Epoch(3)));
        assert!(again.is_open() && !again.is_end());
        assert_eq!(&again.bodies()[..], b"one\ntw");
        let pieces: Vec<_> = again.pieces().map(|p| (p.seq.0, p.first, p.last, p.body.to_vec())).collect();
        assert_eq!(
            pieces,
            [(10, true, true, b"one\n".to_vec()), (11, true, true, vec![]), (12, true, false, b"tw".to_vec())]
        );
    }

    #[test]
    fn the_end_mark_counts_and_sums() {
        let mut digest = ItemDigest::default();
        let mut one = BatchBuilder::new(SessionId([7; 16]), Epoch(1), Seq(0));
        assert!(one.push(b"abc", true, true));
        let one = one.build(None);
        digest.add(&one);
        let mut two = BatchBuilder::new(SessionId([7; 16]), Epoch(1), one.next());
        assert!(two.push(b"de", true, true));
        let two = two.build(Some(digest.end(EndKind::Interrupted, 2)));
        let mark = Batch::decode(two.encoded().clone()).unwrap().end().unwrap();
        assert_eq!((mark.kind, mark.bytes), (EndKind::Interrupted, 5));
        assert_eq!(two.next(), Seq(3));
        assert!(digest.matches(&two) && !ItemDigest::default().matches(&two));
    }

    #[test]
    fn the_checksum_is_that_of_another_implementation() {
        for length in [0, 1, 100, 5000, 200_000] {
            let body: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let mut builder = builder();
            assert!(builder.push(&body, true, true));
            let batch = builder.build(None);
            let expected = crc32c::crc32c_append(crc32c::crc32c(&batch.encoded()[..4]), &batch.encoded()[8..]);
            assert_eq!(batch.checksum(), expected);
        }
    }

    #[test]
    fn a_batch_like_the_one_before_is_made_where_it_stays_and_another_one_too() {
        let mut before = builder();
        for (records, length) in
            [(1, 10), (1, 200_000), (3, 80_000), (2000, 100), (1, 5), (16_000, 1), (1, 256 * 1024), (10, 10)]
        {
            let mut builder = builder().like(&before);
            let body = vec![b'x'; length];
            (0..records).for_each(|_| assert!(builder.push(&body, true, true)));
            before = self::builder().like(&builder);
            let encoded_bytes = builder.encoded_bytes();
            let batch = builder.build(None);
            assert_eq!((batch.count(), batch.encoded().len()), (records, encoded_bytes));
            assert_eq!(Batch::decode(Bytes::copy_from_slice(batch.encoded())).unwrap(), batch);
            assert!(batch.pieces().all(|piece| piece.body == body));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut builder = builder();
        assert!(builder.push(b"some bytes", true, true));
        let good = builder.build(Some(ItemDigest::default().end(EndKind::Finished, 10))).encoded().to_vec();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::decode(bad.into()).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 44..200), length_right in any::<bool>()) {
            bytes[0] = BATCH_VERSION;
            if length_right {
                let length = bytes.len() as u32;
                bytes[8..12].copy_from_slice(&length.to_le_bytes());
                let sum = checksum(&bytes);
                bytes[4..8].copy_from_slice(&sum.to_le_bytes());
            }
            if let Ok(batch) = Batch::decode(bytes.into()) {
                let total: usize = batch.pieces().map(|p| p.body.len()).sum();
                prop_assert_eq!(total, batch.bodies().len());
            }
        }
    }
}
