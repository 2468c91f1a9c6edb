//! The nouns that several frames carry, as fields.

use bytes::{BufMut, Bytes, BytesMut};

use super::constants::{LEASES_MAX, MODE_ANY, POSITION_BYTES_MAX};
use crate::broker::{Ack, LeaseId, Mark, Mode, ReaderCursor};
use crate::codec::{Fields, put_short};
use crate::error::{Code, Error};
use crate::id::{Position, Seq, SessionId};
use crate::name::{Owner, PATTERN_SEGMENTS_MAX, Pattern, PatternSegment, PipePath, PipeRef};

const LITERAL: u8 = 0;
const ONE: u8 = 1;
const ANY: u8 = 2;

pub(super) fn put_owner(out: &mut BytesMut, owner: Owner) {
    match owner {
        Owner(None) => out.put_u8(0),
        Owner(Some(key)) => {
            out.put_u8(1);
            out.put_slice(&key);
        }
    }
}

pub(super) fn owner(fields: &mut Fields) -> Result<Owner, Error> {
    match fields.u8()? {
        0 => Ok(Owner(None)),
        1 => Ok(Owner(Some(fields.array()?))),
        _ => Err(Error::new(Code::Protocol, "a pipe's owner is of no known kind")),
    }
}

pub(super) fn put_pipe(out: &mut BytesMut, pipe: &PipeRef) {
    put_owner(out, pipe.owner);
    put_short(out, pipe.path.encoded());
}

pub(super) fn pipe(fields: &mut Fields) -> Result<PipeRef, Error> {
    Ok(PipeRef { owner: owner(fields)?, path: path(fields)? })
}

/// A copy: the pipe lives on with its name, which would hold the whole buffer that the frame was read into.
pub(super) fn path(fields: &mut Fields) -> Result<PipePath, Error> {
    PipePath::decode(&fields.short()?, false)
}

pub(super) fn put_mode(out: &mut BytesMut, mode: Option<Mode>) {
    out.put_u8(mode.map_or(MODE_ANY, |m| m as u8));
}

pub(super) fn mode(fields: &mut Fields) -> Result<Option<Mode>, Error> {
    match fields.u8()? {
        MODE_ANY => Ok(None),
        number => known_mode(number).map(Some),
    }
}

pub(super) fn known_mode(number: u8) -> Result<Mode, Error> {
    Mode::from_number(number).ok_or_else(|| Error::new(Code::Unsupported, format!("mode {number} is not known here")))
}

pub(super) fn session(fields: &mut Fields) -> Result<SessionId, Error> {
    Ok(SessionId(fields.array()?))
}

pub(super) fn seq(fields: &mut Fields) -> Result<Seq, Error> {
    Ok(Seq(fields.u64()?))
}

pub(super) fn put_ack(out: &mut BytesMut, ack: &Ack) {
    out.put_u64_le(ack.settled.0);
    out.put_u64_le(ack.stored.0);
    out.put_u64_le(ack.delivered.0);
}

pub(super) fn ack(fields: &mut Fields) -> Result<Ack, Error> {
    Ok(Ack { settled: seq(fields)?, stored: seq(fields)?, delivered: seq(fields)? })
}

pub(super) fn put_cursor(out: &mut BytesMut, cursor: &ReaderCursor) {
    out.put_slice(&cursor.writer.0);
    out.put_u64_le(cursor.next.0);
}

pub(super) fn cursor(fields: &mut Fields) -> Result<ReaderCursor, Error> {
    Ok(ReaderCursor { writer: session(fields)?, next: seq(fields)? })
}

/// A position: at most 16 bytes, copied, since it outlives the buffer that it was read from.
pub(super) fn position(fields: &mut Fields) -> Result<Position, Error> {
    let token = fields.short()?;
    if token.len() > POSITION_BYTES_MAX {
        return Err(Error::new(Code::Protocol, "a position is longer than positions are"));
    }
    Ok(Position(Bytes::copy_from_slice(&token)))
}

pub(super) fn put_mark(out: &mut BytesMut, mark: &Mark) {
    put_short(out, &mark.position.0);
    out.put_u32_le(mark.records);
}

pub(super) fn mark(fields: &mut Fields) -> Result<Mark, Error> {
    Ok(Mark { position: position(fields)?, records: fields.u32()? })
}

pub(super) fn put_lease(out: &mut BytesMut, lease: &LeaseId) {
    put_short(out, &lease.position.0);
    out.put_u32_le(lease.attempt);
}

pub(super) fn lease(fields: &mut Fields) -> Result<LeaseId, Error> {
    Ok(LeaseId { position: position(fields)?, attempt: fields.u32()? })
}

pub(super) fn put_leases(out: &mut BytesMut, leases: &[LeaseId]) {
    out.put_u32_le(leases.len() as u32);
    leases.iter().for_each(|lease| put_lease(out, lease));
}

pub(super) fn leases(fields: &mut Fields) -> Result<Vec<LeaseId>, Error> {
    let count = fields.u32()? as usize;
    if count > LEASES_MAX {
        return Err(Error::new(Code::FrameSize, format!("{count} leases are over the {LEASES_MAX} allowed")));
    }
    (0..count).map(|_| lease(fields)).collect()
}

pub(super) fn put_pattern(out: &mut BytesMut, pattern: &Pattern) {
    out.put_u16_le(pattern.0.len() as u16);
    for segment in &pattern.0 {
        match segment {
            PatternSegment::Literal(bytes) => {
                out.put_u8(LITERAL);
                put_short(out, bytes);
            }
            PatternSegment::One => out.put_u8(ONE),
            PatternSegment::Any => out.put_u8(ANY),
        }
    }
}

pub(super) fn pattern(fields: &mut Fields) -> Result<Pattern, Error> {
    let count = fields.u16()? as usize;
    if count > PATTERN_SEGMENTS_MAX {
        return Err(Error::new(Code::Protocol, "a pattern has more segments than a path can have"));
    }
    (0..count).map(|_| pattern_segment(fields)).collect::<Result<_, _>>().map(Pattern)
}

fn pattern_segment(fields: &mut Fields) -> Result<PatternSegment, Error> {
    match fields.u8()? {
        // A copy, as of a path: a reader of a pattern lives long.
        LITERAL => Ok(PatternSegment::Literal(Bytes::copy_from_slice(&fields.short()?))),
        ONE => Ok(PatternSegment::One),
        ANY => Ok(PatternSegment::Any),
        _ => Err(Error::new(Code::Protocol, "a pattern's segment is of no known kind")),
    }
}

/// A payload of these fields.
pub(super) fn payload(put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    put(&mut out);
    out.freeze()
}
