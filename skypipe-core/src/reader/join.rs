//! Joins the pieces of long records.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::batch::Piece;
use crate::broker::Mark;
use crate::error::{Code, Error};
use crate::headers::Headers;
use crate::id::{Seq, SessionId};
use crate::record::{Chunk, Record, Taken};

/// Records out of runs.
pub(super) struct Join {
    record_bytes_max: usize,
    writer: SessionId,
    headers: Headers,
    /// The run at hand.
    run: Option<Chunk>,
    /// Pieces of the run at hand; the buffer is used again for each run.
    pieces: VecDeque<Piece>,
    /// A record whose last piece is still to come.
    open: Option<Open>,
}

struct Open {
    writer: SessionId,
    seq: Seq,
    at: Mark,
    headers: Headers,
    body: BytesMut,
}

impl Join {
    pub(super) fn new(record_bytes_max: usize) -> Self {
        Self {
            record_bytes_max,
            writer: SessionId([0; 16]),
            headers: Headers::new(),
            run: None,
            pieces: VecDeque::new(),
            open: None,
        }
    }

    pub(super) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Forgets what was not handed over.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.open = None;
    }

    /// Takes the next run; the one before was used up.
    pub(super) fn load(&mut self, chunk: &Chunk) {
        self.writer = chunk.writer;
        self.headers = chunk.batch.headers();
        self.pieces.extend(chunk.records());
        self.run = Some(chunk.clone());
    }

    /// Where this number of the run at hand stands.
    fn mark(&self, seq: Seq) -> Mark {
        let mark = |run: &Chunk| Mark {
            position: run.position.clone(),
            records: u32::try_from(seq.0.saturating_sub(run.batch.first().0)).unwrap_or(u32::MAX),
        };
        self.run.as_ref().map(mark).unwrap_or_default()
    }

    fn record(&self, (writer, seq): (SessionId, Seq), at: Mark, headers: Headers, body: Bytes) -> Record {
        let run = self.run.as_ref();
        let attempt = run.and_then(|run| run.lease.as_ref()).map(|lease| lease.attempt);
        Record { pipe: run.map(|run| run.pipe.clone()).unwrap_or_default(), writer, seq, at, attempt, headers, body }
    }

    /// The next whole record and the number behind it, if the run at hand has one.
    pub(super) fn next(&mut self) -> Result<Option<(Record, Taken)>, Error> {
        while let Some(piece) = self.pieces.pop_front() {
            let (next, last) = (piece.seq.plus(1), piece.last);
            if self.begins(&piece) {
                // A record whose rest never came: its item was cut off, which the reader is told at the item's end.
                self.open = None;
            }
            if last && self.open.is_none() {
                let at = self.mark(piece.seq);
                let record = self.record((self.writer, piece.seq), at, self.headers.clone(), piece.body);
                return Ok(Some((record, self.taken(next))));
            }
            self.append(piece.seq, &piece.body)?;
            if last && let Some(open) = self.open.take() {
                let record = self.record((open.writer, open.seq), open.at, open.headers, open.body.freeze());
                return Ok(Some((record, self.taken(next))));
            }
        }
        Ok(None)
    }

    fn taken(&self, next: Seq) -> Taken {
        self.run.as_ref().map_or(Taken::Numbers(self.writer, next), |run| run.taken(next))
    }

    fn begins(&self, piece: &Piece) -> bool {
        piece.first || self.open.as_ref().is_some_and(|open| open.writer != self.writer)
    }

    fn append(&mut self, seq: Seq, body: &Bytes) -> Result<(), Error> {
        if self.open.is_none() {
            let (at, headers) = (self.mark(seq), self.headers.clone());
            self.open = Some(Open { writer: self.writer, seq, at, headers, body: BytesMut::new() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.body.len() + body.len() > self.record_bytes_max {
            let text = format!("a record is longer than {} bytes", self.record_bytes_max);
            return Err(Error::new(Code::FrameSize, text));
        }
        open.body.extend_from_slice(body);
        Ok(())
    }
}
