//! The folders that everything is in, gone when this program ends, on a signal too.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::thread;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Exit code after a signal to end.
const SIGNALLED: i32 = 130;

pub(crate) struct Folders {
    data: TempDir,
    sockets: TempDir,
}

impl Folders {
    /// The one for data is made in `folder`.
    pub(crate) fn make(folder: &Path) -> Result<Self, Failure> {
        let folders = Self { data: tempfile::tempdir_in(folder)?, sockets: tempfile::tempdir()? };
        let all = [folders.data().to_owned(), folders.sockets().to_owned()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || runtime.block_on(removed_on_signal(&all)));
        Ok(folders)
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn sockets(&self) -> &Path {
        self.sockets.path()
    }
}

/// Ends this program when it is told to; with it end all processes that it started.
async fn removed_on_signal(folders: &[PathBuf]) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
    exit(SIGNALLED)
}
