//! Rows of the table: what is measured, of whom, again and again in turns.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::Failure;
use crate::contender::Contender;
use crate::programs;

/// How everything is run.
#[derive(Clone)]
pub(crate) struct Setting {
    /// Small sizes, to see that everything works.
    pub(crate) quick: bool,
    pub(crate) runs: usize,
    /// On the disk that is measured; gone with this program.
    pub(crate) folder: PathBuf,
    /// For sockets, whose paths must be short; gone with this program.
    pub(crate) sockets: PathBuf,
}

impl Setting {
    /// So many, or few.
    pub(crate) fn size(&self, whole: u64, quick: u64) -> u64 {
        if self.quick { quick } else { whole }
    }
}

/// One question, put to all who can answer it. Skypipe comes first.
pub(crate) struct Row {
    /// What `compare FAMILY` picks.
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
}

/// One of those whom a row asks.
pub(crate) struct Entry {
    pub(crate) who: String,
    /// What the writer waited for.
    pub(crate) acknowledgement: String,
    /// Programs that are not there.
    pub(crate) missing: Vec<String>,
    pub(crate) run: Box<Run>,
}

/// One run.
type Run = dyn Fn(&Setting) -> Result<Outcome, Failure>;

impl Entry {
    pub(crate) fn of(contender: &dyn Contender, run: impl Fn(&Setting) -> Result<Outcome, Failure> + 'static) -> Self {
        Self {
            who: contender.name(),
            acknowledgement: contender.acknowledgement().to_owned(),
            missing: programs::missing(contender.programs()),
            run: Box::new(run),
        }
    }

    pub(crate) fn acknowledged(self, acknowledgement: &str) -> Self {
        Self { acknowledgement: acknowledgement.to_owned(), ..self }
    }
}

/// What one run gave.
pub(crate) struct Outcome {
    /// The same kinds in the same order in each run of a row.
    pub(crate) figures: Vec<Figure>,
    /// Seconds of CPU of all processes for a gigabyte that arrived.
    pub(crate) cpu_per_gb: Option<f64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Outcome {
    pub(crate) fn one(unit: &'static str, value: f64) -> Self {
        Self { figures: vec![Figure { unit, value }], cpu_per_gb: None }
    }

    pub(crate) fn and(mut self, unit: &'static str, value: f64) -> Self {
        self.figures.push(Figure { unit, value });
        self
    }

    pub(crate) fn with_cpu(self, seconds: f64, bytes: u64) -> Self {
        Self { cpu_per_gb: Some(seconds / (bytes as f64 / 1e9)), ..self }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures: Vec<String> =
            self.figures.iter().map(|figure| format!("{:.3} {}", figure.value, figure.unit)).collect();
        f.write_str(&figures.join(", "))
    }
}

/// What came of an entry.
pub(crate) enum Answer {
    Missing(Vec<String>),
    Failed(String),
    Ran(Vec<Outcome>),
}

impl Row {
    /// Asks all in turns, so that a machine that slows down slows all.
    pub(crate) fn run(&self, setting: &Setting) -> Vec<Answer> {
        let start = |entry: &Entry| match entry.missing.as_slice() {
            [] => Answer::Ran(Vec::new()),
            missing => Answer::Missing(missing.to_vec()),
        };
        let mut results: Vec<Answer> = self.entries.iter().map(start).collect();
        for run in 1..=setting.runs {
            for (entry, result) in self.entries.iter().zip(&mut results) {
                let Answer::Ran(outcomes) = result else { continue };
                match (entry.run)(setting) {
                    Ok(outcome) => {
                        tell(run, self, entry, &outcome);
                        outcomes.push(outcome);
                    }
                    Err(error) => {
                        eprintln!("{}: {}: run {run} failed: {error}", self.name, entry.who);
                        *result = Answer::Failed(error.to_string());
                    }
                }
            }
        }
        results
    }
}

fn tell(run: usize, row: &Row, entry: &Entry, outcome: &Outcome) {
    eprintln!("{}: {}: run {run}: {outcome}", row.name, entry.who);
}
