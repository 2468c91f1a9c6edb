//! Little-endian fields in and out of byte buffers, for the wire and for the log.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::broker::{Retain, Settings};
use crate::error::{Code, Error};

/// Takes fields off the front of a buffer, and never more than is there.
pub(crate) struct Fields(pub(crate) Bytes);

impl Fields {
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        // No part of the buffer is shared for it: that would cost more than the number.
        let array = *self.0.first_chunk().ok_or_else(too_short)?;
        self.0.advance(N);
        Ok(array)
    }

    /// The next `count` bytes, sharing the buffer.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, Error> {
        if count > self.0.len() {
            return Err(too_short());
        }
        Ok(self.0.split_to(count))
    }

    /// Bytes behind a length of two bytes.
    pub(crate) fn short(&mut self) -> Result<Bytes, Error> {
        let length = self.u16()?;
        self.bytes(length as usize)
    }

    /// Text behind a length of two bytes.
    pub(crate) fn text(&mut self) -> Result<String, Error> {
        String::from_utf8(self.short()?.to_vec()).map_err(|_| Error::new(Code::Protocol, "text that is not UTF-8"))
    }

    /// What is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

fn too_short() -> Error {
    Error::new(Code::Protocol, "a field reaches past the end of its frame")
}

/// Puts how a queue or a broadcast is kept: a byte that tells what is said, and that.
pub(crate) fn put_settings(out: &mut BytesMut, settings: &Settings) {
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let Retain { age, bytes, records } = settings.retain;
    let fields = [settings.max_deliveries.map(u64::from), ms(settings.lease), ms(age), bytes, records];
    out.put_u8(fields.iter().enumerate().map(|(bit, field)| u8::from(field.is_some()) << bit).sum());
    fields.into_iter().flatten().for_each(|field| out.put_u64_le(field));
}

/// Takes them.
pub(crate) fn take_settings(fields: &mut Fields) -> Result<Settings, Error> {
    let said = fields.u8()?;
    let mut next = |bit: u8| if said & 1 << bit == 0 { Ok(None) } else { fields.u64().map(Some) };
    let max_deliveries = next(0)?.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let lease = next(1)?.map(Duration::from_millis);
    let retain = Retain { age: next(2)?.map(Duration::from_millis), bytes: next(3)?, records: next(4)? };
    Ok(Settings { max_deliveries, lease, retain })
}

/// Puts bytes behind a length of two bytes; what does not fit is cut.
pub(crate) fn put_short(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.put_u16_le(bytes.len() as u16);
    out.put_slice(bytes);
}
