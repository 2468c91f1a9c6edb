//! The folder of the local relay: its socket, its lock, its log.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error};

/// Longest path of a local socket in bytes: the kernel's structure has 108, one of them for the NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

const SOCKET: &str = "relay.sock";

/// The folder in which one relay lives. It belongs to the user alone: created with mode 0700, and refused where somebody else
/// owns it or may write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFolder {
    path: PathBuf,
}

impl LocalFolder {
    /// The user's own: `$SKYPIPE_HOME`, else `~/.local/share/skypipe`, with the home of the password database where HOME is not
    /// set. Where that lies on a network file system, or deeper than a socket's path may be long, `/var/tmp/skypipe-UID`.
    /// Created where it is missing.
    ///
    /// # Errors
    /// `E_SOCKET_PATH` when the folder cannot be made, is not the user's own, or is `$SKYPIPE_HOME` and cannot hold a socket.
    pub fn find() -> Result<Self, Error> {
        let uid = rustix::process::geteuid().as_raw();
        match choose(std::env::var_os("SKYPIPE_HOME"), std::env::home_dir(), uid) {
            Choice::Set(path) => {
                let path = std::path::absolute(&path).map_err(|e| unusable(&path, "is no path").because(e))?;
                if !holds_socket(&path) {
                    return Err(unusable(&path, "cannot hold a local socket: choose a shorter path on a local disk"));
                }
                Self::at(path)
            }
            Choice::Default { path, fallback } => Self::at(if holds_socket(&path) { path } else { fallback }),
        }
    }

    /// The folder at `path`, created with mode 0700 where it is missing.
    ///
    /// # Errors
    /// `E_SOCKET_PATH` when it cannot be made or is not the user's own.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        make(&path)?;
        check_own(&path)?;
        Ok(Self { path })
    }

    /// Whether other machines may see the same folder: then its lock keeps no relay of theirs out, and what is flushed may not be on a disk.
    pub fn is_on_network(&self) -> bool {
        is_on_network(&self.path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where clients connect.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// The socket as a URL.
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The file whose lock makes one host of many.
    pub fn lock(&self) -> PathBuf {
        self.path.join("relay.lock")
    }

    /// What a detached host has to say.
    pub fn log(&self) -> PathBuf {
        self.path.join("relay.log")
    }

    /// What the broker stores.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }
}

/// Which folder is meant.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// The one the user set: another is no answer.
    Set(PathBuf),
    /// The usual one, and what to take where that one cannot hold a socket.
    Default { path: PathBuf, fallback: PathBuf },
}

fn choose(set: Option<OsString>, home: Option<PathBuf>, uid: u32) -> Choice {
    if let Some(set) = set.filter(|s| !s.is_empty()) {
        return Choice::Set(set.into());
    }
    let fallback = PathBuf::from(format!("/var/tmp/skypipe-{uid}"));
    match home.filter(|h| h.is_absolute()) {
        Some(home) => Choice::Default { path: home.join(".local/share/skypipe"), fallback },
        None => Choice::Default { path: fallback.clone(), fallback },
    }
}

/// Whether a socket can live in `folder`: its path is short enough, and the disk is this machine's own.
fn holds_socket(folder: &Path) -> bool {
    folder.join(SOCKET).as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX && !is_on_network(folder)
}

/// Whether other machines may see the same folder: there a lock would be theirs as well, and a socket nobody's.
#[cfg(target_os = "linux")]
fn is_on_network(folder: &Path) -> bool {
    // From linux/magic.h: NFS, SMB, CIFS, SMB2, AFS twice, Coda, Ceph, Lustre, GFS2, OCFS2, GPFS, BeeGFS, FUSE (sshfs).
    const NETWORK: [u32; 14] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x5346_414f,
        0x6b41_4653,
        0x7375_7245,
        0x00c3_6400,
        0x0bd0_0bd0,
        0x0116_1970,
        0x7461_636f,
        0x4750_4653,
        0x1983_0326,
        0x6573_5546,
    ];
    let there = folder.ancestors().find(|a| a.exists());
    there.and_then(|a| rustix::fs::statfs(a).ok()).is_some_and(|s| NETWORK.contains(&(s.f_type as u32)))
}

/// Elsewhere the file system's kind is told in other words; a socket that fails says so itself.
#[cfg(not(target_os = "linux"))]
fn is_on_network(_folder: &Path) -> bool {
    false
}

fn make(folder: &Path) -> Result<(), Error> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(|e| unusable(parent, "cannot be made").because(e))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(unusable(folder, &format!("cannot be made: {e}")).because(e))
        }
        _ => Ok(()),
    }
}

fn check_own(folder: &Path) -> Result<(), Error> {
    let about = fs::symlink_metadata(folder).map_err(|e| unusable(folder, "cannot be looked at").because(e))?;
    if about.is_symlink() {
        return Err(unusable(folder, "is a symbolic link: set SKYPIPE_HOME to the folder itself"));
    }
    if !about.is_dir() {
        return Err(unusable(folder, "is not a folder"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable(folder, "belongs to another user"));
    }
    if about.mode() & 0o022 != 0 {
        let line = format!("can be written to by other users: chmod 700 {}", folder.display());
        return Err(unusable(folder, &line));
    }
    Ok(())
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Code::SocketPath, format!("the folder {} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_set_folder_comes_first_then_home_then_var_tmp() {
        let home = || Some(PathBuf::from("/home/u"));
        let fallback = PathBuf::from("/var/tmp/skypipe-7");
        assert_eq!(choose(Some("/x".into()), home(), 7), Choice::Set("/x".into()));
        let usual = Choice::Default { path: "/home/u/.local/share/skypipe".into(), fallback: fallback.clone() };
        assert_eq!(choose(None, home(), 7), usual);
        assert_eq!(choose(Some("".into()), home(), 7), usual);
        let none = Choice::Default { path: fallback.clone(), fallback };
        assert_eq!(choose(None, None, 7), none);
        assert_eq!(choose(None, Some("".into()), 7), none);
    }

    #[test]
    fn a_new_folder_is_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = LocalFolder::at(dir.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
        assert!(LocalFolder::at(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = LocalFolder::at(dir.path()).unwrap_err();
        assert!(error.code() == Code::SocketPath && error.text().contains("chmod 700"), "{error}");
    }

    #[test]
    fn links_and_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(LocalFolder::at(dir.path().join("link")).is_err());
        assert!(LocalFolder::at(dir.path().join("file")).is_err());
    }

    #[test]
    fn a_deep_folder_holds_no_socket() {
        assert!(holds_socket(Path::new("/tmp")));
        assert!(!holds_socket(&Path::new("/tmp").join("x".repeat(100))));
    }
}
