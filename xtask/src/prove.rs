//! Runs the proofs and makes one table of what they print.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::proofs::{self, COMMANDS};

/// What a proof printed: see `skypipe_test::proof`.
struct Row {
    promise: String,
    what: String,
    cases: String,
    failures: String,
    seed: String,
    took: String,
}

/// Runs the proofs asked for, all by default.
///
/// # Errors
/// What does not hold, or was not tried.
pub(crate) fn run(mut arguments: Vec<String>) -> Result<(), String> {
    let asked = match arguments.first().map(String::as_str) {
        Some("ci" | "short" | "long") => arguments.remove(0),
        _ => "short".to_owned(),
    };
    let only_each_change = asked == "ci";
    let length = if only_each_change { "short".to_owned() } else { asked };
    let wanted = |promise: &str| arguments.is_empty() || arguments.iter().any(|a| promise.starts_with(a.as_str()));
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    let chosen = COMMANDS.iter().filter(|c| c.before_each_change || !only_each_change);
    for command in chosen.filter(|c| c.rows.iter().any(|(promise, _)| wanted(promise))) {
        println!("\n$ SKYPIPE_PROOF={length} {}", command.command);
        let (found, went_well) = run_one(command, &length)?;
        if !went_well {
            wrong.push(format!("failed: {}", command.command));
        }
        let missing = command.rows.iter().filter(|(p, w)| !found.iter().any(|row| row.promise == *p && row.what == *w));
        wrong.extend(missing.map(|(promise, what)| format!("not tried: {promise} {what}")));
        rows.extend(found);
    }
    print_table(&rows);
    wrong.extend(
        rows.iter().filter(|row| row.failures != "0").map(|row| format!("does not hold: {} {}", row.promise, row.what)),
    );
    if rows.is_empty() {
        wrong.push("no proof was run".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn run_one(command: &proofs::Command, length: &str) -> Result<(Vec<Row>, bool), String> {
    let mut words = command.command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut child = Command::new(program)
        .args(words)
        .env("SKYPIPE_PROOF", length)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|e| e.to_string())?;
        println!("{line}");
        rows.extend(parse(&line));
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    Ok((rows, status.success()))
}

fn parse(line: &str) -> Option<Row> {
    let mut fields = line.strip_prefix("proof\t")?.split('\t').map(str::to_owned);
    let mut next = || fields.next();
    Some(Row { promise: next()?, what: next()?, cases: next()?, failures: next()?, seed: next()?, took: next()? })
}

fn print_table(rows: &[Row]) {
    println!("\n| promise | tried | cases | failures | seed | took |\n|---|---|---:|---:|---|---:|");
    for row in rows {
        println!("| {} | {} | {} | {} | {} | {} |", row.promise, row.what, row.cases, row.failures, row.seed, row.took);
    }
}
