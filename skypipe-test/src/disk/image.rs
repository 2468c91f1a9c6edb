//! The files of a disk at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names and bytes. Files that two images have in common are the same memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// What each name stands for, those in quarantine included.
    pub files: BTreeMap<Arc<str>, Arc<Vec<u8>>>,
}

impl Image {
    /// The bytes of a file, nothing if it does not exist.
    pub fn bytes(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], |bytes| bytes.as_slice())
    }

    /// Changes the bytes of a file that exists.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(Arc::make_mut(self.files.get_mut(name).expect("the file exists")));
    }

    /// What of the bytes in `before` is nowhere any more: neither where it stood nor in a file of the folder `aside`. Zeros at the end of a file are nothing:
    /// they are written ahead.
    pub fn lost_of(&self, before: &Self, aside: &str) -> Option<String> {
        let aside = self.files.iter().filter(|(name, _)| name.starts_with(aside));
        let kept: Vec<&[u8]> = aside.map(|(_, bytes)| without_zeros(bytes)).collect();
        for (name, old) in &before.files {
            let new = self.files.get(name);
            if new.is_some_and(|new| Arc::ptr_eq(new, old)) {
                continue;
            }
            let old = without_zeros(old);
            let same = new.map_or(0, |new| same_at_start(old, new));
            let rest = &old[same..];
            // What was cut off begins somewhere at or before the first byte that is not there any more.
            let is_kept = |kept: &&[u8]| kept.ends_with(rest) && old.ends_with(kept);
            if !rest.is_empty() && !kept.iter().any(is_kept) {
                return Some(format!("{name}: the bytes from {same} on, of {}, are gone", old.len()));
            }
        }
        None
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

fn same_at_start(a: &[u8], b: &[u8]) -> usize {
    let shorter = a.len().min(b.len());
    if a[..shorter] == b[..shorter] {
        return shorter;
    }
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
