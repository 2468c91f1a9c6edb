//! Who this user is: a key in a file, or one that the OpenSSH agent holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy as _;
use skypipe_core::{Code, Env, Error, Signer};

use crate::agent::AgentKey;
use crate::key_file;

/// The name of the key that is made on first use.
pub const KEY_FILE: &str = "id_ed25519";

/// The key that `setting` names: none means `id_ed25519` in `folder`, made on first use; `agent` the only Ed25519 key of the OpenSSH agent, `agent:SHA256:…` and
/// `agent:COMMENT` one of several; everything else is the path of an OpenSSH private key. A leading `~/` is the user's home.
///
/// The network is never touched; an agent is asked over the socket that `SSH_AUTH_SOCK` names, and given ten seconds.
///
/// # Errors
/// `E_KEY` when the key cannot be used; the text says what to do.
pub fn load(setting: Option<&str>, folder: &Path) -> Result<Arc<dyn Signer>, Error> {
    match setting.map(|s| s.strip_prefix("agent").ok_or(s)) {
        None => Ok(Arc::new(key_file::read_or_make(&folder.join(KEY_FILE), &comment(), &Env::system())?)),
        Some(Ok("")) => Ok(Arc::new(AgentKey::find(None)?)),
        Some(Ok(which)) if which.starts_with(':') => Ok(Arc::new(AgentKey::find(Some(&which[1..]))?)),
        Some(Err("")) => {
            Err(Error::new(Code::Key, "the setting of the key is empty: leave it out, or name a file or `agent`"))
        }
        Some(_) => Ok(Arc::new(key_file::read(&at_home(setting.unwrap_or_default()))?)),
    }
}

/// The folder of the user's key: `skypipe` in the platform's config folder.
///
/// # Errors
/// `E_KEY` when the user has no home.
pub fn folder() -> Result<PathBuf, Error> {
    let folders = etcetera::choose_base_strategy();
    let folders = folders.map_err(|_| Error::new(Code::Key, "there is no home folder to keep a key in: set HOME"))?;
    Ok(folders.config_dir().join("skypipe"))
}

fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

/// What the owner of a relay sees beside the key: who made it, and where.
fn comment() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "skypipe".to_owned());
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}
