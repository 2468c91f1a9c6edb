//! The command line: parse, run, exit code.

mod args;
mod broker;
mod commands;
mod config;
mod cutter;
mod direction;
mod escape;
mod exit;
mod notices;
mod progress;
mod signals;
mod starter;
mod startup;
mod stdin;
mod stdout;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(cli) => exit::code(commands::run(cli)),
        Err(exit) => exit,
    }
}
