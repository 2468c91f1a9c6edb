//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Failure;
use crate::folders::Folders;
use crate::row::{Row, Setting};
use crate::rows;

/// Median of an odd number of runs.
const RUNS: usize = 7;

/// Compares skypipe with what users would pick instead.
#[derive(Parser)]
pub(crate) struct Options {
    /// Families of rows, such as `bulk` or `latency`, or parts of rows' names; all of them where none is given.
    rows: Vec<String>,
    /// Beside skypipe only those with this in their names; may be given again.
    #[arg(long)]
    who: Vec<String>,
    /// How often everybody runs, in turns.
    #[arg(long)]
    runs: Option<usize>,
    /// Small sizes and one run: says whether everything works, and nothing else.
    #[arg(long)]
    quick: bool,
    /// A folder on the disk to measure; by default that of this program.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Options {
    /// How everything is run, in these folders.
    pub(crate) fn setting(&self, folders: &Folders) -> Setting {
        let runs = self.runs.unwrap_or(if self.quick { 1 } else { RUNS });
        let (folder, sockets) = (folders.data().to_owned(), folders.sockets().to_owned());
        Setting { quick: self.quick, runs: runs.max(1), folder, sockets }
    }

    /// Where to put what is written: on the disk to measure.
    pub(crate) fn folder(&self) -> Result<PathBuf, Failure> {
        let beside = std::env::current_exe()?.parent().ok_or("no folder")?.to_owned();
        Ok(self.folder.clone().unwrap_or(beside))
    }

    /// Rows of the families that are named, and for every other word those with it in their names.
    pub(crate) fn wanted(&self, rows: Vec<Row>) -> Vec<Row> {
        let families: Vec<&'static str> = rows.iter().map(|row| row.family).collect();
        let is_named = |row: &Row, word: &str| {
            if families.contains(&word) { row.family == word } else { row.name.contains(word) }
        };
        let is_wanted = |row: &Row| self.rows.is_empty() || self.rows.iter().any(|word| is_named(row, word));
        rows.into_iter().filter(is_wanted).map(|row| self.those(row)).collect()
    }

    /// The row, put only to those who were named.
    fn those(&self, mut row: Row) -> Row {
        let is_named = |who: &str| self.who.is_empty() || self.who.iter().any(|word| who.contains(word.as_str()));
        let is_named = |who: &str| who.starts_with("skypipe") || is_named(who);
        row.entries.retain(|entry| is_named(&entry.who));
        row
    }
}

/// The names of all families.
pub(crate) fn families(setting: &Setting) -> String {
    let mut names: Vec<&str> = rows::all(setting).iter().map(|row| row.family).collect();
    names.dedup();
    names.join(", ")
}
