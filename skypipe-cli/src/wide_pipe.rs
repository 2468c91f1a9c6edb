//! Pipes of the kernel that carry much: more room in them, and writes that do not wait.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// As much as a pipe holds by default. Who finds one so full moves bulk.
pub(crate) const FULL_BYTES: usize = 64 * 1024;
/// What it is to hold then, the most that Linux gives without privileges: its two processes take turns less often.
#[cfg(target_os = "linux")]
const WIDE_BYTES: usize = 1024 * 1024;

/// Gives a pipe more room, if the kernel likes.
#[cfg(target_os = "linux")]
pub(crate) fn widen(pipe: BorrowedFd<'_>) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|bytes| bytes < WIDE_BYTES) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, WIDE_BYTES);
    }
}

/// Writes what there is room for, also where the pipe is one that waits: others may share that setting. Not all kernels can; then it says so.
#[cfg(target_os = "linux")]
pub(crate) fn write_ready(pipe: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    /// Where the file stands, which a pipe does not.
    const HERE: u64 = u64::MAX;
    rustix::io::pwritev2(pipe, &[std::io::IoSlice::new(bytes)], HERE, rustix::io::ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn widen(_: BorrowedFd<'_>) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn write_ready(_: BorrowedFd<'_>, _: &[u8]) -> Result<usize, Errno> {
    Err(Errno::OPNOTSUPP)
}
