//! The words that are no pipe names in the bare form.

/// Verbs of later versions. Reserved from the first release, so that no script comes to depend on a pipe of that name; such a
/// pipe is reached with `read` and `write`.
pub(crate) const LATER: [&str; 7] = ["run", "jobs", "cp", "agent", "fifo", "stdio", "monitor"];

/// Options of later versions, with the value they will take.
pub(crate) const LATER_NOTE: &str = "is not in this version yet";
