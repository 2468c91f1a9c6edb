//! The session that survives a broken link: what to send, what to keep, when to try again.
//!
//! Plain state machines. [`WriterSession`] and [`ReaderSession`] get what happened and the time, and are asked what to do
//! next; they know no task, socket or clock. [`crate::Writer`] and [`crate::Reader`] drive them.

mod connection;
mod count;
mod cursor;
#[cfg(feature = "host")]
pub(crate) mod drive;
#[cfg(feature = "host")]
#[cfg(test)]
mod driver_tests;
mod pipes;
mod reader;
mod tape;
#[cfg(test)]
mod tape_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod toy;
mod wants;
mod writer;

pub use connection::*;
pub use reader::*;
pub use wants::*;
pub use writer::*;
