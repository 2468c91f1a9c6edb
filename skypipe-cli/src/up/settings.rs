//! How a relay was set up, as it is remembered beside its binary: a second `up` changes only what is asked for.

use skypipe_core::{Code, Error};

/// The port of a relay where none is named.
pub(crate) const PORT: u16 = 7473;

/// Lines `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// One number for UDP and TCP.
    pub(crate) port: u16,
    /// The address on which it listens; none means all.
    pub(crate) bind: Option<String>,
    /// The name or address by which other machines reach it.
    pub(crate) public: Option<String>,
    /// Its data folder; none means the usual one.
    pub(crate) data: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { port: PORT, bind: None, public: None, data: None }
    }
}

impl Settings {
    /// Reads the lines; those of a later version are passed over.
    ///
    /// # Errors
    /// `E_CONFIG` for a value that cannot be one: then nothing is known of what is there.
    pub(crate) fn parse(lines: &[&str]) -> Result<Self, Error> {
        let mut settings = Self::default();
        for line in lines {
            match line.split_once('=') {
                Some(("port", port)) => settings.port = port.parse().map_err(|_| damaged(line))?,
                Some(("bind", bind)) => settings.bind = Some(host(bind).map_err(|_| damaged(line))?),
                Some(("public", public)) => settings.public = Some(host(public).map_err(|_| damaged(line))?),
                Some(("data", data)) => settings.data = Some(folder(data).map_err(|_| damaged(line))?),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// The lines.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("port={}\n", self.port);
        for (key, value) in [("bind", &self.bind), ("public", &self.public), ("data", &self.data)] {
            if let Some(value) = value {
                text.push_str(&format!("{key}={value}\n"));
            }
        }
        text
    }
}

/// A host as it may stand in a URL and in a line of the shell: a name, or an address, without brackets.
///
/// # Errors
/// `E_USAGE`.
pub(crate) fn host(text: &str) -> Result<String, Error> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let is_address = bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err();
    if bare.is_empty() || bare.len() > 253 || bare.starts_with('-') || !bare.chars().all(is_plain) || is_address {
        return Err(Error::new(Code::Usage, format!("not a host name or address: {}", text.escape_debug())));
    }
    Ok(bare.to_owned())
}

/// A folder as it may stand in a unit and in a line of the shell.
///
/// # Errors
/// `E_USAGE`.
pub(crate) fn folder(text: &str) -> Result<String, Error> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@,~ ".contains(c);
    let climbs = text.split('/').any(|part| part == "..");
    if !text.starts_with('/') || text.trim_matches('/').is_empty() || climbs || !text.chars().all(is_plain) {
        let line =
            format!("not a folder for a relay: {}: a whole path from / in plain characters", text.escape_debug());
        return Err(Error::new(Code::Usage, line));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn damaged(line: &str) -> Error {
    let text = format!("the settings of the relay there are damaged at `{}`", line.escape_debug());
    Error::new(Code::Config, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_their_text() {
        let all = Settings {
            port: 9,
            bind: Some("::1".into()),
            public: Some("relay.example.org".into()),
            data: Some("/srv/my pipes".into()),
        };
        for settings in [Settings::default(), all] {
            let text = settings.text();
            assert_eq!(Settings::parse(&text.lines().collect::<Vec<_>>()).unwrap(), settings);
        }
        assert_eq!(Settings::parse(&["later=1", "x"]).unwrap(), Settings::default());
    }

    #[test]
    fn what_a_shell_would_act_upon_is_refused() {
        for bad in ["", "a b", "a;b", "$(x)", "-o", "a'b", "1:2", "[::1", "é"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert_eq!(host("[::1]").unwrap(), "::1");
        for bad in ["", "/", "//", "x", "/a/../b", "/a'b", "/a$b", "/a\nb", "/a\"b", "/a%b", "/a\\b"] {
            assert!(folder(bad).is_err(), "{bad}");
        }
        for bad in ["port=x", "port=70000", "public=a b", "data=/a/../b"] {
            assert_eq!(Settings::parse(&[bad]).unwrap_err().code(), Code::Config, "{bad}");
        }
    }
}
