//! How `skypipe read` shows records.

use bytes::{BufMut, Bytes, BytesMut};
use skypipe_core::{Chunk, Mark, Seq};

use super::peek::RecordLine;
use crate::broker::Source;
use crate::pipe_line::json_line;

/// Stands between a pipe's name and its record.
const TAG_END: &[u8] = b": ";

/// How records are shown.
pub(crate) struct Show<'a> {
    /// What they are read from.
    source: &'a Source,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// Their bytes, one behind the other.
    Bytes,
    /// Each behind the name of its pipe, on lines of its own.
    Tagged,
    /// Each as an object.
    Json,
}

impl<'a> Show<'a> {
    pub(crate) fn new(source: &'a Source, json: bool, tag: bool) -> Self {
        let how = match (json, tag) {
            (true, _) => How::Json,
            (false, true) => How::Tagged,
            (false, false) => How::Bytes,
        };
        Self { source, how }
    }

    /// The records of a chunk below `next`, whose bytes are these.
    pub(crate) fn part(&self, chunk: &Chunk, next: Seq, bytes: Bytes) -> Bytes {
        match self.how {
            How::Bytes => bytes,
            How::Tagged => tagged(&self.source.name_of(&chunk.pipe), chunk, next, bytes.len()),
            How::Json => json_lines(&self.source.name_of(&chunk.pipe), chunk, next),
        }
    }
}

/// Each record behind `name`. One that has no newline at its end is given one: the next may be of another pipe.
fn tagged(name: &str, chunk: &Chunk, next: Seq, length: usize) -> Bytes {
    let mut lines = BytesMut::with_capacity(length + (name.len() + 3) * chunk.batch.count() as usize);
    for piece in chunk.records().take_while(|piece| piece.seq < next) {
        if piece.first {
            lines.put_slice(name.as_bytes());
            lines.put_slice(TAG_END);
        }
        lines.put_slice(&piece.body);
        if piece.last && !piece.body.ends_with(b"\n") {
            lines.put_u8(b'\n');
        }
    }
    lines.freeze()
}

/// A line for each record, or piece of a long one, below `next`.
fn json_lines(name: &str, chunk: &Chunk, next: Seq) -> Bytes {
    let (mut lines, headers) = (String::new(), chunk.batch.headers());
    for piece in chunk.records().take_while(|piece| piece.seq < next) {
        let records = u32::try_from(piece.seq.0.saturating_sub(chunk.batch.first().0)).unwrap_or(u32::MAX);
        let at = Mark { position: chunk.position.clone(), records };
        let attempt = chunk.lease.as_ref().map(|lease| lease.attempt);
        let line = RecordLine::of_piece(chunk.writer, &piece, &at, attempt, &headers);
        lines.push_str(&json_line(&line.of_pipe(name)));
    }
    lines.into()
}
