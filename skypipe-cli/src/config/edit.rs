//! Writing the config file: what a person wrote there stays as it is, comments included.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use skypipe_core::{Code, Error};
use toml_edit::{Array, DocumentMut, Item, Value};

use super::{Config, file, folder, is_missing};

/// Makes the relay of these URLs this user's, or none: then it is the local one. Gives the file.
///
/// # Errors
/// `E_CONFIG` when the file cannot be read, understood or written, or where there is no place for one.
pub(crate) fn set_relay(urls: &[String]) -> Result<PathBuf, Error> {
    let folder = folder().ok_or_else(|| Error::new(Code::Config, "no home folder, so no place for a config file"))?;
    let path = file(&folder);
    edit(&path, |document| put_relay(document, urls))?;
    Ok(path)
}

/// Remembers the machine on which this user's relay was put, or forgets it.
///
/// # Errors
/// As [`set_relay`].
pub(crate) fn set_up(host: Option<&str>) -> Result<(), Error> {
    let folder = folder().ok_or_else(|| Error::new(Code::Config, "no home folder, so no place for a config file"))?;
    edit(&file(&folder), |document| put_up(document, host))
}

fn put_up(document: &mut DocumentMut, host: Option<&str>) {
    match host {
        Some(host) => drop(document.insert("up", Item::Value(Value::from(host)))),
        None => drop(document.remove("up")),
    }
}

fn put_relay(document: &mut DocumentMut, urls: &[String]) {
    let value = match urls {
        [] => return remove_relay(document),
        [one] => Value::from(one.as_str()),
        several => Value::Array(several.iter().map(String::as_str).collect::<Array>()),
    };
    match document.get_mut("relay").and_then(Item::as_value_mut) {
        // What stands around the old value, such as a comment behind it, stays.
        Some(old) => {
            let around = old.decor().clone();
            *old = value;
            *old.decor_mut() = around;
        }
        None => insert_relay(document, value),
    }
}

/// A file of comments alone keeps them in front.
fn insert_relay(document: &mut DocumentMut, value: Value) {
    let comments = document.trailing().as_str().unwrap_or_default().to_owned();
    let was_empty = document.is_empty();
    document.insert("relay", Item::Value(value));
    if was_empty && let Some(mut key) = document.key_mut("relay") {
        key.leaf_decor_mut().set_prefix(comments);
        document.set_trailing("");
    }
}

/// The comment above the line stays, at the end.
fn remove_relay(document: &mut DocumentMut) {
    let above = document.key("relay").and_then(|k| k.leaf_decor().prefix()?.as_str()).unwrap_or_default().to_owned();
    document.remove("relay");
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing(above + &trailing);
}

/// Changes the file in one step: whoever reads it meanwhile, and a crash, finds the old one or the new one.
fn edit(path: &Path, change: impl FnOnce(&mut DocumentMut)) -> Result<(), Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if is_missing(&e) => String::new(),
        Err(e) => return Err(failed(path, "read", &e)),
    };
    // One that is wrong already is said to be, before anything is written.
    Config::parse(&text, path)?;
    let mut document: DocumentMut = text.parse().map_err(|_| Error::new(Code::Config, "not TOML"))?;
    change(&mut document);
    let new = document.to_string();
    if new == text { Ok(()) } else { replace(path, &new).map_err(|e| failed(path, "written", &e)) }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // Where the file is a link to one in a folder of its own, that one is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(&path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::new(Code::Config, format!("{} cannot be {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str, urls: &[&str]) -> String {
        let mut document: DocumentMut = text.parse().unwrap();
        put_relay(&mut document, &urls.iter().map(|&u| u.to_owned()).collect::<Vec<_>>());
        document.to_string()
    }

    #[test]
    fn comments_and_order_survive() {
        let old = "# mine\nkey = \"agent\" # why\nrelay   =  \"unix:/x\"  # the old one\n";
        let new = "# mine\nkey = \"agent\" # why\nrelay   =  [\"quic://k@h:1\", \"wss://k@h:1\"]  # the old one\n";
        assert_eq!(put(old, &["quic://k@h:1", "wss://k@h:1"]), new);
        assert_eq!(put("", &["unix:/y"]), "relay = \"unix:/y\"\n");
        assert_eq!(put("# mine\nrelay = \"unix:/y\"\n", &[]), "# mine\n");
        assert_eq!(put("key = \"agent\"\n", &[]), "key = \"agent\"\n");
    }

    #[test]
    fn it_is_written_in_one_step_where_a_link_leads_and_keeps_its_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("sky/config.toml"));
        fs::write(&real, "# mine\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(dir.path().join("sky")).unwrap();
        symlink(&real, &link).unwrap();
        edit(&link, |d| put_relay(d, &["unix:/x".into()])).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "# mine\nrelay = \"unix:/x\"\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn one_that_is_wrong_is_left_alone_and_a_missing_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/config.toml");
        edit(&path, |d| put_relay(d, &["unix:/x".into()])).unwrap();
        assert_eq!(Config::load_from(&path).unwrap().relay.as_deref(), Some("unix:/x"));
        fs::write(&path, "rely = 1\n").unwrap();
        assert_eq!(edit(&path, |d| put_relay(d, &[])).unwrap_err().code(), Code::Config);
        assert_eq!(fs::read_to_string(&path).unwrap(), "rely = 1\n");
    }
}
