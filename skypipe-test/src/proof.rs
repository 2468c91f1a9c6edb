//! What a proof of a promise prints, and how long it goes on.
//!
//! A proof is a test whose name begins with `proof_`. `cargo test` runs it in its quickest form; `cargo xtask prove` sets
//! `SKYPIPE_PROOF` to `short` (before each change) or `long` (before a release) and makes one table of the lines printed here.
//! `docs/promises.md` says what each one shows.

use std::fmt::Display;
use std::time::Instant;

/// How many cases there are to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Within `cargo test`: a second.
    Quick,
    /// Before each change: what `docs/promises.md` gives figures for.
    Short,
    /// Before a release.
    Long,
}

impl Length {
    /// What `SKYPIPE_PROOF` asks for.
    pub fn asked() -> Self {
        match std::env::var("SKYPIPE_PROOF").as_deref() {
            Err(_) | Ok("quick") => Self::Quick,
            Ok("short") => Self::Short,
            Ok("long") => Self::Long,
            Ok(other) => panic!("SKYPIPE_PROOF is quick, short or long, not {other}"),
        }
    }
}

/// As many cases as the length asked for wants. `SKYPIPE_CASES` goes before, to look for more or to play one again.
pub fn cases(quick: u64, short: u64, long: u64) -> u64 {
    if let Some(cases) = number("SKYPIPE_CASES") {
        return cases;
    }
    match Length::asked() {
        Length::Quick => quick,
        Length::Short => short,
        Length::Long => long,
    }
}

/// Where all randomness of a proof comes from: `SKYPIPE_SEED`, else always the same.
pub fn seed() -> u64 {
    number("SKYPIPE_SEED").unwrap_or(1)
}

/// One row of the table.
pub struct Proof {
    promise: &'static str,
    what: String,
    start: Instant,
}

impl Proof {
    /// Begins to prove a part of a promise, like `P1d`, by trying `what`, like `crash images`.
    pub fn begin(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into(), start: Instant::now() }
    }

    /// Prints the row, and fails the test if there were failures or no cases.
    ///
    /// # Panics
    /// When the promise does not hold, with `failures`.
    pub fn end<F: Display>(self, cases: u64, failures: &[F]) {
        let (count, took) = (failures.len(), self.start.elapsed().as_secs_f64());
        println!("\nproof\t{}\t{}\t{cases}\t{count}\tseed {}\t{took:.1} s", self.promise, self.what, seed());
        let first: Vec<String> = failures.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{} does not hold: {count} of {cases}\n{}", self.promise, first.join("\n"));
        assert!(cases > 0, "{}: nothing was tried", self.promise);
    }
}

/// More failures than this tell nobody more.
const SHOWN_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}
