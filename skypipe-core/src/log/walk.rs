//! Goes through a segment entry by entry, over damage as well.

use std::io;

use bytes::Bytes;

use super::disk::{DiskFile, read_exact_at, read_some};
use super::format::{ALIGN, HEADER_BYTES, Header};
use crate::buffers::Buffer;

/// First read after a jump over a payload: a header and the short entries behind it.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// Longest read where entries are short and stand close.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Goes through `pos..end` of one file.
pub(super) struct Walker<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    pos: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    chunk: usize,
}

/// What is found at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An entry whose header is good; its payload was not looked at.
    Entry(u64, Header),
    /// From here to there nothing is an entry.
    Damage(u64, u64),
}

impl<'a> Walker<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, seed: u32, pos: u64, end: u64) -> Self {
        Self { file, seed, pos, end, buffer: Vec::new(), buffer_at: 0, chunk: CHUNK_BYTES_MIN }
    }

    /// Goes on at `pos`.
    pub(super) fn go_to(&mut self, pos: u64) {
        self.pos = pos;
    }

    /// Whether an entry stands here, without a search for one.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn at_entry(&mut self) -> io::Result<bool> {
        Ok(self.header_at(self.pos)?.is_some())
    }

    /// Where the next step begins.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// The next entry or stretch of damage; `None` at the end.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn next(&mut self) -> io::Result<Option<Step>> {
        if self.pos >= self.end {
            return Ok(None);
        }
        let from = self.pos;
        if let Some(header) = self.header_at(from)? {
            self.pos += header.span();
            return Ok(Some(Step::Entry(from, header)));
        }
        while self.pos < self.end {
            self.pos += ALIGN;
            if self.header_at(self.pos)?.is_some() {
                return Ok(Some(Step::Damage(from, self.pos)));
            }
            if self.buffer.is_empty() {
                // The file is shorter than it was.
                break;
            }
        }
        self.pos = self.end;
        Ok(Some(Step::Damage(from, self.end)))
    }

    /// The payload of the entry at `offset`.
    ///
    /// # Errors
    /// What the disk says; `UnexpectedEof` when the file was cut since.
    pub(super) fn payload(&mut self, offset: u64, header: &Header) -> io::Result<Bytes> {
        let from = offset + HEADER_BYTES as u64;
        let length = header.length as usize;
        if let Some(bytes) = self.buffered(from, length) {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        // The next header is read along: one call for each entry.
        let more = (header.span() as usize - HEADER_BYTES - length) + HEADER_BYTES;
        let mut bytes = Buffer::with_length(length + more);
        read_exact_at(self.file, from, &mut bytes[..length])?;
        let behind = read_some(self.file, from + length as u64, &mut bytes[length..])?;
        self.buffer.clear();
        self.buffer.extend_from_slice(&bytes[length..length + behind]);
        self.buffer_at = from + length as u64;
        bytes.truncate(length);
        Ok(bytes.freeze_from(0))
    }

    fn header_at(&mut self, pos: u64) -> io::Result<Option<Header>> {
        if pos + HEADER_BYTES as u64 > self.end {
            return Ok(None);
        }
        if self.buffered(pos, HEADER_BYTES).is_none() {
            self.fill(pos)?;
        }
        let header = self.buffered(pos, HEADER_BYTES).and_then(|b| Header::decode(self.seed, pos, b));
        Ok(header.filter(|h| pos + HEADER_BYTES as u64 + u64::from(h.length) <= self.end))
    }

    fn buffered(&self, from: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(from.checked_sub(self.buffer_at)?).ok()?;
        self.buffer.get(start..start.checked_add(length)?)
    }

    fn fill(&mut self, pos: u64) -> io::Result<()> {
        let buffer_end = self.buffer_at + self.buffer.len() as u64;
        let near = pos >= self.buffer_at && pos < buffer_end + CHUNK_BYTES_MIN as u64;
        self.chunk = if near { (self.chunk * 2).min(CHUNK_BYTES_MAX) } else { CHUNK_BYTES_MIN };
        let wanted = self.chunk.min(usize::try_from(self.end - pos).unwrap_or(usize::MAX));
        self.buffer.resize(wanted, 0);
        self.buffer_at = pos;
        let mut length = 0;
        while length < wanted {
            match read_some(self.file, pos + length as u64, &mut self.buffer[length..])? {
                0 => break,
                n => length += n,
            }
        }
        self.buffer.truncate(length);
        Ok(())
    }
}
