//! The frames on the wire: what [`RemoteBroker`](crate::RemoteBroker) and [`Relay`](crate::Relay) say to each other.
//!
//! ```text
//!   client                          relay
//!     │ Hello, Request ───────────▶  │        one flight
//!     │ ◀─────────── Hello, Answer   │        one flight
//!     │ WriterUp / ReaderUp ──────▶  │  ┐ only after an attach,
//!     │ ◀─── WriterDown / ReaderDown │  ┘ until either side closes
//! ```
//!
//! `docs/wire.md` draws every frame byte by byte; its numbers are in [`constants`]. All of this is plain computing: bytes in,
//! messages out. Only the carriers of frames over sockets and channels need the `host` feature.

pub mod constants;

mod answer;
mod decoder;
mod fields;
mod frame;
mod hello;
mod message;
mod outbox;
mod prove;
mod reader;
mod request;
mod stat;
mod writer;

#[cfg(feature = "host")]
mod carry;
#[cfg(feature = "host")]
mod intake;
#[cfg(feature = "host")]
mod outflow;
#[cfg(test)]
mod snapshots;

pub use answer::{Answer, Invited};
#[cfg(feature = "host")]
pub(crate) use carry::{FrameSink, FrameSource, MessageSink, MessageStream, carry, next_hello};
pub use decoder::Decoder;
pub use frame::Frame;
pub use hello::{Hello, SoftwareVersion};
#[cfg(feature = "host")]
pub(crate) use intake::Intake;
pub use message::Message;
#[cfg(feature = "host")]
pub(crate) use message::{error_frame, refused_frame};
pub use outbox::Outbox;
#[cfg(feature = "host")]
pub(crate) use outflow::{LOCAL_TAKES_NOTHING, Outflow, TAKES_NOTHING};
pub use prove::{Admitted, Prove, ProvedIdentity};
pub use request::Request;
