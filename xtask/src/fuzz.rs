//! Builds the fuzzer's programs and lets them run, as many at a time as there are processors.
//!
//! libFuzzer needs to see which way a program goes; rustc has the pass for that on any toolchain. The sanitizers, which need a nightly one, look for
//! faults of unsafe code, of which there is none here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

/// Tells libFuzzer each branch taken and each comparison made.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=4";
/// Longest input in bytes: what is longer is tried by tests of the bounds.
const INPUT_BYTES_MAX: usize = 4096;
/// One input that takes longer hangs.
const ONE_TAKES_AT_MOST: Duration = Duration::from_secs(10);
/// What a program may use in all; a decoder that allocates what a peer says it should comes beyond.
const MEMORY_MIB_MAX: usize = 2048;
/// How long each runs before each change.
const SHORT: Duration = Duration::from_secs(24);
/// How many inputs each tries before a release.
const LONG_RUNS: u64 = 1_000_000_000;

/// Runs the targets asked for, all by default, as long as `SKYPIPE_PROOF` says; `SKYPIPE_CASES` is a number of inputs for each.
///
/// # Errors
/// What went wrong, with the file that holds the input.
pub(crate) fn run(wanted: &[String]) -> Result<(), String> {
    let names: Vec<String> = targets()?.into_iter().filter(|n| wanted.is_empty() || wanted.contains(n)).collect();
    if names.is_empty() {
        return Err("there is no such target".to_owned());
    }
    let programs = build()?;
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(why) = fuzz(&programs, name)
                && let Ok(mut failed) = failed.lock()
            {
                failed.push(why);
            }
        }
    };
    let at_a_time = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..at_a_time).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// The names of all targets, in order.
pub(crate) fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let name = |file: fs::DirEntry| Some(file.path().file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = files.filter_map(|file| name(file.ok()?)).collect();
    names.sort();
    Ok(names)
}

/// Builds all programs; gives their folder.
fn build() -> Result<PathBuf, String> {
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz");
    let host = host()?;
    // With a target named, build scripts and macros are built without the flags.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--bins", "--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(root().join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if !built.success() {
        return Err("the fuzzer's programs cannot be built".to_owned());
    }
    Ok(folder.join(host).join("release"))
}

fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".to_owned())
}

/// Runs one program and prints its row. What it finds of interest is kept in `fuzz/corpus`, which is not committed, and what does harm in
/// `fuzz/artifacts`.
fn fuzz(programs: &Path, name: &str) -> Result<(), String> {
    let (found, harm) = (root().join("fuzz/corpus").join(name), root().join("fuzz/artifacts").join(name));
    for folder in [&found, &harm] {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let start = Instant::now();
    let output = Command::new(programs.join(name))
        .arg(how_long())
        .args([format!("-timeout={}", ONE_TAKES_AT_MOST.as_secs()), format!("-rss_limit_mb={MEMORY_MIB_MAX}")])
        .args([format!("-max_len={INPUT_BYTES_MAX}"), format!("-artifact_prefix={}/", harm.display())])
        .args(["-print_final_stats=1", "-verbosity=1", "-use_value_profile=1"])
        .arg(&found)
        .arg(root().join("skypipe-fuzz/corpus").join(name))
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let inputs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map(str::trim);
    let failures = u8::from(!output.status.success());
    let took = start.elapsed().as_secs_f64();
    println!("\nproof\tP15\tfuzz {name}\t{}\t{failures}\tfresh\t{took:.1} s", inputs.unwrap_or("0"));
    if output.status.success() {
        return Ok(());
    }
    let last: Vec<&str> = said.lines().rev().take(LAST_LINES).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{name} came to harm; the input is in {}\n{}", harm.display(), last.join("\n")))
}

/// What a program says at last: the panic, and the input.
const LAST_LINES: usize = 40;

fn how_long() -> String {
    if let Ok(runs) = env::var("SKYPIPE_CASES") {
        return format!("-runs={runs}");
    }
    match env::var("SKYPIPE_PROOF").as_deref() {
        Ok("long") => format!("-runs={LONG_RUNS}"),
        _ => format!("-max_total_time={}", SHORT.as_secs()),
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
