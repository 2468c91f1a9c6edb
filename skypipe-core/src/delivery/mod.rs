//! Who gets what: the modes as pure state machines.
//!
//! An event and `now` go in, effects come out; there is no socket, no task, no clock and no file in here.

mod assign;
#[cfg(test)]
mod case_tests;
mod default;
mod fact;
mod hands;
mod item;
pub mod limits;
mod machine;
mod ranges;
mod read_only;
mod reader;
mod readers;
mod replay;
mod rest;
mod room;
mod serve;
mod tape;
#[cfg(test)]
mod tests;
mod writers;

pub use default::{Counts, DefaultPipe, Effect, Extent, Next};
pub use fact::{Closed, Fact, Held, Place};
pub use hands::Hands;
pub use machine::Machine;
pub use ranges::Ranges;
pub use rest::{REST_ITEMS_MAX, Rest};
pub use room::Room;
pub use tape::{Long, TapeMark, TapePipe};
pub use writers::{Came, conflict};
