//! The OpenSSH agent: it holds keys, and signs with them for who may open its socket.
//!
//! A client of its own, of two messages, because the crates for it bring RSA and the NIST curves along (`docs/decisions.md`). The
//! protocol is [draft-ietf-sshm-ssh-agent](https://datatracker.ietf.org/doc/draft-ietf-sshm-ssh-agent/).

mod message;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use skypipe_core::{Code, Error, PublicKey, Signature, Signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::openssh::fingerprint;
use message::{AgentEntry, MESSAGE_BYTES_MAX};

/// How long the agent may take to list its keys.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to sign: some ask the user first.
const SIGN_TIMEOUT: Duration = Duration::from_secs(60);

/// An Ed25519 key that the agent holds.
#[derive(Debug)]
pub struct AgentKey {
    socket: PathBuf,
    key: PublicKey,
}

impl AgentKey {
    /// The agent's only Ed25519 key, or the one of this fingerprint (`SHA256:…`) or comment, of the agent at `SSH_AUTH_SOCK`.
    ///
    /// # Errors
    /// `E_KEY` when there is no agent, no such key, or several.
    pub fn find(which: Option<&str>) -> Result<Self, Error> {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty());
        let socket =
            socket.ok_or_else(|| unusable("is not there: SSH_AUTH_SOCK is not set; eval $(ssh-agent) starts one"))?;
        Self::find_at(socket.into(), which)
    }

    /// As [`AgentKey::find`], of the agent at `socket`.
    ///
    /// # Errors
    /// As [`AgentKey::find`].
    pub fn find_at(socket: PathBuf, which: Option<&str>) -> Result<Self, Error> {
        let key = choose(&list(&socket)?, which)?;
        Ok(Self { socket, key })
    }
}

#[async_trait]
impl Signer for AgentKey {
    fn key(&self) -> PublicKey {
        self.key
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let request = message::sign_request(self.key, message)?;
        let answer = tokio::time::timeout(SIGN_TIMEOUT, ask(&self.socket, &request)).await;
        let answer = answer.map_err(|_| unusable("did not sign within a minute"))?.map_err(gone)?;
        let signature = message::parse_signature(&answer)?;
        // An agent that signs with another key is told here, not by a relay that knows nobody of that name.
        if !self.key.verifies(message, &signature) {
            return Err(unusable("gave a signature that is not the key's"));
        }
        Ok(signature)
    }
}

/// Which of the agent's keys is meant.
fn choose(entries: &[AgentEntry], which: Option<&str>) -> Result<PublicKey, Error> {
    let fits = |e: &&AgentEntry| which.is_none_or(|w| w == e.comment || w == fingerprint(e.key));
    let mut fitting: Vec<PublicKey> = entries.iter().filter(fits).map(|e| e.key).collect();
    fitting.dedup();
    match (&fitting[..], which) {
        ([key], _) => Ok(*key),
        ([], None) => Err(unusable("holds no Ed25519 key: ssh-add one")),
        ([], Some(_)) => Err(unusable("holds no Ed25519 key of this fingerprint or comment: ssh-add -l lists them")),
        (_, None) => Err(unusable("holds several Ed25519 keys: say which with agent:SHA256:… (ssh-add -l lists them)")),
        (_, Some(_)) => Err(unusable("holds several Ed25519 keys of this comment: say which with agent:SHA256:…")),
    }
}

fn list(socket: &PathBuf) -> Result<Vec<AgentEntry>, Error> {
    let answer = (|| {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIST_TIMEOUT))?;
        stream.set_write_timeout(Some(LIST_TIMEOUT))?;
        stream.write_all(&message::LIST_REQUEST)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; checked(length)?];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    })();
    message::parse_list(&answer.map_err(gone)?)
}

async fn ask(socket: &PathBuf, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    stream.write_all(request).await?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut answer = vec![0; checked(length)?];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn checked(length: [u8; 4]) -> std::io::Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other("its answer is too long"));
    }
    Ok(length)
}

fn gone(error: std::io::Error) -> Error {
    unusable(&format!("does not answer: {error}")).because(error)
}

fn unusable(why: &str) -> Error {
    Error::new(Code::Key, format!("the OpenSSH agent {why}"))
}

#[cfg(test)]
mod tests {
    use skypipe_core::KeyPair;

    use super::*;

    fn entry(seed: u8, comment: &str) -> AgentEntry {
        AgentEntry { key: KeyPair::from_seed(&[seed; 32]).public(), comment: comment.to_owned() }
    }

    #[test]
    fn the_only_key_or_the_named_one_is_taken() {
        let (one, two) = (entry(1, "work"), entry(2, "home"));
        let both = [one.clone(), two.clone()];
        assert_eq!(choose(&both[..1], None).unwrap(), one.key);
        assert_eq!(choose(&both, Some("home")).unwrap(), two.key);
        assert_eq!(choose(&both, Some(&fingerprint(one.key))).unwrap(), one.key);
        for (entries, which, says) in [
            (&both[..0], None, "ssh-add one"),
            (&both, None, "say which"),
            (&both, Some("none"), "ssh-add -l"),
            (&[entry(1, "x"), entry(2, "x")], Some("x"), "say which"),
        ] {
            let error = choose(entries, which).unwrap_err();
            assert!(error.code() == Code::Key && error.text().contains(says), "{error}");
        }
    }

    #[test]
    fn no_agent_is_a_key_that_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let error = AgentKey::find_at(dir.path().join("none"), None).unwrap_err();
        assert!(error.code() == Code::Key && error.text().contains("does not answer"), "{error}");
    }
}
