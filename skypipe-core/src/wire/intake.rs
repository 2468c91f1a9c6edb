//! What frames on their way in may cost a relay: memory and time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use super::constants::{READ_BYTES_MAX, READ_BYTES_MIN};
use super::decoder::Decoder;
use super::frame::Frame;
use crate::budget::{Place, Reservation};
use crate::error::{Code, Error};
use crate::memory::Part;

/// How often a frame that was begun is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The fewest bytes of it that must have come in each such time, on average: 1 KiB a second, which no path that carries pipes is below.
const BYTES_PER_LOOK_MIN: u64 = 5 * 1024;
/// Looks until it is dropped: a path may be gone for a while, and the link with it only after 15 s.
const LOOKS: u32 = 5;
/// The same while memory is short: who is dropped comes back and goes on.
const LOOKS_PRESSED: u32 = 1;
/// For a process of this machine, and only while memory is short: a person may have stopped it for a moment, and its closed link is the end
/// of its session.
const LOCAL_LOOKS_PRESSED: u32 = 12;
/// A batch up to this length is copied out of the buffer it was read in: that may be of 64 KiB, and would stay as long as the batch does.
const COPIED_BYTES_MAX: usize = READ_BYTES_MAX / 2;

/// The costs of one stream's frames.
pub(crate) struct Intake {
    part: Arc<Part>,
    /// Whether the other end is a process of this machine.
    is_local: bool,
    /// The memory of the buffer that is being filled. One of 4 KiB is part of what each stream costs.
    reserved: Option<Reservation>,
    /// Boxed, as the next: they are seldom there.
    waiting: Option<Box<Place>>,
    watched: Option<Box<Watched>>,
}

/// A frame that is under way.
struct Watched {
    look: Pin<Box<Sleep>>,
    looks: u32,
    /// What came since the first of them.
    bytes: u64,
}

impl Intake {
    pub(crate) fn new(part: Arc<Part>, is_local: bool) -> Self {
        Self { part, is_local, reserved: None, waiting: None, watched: None }
    }

    /// Ready when there is memory for what the decoder is about to allocate.
    pub(super) fn poll_room(&mut self, decoder: &mut Decoder, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if self.part.intake.is_pressed() {
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
        self.reserved = Some(ready!(self.part.intake.poll_take(bytes as u64, place, cx)));
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
        self.part.intake.hold(payload.len() as u64).own(payload)
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
        if self.watched.is_none() && decoder.is_torn() {
            self.watched = Some(Box::default());
        }
        while let Some(watched) = &mut self.watched {
            if watched.look.as_mut().poll(cx).is_pending() {
                break;
            }
            watched.looks += 1;
            if !decoder.is_torn() {
                self.watched = None;
            } else if watched.bytes >= BYTES_PER_LOOK_MIN * u64::from(watched.looks) {
                **watched = Watched::default();
            } else if self.looks().is_some_and(|looks| self.watched_for() >= looks) {
                return Err(Error::new(Code::Timeout, "a frame was begun and hardly went on"));
            } else if let Some(watched) = &mut self.watched {
                watched.look = Box::pin(tokio::time::sleep(LOOK_EVERY));
            }
        }
        Ok(())
    }

    /// How many looks a frame has; none if as many as it likes.
    fn looks(&self) -> Option<u32> {
        match (self.is_local, self.part.intake.is_pressed()) {
            (false, false) => Some(LOOKS),
            (false, true) => Some(LOOKS_PRESSED),
            (true, false) => None,
            (true, true) => Some(LOCAL_LOOKS_PRESSED),
        }
    }

    fn watched_for(&self) -> u32 {
        self.watched.as_ref().map_or(0, |watched| watched.looks)
    }
}

impl Default for Watched {
    fn default() -> Self {
        Self { look: Box::pin(tokio::time::sleep(LOOK_EVERY)), looks: 0, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;
    use crate::memory::Memory;
    use crate::transport::LinkStream;
    use crate::wire::constants::kind;
    use crate::wire::{FrameSource, carry};

    const FRAME: usize = 300 * 1024;

    fn header(kind: u8, length: usize) -> Vec<u8> {
        let mut header = (length as u32).to_le_bytes().to_vec();
        header.extend([kind, 0, 0, 0]);
        header
    }

    fn source(memory: &Memory, is_local: bool) -> (DuplexStream, FrameSource) {
        let (peer, own) = tokio::io::duplex(1 << 20);
        let (sink, source) = carry(LinkStream::bytes(own));
        // The way out stays open as long as the test.
        std::mem::forget(sink);
        let mut source = source.within(Intake::new(memory.part_of(None), is_local));
        source.trust();
        (peer, source)
    }

    /// How long a frame is waited for that comes with so many bytes a second; none if an hour is not enough.
    async fn dropped_after(memory: &Memory, is_local: bool, per_second: usize) -> Option<Duration> {
        let (mut peer, mut source) = source(memory, is_local);
        peer.write_all(&header(kind::WRITER_BATCH, 512 * 1024)).await.unwrap();
        let start = Instant::now();
        let dripping = async {
            loop {
                peer.write_all(&vec![0; per_second]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            frame = source.next() => match frame.unwrap() {
                Ok(_) => None,
                Err(error) => {
                    assert_eq!(error.code(), Code::Timeout);
                    Some(start.elapsed())
                }
            },
            () = dripping => None,
            () = tokio::time::sleep(Duration::from_secs(3600)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_hardly_goes_on_is_dropped() {
        let memory = Memory::default();
        let dropped = dropped_after(&memory, false, 1).await.unwrap();
        assert!(dropped <= Duration::from_secs(60), "{dropped:?}");
        assert_eq!(dropped_after(&memory, false, 2048).await, None, "a slow path is none of its peer's faults");
        assert_eq!(dropped_after(&memory, true, 1).await, None, "a process may be stopped for an hour");
        assert_eq!(memory.intake.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_dropped_sooner_while_memory_is_short() {
        let memory = Memory::default();
        let _others = memory.intake.hold(memory.intake.bytes_max() / 4 * 3);
        assert!(dropped_after(&memory, false, 1).await.unwrap() <= Duration::from_secs(10));
        assert!(dropped_after(&memory, true, 1).await.unwrap() >= Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_frame_waits_for_its_memory_and_gives_it_back() {
        let memory = Memory::default();
        let (mut peer, mut source) = source(&memory, false);
        let others = memory.intake.hold(memory.intake.bytes_max());
        peer.write_all(&header(kind::WRITER_BATCH, FRAME)).await.unwrap();
        peer.write_all(&vec![7; FRAME]).await.unwrap();
        assert!(source.next().now_or_never().is_none(), "there is no memory for it");
        drop(others);
        let frame = source.next().await.unwrap().unwrap();
        assert!(memory.intake.used() >= FRAME as u64);
        let kept = frame.payload.slice(..1);
        drop(frame);
        assert!(memory.intake.used() >= FRAME as u64, "a slice keeps all of it");
        drop(kept);
        assert_eq!(memory.intake.used(), 0);
    }

    #[tokio::test]
    async fn a_small_batch_keeps_no_large_buffer() {
        let memory = Memory::default();
        let (mut peer, mut source) = source(&memory, false);
        let mut kept = Vec::new();
        for _ in 0..100 {
            peer.write_all(&header(0xee, 60 * 1024)).await.unwrap();
            peer.write_all(&vec![0; 60 * 1024]).await.unwrap();
            peer.write_all(&header(kind::WRITER_BATCH, 50)).await.unwrap();
            peer.write_all(&[0; 50]).await.unwrap();
            source.next().await.unwrap().unwrap();
            kept.push(source.next().await.unwrap().unwrap());
        }
        drop(source);
        assert_eq!(memory.intake.used(), 100 * 50);
    }
}
