//! Public keys in OpenSSH's words: a line `ssh-ed25519 AAAA… comment`, and a fingerprint `SHA256:…`.

use skypipe_core::{Code, Error, PublicKey};
use ssh_key::HashAlg;
use ssh_key::public::{Ed25519PublicKey, KeyData};

/// Longest line that is looked at, in bytes: a line of `authorized_keys` with many patterns, or a large RSA key to complain of.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// The key as a line of OpenSSH, without line end: `ssh-ed25519 AAAA… comment`. Control characters of the comment are left out.
pub fn public_line(key: PublicKey, comment: &str) -> String {
    let text = ssh_key::PublicKey::new(data(key), "").to_openssh().unwrap_or_default();
    let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
    format!("{} {}", text.trim(), comment.trim()).trim_end().to_owned()
}

/// The fingerprint as OpenSSH shows it: `SHA256:…`.
pub fn fingerprint(key: PublicKey) -> String {
    data(key).fingerprint(HashAlg::Sha256).to_string()
}

/// Reads a key from what people have at hand: a line `ssh-ed25519 AAAA…`, the content of a `.pub` file, or skypipe's own 52 letters and digits.
///
/// # Errors
/// `E_KEY` when it is none of these, or a key of another kind.
pub fn parse_public(text: &str) -> Result<PublicKey, Error> {
    let text = text.trim();
    if !text.contains(char::is_whitespace) && !text.starts_with("ssh-") {
        return text.parse();
    }
    Ok(parse_line(text)?.0)
}

/// Key and comment of a line `ssh-ed25519 AAAA… comment`.
pub(crate) fn parse_line(text: &str) -> Result<(PublicKey, String), Error> {
    if text.len() > LINE_BYTES_MAX {
        return Err(bad("the line is too long for a key"));
    }
    match text.split_whitespace().next().unwrap_or_default() {
        "ssh-ed25519" => {}
        other if is_kind(other) => return Err(bad("only Ed25519 keys serve: ssh-keygen -t ed25519 makes one")),
        _ => return Err(bad("not a key: one begins with ssh-ed25519")),
    }
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(bad("not a key: it is more than one line, or has control characters"));
    }
    // ssh-key wants exactly one blank between the words.
    let mut words = text.splitn(3, [' ', '\t']).map(str::trim);
    let (kind, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let comment = words.next().unwrap_or_default().to_owned();
    let parsed = ssh_key::PublicKey::from_openssh(&format!("{kind} {base64}"));
    let parsed = parsed.map_err(|_| bad("not a key: the text behind ssh-ed25519 is damaged"))?;
    match parsed.key_data() {
        KeyData::Ed25519(key) => Ok((PublicKey(key.0), comment)),
        _ => Err(bad("only Ed25519 keys serve: ssh-keygen -t ed25519 makes one")),
    }
}

/// Whether `word` names a kind of key of OpenSSH's.
pub(crate) fn is_kind(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix))
}

pub(crate) fn data(key: PublicKey) -> KeyData {
    KeyData::Ed25519(Ed25519PublicKey(key.0))
}

fn bad(why: &str) -> Error {
    Error::new(Code::Key, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skypipe_core::KeyPair;

    use super::*;

    fn key() -> PublicKey {
        KeyPair::from_seed(&[7; 32]).public()
    }

    #[test]
    fn a_key_survives_every_text_of_it() {
        let line = public_line(key(), "me@here now");
        assert!(line.starts_with("ssh-ed25519 AAAA") && line.ends_with(" me@here now"), "{line}");
        for text in [line.clone(), format!("{line}\n"), public_line(key(), ""), key().to_string()] {
            assert_eq!(parse_public(&text).unwrap(), key(), "{text}");
        }
        assert_eq!(parse_line(&line.replace(' ', "\t")).unwrap().0, key());
        assert_eq!(parse_line(&line).unwrap().1, "me@here now");
        assert_eq!(public_line(key(), "a\nb"), public_line(key(), "ab"));
        assert!(fingerprint(key()).starts_with("SHA256:"));
    }

    #[test]
    fn what_is_no_key_is_told_apart_from_another_kind() {
        for (text, says) in [
            ("", "not a key"),
            ("ssh-ed25519", "damaged"),
            ("ssh-ed25519 AAAA", "damaged"),
            ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x", "only Ed25519"),
            ("ecdsa-sha2-nistp256 AAAA x", "only Ed25519"),
            ("hello there", "not a key"),
        ] {
            let error = parse_public(text).unwrap_err();
            assert!(error.code() == Code::Key && error.text().contains(says), "{text}: {error}");
        }
        let two = format!("{}\n{}", public_line(key(), "a"), public_line(key(), "b"));
        assert!(parse_public(&two).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*|(ssh-ed25519 )?[A-Za-z0-9+/=]{0,90}( .*)?") {
            let _ = parse_public(&text);
        }
    }
}
