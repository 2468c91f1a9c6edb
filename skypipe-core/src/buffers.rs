//! Memory for large batches, used again.
//!
//! A full batch lives for a moment, and the next one wants as much room. Allocators give blocks of that size back to the kernel and take them again page by
//! page, which is most of what moving bulk costs then. So a few of them are kept for the whole process, the one used last first: it is still in the
//! processor's cache.
//!
//! What lives as briefly and is not kept here, such as a WebSocket's messages, is left to the allocator; see [`teach_allocator`].

use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, Once, PoisonError};

use bytes::Bytes;

/// Sizes of buffers that are kept: for a batch that was closed at its target of 256 KiB, with what goes beyond it, and for the longest frame there is.
const SIZES: [usize; 2] = [288 * 1024, 520 * 1024];
/// What is kept of all sizes together: as much as one reader has under way.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Half of what the allocator may keep at the end of a heap: more is no quicker, and a quarter of it not quick enough.
const LESSON_BYTES: usize = SPARE_BYTES_MAX / 2;

static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: [const { Vec::new() }; SIZES.len()], bytes: 0 });

/// Buffers that nobody uses now.
struct Spare {
    buffers: [Vec<Vec<u8>>; SIZES.len()],
    bytes: usize,
}

/// Memory that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// An empty one with room for at least so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Self::any(bytes);
        buffer.clear();
        buffer
    }

    /// So many bytes, whatever they are.
    pub(crate) fn with_length(bytes: usize) -> Self {
        let mut buffer = Self::any(bytes);
        buffer.resize(bytes, 0);
        buffer
    }

    fn any(bytes: usize) -> Self {
        let capacity = Self::capacity_for(bytes);
        let spare = place(capacity).and_then(|size| lock().take(size));
        Self { bytes: spare.unwrap_or_else(|| fresh(capacity)) }
    }

    /// How much room is made for so many bytes: never twice as much.
    pub(crate) fn capacity_for(bytes: usize) -> usize {
        SIZES.into_iter().find(|size| (size / 2..=*size).contains(&bytes)).unwrap_or(bytes)
    }

    /// What it holds, from `start` on. The memory is kept for another when the last clone of it is gone.
    pub(crate) fn freeze_from(mut self, start: usize) -> Bytes {
        if place(self.bytes.capacity()).is_some() {
            return Bytes::from_owner(self).slice(start..);
        }
        Bytes::from(std::mem::take(&mut self.bytes)).slice(start..)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(size) = place(self.bytes.capacity()) {
            lock().keep(size, std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Spare {
    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        let bytes = self.buffers[size].pop()?;
        self.bytes -= SIZES[size];
        Some(bytes)
    }

    fn keep(&mut self, size: usize, bytes: Vec<u8>) {
        if self.bytes + SIZES[size] <= SPARE_BYTES_MAX {
            self.bytes += SIZES[size];
            self.buffers[size].push(bytes);
        }
    }
}

fn fresh(capacity: usize) -> Vec<u8> {
    if place(capacity).is_some() {
        teach_allocator();
    }
    Vec::with_capacity(capacity)
}

/// The GNU C library gives the end of its heap back to the kernel whenever more than 128 KiB of it are free, until it sees a long block freed: then twice that
/// block may stay free (`mallopt(3)`, `M_MMAP_THRESHOLD`). So it is shown one, once, in a process that moves bulk. No page of that block is touched; other
/// allocators learn nothing from it.
fn teach_allocator() {
    static LESSON: Once = Once::new();
    LESSON.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LESSON_BYTES))));
}

/// Which of the sizes that are kept this is.
fn place(capacity: usize) -> Option<usize> {
    SIZES.iter().position(|size| *size == capacity)
}

fn lock() -> std::sync::MutexGuard<'static, Spare> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_taken_again() {
        let mut spare = Spare { buffers: Default::default(), bytes: 0 };
        spare.keep(0, vec![1; SIZES[0]]);
        assert_eq!(spare.bytes, SIZES[0]);
        assert!(spare.take(0).unwrap().capacity() >= SIZES[0]);
        assert!(spare.take(0).is_none() && spare.take(1).is_none());
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut spare = Spare { buffers: Default::default(), bytes: 0 };
        (0..100).for_each(|_| spare.keep(1, Vec::with_capacity(SIZES[1])));
        assert!(spare.bytes <= SPARE_BYTES_MAX && spare.bytes + SIZES[1] > SPARE_BYTES_MAX);
        assert_eq!(spare.buffers[1].len() * SIZES[1], spare.bytes);
    }

    #[test]
    fn a_buffer_takes_less_than_twice_what_was_asked_for() {
        for bytes in [1, 4096, 150_000, SIZES[0], SIZES[0] + 1, 400_000, SIZES[1], SIZES[1] + 1] {
            for _ in 0..2 {
                let (empty, full) = (Buffer::with_capacity(bytes), Buffer::with_length(bytes));
                assert!((bytes..=2 * bytes).contains(&empty.capacity()), "{bytes}");
                assert!((bytes..=2 * bytes).contains(&full.capacity()), "{bytes}");
                assert_eq!((empty.len(), full.len()), (0, bytes));
            }
        }
    }

    #[test]
    fn bytes_are_what_was_put_in() {
        for length in [10, SIZES[0] - 5] {
            let mut buffer = Buffer::with_capacity(length);
            buffer.resize(length, 7);
            buffer[3] = 9;
            let bytes = buffer.freeze_from(3);
            assert_eq!((bytes.len(), bytes[0], bytes[1]), (length - 3, 9, 7));
        }
    }
}
