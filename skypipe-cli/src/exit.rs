//! Exit codes, and the one line that says why.

use std::process::ExitCode;

use skypipe_core::{Code, Error};

use crate::status;

/// How a command ended without an error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// An item that was read lacks its end.
    Incomplete,
    /// Records that were owed are gone.
    Gap,
    /// SIGINT.
    Interrupted,
    /// stdout was closed.
    StdoutClosed,
    /// SIGTERM or SIGHUP.
    Terminated,
}

impl Exit {
    /// The number of the process.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Incomplete => Code::Incomplete.exit(),
            Self::Gap => Code::Gap.exit(),
            Self::Interrupted => 130,
            Self::StdoutClosed => 141,
            Self::Terminated => 143,
        }
    }
}

/// The exit code of a result; an error is told on stderr.
pub(crate) fn code(result: Result<Exit, Error>) -> ExitCode {
    status::end();
    let number = match result {
        Ok(exit) => exit.number(),
        Err(error) => {
            say(&error.to_string());
            error.code().exit()
        }
    };
    ExitCode::from(number)
}

/// One line for people on stderr. Whoever closed it does not want it.
pub(crate) fn say(text: &str) {
    status::line(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_manual() {
        let all = [Exit::Done, Exit::Incomplete, Exit::Gap, Exit::Interrupted, Exit::StdoutClosed, Exit::Terminated];
        assert_eq!(all.map(Exit::number), [0, 4, 5, 130, 141, 143]);
        for &code in Code::ALL {
            assert!(matches!(code.exit(), 1..=9 | 124), "{}", code.name());
        }
    }

    #[test]
    fn the_page_names_every_code_with_its_exit() {
        let page = include_str!("../../docs/errors.md");
        for &code in Code::ALL {
            let row = format!("| `{}` | {} | ", code.name(), code.exit());
            assert_eq!(page.matches(&row).count(), 1, "docs/errors.md lacks {row}");
            assert!(page.contains(&format!("\n| {} | ", code.exit())), "docs/errors.md lacks exit {}", code.exit());
        }
    }
}
