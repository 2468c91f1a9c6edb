//! A newer skypipe, without a second build.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This build's version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The version of the newer one: as long as this build's.
pub fn newer_version() -> String {
    format!("9{}", &OWN[1..])
}

/// This build, in which the text of its version is another one of the same length.
#[track_caller]
pub fn newer(folder: &Path) -> PathBuf {
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_skypipe")).unwrap();
    let (old, new) = (OWN.as_bytes(), newer_version().into_bytes());
    let found: Vec<usize> = memchr::memmem::find_iter(&bytes, old).collect();
    found.iter().for_each(|&at| bytes[at..at + old.len()].copy_from_slice(&new));
    let path = folder.join("newer-skypipe");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let said = Command::new(&path).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), format!("skypipe {}\n", newer_version()));
    path
}
