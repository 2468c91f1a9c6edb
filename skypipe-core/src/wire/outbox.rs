//! Frames that wait to be written, as slices for one vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::constants::{OUTBOX_BYTES_MAX, PAYLOAD_BYTES_MAX, WRITE_SLICES_MAX};
use super::frame::Frame;
use crate::error::{Code, Error};

/// Bytes on their way out. Headers and small payloads are gathered in one buffer; a batch is a slice of its own bytes.
#[derive(Debug, Default)]
pub struct Outbox {
    slices: VecDeque<Bytes>,
    /// Small frames behind the last slice.
    small: BytesMut,
    bytes: usize,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// `E_FRAME_SIZE` when its payload is over [`PAYLOAD_BYTES_MAX`]; nothing is added then.
    pub fn push(&mut self, frame: Frame) -> Result<(), Error> {
        if frame.payload_bytes() > PAYLOAD_BYTES_MAX {
            return Err(Error::new(Code::FrameSize, format!("{} bytes do not fit a frame", frame.payload_bytes())));
        }
        let before = self.small.len();
        frame.put_head(&mut self.small);
        self.bytes += self.small.len() - before;
        if let Some(batch) = frame.batch {
            self.bytes += batch.encoded().len();
            self.slices.push_back(self.small.split().freeze());
            self.slices.push_back(batch.encoded().clone());
        }
        Ok(())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether no further frame should be added before some is written.
    pub fn is_full(&self) -> bool {
        self.bytes >= OUTBOX_BYTES_MAX
    }

    /// The bytes in front, as many slices as fit one write; returns how many it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; WRITE_SLICES_MAX]) -> usize {
        let small = (!self.small.is_empty()).then_some(&self.small[..]);
        let all = self.slices.iter().map(|s| &s[..]).chain(small);
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(all) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// `count` bytes were written.
    pub fn written(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(front) = self.slices.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.slices.pop_front();
        }
        self.small.advance(count.min(self.small.len()));
    }

    /// All that waits, copied: for tests and for streams of another kind.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = self.slices.iter().fold(Vec::new(), |mut all, s| {
            all.extend_from_slice(s);
            all
        });
        all.extend_from_slice(&self.small);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::id::{Epoch, Seq, SessionId};

    #[test]
    fn a_batch_is_written_from_its_own_bytes() {
        let mut builder = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(0));
        assert!(builder.push(b"hello\n", true, true));
        let batch = builder.build(None);
        let mut outbox = Outbox::new();
        outbox.push(Frame::new(1, vec![9])).unwrap();
        outbox.push(Frame::new(2, vec![8]).with_batch(batch.clone())).unwrap();
        outbox.push(Frame::new(3, vec![7])).unwrap();
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        assert_eq!(outbox.fill(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), batch.encoded().as_ptr());
    }

    #[test]
    fn any_count_written_leaves_the_rest() {
        let mut whole = Outbox::new();
        let batch = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(0)).build(None);
        whole.push(Frame::new(1, vec![9]).with_batch(batch.clone())).unwrap();
        whole.push(Frame::new(2, vec![8]).with_batch(batch)).unwrap();
        whole.push(Frame::new(3, vec![7])).unwrap();
        let bytes = whole.to_vec();
        for step in 1..=bytes.len() {
            let (mut outbox, mut seen) = (Outbox::new(), Vec::new());
            outbox.slices.clone_from(&whole.slices);
            outbox.small.extend_from_slice(&whole.small);
            outbox.bytes = whole.bytes;
            while !outbox.is_empty() {
                let rest = outbox.to_vec();
                seen.extend_from_slice(&rest[..step.min(rest.len())]);
                outbox.written(step.min(rest.len()));
            }
            assert_eq!(seen, bytes);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = Outbox::new().push(Frame::new(1, vec![0; PAYLOAD_BYTES_MAX + 1])).unwrap_err();
        assert_eq!(error.code(), Code::FrameSize);
    }
}
