//! Frames over a stream of a link: a thin driver around [`Decoder`] and [`Outbox`], without a task of its own.

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{Sink, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use super::constants::WRITE_SLICES_MAX;
use super::decoder::Decoder;
use super::frame::Frame;
use super::hello::Hello;
use super::intake::Intake;
use super::message::Message;
use super::outbox::Outbox;
use super::outflow::Outflow;
use crate::error::{Code, Error};
use crate::transport::{ByteStream, LinkStream};

/// Splits a stream of a link into a half that takes frames and one that gives them. The stream closes when both are dropped.
pub(crate) fn carry(stream: LinkStream) -> (FrameSink, FrameSource) {
    match stream {
        LinkStream::Bytes(duplex) => {
            let (reading, writing) = tokio::io::split(duplex);
            let sink = FrameSink::Bytes { writing, outbox: Outbox::new(), outflow: None };
            (sink, FrameSource { carrier: Carrier::Bytes(reading, Decoder::new()), peeked: None, intake: None })
        }
        LinkStream::Frames(frames) => {
            let (sending, receiving) = frames.into_channels();
            let carrier = Carrier::Frames { receiving, _open: sending.clone() };
            (FrameSink::Frames(sending), FrameSource { carrier, peeked: None, intake: None })
        }
    }
}

/// Takes frames. Several that were fed before a flush leave with one write.
pub(crate) enum FrameSink {
    Bytes {
        writing: WriteHalf<Box<dyn ByteStream>>,
        outbox: Outbox,
        /// For how long nothing may be taken; none at a client.
        outflow: Option<Box<Outflow>>,
    },
    Frames(mpsc::Sender<Frame>),
}

impl FrameSink {
    /// The same, with a bound on how long the other side may take nothing.
    pub(crate) fn within(mut self, bound: Outflow) -> Self {
        if let Self::Bytes { outflow, .. } = &mut self {
            *outflow = Some(Box::new(bound));
        }
        self
    }
}

impl Sink<Frame> for FrameSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut *self {
            Self::Bytes { writing, outbox, outflow } => {
                while outbox.is_full() {
                    ready!(poll_write(writing, outbox, outflow, cx))?;
                }
                Poll::Ready(Ok(()))
            }
            Self::Frames(sending) => sending.poll_ready(cx).map_err(|_| closed()),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Error> {
        match &mut *self {
            Self::Bytes { outbox, .. } => outbox.push(frame),
            Self::Frames(sending) => sending.start_send(frame).map_err(|_| closed()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut *self {
            Self::Bytes { writing, outbox, outflow } => {
                while !outbox.is_empty() {
                    ready!(poll_write(writing, outbox, outflow, cx))?;
                }
                Pin::new(writing).poll_flush(cx).map_err(|e| broken(&e))
            }
            Self::Frames(_) => Poll::Ready(Ok(())),
        }
    }

    /// Flushes and ends this direction: the other side sees the end once it has read all.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        match &mut *self {
            Self::Bytes { writing, .. } => Pin::new(writing).poll_shutdown(cx).map_err(|e| broken(&e)),
            Self::Frames(sending) => {
                sending.close_channel();
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn poll_write(
    writing: &mut WriteHalf<Box<dyn ByteStream>>,
    outbox: &mut Outbox,
    outflow: &mut Option<Box<Outflow>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
    let count = outbox.fill(&mut slices);
    let written = if writing.is_write_vectored() {
        Pin::new(writing).poll_write_vectored(cx, &slices[..count])
    } else {
        Pin::new(writing).poll_write(cx, &slices[0])
    };
    let Poll::Ready(written) = written else {
        outflow.iter_mut().try_for_each(|outflow| outflow.poll_blocked(cx))?;
        return Poll::Pending;
    };
    outflow.iter_mut().for_each(|outflow| outflow.moved());
    match written {
        Ok(0) => Poll::Ready(Err(closed())),
        Ok(bytes) => {
            outbox.written(bytes);
            Poll::Ready(Ok(()))
        }
        Err(error) => Poll::Ready(Err(broken(&error))),
    }
}

/// Gives frames until the other side closes; what is left of a torn frame is a broken link.
pub(crate) struct FrameSource {
    carrier: Carrier,
    /// Boxed: it is seldom there.
    peeked: Option<Box<Result<Frame, Error>>>,
    /// What frames may cost; none at a client, which asked for what it gets.
    intake: Option<Intake>,
}

enum Carrier {
    Bytes(ReadHalf<Box<dyn ByteStream>>, Decoder),
    /// Holds the sending side too, so that this direction's end is not the other's.
    Frames {
        receiving: mpsc::Receiver<Frame>,
        _open: mpsc::Sender<Frame>,
    },
}

impl FrameSource {
    /// The peer said hello and may send frames of full length.
    pub(crate) fn trust(&mut self) {
        if let Carrier::Bytes(_, decoder) = &mut self.carrier {
            decoder.trust();
        }
    }

    /// The same, with bounds on what frames on their way in may cost.
    pub(crate) fn within(mut self, intake: Intake) -> Self {
        self.intake = Some(intake);
        self
    }

    /// Resolves when the other side is gone. A frame that comes meanwhile is kept for the next poll.
    pub(crate) async fn gone(&mut self) {
        if self.peeked.is_none() {
            self.peeked = self.next().await.map(Box::new);
        }
        if self.peeked.as_ref().is_some_and(|peeked| peeked.is_ok()) {
            std::future::pending().await
        }
    }
}

impl Stream for FrameSource {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(peeked) = self.peeked.take() {
            return Poll::Ready(Some(*peeked));
        }
        let Self { carrier, intake, .. } = &mut *self;
        match carrier {
            Carrier::Bytes(reading, decoder) => poll_frame(reading, decoder, intake, cx).map(Result::transpose),
            Carrier::Frames { receiving, .. } => receiving.poll_next_unpin(cx).map(|frame| frame.map(Ok)),
        }
    }
}

fn poll_frame(
    reading: &mut ReadHalf<Box<dyn ByteStream>>,
    decoder: &mut Decoder,
    intake: &mut Option<Intake>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame>, Error>> {
    loop {
        if let Some(frame) = decoder.frame()? {
            return Poll::Ready(Ok(Some(match intake {
                Some(intake) => intake.whole(frame),
                None => frame,
            })));
        }
        if let Some(intake) = intake {
            ready!(intake.poll_room(decoder, cx))?;
        }
        let mut space = ReadBuf::new(decoder.space()?);
        let read = Pin::new(&mut *reading).poll_read(cx, &mut space);
        let bytes = space.filled().len();
        let Poll::Ready(read) = read else {
            match intake {
                Some(intake) => intake.poll_rest(decoder, cx)?,
                None => decoder.rest(),
            }
            return Poll::Pending;
        };
        decoder.advance(bytes);
        match read {
            Ok(()) if bytes == 0 && decoder.is_torn() => return Poll::Ready(Err(closed())),
            Ok(()) if bytes == 0 => return Poll::Ready(Ok(None)),
            Ok(()) => intake.iter_mut().for_each(|intake| intake.came(bytes)),
            Err(error) => return Poll::Ready(Err(broken(&error))),
        }
    }
}

/// The hello, and its payload byte for byte, which proofs are made over. None when the link closed.
pub(crate) async fn next_hello(source: &mut FrameSource) -> Result<Option<(Bytes, Hello)>, Error> {
    while let Some(frame) = source.next().await {
        let frame = frame?;
        let payload = frame.payload.clone();
        if let Some(hello) = Hello::from_frame(frame)? {
            return Ok(Some((payload, hello)));
        }
    }
    Ok(None)
}

/// Takes messages of one kind, as frames.
pub(crate) struct MessageSink<M> {
    frames: FrameSink,
    _message: PhantomData<fn(M)>,
}

impl<M> MessageSink<M> {
    pub(crate) fn new(frames: FrameSink) -> Self {
        Self { frames, _message: PhantomData }
    }

    pub(crate) fn frames(&mut self) -> &mut FrameSink {
        &mut self.frames
    }
}

impl<M: Message> Sink<M> for MessageSink<M> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.frames).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        Pin::new(&mut self.frames).start_send(message.into_frame())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.frames).poll_flush(cx)
    }

    /// Ready when all has left this process: what a transport still holds may be lost with its stream.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.frames).poll_close(cx)
    }
}

/// Gives messages of one kind, passing over frames that may be. Ends behind the last message, or with an error when the
/// other side closes before.
pub(crate) struct MessageStream<M> {
    frames: FrameSource,
    ended: bool,
    _message: PhantomData<fn() -> M>,
}

impl<M> MessageStream<M> {
    pub(crate) fn new(frames: FrameSource) -> Self {
        Self { frames, ended: false, _message: PhantomData }
    }
}

impl<M: Message> Stream for MessageStream<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_message(cx));
        self.ended = next.as_ref().map_or(true, M::is_last);
        Poll::Ready(Some(next))
    }
}

impl<M: Message> MessageStream<M> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<M, Error>> {
        loop {
            let Some(frame) = ready!(self.frames.poll_next_unpin(cx)) else { return Poll::Ready(Err(closed())) };
            if let Some(message) = M::from_frame(frame?)? {
                return Poll::Ready(Ok(message));
            }
        }
    }
}

fn broken(error: &io::Error) -> Error {
    Error::new(Code::Disconnected, format!("the link broke: {error}"))
}

fn closed() -> Error {
    Error::new(Code::Disconnected, "the other side closed the link")
}
