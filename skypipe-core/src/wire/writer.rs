//! The frames of an attached writer.

use bytes::{BufMut, Bytes};

use super::constants::kind;
use super::fields::{ack, payload, put_ack};
use super::frame::{Frame, batch_of};
use super::message::{Message, carried_error, notice, notice_frame};
use crate::broker::{WriterDown, WriterUp};
use crate::error::Error;

impl Message for WriterUp {
    fn into_frame(self) -> Frame {
        match self {
            Self::Batch(batch) => Frame::new(kind::WRITER_BATCH, Bytes::new()).with_batch(batch),
            Self::Abort => Frame::new(kind::WRITER_ABORT, Bytes::new()),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::WRITER_BATCH => {
                let (mut fields, batch) = frame.open();
                batch_of(&mut fields, batch).map(Self::Batch).map(Some)
            }
            kind::WRITER_ABORT => Ok(Some(Self::Abort)),
            kind::ERROR => Err(carried_error(frame)),
            _ => frame.unknown(),
        }
    }

    fn batch_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.encoded().len(),
            Self::Abort => 0,
        }
    }
}

impl Message for WriterDown {
    fn into_frame(self) -> Frame {
        match self {
            Self::Ack(ack) => Frame::new(kind::WRITER_ACK, payload(|out| put_ack(out, &ack))),
            Self::Credit(bytes) => Frame::new(kind::WRITER_CREDIT, payload(|out| out.put_u64_le(bytes))),
            Self::HasReader => Frame::skippable(kind::WRITER_HAS_READER, Bytes::new()),
            Self::Notice(notice) => notice_frame(kind::WRITER_NOTICE, &notice),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::WRITER_ACK => ack(&mut frame.open().0).map(Self::Ack).map(Some),
            kind::WRITER_CREDIT => frame.open().0.u64().map(Self::Credit).map(Some),
            kind::WRITER_HAS_READER => Ok(Some(Self::HasReader)),
            kind::WRITER_NOTICE => notice(&mut frame.open().0).map(Self::Notice).map(Some),
            kind::ERROR => Err(carried_error(frame)),
            _ => frame.unknown(),
        }
    }
}
