//! Much that is stored with no reader there, and then read from the disk.

use std::fs::{File, read_dir};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::durable::stored;
use super::{KIB, length};
use crate::Failure;
use crate::contender::Contender;
use crate::flow::kept;
use crate::peers::{PlainFile, Skypipe};
use crate::row::{Entry, Outcome, Row, Setting};
use crate::task::Task;

const WHOLE: u64 = 4 << 30;
const QUICK: u64 = 32 << 20;
const RECORD_BYTES: usize = 256 * KIB;
const WHO: [&dyn Contender; 2] = [&Skypipe::Local, &PlainFile::Sequential];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    let bytes = setting.size(WHOLE, QUICK);
    let task = Task::stored(RECORD_BYTES, bytes / RECORD_BYTES as u64);
    let row = |family, name: String, reads| Row {
        family,
        name,
        entries: WHO.map(|who| entry(who, task.clone(), reads)).into(),
    };
    let all = length(usize::try_from(bytes).unwrap_or(usize::MAX));
    vec![
        row("store", format!("{all} stored without a reader, then read from disk"), From::Disk),
        row("store", format!("{all} stored without a reader, then read from memory"), From::Memory),
    ]
}

/// Where what was stored is when it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Disk,
    /// The kernel's cache.
    Memory,
}

fn entry(who: &'static dyn Contender, task: Task, from: From) -> Entry {
    let entry = Entry::of(who, move |setting| {
        let forget = |data: &Path| if from == From::Disk { forget(data) } else { Ok(()) };
        let kept = kept(who, &task, setting, forget)?;
        let rate = |seconds: f64| task.bytes() as f64 / 1e9 / seconds;
        let outcome = Outcome::one("GB/s, write", rate(kept.writing)).and("GB/s, read", rate(kept.reading));
        Ok(outcome.with_cpu(kept.cpu, task.bytes()))
    });
    stored(who, entry)
}

/// Lets the kernel forget what it has of these files in memory.
fn forget(folder: &Path) -> Result<(), Failure> {
    for entry in read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else if path.is_file() {
            let file = File::open(&path)?;
            // Only what is on disk is forgotten.
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
