//! Bytes in, in any split; frames out.

use bytes::{Bytes, BytesMut};

use super::constants::{
    FLAG_SKIPPABLE, HEADER_BYTES, HELLO_BYTES_MAX, PAYLOAD_BYTES_MAX, READ_BYTES_MAX, READ_BYTES_MIN,
};
use super::frame::Frame;
use crate::buffers::Buffer;
use crate::error::{Code, Error};

/// Cuts a stream of bytes into frames. A frame shares the buffer it was read into.
///
/// Small frames are read many at a time. A frame over 64 KiB gets a buffer of its own, and no more than 4 KiB of it was read before
/// that was known: so a large batch is read to where it stays.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of the buffer that were read.
    filled: usize,
    large: Option<Large>,
    read_bytes: usize,
    payload_max: usize,
}

/// A frame over 64 KiB that is under way.
#[derive(Debug)]
struct Large {
    buffer: Buffer,
    filled: usize,
}

impl Decoder {
    /// A decoder that takes no payload over [`HELLO_BYTES_MAX`] until [`Decoder::trust`].
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            filled: 0,
            large: None,
            read_bytes: READ_BYTES_MIN,
            payload_max: HELLO_BYTES_MAX,
        }
    }

    /// The peer said hello and may now send payloads up to [`PAYLOAD_BYTES_MAX`].
    pub fn trust(&mut self) {
        self.payload_max = PAYLOAD_BYTES_MAX;
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// `E_FRAME_SIZE` when a frame claims more than allowed. Nothing was allocated for it.
    pub fn frame(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(large) = self.large.take_if(|large| large.missing() == 0) {
            return Ok(Some(frame(large.buffer.freeze_from(0))));
        }
        let Some(total) = self.frame_bytes()? else { return Ok(None) };
        if self.filled < total {
            return Ok(None);
        }
        self.filled -= total;
        Ok(Some(frame(self.buffer.split_to(total).freeze())))
    }

    /// Where the next bytes go, never empty: [`Decoder::advance`] tells how many came. Call it when [`Decoder::frame`] gave `None`.
    ///
    /// # Errors
    /// As [`Decoder::frame`].
    pub fn space(&mut self) -> Result<&mut [u8], Error> {
        let total = self.frame_bytes()?.unwrap_or(HEADER_BYTES);
        if total > READ_BYTES_MAX {
            self.read_bytes = READ_BYTES_MIN;
            if self.large.is_none() {
                self.begin_large(total);
            }
        } else if let Some(bytes) = self.allocates()? {
            self.move_to(bytes);
            // The next one is larger: what fills a buffer is likely to fill another.
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        }
        Ok(match &mut self.large {
            Some(large) => &mut large.buffer[large.filled..],
            None => &mut self.buffer[self.filled..],
        })
    }

    /// So many bytes came into the space.
    pub fn advance(&mut self, count: usize) {
        match &mut self.large {
            Some(large) => large.filled = (large.filled + count).min(large.buffer.len()),
            None => self.filled = (self.filled + count).min(self.buffer.len()),
        }
    }

    /// How large a buffer [`Decoder::space`] is about to allocate, if it has to.
    ///
    /// # Errors
    /// As [`Decoder::frame`].
    pub fn allocates(&self) -> Result<Option<usize>, Error> {
        let total = self.frame_bytes()?.unwrap_or(HEADER_BYTES);
        let (filled, length) = (self.filled, self.buffer.len());
        Ok(if total > READ_BYTES_MAX {
            self.large.is_none().then(|| Buffer::capacity_for(total))
        } else {
            (length < total || length == filled).then_some(total.max(self.read_bytes))
        })
    }

    /// Takes as much of `input` as goes into one [`Decoder::space`], off its front.
    ///
    /// # Errors
    /// As [`Decoder::frame`].
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        let space = self.space()?;
        let count = space.len().min(input.len());
        space[..count].copy_from_slice(&input[..count]);
        self.advance(count);
        *input = &input[count..];
        Ok(())
    }

    /// Reads little at once from now on, and more only where a frame is longer.
    pub fn read_little(&mut self) {
        self.read_bytes = READ_BYTES_MIN;
    }

    /// Whether a frame was begun and not ended.
    pub fn is_torn(&self) -> bool {
        self.filled > 0 || self.large.is_some()
    }

    /// Nothing comes for now: gives back a buffer that holds nothing.
    pub fn rest(&mut self) {
        if self.filled == 0 {
            self.buffer = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
        }
    }

    /// Bytes of the frame at the front, header included, once its header is there.
    fn frame_bytes(&self) -> Result<Option<usize>, Error> {
        if let Some(large) = &self.large {
            return Ok(Some(large.buffer.len()));
        }
        let Some(length) = self.buffer.first_chunk::<4>().filter(|_| self.filled >= HEADER_BYTES) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.payload_max {
            let text = format!("a frame of {length} bytes is over the {} allowed", self.payload_max);
            return Err(Error::new(Code::FrameSize, text));
        }
        Ok(Some(HEADER_BYTES + length))
    }

    /// Goes on in a buffer of so many bytes.
    fn move_to(&mut self, length: usize) {
        let mut next = BytesMut::zeroed(length);
        next[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = next;
    }

    /// Goes on in a buffer for a frame of this length alone, with what was read of it.
    fn begin_large(&mut self, total: usize) {
        let (mut buffer, filled) = (Buffer::with_length(total), std::mem::take(&mut self.filled));
        buffer[..filled].copy_from_slice(&self.buffer[..filled]);
        self.large = Some(Large { buffer, filled });
        if self.buffer.len() > READ_BYTES_MIN {
            // Else much of the next one would be read into it, and copied.
            self.buffer = BytesMut::new();
        }
    }
}

impl Large {
    fn missing(&self) -> usize {
        self.buffer.len() - self.filled
    }
}

/// All bytes of a frame, as a frame.
fn frame(mut bytes: Bytes) -> Frame {
    let header = bytes.split_to(HEADER_BYTES);
    let skippable = header[5] & FLAG_SKIPPABLE != 0;
    Frame { kind: header[4], skippable, payload: bytes, batch: None }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::outbox::Outbox;
    use super::*;

    fn encoded(frames: &[Frame]) -> Vec<u8> {
        let mut outbox = Outbox::new();
        frames.iter().for_each(|f| outbox.push(f.clone()).unwrap());
        outbox.to_vec()
    }

    /// Feeds the bytes in pieces of these lengths, over and over.
    fn decoded(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, Code> {
        let (mut decoder, mut frames, mut at) = (Decoder::new(), Vec::new(), 0);
        decoder.trust();
        for piece in pieces.iter().cycle() {
            let mut input = &bytes[at..bytes.len().min(at + piece)];
            at += input.len();
            while !input.is_empty() {
                decoder.feed(&mut input).map_err(|e| e.code())?;
                while let Some(frame) = decoder.frame().map_err(|e| e.code())? {
                    frames.push(frame);
                }
            }
            if at == bytes.len() {
                return Ok(frames);
            }
        }
        Ok(frames)
    }

    #[test]
    fn every_split_gives_the_same() {
        let frames = [Frame::new(1, vec![7; 3]), Frame::skippable(2, vec![]), Frame::new(3, vec![1; 40])];
        let bytes = encoded(&frames);
        for split in 1..=bytes.len() {
            assert_eq!(decoded(&bytes, &[split, bytes.len()]).unwrap(), frames, "split at {split}");
            assert_eq!(decoded(&bytes, &[split]).unwrap(), frames, "pieces of {split}");
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        for (length, trusted) in
            [(HELLO_BYTES_MAX as u32 + 1, false), (PAYLOAD_BYTES_MAX as u32 + 1, true), (u32::MAX, true)]
        {
            let mut decoder = Decoder::new();
            if trusted {
                decoder.trust();
            }
            let mut bytes = [0; HEADER_BYTES];
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            decoder.feed(&mut &bytes[..]).unwrap();
            assert_eq!(decoder.frame().unwrap_err().code(), Code::FrameSize);
            assert_eq!(decoder.space().unwrap_err().code(), Code::FrameSize);
            assert!(decoder.buffer.len() <= READ_BYTES_MIN && decoder.large.is_none());
        }
    }

    #[test]
    fn a_large_frame_is_read_to_where_it_stays() {
        let bytes = encoded(&[Frame::new(1, vec![5; 256 * 1024]), Frame::new(2, vec![5; 256 * 1024])]);
        let mut decoder = Decoder::new();
        decoder.trust();
        let mut input = &bytes[..];
        for _ in 0..2 {
            decoder.feed(&mut input).unwrap();
            assert!(decoder.filled <= READ_BYTES_MIN, "only a little is read before the length is known");
            decoder.feed(&mut input).unwrap();
            let large = decoder.large.as_ref().unwrap();
            assert_eq!((large.filled, large.missing()), (HEADER_BYTES + 256 * 1024, 0));
            let at = large.buffer.as_ptr();
            assert_eq!(decoder.frame().unwrap().unwrap().payload.as_ptr(), at.wrapping_add(HEADER_BYTES));
        }
        assert!(!decoder.is_torn());
    }

    #[test]
    fn many_small_frames_come_with_one_read() {
        let bytes = encoded(&vec![Frame::new(1, vec![5; 24]); 10_000]);
        let mut decoder = Decoder::new();
        let (mut input, mut feeds, mut frames) = (&bytes[..], 0, 0);
        while !input.is_empty() {
            decoder.feed(&mut input).unwrap();
            feeds += 1;
            while decoder.frame().unwrap().is_some() {
                frames += 1;
            }
        }
        assert_eq!(frames, 10_000);
        assert!(feeds <= 10, "{feeds}");
    }

    #[test]
    fn an_idle_stream_holds_no_buffer() {
        let bytes = encoded(&[Frame::new(1, vec![5; 24])]);
        let mut decoder = Decoder::new();
        decoder.feed(&mut &bytes[..]).unwrap();
        assert!(decoder.frame().unwrap().is_some());
        decoder.rest();
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    proptest! {
        #[test]
        fn random_splits_give_the_same(
            payloads in proptest::collection::vec((0u8..9, 0usize..100_000), 0..6),
            pieces in proptest::collection::vec(1usize..50_000, 1..5),
        ) {
            let frames: Vec<_> = payloads.iter().map(|&(kind, length)| Frame::new(kind, vec![kind; length])).collect();
            let bytes = encoded(&frames);
            prop_assert_eq!(decoded(&bytes, &[bytes.len().max(1)]), Ok(frames.clone()));
            prop_assert_eq!(decoded(&bytes, &pieces), Ok(frames));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1usize..100) {
            let _ = decoded(&bytes, &[piece]);
        }
    }
}
