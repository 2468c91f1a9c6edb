//! What frames on their way in may cost a relay: memory and time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use super::constants::{READ_BYTES_MAX, READ_BYTES_MIN};
use super::decoder::Decoder;
use super::frame::Frame;
use crate::budget::{Budget, Place, Reservation};
use crate::error::{Code, Error};

/// How often a frame that was begun is looked at; it may be dropped after twice that at the latest.
pub(crate) const FRAME_LOOKED_AT: Duration = Duration::from_secs(25);
/// The fewest bytes of it that must have come meanwhile: 1 KiB a second, which no path that carries pipes is below.
pub(crate) const FRAME_BYTES_MIN: u64 = 25 * 1024;
/// A batch up to this length is copied out of the buffer it was read in: that may be of 64 KiB, and would stay as long as the batch does.
const COPIED_BYTES_MAX: usize = READ_BYTES_MAX / 2;

/// The costs of one stream's frames.
pub(crate) struct Intake {
    budget: Budget,
    /// Whether a frame that was begun must go on. Not on this machine, where a process may be stopped in the middle of one.
    hurries: bool,
    /// The memory of the buffer that is being filled. One of 4 KiB is part of what each stream costs.
    reserved: Option<Reservation>,
    /// Boxed, as the next: they are seldom there.
    waiting: Option<Box<Place>>,
    watched: Option<Box<Watched>>,
}

/// A frame that is under way.
struct Watched {
    look: Pin<Box<Sleep>>,
    bytes: u64,
}

impl Intake {
    pub(crate) fn new(budget: Budget, hurries: bool) -> Self {
        Self { budget, hurries, reserved: None, waiting: None, watched: None }
    }

    /// Ready when there is memory for what the decoder is about to allocate.
    pub(super) fn poll_room(&mut self, decoder: &mut Decoder, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if self.budget.is_pressed() {
            // So that nobody holds much while it waits for more.
            decoder.read_little();
        }
        let Some(bytes) = decoder.allocates()? else { return Poll::Ready(Ok(())) };
        if bytes <= READ_BYTES_MIN {
            self.reserved = None;
            return Poll::Ready(Ok(()));
        }
        // It is not the peer who is slow now.
        self.watched = None;
        let place = self.waiting.get_or_insert_default();
        self.reserved = Some(ready!(self.budget.poll_take(bytes as u64, place, cx)));
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    /// A frame is whole. What a batch takes is paid for until the last who has it lets go.
    pub(super) fn whole(&mut self, mut frame: Frame) -> Frame {
        if !frame.carries_batch() {
            return frame;
        }
        let bytes = frame.payload.len();
        frame.payload = match self.reserved.take_if(|_| bytes > READ_BYTES_MAX) {
            Some(reserved) => reserved.own(frame.payload),
            None if bytes <= COPIED_BYTES_MAX => self.hold(Bytes::copy_from_slice(&frame.payload)),
            None => self.hold(frame.payload),
        };
        frame
    }

    fn hold(&self, payload: Bytes) -> Bytes {
        self.budget.hold(payload.len() as u64).own(payload)
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.watched {
            watched.bytes += bytes as u64;
        }
    }

    /// Nothing more comes for now.
    ///
    /// # Errors
    /// `E_TIMEOUT` when a frame was begun and hardly goes on.
    pub(super) fn poll_rest(&mut self, decoder: &mut Decoder, cx: &mut Context<'_>) -> Result<(), Error> {
        decoder.rest();
        if !decoder.is_torn() {
            self.reserved = None;
        }
        if !self.hurries {
            return Ok(());
        }
        if self.watched.is_none() && decoder.is_torn() {
            self.watched = Some(Box::new(Watched::new()));
        }
        while let Some(watched) = &mut self.watched {
            if watched.look.as_mut().poll(cx).is_pending() {
                break;
            }
            if !decoder.is_torn() {
                self.watched = None;
            } else if watched.bytes < FRAME_BYTES_MIN {
                return Err(Error::new(Code::Timeout, "a frame was begun and hardly went on"));
            } else {
                **watched = Watched::new();
            }
        }
        Ok(())
    }
}

impl Watched {
    fn new() -> Self {
        Self { look: Box::pin(tokio::time::sleep(FRAME_LOOKED_AT)), bytes: 0 }
    }
}
