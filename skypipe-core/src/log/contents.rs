//! What a full segment holds, told at the start of the next one: so that opening need not go through it.

use bytes::{BufMut, Bytes, BytesMut};

use super::format::{ALIGN, CONTENTS_SPAN_BYTES, Header, Kind};
use super::index::Span;
use crate::codec::Fields;
use crate::error::{Code, Error};
use crate::id::{ItemNo, PipeId, Seq};

/// No place that a table tells lies further back, and no span has more bytes: so their sums are numbers.
const OFFSET_MAX: u64 = u32::MAX as u64 * ALIGN;

/// The table of contents of one segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// Which segment.
    pub(super) segment: u64,
    /// Where its last entry ends.
    pub(super) end: u64,
    /// Where its facts stand.
    pub(super) facts: Vec<u64>,
    /// What of its batches was wanted when it was full.
    pub(super) spans: Vec<ItemSpan>,
}

/// A span with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemSpan {
    pub(super) pipe: PipeId,
    pub(super) item: ItemNo,
    pub(super) first: Seq,
    pub(super) span: Span,
}

impl Contents {
    /// As an entry.
    pub(super) fn encode(&self) -> (Header, Bytes) {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        out.put_u32_le(self.facts.len() as u32);
        for offset in &self.facts {
            out.put_u32_le((offset / ALIGN) as u32);
        }
        for ItemSpan { pipe, item, first, span } in &self.spans {
            out.put_u64_le(pipe.0);
            out.put_u64_le(item.0);
            out.put_u64_le(first.0);
            out.put_u64_le(span.next.0);
            out.put_u32_le((span.start / ALIGN) as u32);
            out.put_u32_le((span.end / ALIGN) as u32);
            out.put_u64_le(span.bytes);
        }
        let payload = out.freeze();
        let header = Header {
            kind: Kind::Contents,
            length: payload.len() as u32,
            checksum: crc32c::crc32c(&payload),
            pipe: PipeId(self.segment),
            first: Seq(self.end),
            ..Header::closed()
        };
        (header, payload)
    }

    /// Out of an entry; `None` if it is none or damaged.
    pub(super) fn decode(header: &Header, payload: Bytes) -> Option<Self> {
        if header.kind != Kind::Contents || crc32c::crc32c(&payload) != header.checksum {
            return None;
        }
        Self::parse(header, Fields(payload)).ok()
    }

    fn parse(header: &Header, mut fields: Fields) -> Result<Self, Error> {
        let segment = header.pipe.0;
        let mut offsets = Fields(Bytes::new());
        let count = fields.u32()? as usize;
        offsets.0 = fields.bytes(count.saturating_mul(4))?;
        let facts = (0..count).map(|_| Ok(u64::from(offsets.u32()?) * ALIGN)).collect::<Result<_, Error>>()?;
        let mut spans = Vec::with_capacity(fields.0.len() / CONTENTS_SPAN_BYTES);
        while !fields.0.is_empty() {
            let (pipe, item, first) = (PipeId(fields.u64()?), ItemNo(fields.u64()?), Seq(fields.u64()?));
            let next = Seq(fields.u64()?);
            let (start, end) = (u64::from(fields.u32()?) * ALIGN, u64::from(fields.u32()?) * ALIGN);
            let span = Span { next, segment, start, end, bytes: fields.u64()? };
            if span.bytes > OFFSET_MAX {
                return Err(Error::new(Code::Format, "a span has more bytes than its segment"));
            }
            spans.push(ItemSpan { pipe, item, first, span });
        }
        Ok(Self { segment, end: header.first.0, facts, spans })
    }

    /// Bytes of the payload.
    pub(super) fn encoded_bytes(&self) -> usize {
        4 + 4 * self.facts.len() + CONTENTS_SPAN_BYTES * self.spans.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_survive_and_damage_is_noticed() {
        let span = Span { next: Seq(9), segment: 3, start: 48, end: 480, bytes: 77 };
        let spans = vec![ItemSpan { pipe: PipeId(1), item: ItemNo(2), first: Seq(4), span }];
        let contents = Contents { segment: 3, end: 4096, facts: vec![48, 800], spans };
        let (header, payload) = contents.encode();
        assert_eq!(payload.len(), contents.encoded_bytes());
        assert_eq!(Contents::decode(&header, payload.clone()), Some(contents));
        assert_eq!(Contents::decode(&header, payload.slice(1..)), None);
    }

    #[test]
    fn a_span_of_more_bytes_than_a_segment_has_is_no_contents() {
        let contents = |bytes| {
            let span = Span { next: Seq(9), segment: 3, start: 48, end: 480, bytes };
            let spans = vec![ItemSpan { pipe: PipeId(1), item: ItemNo(2), first: Seq(4), span }];
            Contents { segment: 3, end: 4096, facts: Vec::new(), spans }
        };
        let came_back = |contents: Contents| {
            let (header, payload) = contents.encode();
            Contents::decode(&header, payload)
        };
        assert_eq!(came_back(contents(OFFSET_MAX)), Some(contents(OFFSET_MAX)));
        assert_eq!(came_back(contents(OFFSET_MAX + 1)), None);
    }
}
