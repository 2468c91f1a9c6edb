//! Whose turn it is among the pipes of one reader: those that were woken, in that order. A silent pipe costs nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

use crate::id::PipeNo;

use super::super::shared::lock;

/// The pipes with something to do.
#[derive(Default)]
pub(super) struct Turn {
    /// Each at most once.
    woken: Mutex<VecDeque<PipeNo>>,
    task: AtomicWaker,
}

impl Turn {
    /// Whose turn it is next, if anybody's; of one alone while others wait for it.
    pub(super) fn next(&self, only: Option<PipeNo>) -> Option<PipeNo> {
        let mut woken = lock(&self.woken);
        let at = only.map_or(Some(0), |only| woken.iter().position(|no| *no == only))?;
        woken.remove(at)
    }

    /// Wakes this task when there is somebody, or something else to look at.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// There is something else to look at.
    pub(super) fn look(&self) {
        self.task.wake();
    }
}

/// The place of one pipe in the turn.
pub(super) struct InTurn {
    no: PipeNo,
    turn: Arc<Turn>,
    is_waiting: AtomicBool,
}

impl InTurn {
    /// Waits for its turn from the start.
    pub(super) fn new(no: PipeNo, turn: &Arc<Turn>) -> Arc<Self> {
        let place = Arc::new(Self { no, turn: turn.clone(), is_waiting: AtomicBool::new(false) });
        place.wake_by_ref();
        place
    }

    /// It is its turn now. Who wakes it from here on puts it at the end.
    pub(super) fn begins(&self) {
        self.is_waiting.store(false, Ordering::Release);
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone())
    }
}

impl Wake for InTurn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_waiting.swap(true, Ordering::AcqRel) {
            lock(&self.turn.woken).push_back(self.no);
            self.turn.look();
        }
    }
}
