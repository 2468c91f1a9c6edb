//! What a client asks for, once on each stream.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::constants::{
    ALLOWED_MAX, ATTACH_KEEP, ATTACH_MID_RECORD, ATTACH_NO_WAIT, ATTACH_RESUME, CHECKS_MAX, CURSOR_NAME_BYTES_MAX,
    CURSORS_MAX, INVITE_PATTERNS_MAX, PING_BYTES_MAX, RIGHT_READ, RIGHT_WRITE, kind,
};
use super::fields::{
    cursor, leases, mark, mode, owner, pattern, payload, pipe, put_cursor, put_leases, put_mark, put_mode, put_owner,
    put_pattern, put_pipe, seq, session,
};
use super::frame::Frame;
use super::message::{Message, carried_error};
use crate::broker::{ListQuery, OnTape, ReaderAttach, ReaderCursor, Settings, Start, Take, WriterAttach, WriterResume};
use crate::caller::Rights;
use crate::codec::{Fields, put_settings, put_short, take_settings};
use crate::error::{Code, Error};
use crate::gatekeeper::Invite;
use crate::id::Epoch;
use crate::name::{Pattern, PatternRef, PipePath, PipeRef};
use crate::time::WallTime;

/// A call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Attach a writer.
    AttachWriter(PipeRef, WriterAttach),
    /// Attach a reader.
    AttachReader(PipeRef, ReaderAttach),
    /// Attach a reader of all pipes that match.
    AttachPatternReader(PatternRef, ReaderAttach),
    /// A page of pipes.
    List(ListQuery),
    /// One pipe's figures.
    Stat(PipeRef),
    /// Remove a pipe.
    Remove(PipeRef),
    /// Say these bytes again.
    Ping(Bytes),
    /// Make way for the newer program that asks.
    StepDown,
    /// Make a ticket.
    Invite(Invite),
    /// The keys that are known.
    Keys,
    /// Make a key known, by its line of `authorized_keys`.
    AddKey(String),
    /// Forget the keys of this text, fingerprint or comment.
    RevokeKey(String),
}

impl Message for Request {
    fn into_frame(self) -> Frame {
        match self {
            Self::AttachWriter(pipe, attach) => {
                Frame::new(kind::ATTACH_WRITER, payload(|out| put_writer(out, &pipe, &attach)))
            }
            Self::AttachReader(pipe, attach) => {
                let fields = payload(|out| {
                    put_pipe(out, &pipe);
                    put_reader(out, &attach);
                });
                Frame::new(kind::ATTACH_READER, fields)
            }
            Self::AttachPatternReader(pattern, attach) => {
                let fields = payload(|out| {
                    put_pattern_ref(out, &pattern);
                    put_reader(out, &attach);
                });
                Frame::new(kind::ATTACH_PATTERN_READER, fields)
            }
            Self::List(query) => Frame::new(kind::LIST, payload(|out| put_query(out, &query))),
            Self::Stat(pipe) => Frame::new(kind::STAT, payload(|out| put_pipe(out, &pipe))),
            Self::Remove(pipe) => Frame::new(kind::REMOVE, payload(|out| put_pipe(out, &pipe))),
            Self::Ping(bytes) => Frame::new(kind::PING, payload(|out| put_short(out, &bytes))),
            Self::StepDown => Frame::new(kind::STEP_DOWN, Bytes::new()),
            Self::Invite(invite) => Frame::new(kind::INVITE, payload(|out| put_invite(out, &invite))),
            Self::Keys => Frame::new(kind::KEYS, Bytes::new()),
            Self::AddKey(line) => Frame::new(kind::ADD_KEY, payload(|out| put_short(out, line.as_bytes()))),
            Self::RevokeKey(who) => Frame::new(kind::REVOKE_KEY, payload(|out| put_short(out, who.as_bytes()))),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        let request = match frame.kind {
            kind::ATTACH_WRITER => writer(&mut frame.open().0)?,
            kind::ATTACH_READER => {
                let mut fields = frame.open().0;
                Self::AttachReader(pipe(&mut fields)?, reader(&mut fields)?)
            }
            kind::ATTACH_PATTERN_READER => {
                let mut fields = frame.open().0;
                Self::AttachPatternReader(pattern_ref(&mut fields)?, reader(&mut fields)?)
            }
            kind::LIST => Self::List(query(&mut frame.open().0)?),
            kind::STAT => Self::Stat(pipe(&mut frame.open().0)?),
            kind::REMOVE => Self::Remove(pipe(&mut frame.open().0)?),
            kind::PING => Self::Ping(ping(&mut frame.open().0)?),
            kind::STEP_DOWN => Self::StepDown,
            kind::INVITE => Self::Invite(invite(&mut frame.open().0)?),
            kind::KEYS => Self::Keys,
            kind::ADD_KEY => Self::AddKey(frame.open().0.text()?),
            kind::REVOKE_KEY => Self::RevokeKey(frame.open().0.text()?),
            kind::ERROR => return Err(carried_error(frame)),
            _ => return frame.unknown(),
        };
        Ok(Some(request))
    }
}

fn put_invite(out: &mut BytesMut, invite: &Invite) {
    out.put_u8(if invite.rights.read { RIGHT_READ } else { 0 } | if invite.rights.write { RIGHT_WRITE } else { 0 });
    out.put_u64_le(invite.expires.as_secs());
    out.put_u32_le(invite.uses);
    out.put_u16_le(invite.pipes.len() as u16);
    invite.pipes.iter().for_each(|pattern| put_pattern(out, pattern));
}

fn invite(fields: &mut Fields) -> Result<Invite, Error> {
    let (rights, expires, uses) = (fields.u8()?, Duration::from_secs(fields.u64()?), fields.u32()?);
    let count = fields.u16()? as usize;
    if count > INVITE_PATTERNS_MAX {
        return Err(Error::new(Code::Usage, format!("an invitation names at most {INVITE_PATTERNS_MAX} patterns")));
    }
    let pipes = (0..count).map(|_| pattern(fields)).collect::<Result<_, _>>()?;
    let (read, write) = (rights & RIGHT_READ != 0, rights & RIGHT_WRITE != 0);
    Ok(Invite { pipes, rights: Rights { read, write, ..Rights::NONE }, expires, uses })
}

fn put_writer(out: &mut BytesMut, pipe: &PipeRef, attach: &WriterAttach) {
    put_pipe(out, pipe);
    out.put_slice(&attach.session.0);
    out.put_u32_le(attach.epoch.0);
    put_mode(out, attach.mode);
    out.put_u8(u8::from(attach.resume.is_some()));
    if let Some(resume) = attach.resume {
        out.put_u64_le(resume.settled.0);
        out.put_u64_le(resume.stored.0);
    }
    if attach.settings != Settings::default() {
        put_settings(out, &attach.settings);
    }
}

fn writer(fields: &mut Fields) -> Result<Request, Error> {
    let pipe = pipe(fields)?;
    let (session, epoch, mode) = (session(fields)?, Epoch(fields.u32()?), mode(fields)?);
    let resume = match fields.u8()? {
        0 => None,
        _ => Some(WriterResume { settled: seq(fields)?, stored: seq(fields)? }),
    };
    let settings = if fields.0.is_empty() { Settings::default() } else { take_settings(fields)? };
    Ok(Request::AttachWriter(pipe, WriterAttach { session, epoch, mode, settings, resume }))
}

fn put_pattern_ref(out: &mut BytesMut, wanted: &PatternRef) {
    put_owner(out, wanted.owner);
    put_pattern(out, &wanted.pattern);
    out.put_u8(wanted.within.len() as u8);
    for allowed in &wanted.within {
        out.put_u16_le(allowed.len() as u16);
        allowed.iter().for_each(|pattern| put_pattern(out, pattern));
    }
}

fn pattern_ref(fields: &mut Fields) -> Result<PatternRef, Error> {
    let (owner, wanted) = (owner(fields)?, pattern(fields)?);
    let count = fields.u8()? as usize;
    if count > CHECKS_MAX {
        return Err(Error::new(Code::FrameSize, format!("{count} access checks are over the {CHECKS_MAX} allowed")));
    }
    let within = (0..count).map(|_| allowed(fields)).collect::<Result<_, _>>()?;
    Ok(PatternRef { owner, pattern: wanted, within })
}

fn allowed(fields: &mut Fields) -> Result<Vec<Pattern>, Error> {
    let count = fields.u16()? as usize;
    if count > ALLOWED_MAX {
        return Err(Error::new(Code::FrameSize, format!("{count} patterns are over the {ALLOWED_MAX} allowed")));
    }
    (0..count).map(|_| pattern(fields)).collect()
}

fn put_reader(out: &mut BytesMut, attach: &ReaderAttach) {
    out.put_slice(&attach.session.0);
    out.put_u32_le(attach.epoch.0);
    put_mode(out, attach.mode);
    out.put_u8(attach.take as u8);
    let flags = [
        (attach.keep, ATTACH_KEEP),
        (attach.no_wait, ATTACH_NO_WAIT),
        (attach.resume.is_some(), ATTACH_RESUME),
        (attach.mid_record, ATTACH_MID_RECORD),
    ];
    out.put_u8(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    out.put_u64_le(attach.credit);
    if let Some(cursors) = &attach.resume {
        out.put_u32_le(cursors.len() as u32);
        cursors.iter().for_each(|c| put_cursor(out, c));
    }
    // What only queues and broadcasts need stands behind what all need, if there is something to say.
    if attach.tape != OnTape::default() {
        put_on_tape(out, &attach.tape);
    }
}

fn put_on_tape(out: &mut BytesMut, tape: &OnTape) {
    put_settings(out, &tape.settings);
    put_start(out, &tape.start);
    put_short(out, tape.cursor.as_deref().unwrap_or_default().as_bytes());
    let has_mark = tape.resume_at.is_some();
    out.put_u8(u8::from(has_mark));
    tape.resume_at.iter().for_each(|mark| put_mark(out, mark));
    out.put_u32_le(tape.prefetch);
    put_leases(out, &tape.has);
}

fn on_tape(fields: &mut Fields) -> Result<OnTape, Error> {
    if fields.0.is_empty() {
        return Ok(OnTape::default());
    }
    let (settings, start, cursor) = (take_settings(fields)?, start(fields)?, fields.text()?);
    if cursor.len() > CURSOR_NAME_BYTES_MAX {
        return Err(Error::new(Code::Usage, format!("the name of a cursor has at most {CURSOR_NAME_BYTES_MAX} bytes")));
    }
    let resume_at = if fields.u8()? == 0 { None } else { Some(mark(fields)?) };
    let (prefetch, has) = (fields.u32()?, leases(fields)?);
    Ok(OnTape { settings, start, cursor: (!cursor.is_empty()).then_some(cursor), resume_at, prefetch, has })
}

const START_NOW: u8 = 0;
const START_BEGINNING: u8 = 1;
const START_LAST: u8 = 2;
const START_AGO: u8 = 3;
const START_SINCE: u8 = 4;
const START_AT: u8 = 5;

fn put_start(out: &mut BytesMut, start: &Start) {
    let mut put = |kind: u8, number: u64| {
        out.put_u8(kind);
        out.put_u64_le(number);
    };
    match start {
        Start::Now => put(START_NOW, 0),
        Start::Beginning => put(START_BEGINNING, 0),
        Start::Last(records) => put(START_LAST, *records),
        Start::Ago(age) => put(START_AGO, u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        Start::Since(at) => put(START_SINCE, at.0),
        Start::At(mark) => {
            put(START_AT, 0);
            put_mark(out, mark);
        }
    }
}

fn start(fields: &mut Fields) -> Result<Start, Error> {
    let (kind, number) = (fields.u8()?, fields.u64()?);
    Ok(match kind {
        START_NOW => Start::Now,
        START_BEGINNING => Start::Beginning,
        START_LAST => Start::Last(number),
        START_AGO => Start::Ago(Duration::from_millis(number)),
        START_SINCE => Start::Since(WallTime(number)),
        START_AT => Start::At(mark(fields)?),
        _ => return Err(Error::new(Code::Unsupported, format!("a start of kind {kind} is not known here"))),
    })
}

fn reader(fields: &mut Fields) -> Result<ReaderAttach, Error> {
    let (session, epoch, mode) = (session(fields)?, Epoch(fields.u32()?), mode(fields)?);
    let (take, flags, credit) = (take(fields.u8()?)?, fields.u8()?, fields.u64()?);
    let resume = if flags & ATTACH_RESUME == 0 { None } else { Some(cursors(fields)?) };
    let (keep, no_wait) = (flags & ATTACH_KEEP != 0, flags & ATTACH_NO_WAIT != 0);
    let mid_record = flags & ATTACH_MID_RECORD != 0;
    let tape = on_tape(fields)?;
    Ok(ReaderAttach { session, epoch, mode, take, keep, no_wait, credit, mid_record, resume, tape })
}

fn take(number: u8) -> Result<Take, Error> {
    Take::from_number(number)
        .ok_or_else(|| Error::new(Code::Unsupported, format!("taking of kind {number} is not known here")))
}

fn cursors(fields: &mut Fields) -> Result<Vec<ReaderCursor>, Error> {
    let count = fields.u32()? as usize;
    if count > CURSORS_MAX {
        return Err(Error::new(Code::FrameSize, format!("{count} cursors are over the {CURSORS_MAX} allowed")));
    }
    (0..count).map(|_| cursor(fields)).collect()
}

fn put_query(out: &mut BytesMut, query: &ListQuery) {
    put_owner(out, query.owner);
    put_pattern(out, &query.pattern);
    put_short(out, query.after.as_ref().map_or(&[], |path| path.encoded()));
    out.put_u32_le(query.limit);
}

fn query(fields: &mut Fields) -> Result<ListQuery, Error> {
    let (owner, pattern) = (owner(fields)?, pattern(fields)?);
    let after = PipePath::decode(&fields.short()?, true)?;
    let after = (!after.encoded().is_empty()).then_some(after);
    Ok(ListQuery { owner, pattern, after, limit: fields.u32()? })
}

fn ping(fields: &mut Fields) -> Result<Bytes, Error> {
    let bytes = fields.short()?;
    if bytes.len() > PING_BYTES_MAX {
        return Err(Error::new(Code::FrameSize, format!("a ping carries at most {PING_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
