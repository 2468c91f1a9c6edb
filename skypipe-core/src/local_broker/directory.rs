//! Which pipes there are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::broker::ListQuery;
use crate::id::PipeId;
use crate::name::{Owner, PatternSegment, PipePath, PipeRef};

use super::cell::Cell;

/// Pipes by name and by number.
#[derive(Default)]
pub(super) struct Directory {
    by_name: BTreeMap<PipeRef, Arc<Cell>>,
    by_id: BTreeMap<PipeId, Arc<Cell>>,
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

    /// The pipes that match, from behind `query.after` on, in order of their paths.
    pub(super) fn page(&self, query: &ListQuery, limit: usize) -> Vec<Arc<Cell>> {
        let prefix = literal_prefix(query);
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

/// The segments before the first star: only pipes below them are looked at.
fn literal_prefix(query: &ListQuery) -> PipePath {
    let literals = query.pattern.0.iter().map_while(|segment| match segment {
        PatternSegment::Literal(bytes) => Some(&bytes[..]),
        _ => None,
    });
    PipePath::from_segments(literals)
}
