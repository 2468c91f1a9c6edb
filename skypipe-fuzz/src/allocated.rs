//! How much a decoder allocates.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

/// Before it has proved a key, a peer gets no more memory than this out of one message.
pub(crate) const STRANGER_BYTES_MAX: usize = 64 * 1024;

/// Runs `decode`, which may allocate `bytes_max` bytes in all, freed or not.
pub(crate) fn within<R>(bytes_max: usize, decode: impl FnOnce() -> R) -> R {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    let result = decode();
    let allocated = region.change().bytes_allocated;
    assert!(allocated <= bytes_max, "{allocated} bytes were allocated, {bytes_max} are allowed");
    result
}

/// Whether allocations are counted: whoever runs a target makes `stats_alloc::INSTRUMENTED_SYSTEM` its global allocator.
pub fn is_counting() -> bool {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    drop(std::hint::black_box(Box::new([0_u8; 64])));
    region.change().bytes_allocated >= 64
}
