//! Builds what is measured, so that one command is enough and nothing old is measured.

use std::process::Command;

use crate::Failure;
use crate::process::command;

/// `skypipe` as its users have it, and the trivial program, beside this one and with its profile. Started by hand, not by cargo, this program
/// takes what is there.
pub(crate) fn build() -> Result<(), Failure> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let is_release = std::env::current_exe()?.parent().is_some_and(|folder| folder.ends_with("release"));
    // One by one: together they would be built with each other's features.
    for words in [["skypipe-cli", "skypipe"], ["skypipe-benches", "trivial"]] {
        let mut build: Command = command(&cargo);
        build
            .args(["build", "--quiet", "--package", words[0], "--bin", words[1]])
            .args(is_release.then_some("--release"));
        let status = build.status()?;
        if !status.success() {
            return Err(format!("{} was not built: {status}", words[1]).into());
        }
    }
    Ok(())
}
