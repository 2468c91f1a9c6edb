//! Messages and their frames.

use bytes::BufMut;

use super::constants::kind;
use super::fields::{payload, put_cursor};
use super::frame::Frame;
use crate::broker::{Notice, ReaderCursor};
use crate::codec::{Fields, put_short};
use crate::error::{Code, ERROR_TEXT_BYTES_MAX, Error};
use crate::id::Seq;

/// What has a frame of its own.
pub trait Message: Sized {
    /// The frame of this message.
    fn into_frame(self) -> Frame;

    /// The message of a frame; `None` for one that may be passed over.
    ///
    /// # Errors
    /// `E_PROTOCOL` for a frame that is not expected here or is malformed, what [`Batch::decode`](crate::Batch::decode) finds, and
    /// the error itself when the frame carries one.
    fn from_frame(frame: Frame) -> Result<Option<Self>, Error>;

    /// Whether nothing follows it, so that the end of the stream is no broken link.
    fn is_last(&self) -> bool {
        false
    }

    /// Bytes of the batch that it carries, if it carries one.
    fn batch_bytes(&self) -> usize {
        0
    }
}

/// The frame that ends a stream and says why.
#[cfg(any(test, feature = "host"))]
pub(crate) fn error_frame(error: &Error) -> Frame {
    put_error(kind::ERROR, error)
}

/// The answer that says no.
pub(crate) fn refused_frame(error: &Error) -> Frame {
    put_error(kind::REFUSED, error)
}

fn put_error(kind: u8, error: &Error) -> Frame {
    let fields = payload(|out| {
        out.put_u16_le(error.code() as u16);
        put_short(out, cut(error.text(), ERROR_TEXT_BYTES_MAX).as_bytes());
        if let Some(stored) = error.stored() {
            out.put_u64_le(stored.0);
        }
    });
    Frame::new(kind, fields)
}

/// The error that an error frame or a refusal carries, or what is wrong with the frame.
pub(super) fn carried_error(frame: Frame) -> Error {
    let mut fields = Fields(frame.payload);
    let read = fields.u16().and_then(|code| Ok((code, fields.text()?)));
    match read {
        Ok((code, text)) => {
            let error = Error::new(Code::from_number(code), cut(&text, ERROR_TEXT_BYTES_MAX));
            // Only an expired session has a number behind its text.
            fields.u64().map(Seq).into_iter().fold(error, Error::with_stored)
        }
        Err(error) => error,
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const MIDDLE: u8 = 0;
const SECOND_WRITER: u8 = 1;
const WAITS_FOR_ROOM: u8 = 2;
const HAS_ROOM: u8 = 3;
const SESSION_LOST: u8 = 4;
const OTHER: u8 = 255;

/// A notice: its kind, a text, its fields. A kind from a newer broker is shown by its text.
pub(super) fn notice_frame(kind: u8, notice: &Notice) -> Frame {
    let (number, text) = match notice {
        Notice::Middle { .. } => (MIDDLE, ""),
        Notice::SecondWriter => (SECOND_WRITER, ""),
        Notice::WaitsForRoom { text, .. } => (WAITS_FOR_ROOM, &text[..]),
        Notice::HasRoom => (HAS_ROOM, ""),
        Notice::SessionLost => (SESSION_LOST, ""),
        Notice::Other(text) => (OTHER, &text[..]),
    };
    let fields = payload(|out| {
        out.put_u8(number);
        put_short(out, cut(text, ERROR_TEXT_BYTES_MAX).as_bytes());
        match notice {
            Notice::Middle { writer, from } => put_cursor(out, &ReaderCursor { writer: *writer, next: *from }),
            Notice::WaitsForRoom { code, .. } => out.put_u16_le(*code as u16),
            _ => {}
        }
    });
    Frame::skippable(kind, fields)
}

pub(super) fn notice(fields: &mut Fields) -> Result<Notice, Error> {
    let (number, text) = (fields.u8()?, fields.text()?);
    Ok(match number {
        MIDDLE => {
            let cursor = super::fields::cursor(fields)?;
            Notice::Middle { writer: cursor.writer, from: cursor.next }
        }
        SECOND_WRITER => Notice::SecondWriter,
        WAITS_FOR_ROOM => Notice::WaitsForRoom { code: Code::from_number(fields.u16()?), text },
        HAS_ROOM => Notice::HasRoom,
        SESSION_LOST => Notice::SessionLost,
        _ => Notice::Other(text),
    })
}
