//! A private key in a file of its own: OpenSSH's format, the user's alone.
#![expect(clippy::disallowed_methods, reason = "files that people and ssh share with it")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use skypipe_core::{Code, Env, Error, KeyPair};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::openssh::public_line;

/// Longest key file that is read, in bytes: OpenSSH's largest is under 4 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Reads the Ed25519 key at `path`.
///
/// # Errors
/// `E_KEY` when there is none, it is of another kind, protected by a passphrase, a symbolic link, somebody else's, or others may read it; the text
/// says what to do.
pub fn read(path: &Path) -> Result<KeyPair, Error> {
    let text = read_private(path)?;
    let key = PrivateKey::from_openssh(text.as_bytes()).map_err(|e| unreadable(path, &text, &e))?;
    if key.is_encrypted() {
        return Err(unusable(path, "is protected by a passphrase: ssh-add it, and use the key `agent`"));
    }
    let KeypairData::Ed25519(pair) = key.key_data() else {
        return Err(unusable(path, "holds no Ed25519 key: ssh-keygen -t ed25519 makes one"));
    };
    let seed = Zeroizing::new(pair.private.to_bytes());
    let made = KeyPair::from_seed(&seed);
    if made.public().0 != pair.public.0 {
        return Err(unusable(path, "is damaged: its two halves do not fit"));
    }
    Ok(made)
}

/// Reads the key at `path`; where nothing is there, makes one, with its public half beside it in `PATH.pub`. Of two who make it at
/// once one wins, and both have that key. The folder is made, with mode 0700, where it is missing.
///
/// # Errors
/// `E_KEY` as [`read`], and when the file cannot be made.
pub fn read_or_make(path: &Path, comment: &str, env: &Env) -> Result<KeyPair, Error> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(path, comment, env)?,
        _ => {}
    }
    read(path)
}

/// Makes the folder for secrets, the user's alone, where it is missing.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn make(path: &Path, comment: &str, env: &Env) -> Result<(), Error> {
    let failed = |e: std::io::Error| unusable(path, &format!("cannot be made: {e}")).because(e);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(failed)?;
    let mut seed = Zeroizing::new([0; 32]);
    env.random.fill(&mut *seed);
    let pair = KeyPair::from_seed(&seed);
    if put(folder, path, &to_text(&pair, comment)?).map_err(failed)? {
        let line = public_line(pair.public(), comment) + "\n";
        put(folder, &public_path(path), &line).map_err(failed)?;
    }
    Ok(())
}

/// Where the public half lies.
fn public_path(path: &Path) -> PathBuf {
    let mut public = path.to_owned().into_os_string();
    public.push(".pub");
    public.into()
}

/// Puts a whole new file at `path`, on disk; false where somebody was first.
fn put(folder: &Path, path: &Path, text: &str) -> std::io::Result<bool> {
    // Mode 0600 is what a temporary file has.
    let mut file = tempfile::Builder::new().prefix(".skypipe-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(folder)?.sync_all().map(|()| true),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e.error),
    }
}

fn to_text(pair: &KeyPair, comment: &str) -> Result<Zeroizing<String>, Error> {
    let seed = pair.seed();
    let pair = Ed25519Keypair {
        public: ssh_key::public::Ed25519PublicKey(pair.public().0),
        private: Ed25519PrivateKey::from_bytes(&seed),
    };
    let key = PrivateKey::new(KeypairData::Ed25519(pair), comment);
    key.and_then(|key| key.to_openssh(LineEnding::LF))
        .map_err(|_| Error::new(Code::Internal, "a key did not fit OpenSSH's format"))
}

/// The content of a file that is the user's alone.
fn read_private(path: &Path) -> Result<Zeroizing<String>, Error> {
    let file = open(path)?;
    let about = file.metadata().map_err(|e| unusable(path, &format!("cannot be looked at: {e}")))?;
    if !about.is_file() {
        return Err(unusable(path, "is no file"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable(path, "belongs to another user"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(unusable(path, &format!("is open to other users: chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|_| unusable(path, "is no OpenSSH private key"))?;
    Ok(text)
}

fn open(path: &Path) -> Result<File, Error> {
    // A fifo must not make us wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(|e| {
        if fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink()) {
            return unusable(path, "is a symbolic link: name the file itself");
        }
        unusable(path, &format!("cannot be read: {e}")).because(e)
    })
}

/// Why the text of a key file could not be read; its own words never go into the answer.
fn unreadable(path: &Path, text: &str, error: &ssh_key::Error) -> Error {
    let other_kind = matches!(error, ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. });
    let old_format = ["RSA", "EC", "DSA"].iter().any(|kind| text.contains(&format!("BEGIN {kind} PRIVATE KEY")));
    if other_kind || old_format {
        return unusable(path, "holds no Ed25519 key: ssh-keygen -t ed25519 makes one");
    }
    if text.trim_start().starts_with("ssh-") {
        return unusable(path, "is a public key: name the file without .pub");
    }
    unusable(path, "is no OpenSSH private key")
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Code::Key, format!("the key {} {why}", path.display()))
}
