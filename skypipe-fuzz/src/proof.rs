//! The first stream of a link between machines: hellos and proofs.

use bytes::Bytes;
use skypipe_core::proof::{ClientProof, RelayProof};
use skypipe_core::wire::constants::kind;
use skypipe_core::wire::{Admitted, Hello, Message, Prove, SoftwareVersion};
use skypipe_core::{Features, KeyPair, RelayIdentity};

use crate::frames::frame;
use crate::messages::round_trip;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&first, payload)) = bytes.split_first() else { return };
    match first % 5 {
        0 => round_trip::<Prove>(kind::PROVE, 0, payload),
        1 => round_trip::<Admitted>(kind::ADMITTED, 0, payload),
        2 => a_client_says(payload),
        3 => a_relay_says(payload),
        _ => a_client_proves(payload),
    }
}

fn own_hello() -> Hello {
    Hello::new(SoftwareVersion::CURRENT, Features::default())
}

fn hello(payload: &[u8]) -> Option<Hello> {
    let hello = Hello::from_frame(frame(kind::HELLO, 0, payload)?).ok()??;
    let _ = hello.shared_version();
    Some(hello)
}

fn keys() -> (KeyPair, KeyPair) {
    (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]))
}

/// A relay gets any hello.
fn a_client_says(payload: &[u8]) {
    let Some(said) = hello(payload) else { return };
    let answer =
        RelayProof::answer(Bytes::copy_from_slice(payload), &said, own_hello(), &keys().1, [4; 32], Some([5; 32]));
    if let Ok((_, answer)) = answer {
        assert!(answer.extensions.len() == 4, "the relay says who it is");
    }
}

/// A client gets any hello: none is taken for the pinned relay's.
fn a_relay_says(payload: &[u8]) {
    let Some(said) = hello(payload) else { return };
    let (client, relay) = keys();
    for knows in
        [Some(RelayIdentity::Pinned(relay.public())), Some(RelayIdentity::Named("relay.example".to_owned())), None]
    {
        let pinned = matches!(knows, Some(RelayIdentity::Pinned(_)));
        let (proof, _) = ClientProof::begin(own_hello(), client.public(), [3; 32], knows, Some([5; 32]));
        let taken = proof.relay_said(&Bytes::copy_from_slice(payload), &said, Bytes::from_static(b"ticket"));
        assert!(!(pinned && taken.is_ok()), "a pinned relay was forged");
    }
}

/// A relay gets any proof: none is one.
fn a_client_proves(payload: &[u8]) {
    let (client, relay) = keys();
    let (_, said) = ClientProof::begin(own_hello(), client.public(), [3; 32], None, None);
    let payload_of_hello = Bytes::from_static(b"what the client said");
    let Ok((proof, _)) = RelayProof::answer(payload_of_hello, &said, own_hello(), &relay, [4; 32], None) else {
        panic!("a good hello is answered");
    };
    let Some(frame) = frame(kind::PROVE, 0, payload) else { return };
    if let Ok(Some(prove)) = Prove::from_frame(frame) {
        let names = ["relay.example".to_owned()];
        assert!(proof.proved(&prove, relay.public(), &names).is_err(), "a proof was forged");
    }
}
