//! The frames of an attached reader.

use bytes::{BufMut, Bytes};

use super::constants::kind;
use super::fields::{cursor, payload, put_cursor, seq, session};
use super::frame::{Frame, batch_of};
use super::message::{Message, carried_error, notice, notice_frame};
use crate::batch::EndKind;
use crate::broker::{ReaderDown, ReaderUp};
use crate::codec::put_short;
use crate::error::{Code, Error};
use crate::id::Position;

impl Message for ReaderUp {
    fn into_frame(self) -> Frame {
        match self {
            Self::Credit(bytes) => Frame::new(kind::READER_CREDIT, payload(|out| out.put_u64_le(bytes))),
            Self::Ack(cursor) => Frame::new(kind::READER_ACK, payload(|out| put_cursor(out, &cursor))),
            Self::Leave { part } => Frame::new(kind::READER_LEAVE, payload(|out| out.put_u8(u8::from(part)))),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::READER_CREDIT => frame.open().0.u64().map(Self::Credit).map(Some),
            kind::READER_ACK => cursor(&mut frame.open().0).map(Self::Ack).map(Some),
            kind::READER_LEAVE => frame.open().0.u8().map(|part| Some(Self::Leave { part: part != 0 })),
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
            Self::Taken { writer } => Frame::new(kind::READER_TAKEN, payload(|out| out.put_slice(&writer.0))),
            Self::Notice(notice) => notice_frame(kind::READER_NOTICE, &notice),
            Self::Finished => Frame::new(kind::READER_FINISHED, Bytes::new()),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::READER_BATCH => batch(frame).map(Some),
            kind::READER_ITEM_END => item_end(frame).map(Some),
            kind::READER_GAP => gap(frame).map(Some),
            kind::READER_TAKEN => session(&mut frame.open().0).map(|writer| Some(Self::Taken { writer })),
            kind::READER_NOTICE => notice(&mut frame.open().0).map(Self::Notice).map(Some),
            kind::READER_FINISHED => Ok(Some(Self::Finished)),
            kind::ERROR => Err(carried_error(frame)),
            _ => frame.unknown(),
        }
    }

    fn is_last(&self) -> bool {
        *self == Self::Finished
    }
}

fn batch(frame: Frame) -> Result<ReaderDown, Error> {
    let (mut fields, batch) = frame.open();
    let (from, position) = (seq(&mut fields)?, Position(fields.short()?));
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
