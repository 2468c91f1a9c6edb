//! The frames of an attached reader.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::answer::{put_reader_welcome, reader_welcome};
use super::constants::kind;
use super::fields::{
    cursor, lease, leases, mark, path, payload, position, put_cursor, put_lease, put_leases, put_mark, seq, session,
};
use super::frame::{Frame, batch_of};
use super::message::{Message, carried_error, notice, notice_frame};
use crate::batch::EndKind;
use crate::broker::{Had, ReaderDown, ReaderUp, Verdict};
use crate::codec::{Fields, put_short};
use crate::error::{Code, Error};
use crate::id::PipeNo;

impl Message for ReaderUp {
    fn into_frame(self) -> Frame {
        match self {
            Self::Credit(bytes) => Frame::new(kind::READER_CREDIT, payload(|out| out.put_u64_le(bytes))),
            Self::Ack(cursor) => Frame::new(kind::READER_ACK, payload(|out| put_cursor(out, &cursor))),
            Self::AckTo(mark) => Frame::new(kind::READER_ACK_TO, payload(|out| put_mark(out, &mark))),
            Self::Settle { lease, verdict } => {
                let fields = payload(|out| {
                    put_lease(out, &lease);
                    let (kind, ms) = match verdict {
                        Verdict::Done => (VERDICT_DONE, 0),
                        Verdict::Refused { delay } => (VERDICT_REFUSED, millis(delay)),
                        Verdict::Extend => (VERDICT_EXTEND, 0),
                    };
                    out.put_u8(kind);
                    out.put_u64_le(ms);
                });
                Frame::new(kind::READER_SETTLE, fields)
            }
            Self::Prefetch(records) => Frame::new(kind::READER_PREFETCH, payload(|out| out.put_u32_le(records))),
            Self::Leave { part } => Frame::new(kind::READER_LEAVE, payload(|out| out.put_u8(u8::from(part)))),
            Self::Of(no) => Frame::new(kind::READER_OF, payload(|out| out.put_u32_le(no.0))),
            Self::Had(had) => Frame::new(kind::READER_HAD, payload(|out| put_had(out, &had))),
            Self::HadAll => Frame::new(kind::READER_HAD_ALL, Bytes::new()),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::READER_CREDIT => frame.open().0.u64().map(Self::Credit).map(Some),
            kind::READER_ACK => cursor(&mut frame.open().0).map(Self::Ack).map(Some),
            kind::READER_ACK_TO => mark(&mut frame.open().0).map(Self::AckTo).map(Some),
            kind::READER_SETTLE => settle(frame).map(Some),
            kind::READER_PREFETCH => frame.open().0.u32().map(Self::Prefetch).map(Some),
            kind::READER_LEAVE => frame.open().0.u8().map(|part| Some(Self::Leave { part: part != 0 })),
            kind::READER_OF => frame.open().0.u32().map(|no| Some(Self::Of(PipeNo(no)))),
            kind::READER_HAD => had(&mut frame.open().0).map(Self::Had).map(Some),
            kind::READER_HAD_ALL => Ok(Some(Self::HadAll)),
            kind::ERROR => Err(carried_error(frame)),
            _ => frame.unknown(),
        }
    }
}

impl Message for ReaderDown {
    fn into_frame(self) -> Frame {
        match self {
            Self::Batch { from, position, batch } => {
                let before = payload(|out| {
                    out.put_u64_le(from.0);
                    put_short(out, &position.0);
                });
                Frame::new(kind::READER_BATCH, before).with_batch(batch)
            }
            Self::ItemEnd { writer, kind, alone, next } => {
                let fields = payload(|out| {
                    out.put_slice(&writer.0);
                    out.put_u8(kind as u8);
                    out.put_u64_le(next.0);
                    out.put_u8(u8::from(alone));
                });
                Frame::new(kind::READER_ITEM_END, fields)
            }
            Self::Gap { writer, from, to } => {
                let fields = payload(|out| {
                    out.put_slice(&writer.0);
                    out.put_u64_le(from.0);
                    out.put_u64_le(to.0);
                });
                Frame::new(kind::READER_GAP, fields)
            }
            Self::Leased { lease, time, batch } => {
                let before = payload(|out| {
                    put_lease(out, &lease);
                    out.put_u64_le(millis(time));
                });
                Frame::new(kind::READER_LEASED, before).with_batch(batch)
            }
            Self::Settled { lease, error } => {
                let fields = payload(|out| {
                    put_lease(out, &lease);
                    out.put_u16_le(error.map_or(0, |code| code as u16));
                });
                Frame::new(kind::READER_SETTLED, fields)
            }
            Self::Missing { from, to, records } => {
                let fields = payload(|out| {
                    put_short(out, &from.0);
                    put_short(out, &to.0);
                    out.put_u64_le(records);
                });
                Frame::new(kind::READER_MISSING, fields)
            }
            Self::Taken { writer } => Frame::new(kind::READER_TAKEN, payload(|out| out.put_slice(&writer.0))),
            Self::Notice(notice) => notice_frame(kind::READER_NOTICE, &notice),
            Self::Finished => Frame::new(kind::READER_FINISHED, Bytes::new()),
            Self::Joins { no, pipe, welcome, is_new } => {
                let fields = payload(|out| {
                    out.put_u32_le(no.0);
                    put_short(out, pipe.encoded());
                    out.put_u8(u8::from(is_new));
                    put_reader_welcome(out, &welcome);
                });
                Frame::new(kind::READER_JOINS, fields)
            }
            Self::AllJoined => Frame::new(kind::READER_ALL_JOINED, Bytes::new()),
            Self::From(no) => Frame::new(kind::READER_FROM, payload(|out| out.put_u32_le(no.0))),
            Self::Gone(no) => Frame::new(kind::READER_GONE, payload(|out| out.put_u32_le(no.0))),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::READER_BATCH => batch(frame).map(Some),
            kind::READER_ITEM_END => item_end(frame).map(Some),
            kind::READER_GAP => gap(frame).map(Some),
            kind::READER_LEASED => leased(frame).map(Some),
            kind::READER_SETTLED => settled(frame).map(Some),
            kind::READER_MISSING => missing(frame).map(Some),
            kind::READER_TAKEN => session(&mut frame.open().0).map(|writer| Some(Self::Taken { writer })),
            kind::READER_NOTICE => notice(&mut frame.open().0).map(Self::Notice).map(Some),
            kind::READER_FINISHED => Ok(Some(Self::Finished)),
            kind::READER_JOINS => joins(&mut frame.open().0).map(Some),
            kind::READER_ALL_JOINED => Ok(Some(Self::AllJoined)),
            kind::READER_FROM => frame.open().0.u32().map(|no| Some(Self::From(PipeNo(no)))),
            kind::READER_GONE => frame.open().0.u32().map(|no| Some(Self::Gone(PipeNo(no)))),
            kind::ERROR => Err(carried_error(frame)),
            _ => frame.unknown(),
        }
    }

    fn is_last(&self) -> bool {
        *self == Self::Finished
    }
}

const VERDICT_DONE: u8 = 0;
const VERDICT_REFUSED: u8 = 1;
const VERDICT_EXTEND: u8 = 2;

fn settle(frame: Frame) -> Result<ReaderUp, Error> {
    let mut fields = frame.open().0;
    let (lease, kind, ms) = (lease(&mut fields)?, fields.u8()?, fields.u64()?);
    let verdict = match kind {
        VERDICT_DONE => Verdict::Done,
        VERDICT_REFUSED => Verdict::Refused { delay: Duration::from_millis(ms) },
        VERDICT_EXTEND => Verdict::Extend,
        _ => return Err(Error::new(Code::Protocol, format!("nothing becomes of a record in the way {kind}"))),
    };
    Ok(ReaderUp::Settle { lease, verdict })
}

fn put_had(out: &mut BytesMut, had: &Had) {
    put_short(out, had.pipe.encoded());
    out.put_u8(u8::from(had.at.is_some()));
    had.at.iter().for_each(|mark| put_mark(out, mark));
    put_leases(out, &had.leases);
}

fn had(fields: &mut Fields) -> Result<Had, Error> {
    let pipe = path(fields)?;
    let at = if fields.u8()? == 0 { None } else { Some(mark(fields)?) };
    Ok(Had { pipe, at, leases: leases(fields)? })
}

fn joins(fields: &mut Fields) -> Result<ReaderDown, Error> {
    let (no, pipe, is_new) = (PipeNo(fields.u32()?), path(fields)?, fields.u8()? != 0);
    Ok(ReaderDown::Joins { no, pipe, welcome: reader_welcome(fields)?, is_new })
}

fn leased(frame: Frame) -> Result<ReaderDown, Error> {
    let (mut fields, batch) = frame.open();
    let (lease, time) = (lease(&mut fields)?, Duration::from_millis(fields.u64()?));
    Ok(ReaderDown::Leased { lease, time, batch: batch_of(&mut fields, batch)? })
}

fn settled(frame: Frame) -> Result<ReaderDown, Error> {
    let mut fields = frame.open().0;
    let (lease, code) = (lease(&mut fields)?, fields.u16()?);
    Ok(ReaderDown::Settled { lease, error: (code != 0).then(|| Code::from_number(code)) })
}

fn missing(frame: Frame) -> Result<ReaderDown, Error> {
    let mut fields = frame.open().0;
    Ok(ReaderDown::Missing { from: position(&mut fields)?, to: position(&mut fields)?, records: fields.u64()? })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn batch(frame: Frame) -> Result<ReaderDown, Error> {
    let (mut fields, batch) = frame.open();
    let (from, position) = (seq(&mut fields)?, position(&mut fields)?);
    Ok(ReaderDown::Batch { from, position, batch: batch_of(&mut fields, batch)? })
}

fn item_end(frame: Frame) -> Result<ReaderDown, Error> {
    let mut fields = frame.open().0;
    let (writer, number, next) = (session(&mut fields)?, fields.u8()?, seq(&mut fields)?);
    let alone = fields.u8()? != 0;
    let kind = EndKind::from_number(number)
        .ok_or_else(|| Error::new(Code::Protocol, format!("an item cannot end in the way {number}")))?;
    Ok(ReaderDown::ItemEnd { writer, kind, alone, next })
}

fn gap(frame: Frame) -> Result<ReaderDown, Error> {
    let mut fields = frame.open().0;
    Ok(ReaderDown::Gap { writer: session(&mut fields)?, from: seq(&mut fields)?, to: seq(&mut fields)? })
}
