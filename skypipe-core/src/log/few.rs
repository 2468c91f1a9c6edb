//! A map of which there are very many, and nearly all hold one thing.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// A sorted map that holds its only entry within itself: a tree would take half a kilobyte for it.
#[derive(Debug, Default)]
pub(super) enum Few<K, V> {
    /// Nothing.
    #[default]
    None,
    /// One entry.
    One(K, V),
    /// Two or more.
    Many(BTreeMap<K, V>),
}

impl<K: Copy + Ord, V> Few<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        match self {
            Self::One(only, value) if *only == key => Some(value),
            Self::Many(all) => all.get(&key),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        match self {
            Self::One(only, value) if *only == key => Some(value),
            Self::Many(all) => all.get_mut(&key),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(key, value),
            Self::One(only, _) if only == key => Self::One(key, value),
            Self::One(only, other) => Self::Many(BTreeMap::from([(only, other), (key, value)])),
            Self::Many(mut all) => {
                all.insert(key, value);
                Self::Many(all)
            }
        };
    }

    /// Takes an entry out. What is left is one, once there are two.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::One(only, _) if *only == key => match std::mem::take(self) {
                Self::One(_, value) => Some(value),
                _ => None,
            },
            Self::Many(all) => {
                let value = all.remove(&key);
                self.shrink();
                value
            }
            _ => None,
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        match self {
            Self::None => {}
            Self::One(key, value) => {
                if !keep(key, value) {
                    *self = Self::None;
                }
            }
            Self::Many(all) => {
                all.retain(keep);
                self.shrink();
            }
        }
    }

    /// The first one, if there is one.
    pub(super) fn first(&self) -> Option<(K, &V)> {
        self.iter().next()
    }

    /// In order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.range(..)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.range_mut(..).map(|(_, value)| value)
    }

    /// Those with a key in this range, in order.
    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (K, &V)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(key, value) => (Some((*key, value)).filter(|(key, _)| keys.contains(key)), None),
            Self::Many(all) => (None, Some(all.range(keys).map(|(key, value)| (*key, value)))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The same, to be changed.
    pub(super) fn range_mut(&mut self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (K, &mut V)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(key, value) => (Some((*key, value)).filter(|(key, _)| keys.contains(key)), None),
            Self::Many(all) => (None, Some(all.range_mut(keys).map(|(key, value)| (*key, value)))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn shrink(&mut self) {
        let Self::Many(all) = self else { return };
        if all.len() <= 1 {
            *self = all.pop_first().map_or(Self::None, |(key, value)| Self::One(key, value));
        }
    }
}

impl<K: Copy + Ord, V: Default> Few<K, V> {
    pub(super) fn get_or_default(&mut self, key: K) -> Option<&mut V> {
        if self.get(key).is_none() {
            self.insert(key, V::default());
        }
        self.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((0_u8..6, 0..4_u8), 0..100), from in 0_u8..6, to in 0_u8..6) {
            let (mut few, mut model) = (Few::default(), BTreeMap::new());
            let keys = from.min(to)..to.max(from);
            for (step, (key, what)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        few.insert(key, step);
                        model.insert(key, step);
                    }
                    1 => prop_assert_eq!(few.remove(key), model.remove(&key)),
                    2 => {
                        few.retain(|other, _| *other != key);
                        model.retain(|other, _| *other != key);
                    }
                    _ => prop_assert_eq!(few.get_or_default(key).copied(), Some(*model.entry(key).or_default())),
                }
                let pairs = model.iter().map(|(key, value)| (*key, value));
                prop_assert!(few.iter().eq(pairs));
                prop_assert_eq!(few.is_empty(), model.is_empty());
                prop_assert_eq!(few.first(), model.iter().next().map(|(key, value)| (*key, value)));
                prop_assert!(few.range(keys.clone()).rev().eq(model.range(keys.clone()).rev().map(|(key, value)| (*key, value))));
                prop_assert!(few.range_mut(keys.clone()).eq(model.range_mut(keys.clone()).map(|(key, value)| (*key, value))));
                prop_assert!(few.values().eq(model.values()) && few.values_mut().eq(model.values_mut()));
                prop_assert_eq!(matches!(few, Few::Many(_)), model.len() > 1);
            }
        }
    }
}
