//! What can be seen only before `main`: whether stdout is closed.
//!
//! Rust's runtime opens `/dev/null` in the place of a closed stdin, stdout or stderr before `main` runs, exactly as some programs hand it
//! to their children when they want no output (Python's `DEVNULL`). The two must be told apart: a reader without
//! stdout takes nothing, a reader whose output nobody wants takes everything.
//!
//! This is the one place of the workspace where unsafe code is allowed: the attribute that puts a function in the list the loader runs
//! before `main`. The function itself is safe, and asks the kernel one question.

#![expect(unsafe_code, reason = "a link section is the only way to run before the runtime opens /dev/null")]

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether this process was started with stdout closed.
pub(crate) fn stdout_was_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = look;

extern "C" fn look() {
    let closed = matches!(rustix::fs::lstat(c"/dev/fd/1"), Err(rustix::io::Errno::NOENT));
    // A machine without /dev/fd cannot tell; there an open stdout is the safer guess.
    let can_tell = closed && rustix::fs::stat(c"/dev/fd").is_ok();
    STDOUT_CLOSED.store(can_tell, Ordering::Relaxed);
}
