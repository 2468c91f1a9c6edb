//! One error for every call: a stable code, a line for people, and what they can do next.

use std::fmt;

use crate::id::Seq;

/// An error of skypipe. Opaque: ask it for its [`code`](Error::code).
#[derive(Debug)]
pub struct Error {
    code: Code,
    text: String,
    stored: Option<Seq>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Longest text an error carries over the wire, in bytes: a line, not a document.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

impl Error {
    /// An error of this code, told in one line.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), stored: None, source: None }
    }

    /// The same with the number behind the last one that is stored of a session that is over (`E_SESSION_EXPIRED`): a writer goes on
    /// from there with a new item, and nothing comes twice.
    #[must_use]
    pub fn with_stored(mut self, stored: Seq) -> Self {
        self.stored = Some(stored);
        self
    }

    /// See [`Error::with_stored`].
    pub fn stored(&self) -> Option<Seq> {
        self.stored
    }

    /// The same with the error that caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of error it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The line for people, without the code.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the link broke or the broker cannot be had at the moment: the same call may succeed later.
    pub fn is_disconnected(&self) -> bool {
        matches!(self.code, Code::Disconnected | Code::Unreachable | Code::GoingAway)
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        self.code == Code::Timeout
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.code, &self.text) == (other.code, &other.text)
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code.name())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, exit $exit:literal;)*) => {
        /// The kinds of errors, with stable numbers. `docs/errors.md` tells users the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $name = $number,)* }

        impl Code {
            /// Every code, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name, such as `E_NAME`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The exit code of the command line.
            pub const fn exit(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// The code of this number; an unknown number, from a newer peer, is `E_INTERNAL`.
            pub const fn from_number(number: u16) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Internal }
            }
        }
    };
}

codes! {
    /// Anything that no other code names.
    Internal = 1, "E_INTERNAL", exit 1;
    /// A name or pattern that cannot be one.
    Name = 2, "E_NAME", exit 2;
    /// A wrong option, argument or combination of them.
    Usage = 3, "E_USAGE", exit 2;
    /// The configuration cannot be used.
    Config = 4, "E_CONFIG", exit 2;
    /// The pipe has another mode than the one asked for.
    Mode = 5, "E_MODE", exit 2;
    /// No crate for this URL scheme is installed in the program.
    Scheme = 6, "E_SCHEME", exit 2;
    /// The broker does not offer what was asked.
    Unsupported = 7, "E_UNSUPPORTED", exit 2;
    /// The path of a local socket is too long or not the caller's own.
    SocketPath = 8, "E_SOCKET_PATH", exit 2;
    /// A key file cannot be used.
    Key = 9, "E_KEY", exit 2;
    /// A ticket cannot be used.
    Ticket = 10, "E_TICKET", exit 2;
    /// No such pipe, or no right to it: the two look the same.
    Access = 20, "E_ACCESS", exit 3;
    /// There is nothing to take now, and the caller would not wait.
    Empty = 21, "E_EMPTY", exit 3;
    /// An item whose writer vanished or was interrupted.
    Incomplete = 30, "E_INCOMPLETE", exit 4;
    /// Records are gone that this reader was owed.
    Gap = 40, "E_GAP", exit 5;
    /// Bytes are not those that were written.
    Integrity = 50, "E_INTEGRITY", exit 6;
    /// The relay's key is not the pinned one.
    Pin = 51, "E_PIN", exit 6;
    /// The same number was sent twice with different bytes.
    Conflict = 52, "E_CONFLICT", exit 6;
    /// A record is no value of the type that its reader expects.
    Value = 53, "E_VALUE", exit 6;
    /// The relay could not be reached in time.
    Unreachable = 60, "E_UNREACHABLE", exit 7;
    /// The link broke; the session may go on over another.
    Disconnected = 61, "E_DISCONNECTED", exit 7;
    /// The relay is stopping; the session goes on at the next.
    GoingAway = 62, "E_GOING_AWAY", exit 7;
    /// The two sides share no version of the protocol.
    Version = 63, "E_VERSION", exit 7;
    /// The session is not known any more.
    SessionExpired = 64, "E_SESSION_EXPIRED", exit 7;
    /// A newer attach of the same session took over.
    Fenced = 65, "E_FENCED", exit 7;
    /// A resuming writer claims as stored what the log neither holds nor knows.
    ResumeAhead = 66, "E_RESUME_AHEAD", exit 7;
    /// The peer broke the rules of the protocol.
    Protocol = 67, "E_PROTOCOL", exit 7;
    /// A frame is longer than allowed.
    FrameSize = 68, "E_FRAME_SIZE", exit 7;
    /// Another process holds the folder or socket.
    Locked = 69, "E_LOCKED", exit 7;
    /// Whether the last records were stored is not known.
    Unknown = 70, "E_UNKNOWN", exit 7;
    /// The disk failed; the log is read-only until the relay starts again.
    Storage = 80, "E_STORAGE", exit 8;
    /// The disk is full.
    NoSpace = 81, "E_NO_SPACE", exit 8;
    /// The data folder has a newer format.
    Format = 82, "E_FORMAT", exit 8;
    /// The relay is at a limit; try later.
    Busy = 90, "E_BUSY", exit 9;
    /// The pipe's or the owner's quota is used up.
    Quota = 91, "E_QUOTA", exit 9;
    /// The lease is not this reader's any more.
    LeaseLost = 92, "E_LEASE_LOST", exit 9;
    /// Time ran out.
    Timeout = 124, "E_TIMEOUT", exit 124;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_their_number() {
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code as u16), code);
            assert!(code.name().starts_with("E_"));
        }
        assert_eq!(Code::from_number(60000), Code::Internal);
    }
}
