//! The first frame each way.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use bytes::{BufMut, Bytes};

use super::constants::{
    FEATURE_BROADCAST, FEATURE_DELIVERED, FEATURE_PATTERNS, FEATURE_QUEUE, FEATURE_READ_ONLY, FEATURE_STORED, MAGIC,
    VERSION_MAX, VERSION_MIN, kind,
};
use super::fields::payload;
use super::frame::Frame;
use super::message::{Message, carried_error};
use crate::broker::Features;
use crate::codec::{Fields, put_short};
use crate::error::{Code, Error};

/// The version of a program, told to the other side: the newer of two hosts of the local relay wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SoftwareVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl SoftwareVersion {
    /// This very version of skypipe.
    pub const CURRENT: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
    };

    /// The version of these three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for SoftwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for SoftwareVersion {
    type Err = ParseIntError;

    /// As it is displayed; what stands behind the third number, such as `-rc.1`, does not count.
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let mut numbers = text.split(['.', '-', '+']);
        let mut next = || numbers.next().unwrap_or_default().parse();
        Ok(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

const fn number(digits: &str) -> u16 {
    let (bytes, mut at, mut number) = (digits.as_bytes(), 0, 0);
    while at < bytes.len() {
        number = number * 10 + (bytes[at] - b'0') as u16;
        at += 1;
    }
    number
}

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// Lowest protocol version it speaks.
    pub version_min: u16,
    /// Highest protocol version it speaks.
    pub version_max: u16,
    /// The version of its program.
    pub software: SoftwareVersion,
    /// What its broker offers; a client offers nothing.
    pub features: Features,
    /// Further values by type. Unknown ones are ignored; those that are known prove a key, see [`proof`](crate::proof).
    pub extensions: Vec<(u16, Bytes)>,
}

impl Hello {
    /// The hello of this version of the protocol.
    pub fn new(software: SoftwareVersion, features: Features) -> Self {
        Self { version_min: VERSION_MIN, version_max: VERSION_MAX, software, features, extensions: Vec::new() }
    }

    /// The value of the first extension of this number.
    pub fn extension(&self, number: u16) -> Option<&Bytes> {
        self.extensions.iter().find(|(known, _)| *known == number).map(|(_, value)| value)
    }

    /// The protocol version both speak.
    ///
    /// # Errors
    /// `E_VERSION`, with both ranges, when there is none.
    pub fn shared_version(&self) -> Result<u16, Error> {
        if self.version_min <= VERSION_MAX && self.version_max >= VERSION_MIN {
            return Ok(self.version_max.min(VERSION_MAX));
        }
        let text = format!(
            "no shared protocol version: here {VERSION_MIN} to {VERSION_MAX}, there (skypipe {}) {} to {}; update the older side",
            self.software, self.version_min, self.version_max
        );
        Err(Error::new(Code::Version, text))
    }
}

impl Message for Hello {
    fn into_frame(self) -> Frame {
        let fields = payload(|out| {
            out.put_slice(&MAGIC);
            out.put_u16_le(self.version_min);
            out.put_u16_le(self.version_max);
            out.put_u16_le(self.software.major);
            out.put_u16_le(self.software.minor);
            out.put_u16_le(self.software.patch);
            out.put_u64_le(bits(self.features));
            for (number, value) in &self.extensions {
                out.put_u16_le(*number);
                put_short(out, value);
            }
        });
        Frame::new(kind::HELLO, fields)
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        if frame.kind == kind::ERROR {
            return Err(carried_error(frame));
        }
        if frame.kind != kind::HELLO || !frame.payload.starts_with(&MAGIC) {
            return Err(Error::new(Code::Protocol, "the other side does not speak skypipe"));
        }
        let mut fields = Fields(frame.payload.slice(MAGIC.len()..));
        Ok(Some(Self {
            version_min: fields.u16()?,
            version_max: fields.u16()?,
            software: SoftwareVersion { major: fields.u16()?, minor: fields.u16()?, patch: fields.u16()? },
            features: features(fields.u64()?),
            extensions: extensions(&mut fields)?,
        }))
    }
}

fn extensions(fields: &mut Fields) -> Result<Vec<(u16, Bytes)>, Error> {
    let mut extensions = Vec::new();
    while !fields.0.is_empty() {
        extensions.push((fields.u16()?, fields.short()?));
    }
    Ok(extensions)
}

fn bits(features: Features) -> u64 {
    let all = [
        (features.queue, FEATURE_QUEUE),
        (features.broadcast, FEATURE_BROADCAST),
        (features.stored, FEATURE_STORED),
        (features.delivered, FEATURE_DELIVERED),
        (features.read_only, FEATURE_READ_ONLY),
        (features.patterns, FEATURE_PATTERNS),
    ];
    all.iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum()
}

fn features(bits: u64) -> Features {
    let has = |bit| bits & bit != 0;
    Features {
        queue: has(FEATURE_QUEUE),
        broadcast: has(FEATURE_BROADCAST),
        stored: has(FEATURE_STORED),
        delivered: has(FEATURE_DELIVERED),
        read_only: has(FEATURE_READ_ONLY),
        patterns: has(FEATURE_PATTERNS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_or_say_so() {
        let hello = |min, max| Hello {
            version_min: min,
            version_max: max,
            ..Hello::new(SoftwareVersion::new(9, 0, 0), Features::default())
        };
        assert_eq!(hello(1, 7).shared_version().unwrap(), 1);
        let error = hello(2, 7).shared_version().unwrap_err();
        assert_eq!(error.code(), Code::Version);
        assert!(error.text().contains("here 1 to 1") && error.text().contains("2 to 7"), "{error}");
    }

    #[test]
    fn a_newer_program_is_newer() {
        assert!(SoftwareVersion::new(0, 10, 0) > SoftwareVersion::new(0, 9, 9));
        assert_eq!(SoftwareVersion::CURRENT.to_string(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_version_is_read_as_it_is_shown() {
        assert_eq!(env!("CARGO_PKG_VERSION").parse(), Ok(SoftwareVersion::CURRENT));
        assert_eq!("1.20.3-rc.1".parse(), Ok(SoftwareVersion::new(1, 20, 3)));
        for wrong in ["", "1", "1.2", "1.2.x", "one", "1.2.70000"] {
            assert!(wrong.parse::<SoftwareVersion>().is_err(), "{wrong}");
        }
    }
}
