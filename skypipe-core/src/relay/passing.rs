//! A stream that is attached: frames both ways until one side ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select};
use futures::{FutureExt, SinkExt, StreamExt};

use super::over::{OverWatch, Why};
use super::paced::{KeyRate, Paced};
use super::pump::{Stopped, pump};
use super::state::{Counted, Phase, State};
use super::stream::{bounded, farewell, going_away};
use crate::broker::{DownStream, UpSink};
use crate::budget::Reservation;
use crate::error::{Code, Error};
use crate::wire::{FrameSink, FrameSource, Message, MessageSink, MessageStream, error_frame};

/// What may end it, beside the client and the broker.
pub(super) struct Ending {
    pub(super) state: Arc<State>,
    /// Says when the link is over; none on this machine, where it is the stream.
    pub(super) over: Option<OverWatch>,
    /// See [`super::RelayLimits::farewell`].
    pub(super) farewell: Duration,
    /// What the stream takes.
    pub(super) _memory: Reservation,
}

/// An attach, and the stream it is on.
pub(super) struct Passing<U, D> {
    /// The broker's halves, until one side ended.
    broker: Option<(UpSink<U>, DownStream<D>)>,
    to_client: MessageSink<D>,
    from_client: Paced<MessageStream<U>>,
    ending: Ending,
    /// The attach and the stream, counted.
    _counted: [Counted; 2],
}

impl<U: Message + Send + 'static, D: Message + Send + 'static> Passing<U, D> {
    pub(super) fn new(
        broker: (UpSink<U>, DownStream<D>),
        (sink, source): (FrameSink, FrameSource),
        (per_second, rate): (u32, Option<KeyRate>),
        ending: Ending,
        counted: [Counted; 2],
    ) -> Self {
        let from_client = Paced::new(MessageStream::new(source), per_second).at(rate);
        Self { broker: Some(broker), to_client: MessageSink::new(sink), from_client, ending, _counted: counted }
    }

    /// Passes frames on in both directions until one side ends, and says why.
    pub(super) fn run(mut self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Borrowed as a whole: what an async function takes over lies in its future twice.
            let this = &mut self;
            let ended = this.pass().await;
            Box::pin(this.end(ended)).await;
        })
    }

    async fn pass(&mut self) -> Ended {
        let Some((up, down)) = &mut self.broker else { return Ended::ClientLeft };
        // Both pumps are polled each time, and end their turn by themselves: the order only says which end counts when two come at once.
        tokio::select! {
            biased;
            stopped = pump(&mut self.from_client, up) => Ended::upward(stopped),
            stopped = pump(down, &mut self.to_client) => Ended::downward(stopped),
            () = self.ending.state.reached(Phase::GoingAway) => Ended::Because(going_away()),
            why = declared(self.ending.over.as_ref()) => Ended::Because(why.error()),
        }
    }

    /// What the client must still hear, unless time is up.
    async fn end(&mut self, ended: Ended) {
        let state = self.ending.state.clone();
        select(pin!(self.last_words(ended)), pin!(state.reached(Phase::Gone))).await;
    }

    /// The broker's halves are dropped first: that is the broken link it hears of, however long the client takes to hear why.
    async fn last_words(&mut self, ended: Ended) {
        let limit = self.ending.farewell;
        let halves = self.broker.take();
        if let (Ended::Because(error), Some((_, down))) = (&ended, halves)
            && error.code() == Code::GoingAway
        {
            bounded(pass_ready(down, &mut self.to_client), limit).await;
        }
        match ended {
            Ended::ClientLeft => {}
            Ended::Over => {
                bounded(self.to_client.frames().close(), limit).await;
            }
            Ended::Because(error) => {
                farewell(self.to_client.frames(), error_frame(&error), limit).await;
            }
        }
    }
}

/// How an attach ended.
enum Ended {
    /// The client closed, or its link broke.
    ClientLeft,
    /// The broker said all it had to say.
    Over,
    /// The client must be told.
    Because(Error),
}

impl Ended {
    fn upward(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Ended => Self::ClientLeft,
            Stopped::Stream(error) if error.code() == Code::Disconnected => Self::ClientLeft,
            Stopped::Stream(error) | Stopped::Sink(error) => Self::Because(error),
        }
    }

    fn downward(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Ended => Self::Over,
            Stopped::Stream(error) => Self::Because(error),
            Stopped::Sink(error) if error.code() == Code::Disconnected => Self::ClientLeft,
            Stopped::Sink(error) => Self::Because(error),
        }
    }
}

/// Resolves when the link is over.
async fn declared(over: Option<&OverWatch>) -> Why {
    match over {
        Some(over) => over.declared().await,
        None => std::future::pending().await,
    }
}

/// Passes on what the broker had ready when it drained, such as the last acknowledgements.
async fn pass_ready<D: Message>(mut down: DownStream<D>, to_client: &mut MessageSink<D>) -> Result<(), Error> {
    while let Some(Some(Ok(message))) = down.next().now_or_never() {
        to_client.feed(message).await?;
    }
    Ok(())
}
