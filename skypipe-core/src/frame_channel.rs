//! A stream that carries frames as objects.

use futures::channel::mpsc;

use crate::wire::Frame;

/// Frames on their way in each direction of a stream; credit keeps the batches among them few.
pub const FRAMES_MAX: usize = 64;

/// A stream of frames in each direction, within this process.
#[derive(Debug)]
pub struct FrameChannel {
    sending: mpsc::Sender<Frame>,
    receiving: mpsc::Receiver<Frame>,
}

impl FrameChannel {
    /// Two ends of one stream.
    pub fn pair() -> (Self, Self) {
        let (there, from_here) = mpsc::channel(FRAMES_MAX);
        let (here, from_there) = mpsc::channel(FRAMES_MAX);
        (Self { sending: there, receiving: from_there }, Self { sending: here, receiving: from_here })
    }

    pub(crate) fn into_channels(self) -> (mpsc::Sender<Frame>, mpsc::Receiver<Frame>) {
        (self.sending, self.receiving)
    }
}
