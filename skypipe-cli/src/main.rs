//! `skypipe`, the command line: parse, run, exit code.
//!
//! ```text
//!  args.rs ─▶ commands/ one verb, one file ─▶ exit.rs
//!               │  write: stdin.rs ─▶ cutter.rs ─▶ Writer      direction.rs  which way the bare form goes
//!               │  read:  Reader ─▶ stdout.rs                  notices.rs    what a session has to say, on stderr
//!               └─ broker.rs: which relay ─▶ starter.rs        signals.rs    what ends a command early
//! ```
//!
//! stdout carries data only; everything for people goes to stderr. Pipes, sessions and the relay are `skypipe-core`'s.

mod addresses;
mod args;
mod broker;
mod commands;
mod config;
mod cutter;
mod direction;
mod escape;
mod exit;
mod listen;
mod listeners;
mod looks;
mod many_files;
mod notices;
mod pipe_line;
mod progress;
mod rates;
mod ready;
mod relief;
mod shell;
mod signals;
mod start;
mod starter;
mod startup;
mod status;
mod stdin;
mod stdout;
mod switch;
mod ticket_source;
mod up;
mod wide_pipe;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(cli) => exit::code(commands::run(cli)),
        Err(exit) => exit,
    }
}
