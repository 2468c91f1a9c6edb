//! What is sent, and whether that is what comes.

use std::sync::Arc;

use skypipe_core::{Chunk, Code, Env, Error, PIECE_BYTES_MAX, Seq};

/// A record begins with its number, as far as it has room for it.
const NUMBER_BYTES: usize = 8;

/// Records of one length: each begins with its number, the rest is random, drawn once. Nothing between here and there can make it shorter.
#[derive(Clone)]
pub(super) struct Payload(Arc<[u8]>);

impl Payload {
    pub(super) fn new(record_bytes: usize) -> Self {
        let mut block = vec![0; record_bytes];
        Env::system().random.fill(&mut block);
        Self(block.into())
    }

    /// Bytes of a record.
    pub(super) fn record_bytes(&self) -> usize {
        self.0.len()
    }

    /// All records of one writer.
    pub(super) fn records(&self) -> Records {
        Records { number: 0, buffer: self.0.to_vec() }
    }

    /// What one writer's reader expects.
    pub(super) fn check(&self) -> Check {
        Check { payload: self.clone(), records: 0, at: 0, next: Seq(0) }
    }
}

/// The records of one writer, one after the other.
pub(super) struct Records {
    number: u64,
    buffer: Vec<u8>,
}

impl Records {
    /// The next one.
    pub(super) fn next(&mut self) -> &[u8] {
        let number = self.number.to_le_bytes();
        let length = self.buffer.len().min(NUMBER_BYTES);
        self.buffer[..length].copy_from_slice(&number[..length]);
        self.number += 1;
        &self.buffer
    }

    /// How many were asked for.
    pub(super) fn count(&self) -> u64 {
        self.number
    }
}

/// Compares what comes of one writer, byte by byte and piece by piece, with what it sent.
pub(super) struct Check {
    payload: Payload,
    /// Whole records so far.
    records: u64,
    /// Bytes of the next one so far.
    at: usize,
    /// The number that the next piece has.
    next: Seq,
}

impl Check {
    /// Takes what came; gives how many records ended in it.
    ///
    /// # Errors
    /// `E_INTEGRITY` when it is not what was sent.
    pub(super) fn take(&mut self, chunk: &Chunk) -> Result<u64, Error> {
        let (from, next) = (chunk.from.max(chunk.batch.first()), chunk.next());
        if from != self.next {
            return Err(self.wrong("it is not the next one"));
        }
        self.next = next;
        self.pieces(&chunk.bodies(), next.0.saturating_sub(from.0))
    }

    /// Whole records so far, with nothing behind them.
    ///
    /// # Errors
    /// `E_INTEGRITY` when the last one lacks its end.
    pub(super) fn finish(self) -> Result<u64, Error> {
        if self.at == 0 { Ok(self.records) } else { Err(self.wrong("its end is missing")) }
    }

    /// So many pieces, as records of this length are cut.
    fn pieces(&mut self, mut bodies: &[u8], count: u64) -> Result<u64, Error> {
        let before = self.records;
        for _ in 0..count {
            let length = (self.payload.record_bytes() - self.at).min(PIECE_BYTES_MAX);
            let Some((piece, rest)) = bodies.split_at_checked(length) else { return Err(self.wrong("it is short")) };
            if !self.is_next(piece) {
                return Err(self.wrong("it has other bytes"));
            }
            self.at += length;
            if self.at == self.payload.record_bytes() {
                (self.at, self.records) = (0, self.records + 1);
            }
            bodies = rest;
        }
        if bodies.is_empty() { Ok(self.records - before) } else { Err(self.wrong("it is long")) }
    }

    fn is_next(&self, piece: &[u8]) -> bool {
        let expected = &self.payload.0[self.at..self.at + piece.len()];
        let numbered = if self.at == 0 { piece.len().min(NUMBER_BYTES) } else { 0 };
        let number = self.records.to_le_bytes();
        piece[..numbered] == number[..numbered] && piece[numbered..] == expected[numbered..]
    }

    fn wrong(&self, how: &str) -> Error {
        Error::new(Code::Integrity, format!("record {} did not come as it was sent: {how}", self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a writer of `count` records sends, in pieces.
    fn sent(payload: &Payload, count: usize) -> (Vec<u8>, u64) {
        let mut records = payload.records();
        let bytes = (0..count).flat_map(|_| records.next().to_vec()).collect();
        (bytes, (count * payload.record_bytes().div_ceil(PIECE_BYTES_MAX)) as u64)
    }

    #[test]
    fn what_was_sent_is_what_comes() {
        for record_bytes in [1, 7, 8, 9, 128, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX] {
            let payload = Payload::new(record_bytes);
            let (bytes, pieces) = sent(&payload, 300_usize.min(2_000_000 / record_bytes));
            let mut check = payload.check();
            let records = check.pieces(&bytes, pieces).unwrap();
            assert_eq!((records as usize * record_bytes, check.finish().unwrap()), (bytes.len(), records));
        }
    }

    #[test]
    fn what_is_not_is_noticed() {
        let payload = Payload::new(20);
        let (bytes, pieces) = sent(&payload, 3);
        let refused = |bytes: &[u8], pieces| payload.check().pieces(bytes, pieces).unwrap_err().code();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(refused(&other, pieces), Code::Integrity, "byte {at}");
        }
        assert_eq!(refused(&bytes[20..], 2), Code::Integrity, "the first one is missing");
        assert_eq!(refused(&bytes[..40], 3), Code::Integrity, "fewer bytes");
        assert_eq!(refused(&bytes, 2), Code::Integrity, "more bytes");
        let long = Payload::new(PIECE_BYTES_MAX + 1);
        let mut check = long.check();
        check.pieces(&sent(&long, 1).0[..PIECE_BYTES_MAX], 1).unwrap();
        assert_eq!(check.finish().unwrap_err().code(), Code::Integrity, "a part");
    }
}
