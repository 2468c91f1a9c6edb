//! Has the committer do its rounds: on a thread of its own, as a disk may take its time, or within a task.

use std::future::Future;
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::commit::{Committer, Next};
use super::{State, lock};
use crate::env::Work;
use crate::error::{Code, Error};

/// Tells the driver that there is something to do.
#[derive(Default)]
pub(super) struct Wake {
    thread: Condvar,
    task: Notify,
}

impl Wake {
    pub(super) fn wake(&self) {
        self.wake_if(true);
    }

    /// Spares the call to the kernel where no thread waits.
    pub(super) fn wake_if(&self, waits: bool) {
        if waits {
            self.thread.notify_one();
        }
        self.task.notify_one();
    }
}

/// What drives a committer.
pub(super) struct Driver {
    /// The thread, if it is one and was not waited for yet.
    thread: Option<JoinHandle<()>>,
    /// Closed when the committer is over.
    running: watch::Receiver<()>,
}

impl Driver {
    /// Starts it.
    ///
    /// # Errors
    /// `E_STORAGE` when the system gives no thread.
    pub(super) fn start(work: Work, committer: Committer) -> Result<Self, Error> {
        let (over, running) = watch::channel(());
        let thread = match work {
            Work::Threads => Some(spawn(move || {
                run(committer);
                drop(over);
            })?),
            Work::Inline => {
                tokio::spawn(async move {
                    run_in_task(committer).await;
                    drop(over);
                });
                None
            }
        };
        Ok(Self { thread, running })
    }

    /// Waits for the thread. Returns at once where it is this very thread, or a task.
    pub(super) fn join(&mut self) {
        let thread = self.thread.take_if(|thread| thread.thread().id() != thread::current().id());
        if let Some(thread) = thread {
            // A panic of the owner in a call of the log was told where it happened.
            let _ = thread.join();
        }
    }

    /// Resolves when the committer is over.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let mut running = self.running.clone();
        async move { while running.changed().await.is_ok() {} }
    }
}

/// Does rounds on this thread until the committer is over.
pub(super) fn run(mut committer: Committer) {
    loop {
        match committer.round() {
            Next::Again => {}
            Next::Wait => wait(&committer, None, |state| committer.has_work(state)),
            Next::Pause(pause) => {
                wait(&committer, Some(pause), |state| state.closing || state.beside.is_over());
            }
            Next::Over => return,
        }
    }
}

/// The same within a task: one round each time it is polled.
async fn run_in_task(mut committer: Committer) {
    let core = committer.core.clone();
    loop {
        let busy = core.disk.busy();
        if !busy.is_zero() {
            tokio::time::sleep(busy).await;
        }
        match committer.round() {
            Next::Again => tokio::task::yield_now().await,
            // A wake between the round and here is not lost: it is kept.
            Next::Wait => core.wake.task.notified().await,
            Next::Pause(pause) => {
                let closing = async {
                    while !lock(&core.state).closing {
                        core.wake.task.notified().await;
                    }
                };
                // What was waited for is looked at again either way.
                let _ = tokio::time::timeout(pause, closing).await;
            }
            Next::Over => return,
        }
    }
}

/// Holds the thread until `done`, or for so long.
#[expect(clippy::disallowed_methods, reason = "a thread beside the runtime waits by the machine's clock")]
fn wait(committer: &Committer, at_most: Option<Duration>, done: impl Fn(&State) -> bool) {
    let until = at_most.map(|at_most| Instant::now() + at_most);
    let mut state = lock(&committer.core.state);
    while !done(&state) {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => return,
            left => state = woken(committer, state, left),
        }
    }
}

fn woken<'a>(
    committer: &'a Committer,
    mut state: MutexGuard<'a, State>,
    left: Option<Duration>,
) -> MutexGuard<'a, State> {
    let thread = &committer.core.wake.thread;
    state.waits = true;
    let mut state = match left {
        Some(left) => thread.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        None => thread.wait(state).unwrap_or_else(PoisonError::into_inner),
    };
    state.waits = false;
    state
}

#[expect(clippy::disallowed_methods, reason = "the one thread that writes the log")]
fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let spawned = thread::Builder::new().name("skypipe-log".to_owned()).spawn(work);
    spawned.map_err(|e| Error::new(Code::Storage, "no thread for the log").because(e))
}
