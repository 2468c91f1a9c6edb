//! The client's proof of its key, and what it is admitted to.

use std::fmt;

use bytes::{BufMut, Bytes};

use super::constants::kind;
use super::fields::{owner, payload, put_owner};
use super::frame::Frame;
use super::message::{Message, carried_error};
use crate::codec::put_short;
use crate::error::{Code, Error};
use crate::identity::{PublicKey, Signature};
use crate::name::Owner;
use crate::time::WallTime;

const KEY: u8 = 0;
const NAME: u8 = 1;

/// Proves the client's key; see [`proof`](crate::proof).
#[derive(Clone, PartialEq, Eq)]
pub struct Prove {
    /// The relay as the client knows it.
    pub relay: ProvedIdentity,
    /// Whether the signature covers the channel's exporter.
    pub bound: bool,
    /// Over everything that was said.
    pub signature: Signature,
    /// The ticket's token, for a key that the relay does not know yet; else empty.
    pub ticket: Bytes,
}

impl fmt::Debug for Prove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prove({:?}, ticket of {} bytes not shown)", self.relay, self.ticket.len())
    }
}

/// The relay as a client knows it, inside its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvedIdentity {
    /// By its key.
    Key(PublicKey),
    /// By the host name that its certificate was verified for.
    Name(String),
}

/// The answer to a proof that holds, from a relay that knows the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whose pipes a name without owner means.
    pub namespace: Owner,
    /// Whether the key may invite, and list, add and revoke keys.
    pub admin: bool,
    /// What the relay's clock says.
    pub time: WallTime,
}

impl Message for Prove {
    fn into_frame(self) -> Frame {
        let fields = payload(|out| {
            match &self.relay {
                ProvedIdentity::Key(key) => {
                    out.put_u8(KEY);
                    put_short(out, &key.0);
                }
                ProvedIdentity::Name(name) => {
                    out.put_u8(NAME);
                    put_short(out, name.as_bytes());
                }
            }
            out.put_u8(u8::from(self.bound));
            out.put_slice(&self.signature.0);
            put_short(out, &self.ticket);
        });
        Frame::new(kind::PROVE, fields)
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::PROVE => {}
            kind::ERROR => return Err(carried_error(frame)),
            _ => return frame.unknown(),
        }
        let mut fields = frame.open().0;
        let relay = match fields.u8()? {
            KEY => ProvedIdentity::Key(PublicKey(fields.short()?[..].try_into().map_err(|_| malformed())?)),
            NAME => ProvedIdentity::Name(String::from_utf8(fields.short()?.to_vec()).map_err(|_| malformed())?),
            _ => return Err(malformed()),
        };
        let bound = fields.u8()? != 0;
        Ok(Some(Self { relay, bound, signature: Signature(fields.array()?), ticket: fields.short()? }))
    }
}

impl Message for Admitted {
    fn into_frame(self) -> Frame {
        let fields = payload(|out| {
            put_owner(out, self.namespace);
            out.put_u8(u8::from(self.admin));
            out.put_u64_le(self.time.0);
        });
        Frame::new(kind::ADMITTED, fields)
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        match frame.kind {
            kind::ADMITTED => {}
            kind::REFUSED | kind::ERROR => return Err(carried_error(frame)),
            _ => return frame.unknown(),
        }
        let mut fields = frame.open().0;
        Ok(Some(Self { namespace: owner(&mut fields)?, admin: fields.u8()? != 0, time: WallTime(fields.u64()?) }))
    }
}

fn malformed() -> Error {
    Error::new(Code::Protocol, "a malformed proof")
}
