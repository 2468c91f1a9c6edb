//! Something for each pipe, found by its number.

use std::collections::BTreeMap;

use crate::id::PipeId;

/// Neighbours on one page: numbers are given out in order, so where there are many pipes most pages are full, and a page on which one is left
/// takes no more than that pipe does.
const PAGE: u64 = 16;

/// A map by the number of a pipe, for very many of them: of the map itself each takes little more than its value.
#[derive(Debug)]
pub(crate) struct ByPipe<V> {
    pages: BTreeMap<u64, Box<Page<V>>>,
    len: usize,
}

#[derive(Debug)]
struct Page<V> {
    len: usize,
    slots: [Option<V>; PAGE as usize],
}

impl<V> Default for ByPipe<V> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }
}

impl<V> ByPipe<V> {
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The highest number.
    pub(crate) fn last(&self) -> Option<PipeId> {
        let (&page, held) = self.pages.last_key_value()?;
        held.slots.iter().rposition(Option::is_some).map(|slot| id_of(page, slot))
    }

    pub(crate) fn get(&self, id: PipeId) -> Option<&V> {
        let (page, slot) = place(id);
        self.pages.get(&page)?.slots[slot].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: PipeId) -> Option<&mut V> {
        let (page, slot) = place(id);
        self.pages.get_mut(&page)?.slots[slot].as_mut()
    }

    pub(crate) fn get_or_insert_with(&mut self, id: PipeId, new: impl FnOnce() -> V) -> &mut V {
        let (page, slot) = place(id);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let slot = &mut page.slots[slot];
        if slot.is_none() {
            page.len += 1;
            self.len += 1;
        }
        slot.get_or_insert_with(new)
    }

    pub(crate) fn insert(&mut self, id: PipeId, value: V) -> Option<V> {
        let (page, slot) = place(id);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let before = page.slots[slot].replace(value);
        if before.is_none() {
            page.len += 1;
            self.len += 1;
        }
        before
    }

    pub(crate) fn remove(&mut self, id: PipeId) -> Option<V> {
        let (number, slot) = place(id);
        let page = self.pages.get_mut(&number)?;
        let value = page.slots[slot].take()?;
        page.len -= 1;
        self.len -= 1;
        if page.len == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// In order of the numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PipeId, &V)> {
        self.pages.iter().flat_map(|(&page, held)| {
            let numbered = held.slots.iter().enumerate();
            numbered.filter_map(move |(slot, value)| Some((id_of(page, slot), value.as_ref()?)))
        })
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.pages.values().flat_map(|page| page.slots.iter().flatten())
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages.values_mut().flat_map(|page| page.slots.iter_mut().flatten())
    }

    /// Takes them out one after the other, in order of the numbers: what was taken out is not in memory any more.
    pub(crate) fn drain(mut self) -> impl Iterator<Item = (PipeId, V)> {
        let pages = std::iter::from_fn(move || self.pages.pop_first());
        pages.flat_map(|(page, held)| {
            let numbered = held.slots.into_iter().enumerate();
            numbered.filter_map(move |(slot, value)| Some((id_of(page, slot), value?)))
        })
    }
}

impl<V> Page<V> {
    fn empty() -> Box<Self> {
        Box::new(Self { len: 0, slots: std::array::from_fn(|_| None) })
    }
}

/// Page and slot of a pipe.
fn place(id: PipeId) -> (u64, usize) {
    (id.0 / PAGE, (id.0 % PAGE) as usize)
}

fn id_of(page: u64, slot: usize) -> PipeId {
    PipeId(page * PAGE + slot as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((0_u64..60, 0..3_u8), 0..200)) {
            let (mut pipes, mut model) = (ByPipe::default(), BTreeMap::new());
            for (step, (id, what)) in steps.into_iter().enumerate() {
                let id = PipeId(id);
                match what {
                    0 => prop_assert_eq!(pipes.insert(id, step), model.insert(id, step)),
                    1 => prop_assert_eq!(pipes.remove(id), model.remove(&id)),
                    _ => prop_assert_eq!(*pipes.get_or_insert_with(id, || step), *model.entry(id).or_insert(step)),
                }
                prop_assert_eq!((pipes.len(), pipes.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(pipes.get(id), model.get(&id));
                prop_assert_eq!(pipes.last(), model.keys().last().copied());
                prop_assert_eq!(pipes.get_mut(id), model.get_mut(&id));
            }
            prop_assert!(pipes.iter().map(|(id, step)| (id, *step)).eq(model.iter().map(|(id, step)| (*id, *step))));
            prop_assert!(pipes.values().eq(model.values()));
            prop_assert!(pipes.values_mut().eq(model.values_mut()));
            prop_assert!(pipes.drain().eq(model));
        }
    }
}
