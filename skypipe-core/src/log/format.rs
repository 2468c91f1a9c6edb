//! The bytes of the log, as constants and one header. `docs/log.md` draws them.

use bytes::BufMut;

use crate::error::{Code, Error};
use crate::id::{ItemNo, PipeId, Seq};

/// The version in the file `format`. Raised when an older program could not read what this one writes.
pub const LOG_VERSION: u32 = 1;
/// The file that tells the version and the salt, in text.
pub const FORMAT_FILE: &str = "format";
/// The name under which a new `format` file is written before it is renamed.
pub const FORMAT_FILE_NEW: &str = "format.new";
/// What stands behind the number in the name of a segment.
pub const SEGMENT_SUFFIX: &str = ".segment";
/// The folder for bytes that could not be read and are kept for a person to look at.
pub const QUARANTINE: &str = "quarantine";
/// Bytes of the header in front of each entry.
pub const HEADER_BYTES: usize = 48;
/// Each entry begins at a multiple of this, so that a search for the next one is short.
pub const ALIGN: u64 = 8;
/// Longest payload: a fact that restates a pipe with many items is the longest there is.
pub const PAYLOAD_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Bytes of one span in a table of contents.
pub(crate) const CONTENTS_SPAN_BYTES: usize = 48;
/// A table of contents is left out when it would be longer than this part of its segment: going through that costs little more.
pub(crate) const CONTENTS_SHARE: u64 = 16;

/// Two bytes in each header: `SL`.
const MAGIC: u16 = u16::from_le_bytes(*b"SL");

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first entry of a segment: `pipe` is its number, `item` the salt, `first` the version.
    Segment = 1,
    /// Something the owner wants back when the log is opened.
    Fact = 2,
    /// Records of one item.
    Batch = 3,
    /// The log was closed in order: all before it is synced.
    Closed = 4,
    /// What the segment before holds.
    Contents = 5,
}

/// The facts of its pipe begin here: it is the first one, or restates all before it.
pub(crate) const FLAG_START: u8 = 1;

/// The fixed part in front of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// What the entry is.
    pub(crate) kind: Kind,
    /// `FLAG_…`.
    pub(crate) flags: u8,
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// CRC32C of a fact; the batch's own checksum of a batch.
    pub(crate) checksum: u32,
    /// Where the commit group of this entry begins in its segment. Everything before that place was synced before this
    /// entry was written: so a hole before it is damage, and a hole behind it is a torn tail.
    pub(crate) group: u64,
    /// How many numbers the batch covers, its end mark included.
    pub(crate) count: u32,
    /// Whose entry.
    pub(crate) pipe: PipeId,
    /// Which item.
    pub(crate) item: ItemNo,
    /// The number of the first record.
    pub(crate) first: Seq,
}

impl Header {
    /// The first entry of segment `number`.
    pub(crate) fn of_segment(number: u64, salt: u64) -> Self {
        Self {
            kind: Kind::Segment,
            pipe: PipeId(number),
            item: ItemNo(salt),
            first: Seq(u64::from(LOG_VERSION)),
            ..Self::closed()
        }
    }

    /// The mark of an orderly close.
    pub(crate) fn closed() -> Self {
        Self {
            kind: Kind::Closed,
            flags: 0,
            length: 0,
            checksum: 0,
            group: 0,
            count: 0,
            pipe: PipeId(0),
            item: ItemNo(0),
            first: Seq(0),
        }
    }

    /// The number behind the last one.
    pub(crate) fn next(&self) -> Seq {
        self.first.plus(u64::from(self.count))
    }

    /// Bytes from the start of this entry to the start of the next.
    pub(crate) fn span(&self) -> u64 {
        aligned(HEADER_BYTES as u64 + u64::from(self.length))
    }

    /// Appends the encoded header for an entry at `offset`.
    pub(crate) fn encode(&self, seed: u32, offset: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u8(self.kind as u8);
        out.put_u8(self.flags);
        out.put_u16_le(MAGIC);
        out.put_u32_le(self.length);
        out.put_u32_le(self.checksum);
        out.put_u32_le((self.group / ALIGN) as u32);
        out.put_u32_le(self.count);
        out.put_u64_le(self.pipe.0);
        out.put_u64_le(self.item.0);
        out.put_u64_le(self.first.0);
        let sum = header_sum(seed, offset, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
    }

    /// The header at `offset`, if these bytes are one.
    pub(crate) fn decode(seed: u32, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if u16::from_le_bytes([bytes[6], bytes[7]]) != MAGIC {
            return None;
        }
        if u32_at(bytes, 0) != header_sum(seed, offset, &bytes[4..]) {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Segment,
            2 => Kind::Fact,
            3 => Kind::Batch,
            4 => Kind::Closed,
            5 => Kind::Contents,
            _ => return None,
        };
        let header = Self {
            kind,
            flags: bytes[5],
            length: u32_at(bytes, 8),
            checksum: u32_at(bytes, 12),
            group: u64::from(u32_at(bytes, 16)) * ALIGN,
            count: u32_at(bytes, 20),
            pipe: PipeId(u64_at(bytes, 24)),
            item: ItemNo(u64_at(bytes, 32)),
            first: Seq(u64_at(bytes, 40)),
        };
        (header.length <= PAYLOAD_BYTES_MAX).then_some(header)
    }
}

/// What the checksum of each header in a segment begins with. Without it, a log that travels through a pipe as data could be
/// taken for entries of the log that stores it.
pub(crate) fn seed_of(salt: u64, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &segment.to_le_bytes())
}

/// `offset` rounded up to where an entry may begin.
pub(crate) const fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGN)
}

/// The name of segment `number`.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:012}{SEGMENT_SUFFIX}")
}

/// The number of the segment of this name; `None` if it is the name of something else.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The text of the file `format`.
pub(crate) fn format_text(salt: u64) -> String {
    format!("skypipe log {LOG_VERSION}\nsalt {salt:016x}\n")
}

/// The salt out of the file `format`.
///
/// # Errors
/// `E_FORMAT` for a newer version, `E_STORAGE` for a text that is none.
pub(crate) fn parse_format(text: &[u8]) -> Result<u64, Error> {
    let damaged = || Error::new(Code::Storage, "the file `format` of the data folder is damaged; nothing was changed");
    let text = std::str::from_utf8(text).map_err(|_| damaged())?;
    let mut lines = text.lines();
    let version = lines.next().and_then(|l| l.strip_prefix("skypipe log ")).ok_or_else(damaged)?;
    let version: u32 = version.parse().map_err(|_| damaged())?;
    if version > LOG_VERSION {
        return Err(newer(u64::from(version)));
    }
    let salt = lines.next().and_then(|l| l.strip_prefix("salt ")).ok_or_else(damaged)?;
    u64::from_str_radix(salt, 16).map_err(|_| damaged())
}

/// What somebody hears whose program is older than the log.
pub(crate) fn newer(version: u64) -> Error {
    let text = format!(
        "the data folder has log format {version}, this program knows up to {LOG_VERSION}: use a newer skypipe; nothing was changed"
    );
    Error::new(Code::Format, text)
}

fn header_sum(seed: u32, offset: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &offset.to_le_bytes()), rest)
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_and_every_flipped_bit_is_noticed() {
        let header = Header { kind: Kind::Batch, length: 77, count: 3, group: 4096, ..Header::of_segment(9, 5) };
        let mut bytes = Vec::new();
        header.encode(1, 64, &mut bytes);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(1, 64, &bytes), Some(header));
        assert_eq!(Header::decode(2, 64, &bytes), None, "a header of another segment");
        assert_eq!(Header::decode(1, 72, &bytes), None, "a header of another place");
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(1, 64, &bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn names_and_format_survive() {
        assert_eq!(segment_number(&segment_name(17)), Some(17));
        assert_eq!(segment_number("17.segment"), None);
        assert_eq!(parse_format(format_text(99).as_bytes()).unwrap(), 99);
        assert_eq!(parse_format(b"skypipe log 2\nwhatever").unwrap_err().code(), Code::Format);
        assert_eq!(parse_format(b"").unwrap_err().code(), Code::Storage);
    }
}
