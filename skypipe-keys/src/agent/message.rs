//! The two messages of the agent's protocol that are needed, and their answers.

use skypipe_core::{Code, Error, PublicKey, Signature};
use ssh_encoding::{Decode, Encode, Reader};

use crate::openssh;

/// Longest answer that is taken, in bytes; OpenSSH's own agent has the same limit.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// "Which keys do you hold?", with its length in front.
pub(super) const LIST_REQUEST: [u8; 5] = [0, 0, 0, 1, REQUEST_IDENTITIES];

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// An Ed25519 key of the agent.
#[derive(Clone, Debug)]
pub(super) struct AgentEntry {
    pub(super) key: PublicKey,
    pub(super) comment: String,
}

/// "Sign this", with its length in front.
pub(super) fn sign_request(key: PublicKey, message: &[u8]) -> Result<Vec<u8>, Error> {
    let mut body = vec![SIGN_REQUEST];
    let encoded = openssh::data(key).encode_prefixed(&mut body);
    encoded.and_then(|()| message.encode(&mut body)).and_then(|()| 0u32.encode(&mut body)).map_err(|_| malformed())?;
    let mut request = Vec::with_capacity(4 + body.len());
    body.as_slice().encode(&mut request).map_err(|_| malformed())?;
    Ok(request)
}

/// The Ed25519 keys of an answer; what else the agent holds is passed over.
pub(super) fn parse_list(answer: &[u8]) -> Result<Vec<AgentEntry>, Error> {
    let mut rest = body(answer, IDENTITIES_ANSWER)?;
    let count = u32::decode(&mut rest).map_err(|_| malformed())?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let blob = Vec::<u8>::decode(&mut rest).map_err(|_| malformed())?;
        let comment = Vec::<u8>::decode(&mut rest).map_err(|_| malformed())?;
        if let Ok(openssh_key) = ssh_key::PublicKey::from_bytes(&blob)
            && let Some(key) = openssh_key.key_data().ed25519()
        {
            let comment = String::from_utf8_lossy(&comment).into_owned();
            entries.push(AgentEntry { key: PublicKey(key.0), comment });
        }
    }
    Ok(entries)
}

/// The signature of an answer.
pub(super) fn parse_signature(answer: &[u8]) -> Result<Signature, Error> {
    let mut rest = body(answer, SIGN_RESPONSE)?;
    let signature = rest.read_prefixed(|r| -> ssh_encoding::Result<Option<Signature>> {
        let kind = Vec::<u8>::decode(r)?;
        let bytes = Vec::<u8>::decode(r)?;
        Ok(bytes.try_into().ok().filter(|_| kind == b"ssh-ed25519").map(Signature))
    });
    signature.ok().flatten().ok_or_else(malformed)
}

fn body(answer: &[u8], kind: u8) -> Result<&[u8], Error> {
    match answer.split_first() {
        Some((&found, rest)) if found == kind => Ok(rest),
        // The one answer to all that it will not do.
        Some((5, _)) => Err(Error::new(Code::Key, "the OpenSSH agent refused: is it locked, or was it told not to?")),
        _ => Err(malformed()),
    }
}

fn malformed() -> Error {
    Error::new(Code::Key, "the OpenSSH agent gave an answer that is none")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_is_told_apart_from_nonsense() {
        assert!(parse_list(&[5]).unwrap_err().text().contains("refused"));
        assert!(parse_signature(&[5]).unwrap_err().text().contains("refused"));
        for bad in [&b""[..], &[12], &[12, 255, 255, 255, 255], &[14, 0, 0, 0, 0]] {
            assert_eq!(parse_list(bad).unwrap_err().code(), Code::Key);
            assert_eq!(parse_signature(bad).unwrap_err().code(), Code::Key);
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(kind in 11u8..15, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let answer = [&[kind][..], &rest].concat();
            let _ = (parse_list(&answer), parse_signature(&answer));
        }
    }
}
