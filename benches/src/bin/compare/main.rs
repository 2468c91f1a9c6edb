//! skypipe beside what users would pick instead, in one table of Markdown: `cargo run --release -p skypipe-benches --bin compare`.
//!
//! Each row is a question. Each of those whom it asks runs in processes of its own, writer, server and reader, in turns with the others; what
//! arrives is counted and summed up. A peer is one file in `peers`, a family of rows one in `rows`. What the columns mean: `benches/README.md`.

mod built;
mod contender;
mod control;
mod crew;
mod flow;
mod folders;
mod ground;
mod growth;
mod machine;
mod options;
mod peers;
mod process;
mod programs;
mod record;
mod roles;
mod row;
mod rows;
mod table;
mod task;

use clap::Parser;
use folders::Folders;
use options::Options;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["role", ..] => one_thread()?.block_on(roles::play(&words[1..])),
        ["fill", at, pipes] => one_thread()?.block_on(rows::fill(at, pipes.parse()?)),
        ["bare-relay", way, socket] => {
            // As many threads as a relay of skypipe has.
            let threads = skypipe_core::host::relay_threads();
            let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
            threads?.block_on(peers::serve_bare(way, socket))
        }
        ["growth", ..] => growth::grow(&words),
        _ => compare(&Options::parse()),
    }
}

/// Runs from one thread: what it starts is killed by the kernel when that thread ends.
fn compare(options: &Options) -> Result<(), Failure> {
    built::build()?;
    let folders = Folders::make(&options.folder()?)?;
    let setting = options.setting(&folders);
    let rows = options.wanted(rows::all(&setting));
    if rows.is_empty() {
        return Err(format!("no row has such a name; there are {}", options::families(&setting)).into());
    }
    machine::print(&setting);
    println!("{}", table::HEADER);
    let mut all_well = true;
    for row in &rows {
        all_well &= table::print(row, &row.run(&setting))?;
    }
    if all_well { Ok(()) } else { Err("not all went well; the table says what did not".into()) }
}

/// Nanoseconds of the monotonic clock, the same in all processes.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
