//! Which pipes there are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};
use std::task::Context;

use futures::task::AtomicWaker;

use crate::broker::{ListQuery, Mode, PATTERN_PIPES_MAX};
use crate::id::PipeId;
use crate::name::{Owner, PatternRef, PipePath, PipeRef};

use super::cell::Cell;
use super::shared::lock;

/// Pipes by name and by number.
#[derive(Default)]
pub(super) struct Directory {
    by_name: BTreeMap<PipeRef, Arc<Cell>>,
    by_id: BTreeMap<PipeId, Arc<Cell>>,
    /// Who wants to hear of pipes that begin.
    watchers: Vec<Weak<Watcher>>,
}

/// Hears of each pipe of a pattern that begins. So patterns are compared with names when a pipe begins, and never again.
pub(super) struct Watcher {
    pattern: PatternRef,
    /// Only pipes of this mode, or of any but the default one.
    mode: Option<Mode>,
    begun: Mutex<Vec<Arc<Cell>>>,
    waker: AtomicWaker,
}

impl Watcher {
    pub(super) fn new(pattern: PatternRef, mode: Option<Mode>) -> Self {
        Self { pattern, mode, begun: Mutex::default(), waker: AtomicWaker::new() }
    }

    /// The pipes that began since the last look. Who looks is woken when there are more.
    pub(super) fn begun(&self, cx: &Context<'_>) -> Vec<Arc<Cell>> {
        self.waker.register(cx.waker());
        std::mem::take(&mut *lock(&self.begun))
    }

    fn tell(&self, cell: &Arc<Cell>) {
        if self.wants(cell) {
            let mut begun = lock(&self.begun);
            // One more than may be is enough to tell that there are too many.
            if begun.len() <= PATTERN_PIPES_MAX {
                begun.push(cell.clone());
            }
            drop(begun);
            self.waker.wake();
        }
    }

    fn wants(&self, cell: &Cell) -> bool {
        let has_mode = self.mode.map_or(cell.mode != Mode::Default, |mode| mode == cell.mode);
        has_mode && self.pattern.covers(&cell.pipe)
    }
}

impl Directory {
    pub(super) fn get(&self, pipe: &PipeRef) -> Option<Arc<Cell>> {
        self.by_name.get(pipe).cloned()
    }

    pub(super) fn by_id(&self, id: PipeId) -> Option<Arc<Cell>> {
        self.by_id.get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Cell>> {
        self.by_id.values().cloned().collect()
    }

    /// The pipes of this owner.
    pub(super) fn of_owner(&self, owner: Owner) -> Vec<Arc<Cell>> {
        let first = PipeRef { owner, path: PipePath::from_segments([]) };
        let own = self.by_name.range(first..).take_while(|(pipe, _)| pipe.owner == owner);
        own.map(|(_, cell)| cell.clone()).collect()
    }

    pub(super) fn insert(&mut self, cell: Arc<Cell>) {
        self.watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.tell(&cell));
        self.by_id.insert(cell.id, cell.clone());
        self.by_name.insert(cell.pipe.clone(), cell);
    }

    /// The name is free again. The number stays until the log knows that the pipe is gone.
    pub(super) fn forget_name(&mut self, cell: &Cell) {
        if self.by_name.get(&cell.pipe).is_some_and(|known| known.id == cell.id) {
            self.by_name.remove(&cell.pipe);
        }
    }

    pub(super) fn forget_id(&mut self, id: PipeId) {
        self.by_id.remove(&id);
    }

    /// The pipes of a pattern, one more at most than may be; the watcher hears of those that begin from now on.
    pub(super) fn watch(&mut self, watcher: &Arc<Watcher>) -> Vec<Arc<Cell>> {
        self.watchers.retain(|known| known.strong_count() > 0);
        self.watchers.push(Arc::downgrade(watcher));
        let pattern = &watcher.pattern;
        let prefix = pattern.pattern.literal_prefix();
        let first = PipeRef { owner: pattern.owner, path: prefix.clone() };
        let below = self.by_name.range(first..);
        let below = below.take_while(|(pipe, _)| pipe.owner == pattern.owner && pipe.path.starts_with(&prefix));
        let wanted = below.filter(|(_, cell)| watcher.wants(cell)).take(PATTERN_PIPES_MAX + 1);
        wanted.map(|(_, cell)| cell.clone()).collect()
    }

    /// The pipes that match, from behind `query.after` on, in order of their paths.
    pub(super) fn page(&self, query: &ListQuery, limit: usize) -> Vec<Arc<Cell>> {
        let prefix = query.pattern.literal_prefix();
        let name = |path: PipePath| PipeRef { owner: query.owner, path };
        let from = match &query.after {
            Some(after) if *after >= prefix => Bound::Excluded(name(after.clone())),
            _ => Bound::Included(name(prefix.clone())),
        };
        self.by_name
            .range((from, Bound::Unbounded))
            .take_while(|(pipe, _)| pipe.owner == query.owner && pipe.path.starts_with(&prefix))
            .filter(|(pipe, _)| query.pattern.matches(&pipe.path))
            .take(limit)
            .map(|(_, cell)| cell.clone())
            .collect()
    }
}
