//! `cargo xtask prove [ci|short|long] [PROMISE]...` tries to break every promise and prints one table.
//! `cargo xtask fuzz [TARGET]...` gives decoders and state machines what a fuzzer comes up with.
//! `cargo xtask teeth [MUTANT]...` breaks the code in named ways and shows that the proofs notice.
//! `cargo xtask sim --seed N` plays one simulation and prints what happened.

mod fuzz;
mod proofs;
mod prove;
mod teeth;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask prove [ci|short|long] [PROMISE]...\n       cargo xtask fuzz [TARGET]...\n       cargo xtask teeth [check] [MUTANT]...\n       cargo xtask sim --seed N";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("prove") => prove::run(arguments.collect()),
        Some("fuzz") => fuzz::run(&arguments.collect::<Vec<_>>()),
        Some("teeth") => teeth::run(arguments.collect()),
        Some("sim") => sim(arguments.collect()),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one seed.
fn sim(arguments: Vec<String>) -> Result<(), String> {
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["run", "--quiet", "--release", "--package", "skypipe-sim", "--"]).args(arguments);
    let status = cargo.status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err("it does not hold".to_owned()) }
}
