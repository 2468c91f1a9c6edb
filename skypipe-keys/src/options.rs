//! The options in front of a key, as OpenSSH writes them: `name,name="value" ssh-ed25519 …`.

use skypipe_core::{Code, Error};

use crate::openssh;

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Its name, in lower case.
    pub(crate) name: String,
    /// What stood in the quotes behind it.
    pub(crate) value: Option<String>,
}

/// Splits a line into its options and the rest, which begins with the kind of the key.
///
/// # Errors
/// `E_KEY` when quotes do not match or the options are none.
pub(crate) fn split(line: &str) -> Result<(Vec<Opt>, &str), Error> {
    let line = line.trim();
    if line.len() > openssh::LINE_BYTES_MAX {
        return Err(bad("the line is too long"));
    }
    if openssh::is_kind(line) || !line.contains(char::is_whitespace) {
        return Ok((Vec::new(), line));
    }
    let (options, rest) = line.split_at(end_of_options(line)?);
    let parts = split_unquoted(options);
    Ok((parts.into_iter().map(parse).collect::<Result<_, _>>()?, rest.trim_start()))
}

/// Where the first blank outside of quotes is.
fn end_of_options(line: &str) -> Result<usize, Error> {
    let mut quotes = Quotes::default();
    let end = line.char_indices().find(|&(_, c)| !quotes.is_inside(c) && (c == ' ' || c == '\t'));
    end.map(|(at, _)| at).ok_or_else(|| bad("a quote is not closed, or no key follows the options"))
}

fn split_unquoted(options: &str) -> Vec<&str> {
    let mut quotes = Quotes::default();
    options.split(|c| !quotes.is_inside(c) && c == ',').collect()
}

fn parse(option: &str) -> Result<Opt, Error> {
    let (name, value) = match option.split_once('=') {
        None => (option, None),
        Some((name, value)) => {
            let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).filter(|_| value.len() > 1);
            (name, Some(inner.ok_or_else(|| bad("the value of an option stands in quotes"))?))
        }
    };
    if name.is_empty() {
        return Err(bad("an option is empty"));
    }
    // No value of skypipe's has a quote in it, so what OpenSSH would unescape is refused where the value is read.
    Ok(Opt { name: name.to_ascii_lowercase(), value: value.map(str::to_owned) })
}

/// Follows quotes along a line; a quote behind a backslash is none.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Takes the next character, and tells whether it is inside of quotes.
    fn is_inside(&mut self, c: char) -> bool {
        if c == '"' && !self.escaped {
            self.open = !self.open;
        }
        self.escaped = c == '\\' && self.open;
        self.open
    }
}

fn bad(why: &str) -> Error {
    Error::new(Code::Key, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_blanks_in_quotes_belong_to_the_value() {
        let (options, rest) = split(" read,pipes=\"a b,c\",ADMIN  ssh-ed25519 AAAA me").unwrap();
        let option = |name: &str, value: Option<&str>| Opt { name: name.to_owned(), value: value.map(str::to_owned) };
        assert_eq!(options, [option("read", None), option("pipes", Some("a b,c")), option("admin", None)]);
        assert_eq!(rest, "ssh-ed25519 AAAA me");
        assert_eq!(split("ssh-ed25519 AAAA").unwrap(), (vec![], "ssh-ed25519 AAAA"));
    }

    #[test]
    fn what_is_not_closed_or_empty_is_refused() {
        for line in ["a=\"x ssh-ed25519 A", "a=x ssh-ed25519 A", ",a k x", "a, k x", "a=\" k x", "a=\"\\\" k x"] {
            assert_eq!(split(line).unwrap_err().code(), Code::Key, "{line}");
        }
    }
}
