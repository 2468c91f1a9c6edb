//! Reads batches of one item back.

use std::io;

use super::format::{Header, Kind};
use super::index::{Located, Span};
use super::walk::{Step, Walker};
use super::{Core, Read, TAPE, batch_of, lock, storage};
use crate::batch::Batch;
use crate::error::Error;
use crate::id::{ItemNo, PipeId, Seq};

/// How often a segment may be freed between looking a number up and opening its file: it has moved then.
const MOVED_TRIES: u32 = 8;

/// See [`super::Log::read`].
pub(super) fn read(core: &Core, pipe: PipeId, item: ItemNo, from: Seq, bytes_max: usize) -> Result<Read, Error> {
    let mut reading = Reading { core, pipe, item, at: from, batches: Vec::new(), bytes_left: bytes_max };
    let mut tries = 0;
    loop {
        let located = lock(&core.state).index.locate(pipe, item, reading.at);
        let span = match located {
            Located::Here(span) => span,
            _ if !reading.batches.is_empty() => return Ok(reading.answer()),
            Located::Gap(to) => return Ok(Read::Gap { to }),
            Located::End => return Ok(Read::End),
        };
        match reading.read_span(span) {
            Ok(Outcome::NextSpan) => {}
            Ok(Outcome::Enough) => return Ok(reading.answer()),
            Ok(Outcome::Gap(to)) => return Ok(Read::Gap { to }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < MOVED_TRIES => tries += 1,
            Err(e) => return Err(storage("the log cannot be read", e)),
        }
    }
}

struct Reading<'a> {
    core: &'a Core,
    pipe: PipeId,
    item: ItemNo,
    /// The next number wanted.
    at: Seq,
    /// Each with its first number here.
    batches: Vec<(Seq, Batch)>,
    bytes_left: usize,
}

enum Outcome {
    /// All of this span was read; there is room for more.
    NextSpan,
    /// What was read is an answer.
    Enough,
    /// Nothing before this number could be read.
    Gap(Seq),
}

impl Reading<'_> {
    /// The span's batches stand in their order. Between them may be later ones of the same item, written while these were moved here.
    fn read_span(&mut self, span: Span) -> io::Result<Outcome> {
        let segment = self.core.segment(span.segment)?;
        let mut walker = Walker::new(&*segment.file, segment.seed, span.start, span.end);
        // Where it goes on if the wanted number is damaged.
        let mut later = span.next;
        while let Some(step) = walker.next()? {
            let (offset, header) = match step {
                Step::Entry(offset, header) if self.wants(&header) => (offset, header),
                Step::Entry(..) => continue,
                Step::Damage(..) => {
                    lock(&self.core.state).index.damaged(span.segment);
                    continue;
                }
            };
            if header.first > self.at {
                later = later.min(header.first);
                continue;
            }
            let payload = match walker.payload(offset, &header) {
                // The file was cut.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
                read => Some(read?),
            };
            match payload.and_then(|payload| batch_of(&header, payload)) {
                Some(batch) => {
                    if !self.take(&header, batch) {
                        self.hint(&span, walker.pos());
                        return Ok(Outcome::Enough);
                    }
                }
                None => {
                    lock(&self.core.state).index.damaged(span.segment);
                    if !self.batches.is_empty() {
                        return Ok(Outcome::Enough);
                    }
                }
            }
        }
        match (self.batches.is_empty(), self.at >= span.next) {
            (_, true) => Ok(Outcome::NextSpan),
            (false, false) => Ok(Outcome::Enough),
            (true, false) => Ok(Outcome::Gap(later)),
        }
    }

    /// Who goes on behind what was read starts there. The next span may have begun before it, in the same segment.
    fn hint(&self, span: &Span, pos: u64) {
        if self.at < span.next {
            lock(&self.core.state).index.hint(self.pipe, self.item, self.at, span.segment, pos);
        }
    }

    fn wants(&self, header: &Header) -> bool {
        header.kind == Kind::Batch && header.pipe == self.pipe && header.item == self.item && header.next() > self.at
    }

    /// Takes a batch; false when that is enough.
    fn take(&mut self, header: &Header, batch: Batch) -> bool {
        self.at = header.next();
        self.bytes_left = self.bytes_left.saturating_sub(batch.encoded().len());
        self.batches.push((header.first, batch));
        self.bytes_left > 0
    }

    fn answer(self) -> Read {
        if self.item == TAPE {
            return Read::Tape(self.batches);
        }
        Read::Batches(self.batches.into_iter().map(|(_, batch)| batch).collect())
    }
}
