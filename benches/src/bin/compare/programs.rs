//! Programs of this machine, and their versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Where servers are that are on no user's path.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The program of this name, on the path or where servers are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Which of them are missing.
pub(crate) fn missing(names: &[&str]) -> Vec<String> {
    names.iter().filter(|name| find(name).is_none()).map(|&name| name.to_owned()).collect()
}

/// The first line with a digit in it that the program prints when asked for its version.
pub(crate) fn version(program: &Path, argument: &str) -> Option<String> {
    let said = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = text.lines().find(|line| line.bytes().any(|byte| byte.is_ascii_digit()))?;
    Some(line.trim().to_owned())
}

/// Runs a command to its good end.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
