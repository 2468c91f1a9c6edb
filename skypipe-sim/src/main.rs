//! Plays one seed and prints what happened: `cargo xtask sim --seed N`.

use std::process::ExitCode;

use skypipe_sim::{Keep, Plan, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = match &arguments[..] {
        [name, seed] if name == "--seed" => seed.parse().ok(),
        _ => None,
    };
    let Some(seed) = seed else {
        eprintln!("usage: --seed N");
        return ExitCode::from(2);
    };
    let report = run(seed, &Plan { keep: Keep::Lines, ..Plan::default() });
    println!("{}", report.trace);
    report.broken.iter().for_each(|broken| println!("BROKEN {broken}"));
    if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
