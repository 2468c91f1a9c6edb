//! Drives a session's state machine: one task, one link at a time.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures::task::AtomicWaker;
use futures::{SinkExt, StreamExt, future::poll_fn};

use crate::broker::{
    DownStream, ReaderAttach, ReaderDown, ReaderUp, ReaderWelcome, UpSink, WriterAttach, WriterDown, WriterUp,
    WriterWelcome,
};
use crate::env::Env;
use crate::error::{Code, Error};
use crate::event::{Event, Events};
use crate::session::{Connection, Draw, ReaderSession, WriterSession};
use crate::shutdown::{Open, Shutdown, Stop};
use crate::time::Time;

/// How long the last words of a session that is over may take to leave this process: moments, unless the relay takes nothing any more.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// What writer and reader sessions have in common.
pub(crate) trait Machine: Send + 'static {
    type Attach: Send;
    type Welcome: Send;
    type Up: Send;
    type Down: Send;

    fn connection(&self) -> &Connection;
    fn begin(&mut self, now: Time) -> Self::Attach;
    fn attached(&mut self, welcome: Self::Welcome, now: Time);
    fn lost(&mut self, error: Error, now: Time, draw: Draw);
    fn tick(&mut self, now: Time, draw: Draw);
    fn down(&mut self, message: Self::Down);
    fn can_send(&self) -> bool;
    fn next_up(&mut self) -> Option<Self::Up>;
    fn flushed(&mut self);
    fn take_events(&mut self) -> Vec<Event>;
}

/// One link of a session.
pub(crate) struct Halves<M: Machine> {
    pub(crate) welcome: M::Welcome,
    pub(crate) up: UpSink<M::Up>,
    pub(crate) down: DownStream<M::Down>,
}

/// How a session gets a link.
#[async_trait]
pub(crate) trait Side: Send + Sync + 'static {
    type Machine: Machine;
    async fn attach(&self, attach: <Self::Machine as Machine>::Attach) -> Result<Halves<Self::Machine>, Error>;
}

/// A session, shared by the application's handle and the task that drives it.
pub(crate) struct Shared<M> {
    state: Mutex<State<M>>,
    task: AtomicWaker,
    events: Option<Events>,
    env: Env,
    /// Until the session is over, and its last words have left.
    open: Mutex<Option<Open>>,
    /// The application wants no more: to be looked at for each record.
    is_stopping: AtomicBool,
}

struct State<M> {
    machine: M,
    /// The task waits to be told of something to send. Spares a wake-up for each record.
    is_idle: bool,
    /// Of the application, while it waits. Not of one that has what it wanted: to wake who runs anyway costs a call of the kernel.
    app: Option<Waker>,
}

impl<M: Machine> Shared<M> {
    pub(crate) fn new(machine: M, events: Option<Events>, env: Env) -> Arc<Self> {
        let state = Mutex::new(State { machine, is_idle: false, app: None });
        let (task, open) = (AtomicWaker::new(), Mutex::default());
        Arc::new(Self { state, task, events, env, open, is_stopping: AtomicBool::new(false) })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// A shutdown waits for the session.
    pub(crate) fn ends_with(&self, shutdown: &Shutdown) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(shutdown.open());
    }

    /// The application does something; wakes the task where that gives it work.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut M) -> R) -> R {
        self.change(|state| act(&mut state.machine))
    }

    fn change<R>(&self, act: impl FnOnce(&mut State<M>) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        let wake = state.machine.connection().is_over() || (state.is_idle && state.machine.can_send());
        state.is_idle &= !wake;
        let events = state.machine.take_events();
        drop(state);
        if wake {
            self.task.wake();
        }
        self.tell(events);
        result
    }

    /// Waits until `look` gives something. One waiter at a time: handles are taken by `&mut`.
    pub(crate) fn poll<R>(&self, cx: &Context<'_>, look: impl FnOnce(&mut M) -> Poll<R>) -> Poll<R> {
        self.change(|state| {
            let result = look(&mut state.machine);
            if result.is_pending() {
                state.app = Some(cx.waker().clone());
            }
            result
        })
    }

    fn wake_app(&self) {
        let app = self.lock().app.take();
        app.into_iter().for_each(Waker::wake);
    }

    /// The task does something; the application may have waited for it.
    fn step<R>(&self, act: impl FnOnce(&mut M, Time, Draw) -> R) -> R {
        let draw = Draw { jitter: self.env.below(u64::MAX), session: self.env.session() };
        let now = self.env.now();
        self.quick_step(|machine| act(machine, now, draw))
    }

    /// The same where neither time nor chance matters.
    fn quick_step<R>(&self, act: impl FnOnce(&mut M) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state.machine);
        let (events, app) = (state.machine.take_events(), state.app.take());
        drop(state);
        self.tell(events);
        app.into_iter().for_each(Waker::wake);
        result
    }

    fn tell(&self, events: Vec<Event>) {
        if let Some(callback) = &self.events {
            events.into_iter().for_each(|event| callback(event));
        }
    }

    fn is_over(&self) -> bool {
        self.lock().machine.connection().is_over()
    }

    /// Lets the task rest, unless there is something for it to do.
    fn rest(&self) -> bool {
        let mut state = self.lock();
        state.is_idle = !state.machine.can_send() && !state.machine.connection().is_over();
        state.is_idle
    }

    // A panic in an event callback happens outside the lock: what is inside stays whole.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the application closes the session.
    async fn closed(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Resolves when the state machine's next moment has come.
    async fn next_moment(&self) {
        let wait = {
            let deadline = self.lock().machine.connection().deadline();
            deadline.map_or(Duration::MAX, |deadline| deadline.since(self.env.now()))
        };
        tokio::time::sleep(wait).await;
    }
}

impl Stop for Shared<ReaderSession> {
    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.with(ReaderSession::stop);
        self.wake_app();
    }
}

/// Attaches, drives the link, and attaches again, until the session is over.
pub(crate) async fn run<S: Side>(shared: Arc<Shared<S::Machine>>, side: S) {
    while !shared.is_over() {
        let now = shared.env.now();
        let attach = shared.quick_step(|machine| machine.connection().is_due(now).then(|| machine.begin(now)));
        if let Some(attach) = attach {
            try_once(&shared, &side, attach).await;
        } else {
            wait(&shared).await;
        }
    }
    shared.wake_app();
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// One attach, and the life of the link if it succeeds.
async fn try_once<S: Side>(shared: &Shared<S::Machine>, side: &S, attach: <S::Machine as Machine>::Attach) {
    let mut answer = pin!(side.attach(attach));
    let halves = loop {
        tokio::select! {
            biased;
            halves = &mut answer => break halves,
            () = wait(shared) => {}
        }
        if !shared.lock().machine.connection().is_attaching() {
            return;
        }
    };
    let error = match halves {
        Ok(Halves { welcome, mut up, mut down }) => {
            shared.step(|machine, now, _| machine.attached(welcome, now));
            let mut ended = poll_fn(|cx| poll_link(shared, &mut up, &mut down, cx)).await;
            if let Ended::Up(error) = ended {
                let told = poll_fn(|cx| poll_told(shared, &mut down, cx));
                ended = tokio::time::timeout(LAST_WORDS_WITHIN, told).await.unwrap_or(Ended::Down(error));
            }
            let error = ended.error();
            if error.is_none() {
                // A transport may still hold what was said last, and drop it with the stream.
                let _ = tokio::time::timeout(LAST_WORDS_WITHIN, up.close()).await;
            }
            error
        }
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        shared.step(|machine, now, draw| machine.lost(error, now, draw));
    }
}

/// Waits for the next moment, or the end.
async fn wait<M: Machine>(shared: &Shared<M>) {
    tokio::select! {
        biased;
        () = shared.closed() => {}
        () = shared.next_moment() => shared.step(|machine, now, draw| machine.tick(now, draw)),
    }
}

/// Why a link is of no more use.
enum Ended {
    /// The session is over.
    Over,
    /// The broker said so, or says nothing more.
    Down(Error),
    /// Nothing can be sent. Why is known best by what the broker said last: it may be here already, and not be looked at.
    Up(Error),
}

impl Ended {
    fn error(self) -> Option<Error> {
        match self {
            Self::Over => None,
            Self::Down(error) | Self::Up(error) => Some(error),
        }
    }
}

/// Moves messages both ways until the link breaks or the session is over.
fn poll_link<M: Machine>(
    shared: &Shared<M>,
    up: &mut UpSink<M::Up>,
    down: &mut DownStream<M::Down>,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    loop {
        if let Poll::Ready(ended) = poll_told(shared, down, cx) {
            return Poll::Ready(ended);
        }
        match poll_up(shared, up, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if shared.rest() => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Ended::Up(error)),
        }
    }
}

/// Takes all that came down, until there is no more or the session is over. Bounded by the credit the other side has.
fn poll_told<M: Machine>(shared: &Shared<M>, down: &mut DownStream<M::Down>, cx: &mut Context<'_>) -> Poll<Ended> {
    shared.task.register(cx.waker());
    while !shared.is_over() {
        match ready!(down.poll_next_unpin(cx)) {
            Some(Ok(message)) => shared.quick_step(|machine| machine.down(message)),
            Some(Err(error)) => return Poll::Ready(Ended::Down(error)),
            None => return Poll::Ready(Ended::Down(Error::new(Code::Disconnected, "the link to the relay broke"))),
        }
    }
    Poll::Ready(Ended::Over)
}

/// Sends all there is. Ready when it was all sent and has left.
fn poll_up<M: Machine>(shared: &Shared<M>, up: &mut UpSink<M::Up>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    while shared.lock().machine.can_send() {
        ready!(up.poll_ready_unpin(cx))?;
        let message = shared.quick_step(Machine::next_up);
        if let Some(message) = message {
            up.start_send_unpin(message)?;
        }
    }
    ready!(up.poll_flush_unpin(cx))?;
    shared.quick_step(Machine::flushed);
    Poll::Ready(Ok(()))
}

macro_rules! machine {
    ($machine:ident, $attach:ident, $welcome:ty, $up:ident, $down:ident, $attached:expr, $flushed:expr) => {
        impl Machine for $machine {
            type Attach = $attach;
            type Welcome = $welcome;
            type Up = $up;
            type Down = $down;

            fn connection(&self) -> &Connection {
                self.connection()
            }
            fn begin(&mut self, now: Time) -> $attach {
                self.begin(now)
            }
            fn attached(&mut self, welcome: $welcome, now: Time) {
                $attached(self, welcome, now);
            }
            fn lost(&mut self, error: Error, now: Time, draw: Draw) {
                self.lost(error, now, draw);
            }
            fn tick(&mut self, now: Time, draw: Draw) {
                self.tick(now, draw);
            }
            fn down(&mut self, message: $down) {
                self.down(message);
            }
            fn can_send(&self) -> bool {
                self.can_send()
            }
            fn next_up(&mut self) -> Option<$up> {
                self.next_up()
            }
            fn flushed(&mut self) {
                $flushed(self);
            }
            fn take_events(&mut self) -> Vec<Event> {
                self.take_events()
            }
        }
    };
}

machine!(
    WriterSession,
    WriterAttach,
    WriterWelcome,
    WriterUp,
    WriterDown,
    |machine: &mut WriterSession, welcome: WriterWelcome, now| machine.attached(&welcome, now),
    WriterSession::flushed
);
machine!(
    ReaderSession,
    ReaderAttach,
    ReaderWelcome,
    ReaderUp,
    ReaderDown,
    |machine: &mut ReaderSession, welcome: ReaderWelcome, now| machine.attached(welcome, now),
    ReaderSession::flushed
);
