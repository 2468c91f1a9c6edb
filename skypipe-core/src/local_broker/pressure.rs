//! Writers' windows follow the memory there is.

use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::delivery::limits::{WRITER_CREDIT_BYTES, WRITER_CREDIT_BYTES_MIN};

/// What each writer may have under way now.
pub(super) fn window(shared: &Shared) -> u64 {
    window_when(shared.memory.intake.is_pressed())
}

/// Tells all pipes if that changed; gives what they know now.
pub(super) fn follow(shared: &Shared) -> bool {
    let is_pressed = shared.memory.intake.is_pressed();
    if shared.timers.is_pressed.swap(is_pressed, Ordering::Relaxed) != is_pressed {
        shared.to_all(|pipe| pipe.writers_may(window_when(is_pressed)));
    }
    is_pressed
}

const fn window_when(is_pressed: bool) -> u64 {
    if is_pressed { WRITER_CREDIT_BYTES_MIN } else { WRITER_CREDIT_BYTES }
}
