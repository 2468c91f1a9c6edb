//! Bytes to send: random, repeatable, never held in memory as a whole.

use std::io::{self, Read, Write};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};

/// Random bytes of a given length; the same seed gives the same bytes.
#[derive(Clone, Debug)]
pub struct Data {
    seed: u64,
    length: u64,
}

impl Data {
    /// `length` bytes. The seed is printed, and with it the failing case.
    pub fn random(seed: u64, length: u64) -> Self {
        println!("data: seed {seed}, {length} bytes");
        Self { seed, length }
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// The first `length` bytes of it.
    pub fn prefix(&self, length: u64) -> Self {
        assert!(length <= self.length, "{length} bytes are more than {}", self.length);
        Self { seed: self.seed, length }
    }

    /// All bytes at once: only for short data.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes).unwrap();
        bytes
    }

    /// Count and SHA-256.
    pub fn digest(&self) -> Digest {
        let mut summer = Summer::default();
        self.write_to(&mut summer).unwrap();
        summer.digest()
    }

    /// Writes everything to `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut chunk = vec![0; 256 * 1024];
        let mut left = self.length;
        while left > 0 {
            // Always whole chunks of randomness, so that a prefix is one.
            random.fill_bytes(&mut chunk);
            let now = left.min(chunk.len() as u64);
            out.write_all(&chunk[..now as usize])?;
            left -= now;
        }
        Ok(())
    }
}

/// What is compared instead of the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes.
    pub count: u64,
    /// SHA-256 over them.
    pub sum: [u8; 32],
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { count: bytes.len() as u64, sum: Sha256::digest(bytes).into() }
    }

    /// The digest of a file.
    pub fn of_file(path: &std::path::Path) -> Self {
        let mut file = std::fs::File::open(path).unwrap();
        let mut summer = Summer::default();
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match file.read(&mut chunk).unwrap() {
                0 => return summer.digest(),
                count => summer.write_all(&chunk[..count]).unwrap(),
            }
        }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes, SHA-256 {:02x}{:02x}{:02x}{:02x}…",
            self.count, self.sum[0], self.sum[1], self.sum[2], self.sum[3]
        )
    }
}

/// Sums up what is written to it.
#[derive(Default)]
pub struct Summer {
    count: u64,
    sum: Sha256,
}

impl Summer {
    pub fn digest(&self) -> Digest {
        Digest { count: self.count, sum: self.sum.clone().finalize().into() }
    }
}

impl Write for Summer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count += bytes.len() as u64;
        self.sum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
