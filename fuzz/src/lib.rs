//! What each of the fuzzer's programs is.

pub use libfuzzer_sys::fuzz_target;
pub use skypipe_fuzz::run;
pub use stats_alloc;

/// A program that gives what the fuzzer comes up with to the target of this name.
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        #[global_allocator]
        static COUNTED: &$crate::stats_alloc::StatsAlloc<std::alloc::System> =
            &$crate::stats_alloc::INSTRUMENTED_SYSTEM;

        $crate::fuzz_target!(|bytes: &[u8]| $crate::run($name, bytes));
    };
}
