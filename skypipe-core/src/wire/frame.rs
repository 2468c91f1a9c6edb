//! One frame: a kind, a payload, and the batch at its end, if it carries one.

use bytes::{BufMut, Bytes, BytesMut};

use super::constants::{FLAG_SKIPPABLE, HEADER_BYTES, kind};
use crate::batch::Batch;
use crate::codec::Fields;
use crate::error::{Code, Error};

/// One frame. A batch stays an object of its own until a byte stream needs bytes, and its bytes are never copied: between
/// two ends in one process it crosses as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(crate) kind: u8,
    pub(crate) skippable: bool,
    /// All of the payload, or, when `batch` is there, what stands before the batch.
    pub(crate) payload: Bytes,
    pub(crate) batch: Option<Batch>,
}

impl Frame {
    pub(crate) fn new(kind: u8, payload: impl Into<Bytes>) -> Self {
        Self { kind, skippable: false, payload: payload.into(), batch: None }
    }

    pub(crate) fn skippable(kind: u8, payload: impl Into<Bytes>) -> Self {
        Self { skippable: true, ..Self::new(kind, payload) }
    }

    pub(crate) fn with_batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    /// The kind, one of [`kind`](super::constants::kind).
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// Whether it is of a kind that ends with a batch.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "for the drivers"))]
    pub(crate) fn carries_batch(&self) -> bool {
        matches!(self.kind, kind::WRITER_BATCH | kind::READER_BATCH)
    }

    /// Bytes of the whole payload, the batch included.
    pub fn payload_bytes(&self) -> usize {
        self.payload.len() + self.batch.as_ref().map_or(0, |b| b.encoded().len())
    }

    /// Puts the header and all of the payload that is not the batch.
    pub(crate) fn put_head(&self, out: &mut BytesMut) {
        out.reserve(HEADER_BYTES + self.payload.len());
        out.put_u32_le(self.payload_bytes() as u32);
        out.put_u8(self.kind);
        out.put_u8(if self.skippable { FLAG_SKIPPABLE } else { 0 });
        out.put_u16_le(0);
        out.put_slice(&self.payload);
    }

    /// The payload, and the batch if it came as an object.
    pub(crate) fn open(self) -> (Fields, Option<Batch>) {
        (Fields(self.payload), self.batch)
    }

    /// What to do with a kind that is not known here: pass it over, or give up.
    pub(crate) fn unknown<M>(&self) -> Result<Option<M>, Error> {
        if self.skippable {
            return Ok(None);
        }
        Err(Error::new(Code::Protocol, format!("a frame of kind {:#04x} is not expected here", self.kind)))
    }
}

/// The batch of a frame: the object, or what is left of its payload.
pub(crate) fn batch_of(fields: &mut Fields, batch: Option<Batch>) -> Result<Batch, Error> {
    match batch {
        Some(batch) => Ok(batch),
        None => Batch::decode(fields.rest()),
    }
}
