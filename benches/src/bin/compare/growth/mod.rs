//! How cost grows with one thing at a time, at four sizes each: a table, and drawn.

mod draw;
mod measured;

use std::path::PathBuf;

use clap::Parser;

use crate::Failure;
use crate::folders::Folders;
use crate::machine;
use crate::row::{Figure, Outcome, Setting};
use crate::table::{median, number, sorted};

/// Median of an odd number of runs: each size of each takes up to a minute.
const RUNS: usize = 3;
const SIZES: usize = 4;
const HEADER: &str = "\
| grows with | size | figure | median | min | max |
|---|---:|---|---:|---:|---:|";

/// Measures how cost grows with records, readers, pipes, connections and stored bytes.
#[derive(Parser)]
#[command(name = "compare growth")]
struct Options {
    /// Parts of the names of what grows, such as `readers`; all of it where none is given.
    axes: Vec<String>,
    /// How often each size is measured, in turns.
    #[arg(long, default_value_t = RUNS)]
    runs: usize,
    /// A folder on the disk to measure; by default that of this program.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where to draw it.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// One thing that grows, all else alike.
struct Axis {
    name: &'static str,
    sizes: [u64; SIZES],
    measure: fn(&Setting, u64) -> Result<Outcome, Failure>,
}

/// What came of one figure of an axis: sorted values at each size.
struct Curve {
    axis: &'static str,
    unit: &'static str,
    sizes: [u64; SIZES],
    values: [Vec<f64>; SIZES],
}

/// `compare growth`, with the words behind it.
pub(crate) fn grow(words: &[String]) -> Result<(), Failure> {
    let options = Options::parse_from(words);
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().ok_or("no folder")?.to_owned(),
    };
    let folders = Folders::make(&folder)?;
    let (folder, sockets) = (folders.data().to_owned(), folders.sockets().to_owned());
    let setting = Setting { quick: false, runs: options.runs.max(1), folder, sockets };
    machine::print(&setting);
    println!("{HEADER}");
    let is_wanted = |axis: &&Axis| options.axes.is_empty() || options.axes.iter().any(|word| axis.name.contains(word));
    let mut curves = Vec::new();
    for axis in measured::AXES.iter().filter(is_wanted) {
        let measured = axis.curves(&setting)?;
        measured.iter().for_each(Curve::print);
        curves.extend(measured);
    }
    if curves.is_empty() {
        return Err("nothing of that name grows here".into());
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, draw::svg(&curves))?;
    }
    Ok(())
}

impl Axis {
    /// Asks for all sizes in turns.
    fn curves(&self, setting: &Setting) -> Result<Vec<Curve>, Failure> {
        let mut runs: [Vec<Outcome>; SIZES] = Default::default();
        for _ in 0..setting.runs {
            for (size, runs) in self.sizes.iter().zip(&mut runs) {
                let outcome = (self.measure)(setting, *size)?;
                eprintln!("{} {size}: {outcome}", self.name);
                runs.push(outcome);
            }
        }
        let figures: &[Figure] = runs[0].first().map_or(&[], |outcome| &outcome.figures);
        let values = |nth: usize| runs.each_ref().map(|runs| sorted(runs.iter().map(|run| run.figures[nth].value)));
        let curve = |(nth, figure): (usize, &Figure)| Curve {
            axis: self.name,
            unit: figure.unit,
            sizes: self.sizes,
            values: values(nth),
        };
        Ok(figures.iter().enumerate().map(curve).collect())
    }
}

impl Curve {
    fn print(&self) {
        for (size, values) in self.sizes.iter().zip(&self.values) {
            let [middle, least, most] = [median(values), values[0], values[values.len() - 1]].map(number);
            println!("| {} | {} | {} | {middle} | {least} | {most} |", self.axis, short(*size), self.unit);
        }
    }
}

/// As `64 k` or `4 G`, with thousands of 1000 or of 1024, whichever it is made of.
fn short(size: u64) -> String {
    let (step, signs) =
        if size.is_multiple_of(1024) { (1024, ["", " KiB", " MiB", " GiB"]) } else { (1000, ["", " k", " M", " G"]) };
    let (mut size, mut power) = (size, 0);
    while size >= step && size.is_multiple_of(step) && power + 1 < signs.len() {
        (size, power) = (size / step, power + 1);
    }
    format!("{size}{}", signs[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [1, 16, 1000, 10_000, 1_000_000, 64 << 20, 4 << 30].map(short),
            ["1", "16", "1 k", "10 k", "1 M", "64 MiB", "4 GiB"]
        );
    }

    #[test]
    fn each_curve_is_drawn_with_all_its_sizes() {
        let curve = |unit| Curve {
            axis: "a < b",
            unit,
            sizes: [1, 10, 100, 1000],
            values: [vec![1.0, 2.0, 3.0], vec![0.0], vec![5.5], vec![1e6]],
        };
        let svg = draw::svg(&[curve("one"), curve("two"), curve("three")]);
        assert_eq!(svg.matches("<circle").count(), 3 * SIZES);
        assert!(svg.contains("a &lt; b") && svg.contains("1 k") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
