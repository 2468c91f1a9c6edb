//! The binary that goes to the other machine: this very program, or one that was built for it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use skypipe_core::{Code, Error};

use super::version::Version;

/// Bytes in front of a file that say what it is: an ELF header up to its machine.
const HEADER_BYTES: usize = 20;
/// Larger files are no skypipe.
const PROGRAM_BYTES_MAX: u64 = 1 << 30;
const READ_BYTES: usize = 256 << 10;

/// A skypipe binary of this machine.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file itself, at its start.
    pub(crate) file: File,
    /// How long it is.
    pub(crate) bytes: u64,
    /// SHA-256 in hex.
    pub(crate) sum: String,
    /// Its version; none where it does not run here.
    pub(crate) version: Option<Version>,
    /// What it is built for; none where its header does not say.
    pub(crate) target: Option<Target>,
    /// Whether it was named by `--binary`: then it replaces another one of the same version.
    pub(crate) is_chosen: bool,
}

/// Where a binary runs, in Rust's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Such as `linux`.
    pub(crate) os: String,
    /// Such as `x86_64`.
    pub(crate) arch: String,
    /// Whether it needs glibc; one built for musl is static and needs nothing.
    pub(crate) needs_glibc: bool,
}

impl Program {
    /// This program, by way of the kernel where its file was replaced since; or the file that was chosen.
    ///
    /// # Errors
    /// `E_USAGE` for a file that cannot be read or is no program.
    pub(crate) fn open(chosen: Option<&Path>) -> Result<Self, Error> {
        let path = chosen.map_or_else(own_path, Path::to_path_buf);
        let cannot =
            |e: std::io::Error| Error::new(Code::Usage, format!("{} cannot be read: {e}", path.display())).because(e);
        let mut file = File::open(&path).map_err(cannot)?;
        let about = file.metadata().map_err(cannot)?;
        if !about.is_file() || about.len() < HEADER_BYTES as u64 || about.len() > PROGRAM_BYTES_MAX {
            return Err(Error::new(Code::Usage, format!("{} is not a skypipe binary", path.display())));
        }
        let (sum, header) = summed(&mut file).map_err(cannot)?;
        let (version, target) = match chosen {
            None => (Version::own(), Some(Target::own())),
            Some(path) => (version_of(path), Target::of_header(&header)),
        };
        Ok(Self { file, bytes: about.len(), sum, version, target, is_chosen: chosen.is_some() })
    }
}

impl Target {
    /// What this program is built for.
    pub(crate) fn own() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            needs_glibc: cfg!(all(target_os = "linux", target_env = "gnu")),
        }
    }

    /// What an ELF header says. Whether it needs glibc is seen where it runs.
    fn of_header(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        // e_machine, behind the sixteen bytes of identification and two of the type; byte 5 tells the order of bytes.
        let pair = [header[18], header[19]];
        let machine = if header[5] == 2 { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
        let arch = match machine {
            3 => "x86",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            _ => return None,
        };
        let os = if header[7] == 9 { "freebsd" } else { "linux" };
        Some(Self { os: os.to_owned(), arch: arch.to_owned(), needs_glibc: false })
    }
}

fn own_path() -> PathBuf {
    if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe().unwrap_or_default() }
}

/// SHA-256 and first bytes of a file, which is at its start again afterwards.
fn summed(file: &mut File) -> std::io::Result<(String, [u8; HEADER_BYTES])> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    file.rewind()?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => sum.update(&chunk[..count]),
        }
    }
    file.rewind()?;
    Ok((sum_text(sum), header))
}

/// SHA-256 of a text, in hex.
pub(crate) fn sum_of(text: &str) -> String {
    sum_text(Sha256::new_with_prefix(text))
}

fn sum_text(sum: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&sum.finalize())
}

/// What a binary for another machine says here is nothing; then it is asked there.
fn version_of(path: &Path) -> Option<Version> {
    let asked = Command::new(std::path::absolute(path).ok()?).arg("--version").stdin(Stdio::null()).output().ok()?;
    Version::of_answer(&String::from_utf8_lossy(&asked.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_knows_itself() {
        let program = Program::open(None).unwrap();
        assert_eq!(program.version, Version::own());
        assert_eq!(program.target.unwrap().arch, std::env::consts::ARCH);
        assert!(program.bytes > 1000 && program.sum.len() == 64 && !program.is_chosen);
        let mut start = [0; 4];
        (&program.file).read_exact(&mut start).unwrap();
        assert_eq!(&start, b"\x7fELF");
    }

    #[test]
    fn a_header_tells_the_machine() {
        let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
        assert_eq!(Target::of_header(&header).unwrap().arch, "aarch64");
        header[18] = 0xff;
        assert_eq!(Target::of_header(&header), None);
        assert_eq!(Target::of_header(b"#!/bin/sh\necho 1234\n"), None);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("short"), b"x").unwrap();
        for path in [dir.path().join("none"), dir.path().join("short"), dir.path().to_owned()] {
            assert_eq!(Program::open(Some(&path)).unwrap_err().code(), Code::Usage, "{}", path.display());
        }
    }

    #[test]
    fn sums_are_those_of_sha256sum() {
        assert!(sum_of("").starts_with("e3b0c44298fc1c14"));
    }
}
