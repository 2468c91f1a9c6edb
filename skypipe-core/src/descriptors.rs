//! File descriptors run out: what then still works.
//!
//! A process has a limited number of them, and every connection takes one. The last [`RESERVED`] are for the log, which must
//! go on where connections need not: each accept loop asks its [`Shortage`] whether what it accepted may stay.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

/// Kept for files: the segment that is written, the next one, 16 that are read (`OPEN_FILES_MAX`), those of the keys.
pub const RESERVED: u64 = 32;
/// No newcomer for so long after one that there was no room for: room comes when others close theirs.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// A line about it at most this often.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// What one accept loop knows of a shortage.
#[derive(Debug, Default)]
pub struct Shortage {
    told: Option<Instant>,
}

impl Shortage {
    /// Whether what was just accepted must be closed, or could not be accepted, for want of descriptors or memory: the loop is to
    /// wait for [`ACCEPT_PAUSE`] then. Says so on stderr, once a minute.
    pub fn is_felt(&mut self, accepted: &io::Result<impl AsFd>) -> bool {
        let why = match accepted {
            Ok(connection) if !is_reserved(connection) => return false,
            Ok(_) => "the last ones are kept for the log".to_owned(),
            Err(error) if is_lack(error) => error.to_string(),
            Err(_) => return false,
        };
        if self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY) {
            self.told = Some(Instant::now());
            eprintln!("skypipe: no room for more connections, newcomers wait; raise the limit of open files: {why}");
        }
        true
    }
}

/// Whether the system is short of something that comes back.
pub(crate) fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

/// Whether only the reserve is left behind this descriptor: a new one gets the lowest number that is free.
fn is_reserved(file: &impl AsFd) -> bool {
    let number = u64::try_from(file.as_fd().as_raw_fd()).unwrap_or_default();
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number >= limit - reserved_of(limit))
}

/// Of a very low limit only a part.
fn reserved_of(limit: u64) -> u64 {
    RESERVED.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_told_once_a_minute() {
        let mut shortage = Shortage::default();
        let no_more = || io::Result::<std::fs::File>::Err(Errno::MFILE.into());
        assert!(shortage.is_felt(&no_more()));
        let told = shortage.told;
        assert!(shortage.is_felt(&no_more()) && shortage.told == told);
        tokio::time::advance(LINE_EVERY).await;
        assert!(shortage.is_felt(&no_more()) && shortage.told != told);
    }

    #[test]
    fn the_clients_own_faults_and_low_numbers_are_no_shortage() {
        let mut shortage = Shortage::default();
        assert!(!shortage.is_felt(&io::Result::<std::fs::File>::Err(Errno::CONNABORTED.into())));
        assert!(!shortage.is_felt(&Ok(io::stdout())));
        assert_eq!([20, 64, 128, 1024].map(reserved_of), [5, 16, 32, 32]);
    }
}
