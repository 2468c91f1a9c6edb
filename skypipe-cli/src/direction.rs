//! The bare form's direction: one rule, and it looks at stdin alone.

use rustix::fs::FileType;

/// What stdin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// A person types there.
    Terminal,
    /// `/dev/null`, or closed: the standard library puts `/dev/null` in place of a closed one before `main`.
    Null,
    /// A pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
    /// A regular file.
    File,
    /// Any other device.
    Device,
}

/// What a bare command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// As `skypipe read NAME`.
    Read,
    /// As `skypipe write NAME`.
    Write,
}

impl Stdin {
    /// What this process got.
    pub(crate) fn look() -> Self {
        let fd = rustix::stdio::stdin();
        // It can be looked at whenever it is open: an error means that it is closed.
        let Ok(about) = rustix::fs::fstat(fd) else { return Self::Null };
        let kind = FileType::from_raw_mode(about.st_mode);
        let null = rustix::fs::stat("/dev/null").is_ok_and(|n| n.st_rdev == about.st_rdev);
        Self::of(kind, null, rustix::termios::isatty(fd))
    }

    fn of(kind: FileType, is_null_device: bool, is_terminal: bool) -> Self {
        match kind {
            FileType::CharacterDevice if is_terminal => Self::Terminal,
            FileType::CharacterDevice if is_null_device => Self::Null,
            FileType::Fifo => Self::Pipe,
            FileType::Socket => Self::Socket,
            FileType::RegularFile => Self::File,
            _ => Self::Device,
        }
    }

    /// The rule.
    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Terminal | Self::Null => Direction::Read,
            Self::Pipe | Self::Socket | Self::File | Self::Device => Direction::Write,
        }
    }

    /// Whether an empty input may mean that nobody meant to write: so it is under cron and `ssh`.
    pub(crate) fn may_be_nobody(self) -> bool {
        matches!(self, Self::Pipe | Self::Socket)
    }

    /// What it is, for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Terminal => "a terminal",
            Self::Null => "/dev/null or closed",
            Self::Pipe => "a pipe",
            Self::Socket => "a socket",
            Self::File => "a file",
            Self::Device => "a device",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_null_and_closed_read_all_else_writes() {
        let cells = [
            (FileType::CharacterDevice, false, true, Stdin::Terminal, Direction::Read),
            (FileType::CharacterDevice, true, false, Stdin::Null, Direction::Read),
            (FileType::CharacterDevice, false, false, Stdin::Device, Direction::Write),
            (FileType::Fifo, false, false, Stdin::Pipe, Direction::Write),
            (FileType::Socket, false, false, Stdin::Socket, Direction::Write),
            (FileType::RegularFile, false, false, Stdin::File, Direction::Write),
            (FileType::BlockDevice, true, false, Stdin::Device, Direction::Write),
        ];
        for (kind, null, terminal, stdin, direction) in cells {
            assert_eq!(Stdin::of(kind, null, terminal), stdin);
            assert_eq!(stdin.direction(), direction, "{stdin:?}");
        }
    }

    #[test]
    fn only_an_empty_pipe_or_socket_may_be_nobody() {
        assert!(Stdin::Pipe.may_be_nobody() && Stdin::Socket.may_be_nobody());
        assert!(!Stdin::File.may_be_nobody() && !Stdin::Device.may_be_nobody());
    }
}
