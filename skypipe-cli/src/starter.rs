//! Starting the local relay behind the command, to stay when it ends.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use skypipe_core::host::{LocalFolder, Starter};
use skypipe_core::{Code, Error};

/// A log longer than this is begun anew: it holds starts, stops and panics, not traffic.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// The first descriptor behind stdin, stdout and stderr.
const FIRST_INHERITED: i32 = 3;

/// Starts `skypipe relay --detached`: in a session of its own, in the folder `/`, with no descriptor of ours, so that `$(…)`
/// and `ssh host '…'` return when the command does.
#[derive(Debug, Default)]
pub(crate) struct Detached {
    /// The last one started, so that one which lost the race for the lock does not stay behind as a zombie.
    child: Mutex<Option<Child>>,
}

impl Starter for Detached {
    fn start(&self, folder: &LocalFolder) -> Result<(), Error> {
        let mut last = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None))) {
            return Ok(());
        }
        *last = Some(spawn(folder)?);
        Ok(())
    }
}

fn spawn(folder: &LocalFolder) -> Result<Child, Error> {
    let log = log(folder).map_err(|e| failed(&e))?;
    // What a shell had open beside the three streams is inherited through every command, and the relay would hold it for ever: a
    // `3> >(cat)` would never see its end. Descriptors made in this process close themselves.
    close_fds::set_fds_cloexec_threadsafe(FIRST_INHERITED, &[]);
    Command::new(own_program())
        .args(["relay", "--detached"])
        .env("SKYPIPE_HOME", folder.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| failed(&e))
}

/// This very program; by way of the kernel where its file was replaced since.
fn own_program() -> PathBuf {
    std::env::current_exe().ok().filter(|p| p.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}

fn log(folder: &LocalFolder) -> std::io::Result<File> {
    let path = folder.log();
    let is_long = fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX);
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_follow).open(path)?;
    if is_long {
        file.set_len(0)?;
    }
    Ok(file)
}

fn failed(error: &std::io::Error) -> Error {
    Error::new(Code::Internal, format!("the local relay cannot be started: {error}"))
}
