//! The table: one Markdown line for each figure of each entry.

use std::io::Write;

use crate::Failure;
use crate::row::{Answer, Entry, Outcome, Row};

pub(crate) const HEADER: &str = "\
| row | figure | who | the writer waits for | median | min | max | skypipe ÷ it | CPU s/GB |
|---|---|---|---|---:|---:|---:|---:|---:|";

/// Prints the lines of a row, and says whether nothing failed.
pub(crate) fn print(row: &Row, answers: &[Answer]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let own = match answers.first() {
        Some(Answer::Ran(outcomes)) => medians(outcomes),
        _ => Vec::new(),
    };
    let mut all_well = true;
    for (entry, answer) in row.entries.iter().zip(answers) {
        match answer {
            Answer::Missing(programs) => {
                let why = format!("not installed: {}", programs.join(", "));
                writeln!(out, "| {} | | {} | {why} | | | | | |", row.name, entry.who)?;
            }
            Answer::Failed(why) => {
                all_well = false;
                writeln!(out, "| {} | | {} | failed: {} | | | | | |", row.name, entry.who, cell(why))?;
            }
            Answer::Ran(outcomes) => {
                for (nth, median) in medians(outcomes).into_iter().enumerate() {
                    let ratio = own.get(nth).map_or("-".to_owned(), |own| number(own / median));
                    writeln!(out, "{}", line(row, entry, outcomes, nth, &ratio))?;
                }
            }
        }
    }
    out.flush()?;
    Ok(all_well)
}

fn line(row: &Row, entry: &Entry, outcomes: &[Outcome], nth: usize, ratio: &str) -> String {
    let values = sorted(outcomes.iter().map(|outcome| outcome.figures[nth].value));
    let cpu = sorted(outcomes.iter().filter_map(|outcome| outcome.cpu_per_gb));
    let cpu = if cpu.is_empty() { String::new() } else { number(median(&cpu)) };
    let unit = outcomes.first().map_or("", |outcome| outcome.figures[nth].unit);
    let [middle, least, most] = [median(&values), values[0], values[values.len() - 1]].map(number);
    let Row { name, .. } = row;
    let Entry { who, acknowledgement, .. } = entry;
    format!("| {name} | {unit} | {who} | {acknowledgement} | {middle} | {least} | {most} | {ratio} | {cpu} |")
}

fn medians(outcomes: &[Outcome]) -> Vec<f64> {
    let figures = outcomes.first().map_or(0, |outcome| outcome.figures.len());
    (0..figures).map(|nth| median(&sorted(outcomes.iter().map(|outcome| outcome.figures[nth].value)))).collect()
}

pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values: the middle one, or what lies between the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let upper = values.len() / 2;
    match values {
        [] => f64::NAN,
        values if values.len() % 2 == 1 => values[upper],
        values => f64::midpoint(values[upper - 1], values[upper]),
    }
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_there() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1234.4, 12.34, 1.234, 0.1234].map(number), ["1234", "12.3", "1.23", "0.123"]);
    }
}
