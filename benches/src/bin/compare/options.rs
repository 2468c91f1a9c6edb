//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Failure;
use crate::row::{Row, Setting};
use crate::rows;

/// Median of an odd number of runs.
const RUNS: usize = 7;

/// Compares skypipe with what users would pick instead.
#[derive(Parser)]
pub(crate) struct Options {
    /// Families of rows, such as `bulk` or `latency`, or parts of rows' names; all of them where none is given.
    rows: Vec<String>,
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
    pub(crate) fn setting(&self) -> Result<Setting, Failure> {
        let beside = std::env::current_exe()?.parent().ok_or("no folder")?.to_owned();
        let folder = self.folder.clone().unwrap_or(beside);
        let runs = self.runs.unwrap_or(if self.quick { 1 } else { RUNS });
        Ok(Setting { quick: self.quick, runs: runs.max(1), folder })
    }

    pub(crate) fn wants(&self, row: &Row) -> bool {
        let names = |word: &String| row.family == word || row.name.contains(word.as_str());
        self.rows.is_empty() || self.rows.iter().any(names)
    }
}

/// The names of all families.
pub(crate) fn families(setting: &Setting) -> String {
    let mut names: Vec<&str> = rows::all(setting).iter().map(|row| row.family).collect();
    names.dedup();
    names.join(", ")
}
