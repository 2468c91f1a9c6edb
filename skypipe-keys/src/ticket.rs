//! A ticket as text: where the relay is, and a token that opens it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use skypipe_core::{Code, Error, Pattern, Rights, WallTime};

use crate::token;

/// What every ticket begins with.
const PREFIX: &str = "sky1";
/// The version of what is inside.
const VERSION: u8 = 1;
/// Bytes of the checksum at the end: CRC32C, which finds what copying and pasting breaks. Malice is found by the token's signature.
const CHECKSUM_BYTES: usize = 4;
/// Longest ticket as text, in bytes: it still fits one line of a terminal's input (4096 on Linux).
pub const TICKET_TEXT_BYTES_MAX: usize = 4000;
/// Most URLs in a ticket.
pub const URLS_MAX: usize = 8;
/// Longest URL in a ticket, in bytes.
pub const URL_BYTES_MAX: usize = 255;

/// What `skypipe invite` prints and `skypipe join` takes. It is a secret: who has it may come in.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Where the relay is, with its key: one relay, reached in several ways.
    pub urls: Vec<String>,
    /// What the relay gave; it alone can tell whether it is good.
    pub token: Bytes,
}

impl Ticket {
    /// A ticket for the relay at `urls`.
    ///
    /// # Errors
    /// `E_TICKET` when there is no URL, or they are too many or too long for a line.
    pub fn new(urls: Vec<String>, token: Bytes) -> Result<Self, Error> {
        let ticket = Self { urls, token };
        let fits = (1..=URLS_MAX).contains(&ticket.urls.len()) && ticket.urls.iter().all(|u| is_url(u.as_bytes()));
        if !fits || ticket.to_string().len() > TICKET_TEXT_BYTES_MAX {
            return Err(Error::new(
                Code::Ticket,
                "a ticket has 1 to 8 URLs of a relay, and fits a line: name fewer URLs or pipes",
            ));
        }
        Ok(ticket)
    }

    /// The URLs as one, joined by commas: what a config file or `--relay` takes.
    pub fn relay(&self) -> String {
        self.urls.join(",")
    }

    /// The same ticket for less, made without asking the relay: only `pipes` (none: as before), with `rights` alone, until `expires`. Whoever passes a ticket
    /// on gives away no more than that.
    ///
    /// # Errors
    /// `E_TICKET` when the ticket cannot be read or becomes too long, `E_NAME` for a pattern that cannot stand in it.
    pub fn attenuate(
        &self,
        pipes: &[Pattern],
        rights: Option<Rights>,
        expires: Option<WallTime>,
    ) -> Result<Self, Error> {
        Self::new(self.urls.clone(), token::attenuate(&self.token, pipes, rights, expires)?)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::try_from(self.urls.len()).unwrap_or(u8::MAX)];
        for url in &self.urls {
            bytes.push(u8::try_from(url.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(url.as_bytes());
        }
        bytes.extend_from_slice(&self.token);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&count, mut rest) = bytes.split_first()?;
        let mut urls = Vec::new();
        for _ in 0..count {
            let (&length, tail) = rest.split_first()?;
            let (url, tail) = tail.split_at_checked(length.into())?;
            urls.push(String::from_utf8(url.to_vec()).ok()?);
            rest = tail;
        }
        Self::new(urls, Bytes::copy_from_slice(rest)).ok()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&self.to_bytes()))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(not shown)")
    }
}

impl FromStr for Ticket {
    type Err = Error;

    /// # Errors
    /// `E_TICKET`: it is no ticket, is damaged, or of a newer version. Nothing of it is in the text.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let inside = text.strip_prefix(PREFIX).ok_or_else(|| not_one(text))?;
        if text.len() > TICKET_TEXT_BYTES_MAX {
            return Err(bad("the ticket is too long to be one"));
        }
        let damaged = || bad("the ticket is damaged: was all of it copied? It is one long word");
        let bytes = BASE64URL_NOPAD.decode(inside.as_bytes()).map_err(|_| damaged())?;
        let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
        if crc32c::crc32c(bytes) != u32::from_be_bytes(*sum) {
            return Err(damaged());
        }
        match bytes.split_first() {
            Some((&VERSION, rest)) => Self::from_bytes(rest).ok_or_else(damaged),
            Some((&newer, _)) if newer > VERSION => Err(newer_version()),
            _ => Err(damaged()),
        }
    }
}

/// What is wrong with a text that does not begin as a ticket does.
fn not_one(text: &str) -> Error {
    let digit = text.strip_prefix("sky").and_then(|rest| rest.chars().next());
    if digit.is_some_and(|d| d.is_ascii_digit()) {
        return newer_version();
    }
    bad("not a ticket: a ticket begins with sky1")
}

fn newer_version() -> Error {
    bad("the ticket was made by a newer skypipe: install that one")
}

fn bad(why: &str) -> Error {
    Error::new(Code::Ticket, why)
}

/// Printable ASCII without blank or comma, which joins URLs.
fn is_url(url: &[u8]) -> bool {
    (1..=URL_BYTES_MAX).contains(&url.len()) && url.iter().all(|&b| b.is_ascii_graphic() && b != b',')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        let urls = vec!["quic://key@192.0.2.1:7473".to_owned(), "wss://key@192.0.2.1:7473".to_owned()];
        Ticket::new(urls, Bytes::from_static(b"the token, a secret")).unwrap()
    }

    #[test]
    fn a_ticket_survives_its_text_and_shows_nothing() {
        let text = ticket().to_string();
        assert!(text.starts_with("sky1") && !text.contains(char::is_whitespace));
        assert_eq!(format!(" {text}\n").parse::<Ticket>().unwrap(), ticket());
        assert_eq!(format!("{:?}", ticket()), "Ticket(not shown)");
        assert_eq!(ticket().relay(), "quic://key@192.0.2.1:7473,wss://key@192.0.2.1:7473");
    }

    #[test]
    fn its_bytes_are_these() {
        let ticket = Ticket::new(vec!["unix:/r".to_owned()], Bytes::from_static(b"t")).unwrap();
        assert_eq!(ticket.to_string(), "sky1AQEHdW5peDovcnQgBaHP");
    }

    #[test]
    fn the_error_says_which_and_never_echoes() {
        let text = ticket().to_string();
        let newer = {
            let mut bytes = ticket().to_bytes();
            bytes[0] = 2;
            bytes.truncate(bytes.len() - 4);
            let sum = crc32c::crc32c(&bytes).to_be_bytes();
            format!("sky1{}", BASE64URL_NOPAD.encode(&[&bytes[..], &sum].concat()))
        };
        for (bad, says) in [
            (String::new(), "not a ticket"),
            ("hello".to_owned(), "not a ticket"),
            (text[..text.len() - 1].to_owned(), "damaged"),
            (text[..30].to_owned(), "damaged"),
            (text.replace('a', "b"), "damaged"),
            ("sky1".to_owned(), "damaged"),
            (format!("sky1{}", "A".repeat(5000)), "too long"),
            (newer, "newer"),
            (text.replacen("sky1", "sky2", 1), "newer"),
        ] {
            let error = bad.parse::<Ticket>().unwrap_err();
            assert!(error.code() == Code::Ticket && error.text().contains(says), "{bad}: {error}");
            assert!(bad.len() < 12 || !format!("{error}{error:?}").contains(&bad[4..12]), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let token = Bytes::from_static(b"t");
        for urls in
            [vec![], vec!["u".to_owned(); 9], vec!["u".repeat(256)], vec!["a b".to_owned()], vec!["a,b".to_owned()]]
        {
            assert_eq!(Ticket::new(urls, token.clone()).unwrap_err().code(), Code::Ticket);
        }
        assert!(Ticket::new(vec!["u".to_owned()], Bytes::from(vec![0; 3000])).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(sky1)?[A-Za-z0-9_-]{0,80}|\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = text.parse::<Ticket>();
            let sum = crc32c::crc32c(&bytes).to_be_bytes();
            let _ = format!("sky1{}", BASE64URL_NOPAD.encode(&[&bytes[..], &sum].concat())).parse::<Ticket>();
        }

        #[test]
        fn one_wrong_letter_is_found(at in 4usize..80, letter in "[A-Za-z0-9_-]") {
            let mut text = ticket().to_string();
            prop_assume!(text[at..=at] != letter);
            text.replace_range(at..=at, &letter);
            prop_assert!(text.parse::<Ticket>().is_err());
        }
    }
}
