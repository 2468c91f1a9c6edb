//! Properties as proofs: many cases on both cores, each failure made as small as it gets.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use crate::proof::seed;

/// Cases are drawn on so many threads: a machine for proofs has two cores.
const THREADS: u64 = 2;

/// Steps for making a failure smaller, each of them a case.
const SHRINK_STEPS_MAX: u32 = 200_000;

/// Holds a property against so many cases, and returns the smallest failure of each thread. A panic is a failure.
pub fn failures<S: Strategy>(
    cases: u64,
    strategy: impl Fn() -> S + Sync,
    holds: impl Fn(S::Value) -> Result<(), TestCaseError> + Sync,
) -> Vec<String> {
    let draw = |thread: u64| {
        let config = Config {
            cases: u32::try_from(cases.div_ceil(THREADS)).unwrap_or(u32::MAX),
            rng_seed: RngSeed::Fixed(seed() * THREADS + thread),
            max_shrink_iters: SHRINK_STEPS_MAX,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config).run(&strategy(), &holds).err().map(|failure| failure.to_string())
    };
    std::thread::scope(|scope| {
        let draw = &draw;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || draw(thread))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    })
}
