//! The link that the calls of a remote broker share, for as long as it carries something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::Link;

/// A call that was given up sooner says nothing about its link: an answer takes a few round trips and a sync of the relay's disk.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// A link that stands. What was opened on it keeps it, also when it is given up: only further calls take another.
pub(crate) struct Standing {
    pub(super) link: Arc<dyn Link>,
    /// Answers that came over it.
    answers: AtomicUsize,
    /// Further calls take another link.
    given_up: AtomicBool,
}

impl Standing {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Self { link: Arc::from(link), answers: AtomicUsize::new(0), given_up: AtomicBool::new(false) }
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Whether an answer came over it.
    pub(super) fn has_answered(&self) -> bool {
        self.answers() > 0
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }
}

/// A call that waits for its answer. If it is dropped before that came, and no other call's answer came meanwhile, its link is given up:
/// the transport finds out much later that a path carries nothing.
pub(super) struct Asked {
    link: Arc<Standing>,
    since: Instant,
    answers_before: usize,
    answered: bool,
}

impl Asked {
    pub(super) fn on(link: &Arc<Standing>) -> Self {
        Self { link: link.clone(), since: Instant::now(), answers_before: link.answers(), answered: false }
    }

    pub(super) fn answered(mut self) {
        self.link.answers.fetch_add(1, Ordering::Relaxed);
        self.answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let is_silent = self.link.answers() == self.answers_before && self.since.elapsed() >= SILENT_AFTER;
        if !self.answered && is_silent {
            self.link.give_up();
        }
    }
}
