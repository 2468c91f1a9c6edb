//! Disks that remember, break and fail, behind the trait that the log uses ([`skypipe_core::log::Disk`]).
//!
//! | | |
//! |---|---|
//! | [`Image`] | the files of a disk at one moment |
//! | [`ImageDisk`] | a disk made of an image, which copies what is written to |
//! | [`RecordingDisk`] | writes down every call that changes something |
//! | [`Unsynced`] | from what was written down: what a power cut may leave |
//! | [`FailingDisk`] | one call of a kind fails, in a named way |

mod failing;
mod image;
mod image_disk;
mod recording;
mod unsynced;

pub use failing::{CallKind, FAULTS, FailingDisk, Fault, Faulty};
pub use image::Image;
pub use image_disk::ImageDisk;
pub use recording::{FileId, Op, RecordingDisk};
pub use unsynced::{Loss, Unsynced};

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
