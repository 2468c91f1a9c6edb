//! The corpus of every target, and random changes of it, on any toolchain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::alloc::System;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_fuzz::TARGETS;
use skypipe_test::proof::{Proof, cases, seed};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of one process are counted together: one target at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// No input of the corpus's lengths takes a machine so long, however busy it is.
const ONE_TAKES_AT_MOST: Duration = Duration::from_secs(10);

/// All of the corpus together: it is read by every clone of the repository.
const CORPUS_BYTES_MAX: u64 = 1024 * 1024;

#[test]
fn the_corpus_does_no_harm() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(skypipe_fuzz::is_counting());
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(inputs.len() >= 2, "{} has no corpus", target.name);
        for (path, input) in inputs {
            bytes += input.len() as u64;
            let start = Instant::now();
            let went = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            assert!(went.is_ok(), "{} does harm to {}", path.display(), target.name);
            assert!(start.elapsed() < ONE_TAKES_AT_MOST, "{} took {:?}", path.display(), start.elapsed());
        }
    }
    assert!(bytes < CORPUS_BYTES_MAX, "the corpus has {bytes} bytes");
}

#[test]
fn every_folder_of_the_corpus_has_its_target() {
    for folder in fs::read_dir(corpus()).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "nobody reads corpus/{name}");
    }
}

/// Without coverage to lead it this finds less than the fuzzer; but it runs wherever the tests run.
#[test]
fn proof_changed_bytes_do_no_harm() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let proof = Proof::begin("P15", "changed bytes");
    let for_each = cases(200, 2_000, 1_000_000);
    let (mut random, mut failures) = (Xoshiro256PlusPlus::seed_from_u64(seed()), Vec::new());
    for target in TARGETS {
        let inputs: Vec<Vec<u8>> = inputs(target.name).into_iter().map(|(_, input)| input).collect();
        for _ in 0..for_each {
            let input = changed(&inputs, &mut random);
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                let text: String = input.iter().map(|b| format!("{b:02x}")).collect();
                failures.push(format!("{}: {text}", target.name));
                break;
            }
        }
    }
    proof.end(for_each * TARGETS.len() as u64, &failures);
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of a target, in order of name.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// One of the inputs with some bytes changed, copied, taken away, or with the rest of another.
fn changed(inputs: &[Vec<u8>], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut below = |most: usize| if most == 0 { 0 } else { (random.next_u64() % most as u64) as usize };
    let mut input = inputs[below(inputs.len())].clone();
    for _ in 0..=below(4) {
        let at = below(input.len() + 1);
        match below(6) {
            0 if at < input.len() => input[at] ^= 1 << below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            2 => input.insert(at, below(256) as u8),
            3 => drop(input.drain(at..(at + below(8)).min(input.len()))),
            4 => {
                let other = &inputs[below(inputs.len())];
                input.truncate(at);
                input.extend_from_slice(&other[below(other.len() + 1)..]);
            }
            _ => {
                let end = (at + below(16)).min(input.len());
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
        }
    }
    input
}
