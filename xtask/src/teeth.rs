//! Breaks the code in named ways and shows that a test notices each of them.
//!
//! A mutant is a patch in `xtask/teeth`. Above its diff stand what it breaks and, behind `test: `, the command that must fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A way to break the code.
struct Mutant {
    name: String,
    /// What it breaks, for people.
    breaks: String,
    /// What notices it.
    test: String,
    patch: PathBuf,
}

/// Tries the mutants asked for, all by default; `check` only looks whether each still fits the code.
///
/// # Errors
/// The mutants that live, or do not fit the code any more.
pub(crate) fn run(mut arguments: Vec<String>) -> Result<(), String> {
    let root = root()?;
    let only_check = arguments.first().is_some_and(|a| a == "check");
    if only_check {
        arguments.remove(0);
    }
    let mut mutants = all(&root.join("xtask/teeth"))?;
    mutants.retain(|mutant| arguments.is_empty() || arguments.contains(&mutant.name));
    if mutants.is_empty() {
        return Err("there is no such mutant".to_owned());
    }
    if only_check {
        let stale: Vec<_> = mutants.iter().filter(|m| !applies(&root, m)).map(|m| m.name.as_str()).collect();
        println!("{} mutants, {} of them do not fit the code", mutants.len(), stale.len());
        return if stale.is_empty() { Ok(()) } else { Err(format!("do not fit the code: {}", stale.join(", "))) };
    }
    let tree = Tree::new(&root)?;
    let mut rows = Vec::new();
    for mutant in &mutants {
        let start = Instant::now();
        let result = tree.try_one(mutant);
        println!("{}: {} ({:.0} s)", mutant.name, result, start.elapsed().as_secs_f64());
        rows.push((mutant, result));
    }
    println!("\n| mutant | breaks | test | result |\n|---|---|---|---|");
    for (mutant, result) in &rows {
        println!("| {} | {} | `{}` | {result} |", mutant.name, mutant.breaks, mutant.test);
    }
    let lives: Vec<_> = rows.iter().filter(|(_, result)| *result != CAUGHT).map(|(m, _)| m.name.as_str()).collect();
    if lives.is_empty() { Ok(()) } else { Err(format!("not caught: {}", lives.join(", "))) }
}

const CAUGHT: &str = "caught";

/// A mutant may hang, which a test that waits for its end notices too; a build may take most of this.
const TEST_SECONDS_MAX: &str = "900";

/// A copy of the code beside it, which is broken and mended again.
struct Tree {
    folder: PathBuf,
    target: PathBuf,
}

impl Tree {
    fn new(root: &Path) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let (folder, target) = (target.join("teeth/tree"), target.join("teeth/target"));
        if folder.exists() {
            git(root, &["worktree", "remove", "--force", &folder.to_string_lossy()])?;
        }
        git(root, &["worktree", "prune"])?;
        git(root, &["worktree", "add", "--quiet", "--detach", &folder.to_string_lossy(), "HEAD"])?;
        Ok(Self { folder, target })
    }

    fn try_one(&self, mutant: &Mutant) -> &'static str {
        if !self.runs(&mutant.test, false) {
            return "its test fails without it";
        }
        if git(&self.folder, &["apply", &mutant.patch.to_string_lossy()]).is_err() {
            return "does not fit the code";
        }
        let result = if !self.runs(&mutant.test, true) {
            "does not build"
        } else if self.runs(&mutant.test, false) {
            "LIVES"
        } else {
            CAUGHT
        };
        match git(&self.folder, &["checkout", "--quiet", "--force", "HEAD"]) {
            Ok(()) => result,
            Err(_) => "could not be mended",
        }
    }

    /// Runs a test command, or only builds what it needs.
    fn runs(&self, test: &str, only_build: bool) -> bool {
        let (variables, command): (Vec<&str>, Vec<&str>) = test.split_whitespace().partition(|word| is_variable(word));
        let mut words = command.into_iter();
        let mut process = Command::new("timeout");
        process.arg(TEST_SECONDS_MAX).args(words.next());
        match only_build {
            true => process.args(words.take_while(|word| *word != "--")).arg("--no-run"),
            false => process.args(words),
        };
        process.envs(variables.iter().filter_map(|word| word.split_once('=')));
        let process = process.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        process.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether this word sets a variable of the environment: `NAME=value`.
fn is_variable(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

fn all(folder: &Path) -> Result<Vec<Mutant>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut patches: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    patches.retain(|path| path.extension().is_some_and(|e| e == "patch"));
    patches.sort();
    patches.into_iter().map(read).collect()
}

fn read(patch: PathBuf) -> Result<Mutant, String> {
    let text = fs::read_to_string(&patch).map_err(|e| format!("{}: {e}", patch.display()))?;
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let breaks = text.lines().next().unwrap_or_default().to_owned();
    let test = text.lines().find_map(|line| line.strip_prefix("test: "));
    let test = test.ok_or_else(|| format!("{name} has no line `test: COMMAND`"))?.to_owned();
    Ok(Mutant { name, breaks, test, patch })
}

fn applies(root: &Path, mutant: &Mutant) -> bool {
    git(root, &["apply", "--check", &mutant.patch.to_string_lossy()]).is_ok()
}

fn root() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    Ok(here.to_owned())
}

fn git(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("git").arg("-C").arg(folder).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("git {} failed", arguments.join(" "))),
    }
}
