//! Which pipes there are.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, Deref};
use std::sync::{Arc, Mutex, Weak};
use std::task::Context;

use futures::task::AtomicWaker;

use crate::broker::{ListQuery, Mode, PATTERN_PIPES_MAX};
use crate::id::PipeId;
use crate::log::ByPipe;
use crate::name::{Owner, PatternRef, PipePath, PipeRef};

use super::cell::Cell;
use super::shared::lock;

/// Pipes by name and by number.
#[derive(Default)]
pub(super) struct Directory {
    by_name: BTreeSet<ByName>,
    by_id: ByPipe<Arc<Cell>>,
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
        has_mode && self.pattern.covers(&cell.pipe())
    }
}

impl Directory {
    pub(super) fn get(&self, pipe: &PipeRef) -> Option<Arc<Cell>> {
        self.by_name.get(pipe as &dyn Named).map(|cell| cell.0.clone())
    }

    pub(super) fn by_id(&self, id: PipeId) -> Option<Arc<Cell>> {
        self.by_id.get(id).cloned()
    }

    /// All pipes. Not here which of them rest: to know that takes the lock of each, and who has it may want this one.
    pub(super) fn all(&self) -> Vec<Arc<Cell>> {
        self.by_id.values().cloned().collect()
    }

    /// The pipes of this owner.
    pub(super) fn of_owner(&self, owner: Owner) -> Vec<Arc<Cell>> {
        let first = PipeRef { owner, path: PipePath::default() };
        self.behind(Bound::Included(&first)).take_while(|cell| *cell.owner() == owner).cloned().collect()
    }

    /// Those found at rest in the log, before there are others: all at once, which leaves no room between them.
    pub(super) fn begin_with(&mut self, cells: Vec<Arc<Cell>>) {
        for cell in &cells {
            self.by_id.insert(cell.id, cell.clone());
        }
        self.by_name = in_order(cells).collect();
    }

    pub(super) fn insert(&mut self, cell: Arc<Cell>) {
        self.watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.tell(&cell));
        self.by_id.insert(cell.id, cell.clone());
        self.by_name.replace(ByName(cell));
    }

    /// The name is free again. The number stays until the log knows that the pipe is gone.
    pub(super) fn forget_name(&mut self, cell: &Cell) {
        if self.by_name.get(cell as &dyn Named).is_some_and(|known| known.id == cell.id) {
            self.by_name.remove(cell as &dyn Named);
        }
    }

    pub(super) fn forget_id(&mut self, id: PipeId) {
        self.by_id.remove(id);
    }

    /// The pipes of a pattern, one more at most than may be; the watcher hears of those that begin from now on.
    pub(super) fn watch(&mut self, watcher: &Arc<Watcher>) -> Vec<Arc<Cell>> {
        self.watchers.retain(|known| known.strong_count() > 0);
        self.watchers.push(Arc::downgrade(watcher));
        let pattern = &watcher.pattern;
        let prefix = pattern.pattern.literal_prefix();
        let first = PipeRef { owner: pattern.owner, path: prefix.clone() };
        let below = self.behind(Bound::Included(&first));
        let below = below.take_while(|cell| *cell.owner() == pattern.owner && cell.path.starts_with(&prefix));
        below.filter(|cell| watcher.wants(cell)).take(PATTERN_PIPES_MAX + 1).cloned().collect()
    }

    /// The pipes that match, from behind `query.after` on, in order of their paths.
    pub(super) fn page(&self, query: &ListQuery, limit: usize) -> Vec<Arc<Cell>> {
        let prefix = query.pattern.literal_prefix();
        let name = |path: PipePath| PipeRef { owner: query.owner, path };
        let from = match &query.after {
            Some(after) if *after >= prefix => Bound::Excluded(name(after.clone())),
            _ => Bound::Included(name(prefix.clone())),
        };
        self.behind(from.as_ref())
            .take_while(|cell| *cell.owner() == query.owner && cell.path.starts_with(&prefix))
            .filter(|cell| query.pattern.matches(&cell.path))
            .take(limit)
            .cloned()
            .collect()
    }

    /// From this name on, in order of owners and paths.
    fn behind(&self, from: Bound<&PipeRef>) -> impl Iterator<Item = &Arc<Cell>> {
        let from = from.map(|pipe| pipe as &dyn Named);
        self.by_name.range::<dyn Named, _>((from, Bound::Unbounded)).map(|cell| &cell.0)
    }
}

/// Puts pipes in order, of two with one name the later behind the other. Names lie all over memory, so they are told apart by their heads beside
/// each other first: of a million that is most of the time it takes.
fn in_order(cells: Vec<Arc<Cell>>) -> impl Iterator<Item = ByName> {
    let is_of_one = cells.windows(2).all(|two| two[0].owner() == two[1].owner());
    let head = |cell: &Cell| if is_of_one { head(cell.path.encoded()) } else { 0 };
    let mut headed: Vec<(u128, ByName)> = cells.into_iter().map(|cell| (head(&cell), ByName(cell))).collect();
    headed.sort_unstable_by(|(head, one), (other_head, other)| {
        head.cmp(other_head).then_with(|| one.cmp(other)).then(one.id.cmp(&other.id))
    });
    headed.into_iter().map(|(_, pipe)| pipe)
}

/// The first bytes of a path, as a number in the order of paths.
fn head(path: &[u8]) -> u128 {
    let mut head = [0; 16];
    let length = path.len().min(head.len());
    head[..length].copy_from_slice(&path[..length]);
    u128::from_be_bytes(head)
}

/// A pipe in the order of names. It has its name itself, so that the directory holds none.
struct ByName(Arc<Cell>);

/// What has the name of a pipe.
trait Named {
    fn name(&self) -> (&Owner, &PipePath);
}

impl Named for PipeRef {
    fn name(&self) -> (&Owner, &PipePath) {
        (&self.owner, &self.path)
    }
}

impl Named for Cell {
    fn name(&self) -> (&Owner, &PipePath) {
        (self.owner(), &self.path)
    }
}

impl Named for ByName {
    fn name(&self) -> (&Owner, &PipePath) {
        self.0.name()
    }
}

impl Deref for ByName {
    type Target = Cell;

    fn deref(&self) -> &Cell {
        &self.0
    }
}

/// Pipes are looked for by whatever has a name.
impl<'a> Borrow<dyn Named + 'a> for ByName {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for ByName {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Rest;
    use crate::local_broker::owners::Owners;
    use crate::memory::Memory;
    use crate::name::Pattern;
    use crate::time::Time;

    #[test]
    fn many_pipes_are_in_order_from_the_start() {
        let owners = Owners::new(&Memory::default());
        let path = |n: u64| PipePath::from_segments([&b"their first sixteen bytes are alike"[..], &n.to_be_bytes()]);
        let cell = |id: u64, owner, path| {
            let account = owners.account(owner);
            Arc::new(Cell::at_rest(PipeId(id), path, Rest::default(), 0, account, Time(0)))
        };
        let other = Owner(Some([3; 32]));
        for last_owner in [Owner::SELF, other] {
            let short = PipePath::from_segments([&b"a"[..]]);
            let cells = (0..50).map(|n| cell(n, Owner::SELF, path(50 - n)));
            let more = [cell(50, Owner::SELF, path(7)), cell(51, Owner::SELF, short), cell(52, last_owner, path(3))];
            let mut directory = Directory::default();
            directory.begin_with(cells.chain(more).collect());
            let query = ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: 0 };
            let listed: Vec<u64> = directory.page(&query, 9).iter().map(|cell| cell.id.0).collect();
            let third = if last_owner == other { 47 } else { 52 };
            assert_eq!(listed, [51, 49, 48, third, 46, 45, 44, 50, 42], "of two with one name the later counts");
            assert_eq!(directory.of_owner(other).len(), usize::from(last_owner == other));
            assert_eq!(
                (directory.of_owner(Owner::SELF).len(), directory.all().iter().filter(|cell| cell.is_awake()).count()),
                (51, 0)
            );
        }
    }
}
