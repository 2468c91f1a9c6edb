//! Proof of a key, both ways, on the first stream of a link between machines.
//!
//! ```text
//!   client                                        relay
//!     │ Hello: challenge, key ────────────────────▶ │
//!     │ ◀── Hello: challenge, key, channel, signature │
//!     │ Prove: who I think you are, signature ────▶ │
//!     │ ◀───────────────────── Admitted, or Refused │
//! ```
//!
//! Each signature covers both hellos, so both fresh challenges and all that was said of versions, and the exporter of the TLS
//! channel where TLS ends at the relay. The client's covers the relay's identity as the client knew it before, too: what it signs for
//! one relay is worth nothing at another. The relay signs first, so a client that was led astray says nothing more.
//!
//! The idea is SIGMA's, as in SSH and TLS: sign the transcript, never a bare challenge.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Code, Error};
use crate::identity::{KeyPair, PublicKey, RelayIdentity, Signature};
use crate::wire::constants::{EXTENSION_CHALLENGE, EXTENSION_CHANNEL, EXTENSION_KEY, EXTENSION_SIGNATURE};
use crate::wire::{Hello, Message, Prove, ProvedIdentity};

/// Bytes of a challenge: nobody meets the same one twice.
pub const CHALLENGE_BYTES: usize = 32;

/// What a relay's signature is over, so that none is ever taken for another kind of message.
const RELAY_CONTEXT: &[u8] = b"skypipe relay proof 1\0";
/// What a client's signature is over.
const CLIENT_CONTEXT: &[u8] = b"skypipe client proof 1\0";
/// The signature is the last extension of a hello: type, length, and its 64 bytes.
const SIGNATURE_EXTENSION_BYTES: usize = 2 + 2 + 64;

/// The exporter of the channel under a link, where there is one; see [`Link::exporter`](crate::Link::exporter).
pub type Exporter = Option<[u8; 32]>;

/// The client's side.
pub struct ClientProof {
    hello: Bytes,
    knows: Option<RelayIdentity>,
    exporter: Exporter,
}

impl ClientProof {
    /// Begins: gives the hello to send. `knows` and `exporter` are the link's.
    pub fn begin(
        mut hello: Hello,
        key: PublicKey,
        challenge: [u8; CHALLENGE_BYTES],
        knows: Option<RelayIdentity>,
        exporter: Exporter,
    ) -> (Self, Hello) {
        hello.extensions.push((EXTENSION_CHALLENGE, Bytes::copy_from_slice(&challenge)));
        hello.extensions.push((EXTENSION_KEY, Bytes::copy_from_slice(&key.0)));
        (Self { hello: payload_of(&hello), knows, exporter }, hello)
    }

    /// The relay said hello. `payload` is its frame's payload, byte for byte. Gives what the client's key is to sign, and the
    /// proof without its signature.
    ///
    /// # Errors
    /// `E_PIN` when it is not the relay the client knows, or somebody stands between; `E_PROTOCOL` when its hello is none.
    pub fn relay_said(&self, payload: &Bytes, hello: &Hello, ticket: Bytes) -> Result<(Bytes, Prove), Error> {
        let key = hello_key(hello).ok_or_else(|| protocol("the relay's hello has no key"))?;
        let signature = hello_signature(hello).ok_or_else(|| protocol("the relay's hello has no signature"))?;
        if matches!(self.knows, Some(RelayIdentity::Pinned(pinned)) if pinned != key) {
            return Err(pin("the relay has another key than the one in its URL"));
        }
        let channel = self.channel(hello)?;
        let unsigned = payload.slice(..payload.len().saturating_sub(SIGNATURE_EXTENSION_BYTES));
        if !key.verifies(&relay_message(&self.hello, &unsigned, channel), &signature) {
            return Err(pin("the relay could not prove its key over this link: somebody may stand between"));
        }
        let relay = match &self.knows {
            Some(RelayIdentity::Named(name)) => ProvedIdentity::Name(name.to_ascii_lowercase()),
            // A URL that names nobody is answered by whoever is there: the proof is worth something to that one only.
            Some(RelayIdentity::Pinned(_)) | None => ProvedIdentity::Key(key),
        };
        let prove = Prove { relay, bound: channel.is_some(), signature: Signature([0; 64]), ticket };
        Ok((client_message(&self.hello, payload, &prove, channel), prove))
    }

    /// The exporter that must be signed. A pinned relay ends TLS itself; behind a name there may be a proxy, and the relay knows.
    fn channel(&self, hello: &Hello) -> Result<Exporter, Error> {
        let relay_sees_one = hello.extension(EXTENSION_CHANNEL).is_some_and(|value| value[..] == [1]);
        match (&self.knows, self.exporter) {
            (Some(RelayIdentity::Named(_)), _) if !relay_sees_one => Ok(None),
            (_, exporter) if exporter.is_some() == relay_sees_one => Ok(exporter),
            _ => Err(pin("the secured channel does not end at the relay: somebody stands between")),
        }
    }
}

/// The relay's side.
pub struct RelayProof {
    client_hello: Bytes,
    hello: Bytes,
    client: PublicKey,
    exporter: Exporter,
}

impl RelayProof {
    /// A client said hello, `payload` byte for byte. Gives the hello to answer with.
    ///
    /// # Errors
    /// `E_ACCESS` when the hello offers no key.
    pub fn answer(
        payload: Bytes,
        client: &Hello,
        mut hello: Hello,
        key: &KeyPair,
        challenge: [u8; CHALLENGE_BYTES],
        exporter: Exporter,
    ) -> Result<(Self, Hello), Error> {
        let asked = client.extension(EXTENSION_CHALLENGE).is_some_and(|c| c.len() == CHALLENGE_BYTES);
        let Some(client) = hello_key(client).filter(|_| asked) else {
            return Err(Error::new(Code::Access, "this relay admits who proves a key; the link offered none"));
        };
        hello.extensions.push((EXTENSION_CHALLENGE, Bytes::copy_from_slice(&challenge)));
        hello.extensions.push((EXTENSION_KEY, Bytes::copy_from_slice(&key.public().0)));
        hello.extensions.push((EXTENSION_CHANNEL, Bytes::copy_from_slice(&[u8::from(exporter.is_some())])));
        let signature = key.sign_now(&relay_message(&payload, &payload_of(&hello), exporter));
        hello.extensions.push((EXTENSION_SIGNATURE, Bytes::copy_from_slice(&signature.0)));
        Ok((Self { client_hello: payload, hello: payload_of(&hello), client, exporter }, hello))
    }

    /// The client proved. Gives its key when the proof holds for the relay that has this key and these host names.
    ///
    /// # Errors
    /// `E_ACCESS`.
    pub fn proved(&self, prove: &Prove, key: PublicKey, names: &[String]) -> Result<PublicKey, Error> {
        let meant = match &prove.relay {
            ProvedIdentity::Key(meant) => *meant == key,
            ProvedIdentity::Name(name) => names.iter().any(|own| own.eq_ignore_ascii_case(name)),
        };
        if !meant {
            return Err(Error::new(
                Code::Access,
                "the proof is for another relay; --name tells this one its host name",
            ));
        }
        let message = client_message(&self.client_hello, &self.hello, prove, self.exporter);
        if prove.bound != self.exporter.is_some() || !self.client.verifies(&message, &prove.signature) {
            return Err(Error::new(Code::Access, "the key was not proved over this link"));
        }
        Ok(self.client)
    }
}

fn relay_message(client: &[u8], relay: &[u8], channel: Exporter) -> Bytes {
    let mut message = BytesMut::from(RELAY_CONTEXT);
    put_long(&mut message, client);
    put_long(&mut message, relay);
    put_channel(&mut message, channel);
    message.freeze()
}

fn client_message(client: &[u8], relay: &[u8], prove: &Prove, channel: Exporter) -> Bytes {
    let mut message = BytesMut::from(CLIENT_CONTEXT);
    put_long(&mut message, client);
    put_long(&mut message, relay);
    match &prove.relay {
        ProvedIdentity::Key(key) => put_long(&mut message, &[&[0][..], &key.0].concat()),
        ProvedIdentity::Name(name) => put_long(&mut message, &[&[1][..], name.as_bytes()].concat()),
    }
    put_channel(&mut message, channel);
    put_long(&mut message, &prove.ticket);
    message.freeze()
}

/// Every field behind its length: no two transcripts are the same bytes.
fn put_long(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn put_channel(out: &mut BytesMut, channel: Exporter) {
    put_long(out, channel.as_ref().map_or(&[], |exporter| &exporter[..]));
}

fn payload_of(hello: &Hello) -> Bytes {
    hello.clone().into_frame().payload
}

fn hello_key(hello: &Hello) -> Option<PublicKey> {
    hello.extension(EXTENSION_KEY)?[..].try_into().ok().map(PublicKey)
}

/// The signature, which must be the last extension: it covers everything before it.
fn hello_signature(hello: &Hello) -> Option<Signature> {
    let (number, value) = hello.extensions.last()?;
    (*number == EXTENSION_SIGNATURE).then_some(())?;
    value[..].try_into().ok().map(Signature)
}

fn pin(text: &str) -> Error {
    Error::new(Code::Pin, text)
}

fn protocol(text: &str) -> Error {
    Error::new(Code::Protocol, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Features;
    use crate::wire::SoftwareVersion;

    const CHANNEL: Exporter = Some([5; 32]);

    /// One handshake, with a chance to change what passes.
    struct Talk {
        client: KeyPair,
        relay: KeyPair,
        names: Vec<String>,
        knows: Option<RelayIdentity>,
        client_sees: Exporter,
        relay_sees: Exporter,
        ticket: &'static [u8],
    }

    impl Talk {
        fn new() -> Self {
            let (client, relay) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
            let knows = Some(RelayIdentity::Pinned(relay.public()));
            let names = vec!["Relay.example".to_owned()];
            Self { client, relay, names, knows, client_sees: CHANNEL, relay_sees: CHANNEL, ticket: b"" }
        }

        fn run(&self) -> Result<PublicKey, Error> {
            self.run_with(|_| {}, |_| {})
        }

        fn run_with(
            &self,
            change_hello: impl Fn(&mut Hello),
            change_prove: impl Fn(&mut Prove),
        ) -> Result<PublicKey, Error> {
            let hello = Hello::new(SoftwareVersion::CURRENT, Features::default());
            let (proof, said) =
                ClientProof::begin(hello.clone(), self.client.public(), [3; 32], self.knows.clone(), self.client_sees);
            let (relay, mut answer) =
                RelayProof::answer(payload_of(&said), &said, hello, &self.relay, [4; 32], self.relay_sees)?;
            change_hello(&mut answer);
            let ticket = Bytes::from_static(self.ticket);
            let (message, mut prove) = proof.relay_said(&payload_of(&answer), &answer, ticket)?;
            prove.signature = self.client.sign_now(&message);
            change_prove(&mut prove);
            let prove = Prove::from_frame(prove.into_frame())?.expect("it is one");
            relay.proved(&prove, self.relay.public(), &self.names)
        }
    }

    fn code(result: Result<PublicKey, Error>) -> Code {
        result.unwrap_err().code()
    }

    #[test]
    fn who_is_who_is_proved_both_ways() {
        let named = Some(RelayIdentity::Named("relay.EXAMPLE".to_owned()));
        let pinned = Talk::new().knows;
        for (knows, client_sees, relay_sees) in [
            (pinned.clone(), CHANNEL, CHANNEL),
            (pinned, None, None),
            (named.clone(), CHANNEL, CHANNEL),
            // A proxy ends TLS.
            (named, CHANNEL, None),
            (None, None, None),
        ] {
            let talk = Talk { knows, client_sees, relay_sees, ticket: b"ticket", ..Talk::new() };
            assert_eq!(talk.run().unwrap(), talk.client.public());
        }
    }

    #[test]
    fn the_wrong_relay_is_told_nothing() {
        let other = Some(RelayIdentity::Pinned(KeyPair::from_seed(&[9; 32]).public()));
        assert_eq!(code(Talk { knows: other, ..Talk::new() }.run()), Code::Pin);
        // Another channel at each end, or none at one of them: somebody stands between.
        for relay_sees in [Some([6; 32]), None] {
            assert_eq!(code(Talk { relay_sees, ..Talk::new() }.run()), Code::Pin);
        }
        assert_eq!(code(Talk { client_sees: None, ..Talk::new() }.run()), Code::Pin);
    }

    #[test]
    fn a_proof_for_one_relay_is_worth_nothing_at_another() {
        let named = |name: &str| Some(RelayIdentity::Named(name.to_owned()));
        assert_eq!(code(Talk { knows: named("other.example"), ..Talk::new() }.run()), Code::Access);
        let talk = Talk { knows: named("relay.example"), ..Talk::new() };
        assert_eq!(code(Talk { relay_sees: Some([6; 32]), ..talk }.run()), Code::Pin);
    }

    #[test]
    fn whatever_is_changed_on_the_way_is_noticed() {
        let talk = Talk { ticket: b"ticket", ..Talk::new() };
        for at in 0..4 {
            let flip = |hello: &mut Hello| {
                let mut value = hello.extensions[at].1.to_vec();
                value[0] ^= 1;
                hello.extensions[at].1 = value.into();
            };
            assert_eq!(code(talk.run_with(flip, |_| {})), Code::Pin, "extension {at}");
        }
        assert_eq!(code(talk.run_with(|hello| hello.version_max += 1, |_| {})), Code::Pin);
        let drops_signature = |hello: &mut Hello| drop(hello.extensions.pop());
        assert_eq!(code(talk.run_with(drops_signature, |_| {})), Code::Protocol);
        let changes: [fn(&mut Prove); 4] = [
            |prove| prove.signature.0[0] ^= 1,
            |prove| prove.bound = false,
            |prove| prove.ticket = Bytes::from_static(b"another"),
            |prove| prove.relay = ProvedIdentity::Name("relay.example".to_owned()),
        ];
        for change in changes {
            assert_eq!(code(talk.run_with(|_| {}, change)), Code::Access);
        }
    }

    #[test]
    fn a_hello_without_key_or_challenge_is_refused() {
        let hello = Hello::new(SoftwareVersion::CURRENT, Features::default());
        let key = KeyPair::from_seed(&[2; 32]);
        for extensions in [vec![], vec![(EXTENSION_KEY, Bytes::from_static(&[1; 32]))]] {
            let client = Hello { extensions, ..hello.clone() };
            let answer = RelayProof::answer(payload_of(&client), &client, hello.clone(), &key, [4; 32], None);
            assert_eq!(answer.err().map(|e| e.code()), Some(Code::Access));
        }
    }
}
