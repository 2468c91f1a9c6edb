//! Telling whoever started a relay that it accepts: a file with its URLs, and systemd.

use std::io::Write as _;
use std::path::Path;

use crate::exit::say;

/// Tells. Nobody waits for an answer, and a relay that could not tell serves all the same.
pub(crate) fn tell(file: Option<&Path>, urls: &[String]) {
    if let Some(path) = file
        && let Err(error) = write(path, urls)
    {
        say(&format!("{} cannot be written: {error}", path.display()));
    }
    if let Err(error) = notify() {
        say(&format!("systemd cannot be told: {error}"));
    }
}

/// A comment with the version, then a URL a line; whole or not at all.
fn write(path: &Path, urls: &[String]) -> std::io::Result<()> {
    let lines: String = urls.iter().map(|url| format!("{url}\n")).collect();
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(format!("# skypipe {}\n{lines}", env!("CARGO_PKG_VERSION")).as_bytes())?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// The word of [`sd_notify(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html), where systemd waits for it.
#[cfg(target_os = "linux")]
fn notify() -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn notify() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_version_and_urls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("urls");
        for urls in [vec!["quic://k@h:1".to_owned(), "wss://k@h:1".to_owned()], vec![]] {
            write(&path, &urls).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().next(), Some(concat!("# skypipe ", env!("CARGO_PKG_VERSION"))));
            assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), urls);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
