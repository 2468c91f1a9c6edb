//! What a writer says about its records beside their bytes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::Batch;
use crate::error::{Code, Error};

/// Most encoded bytes of the headers of a record. They lie in an extension of the batch, beside the end mark, the time of a delay and what later
/// versions add; see [`EXTENSION_BYTES_MAX`](crate::EXTENSION_BYTES_MAX).
pub const HEADERS_BYTES_MAX: usize = 3 * 1024;
/// Longest key in bytes.
pub const HEADER_KEY_BYTES_MAX: usize = 64;

/// Keys and values beside the bytes of a record, each key once. Cheap to clone: they are kept as they travel.
///
/// A key is 1 to 64 ASCII letters, digits, `-`, `_` or `.`; a value is text without control characters.
///
/// ```
/// use skypipe_core::Headers;
///
/// let headers = Headers::new().with("type", "order")?.with("region", "north")?;
/// assert_eq!(headers.get("region"), Some("north"));
/// # Ok::<(), skypipe_core::Error>(())
/// ```
///
/// Encoded, for each in the order of the keys: `u8` bytes of the key, `u16` bytes of the value (little-endian), key, value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers {
    encoded: Bytes,
}

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self { encoded: Bytes::new() }
    }

    /// These and one more; a key that is there already gets another value.
    ///
    /// # Errors
    /// `E_USAGE` for a key or value that no header has, or when all together are longer than [`HEADERS_BYTES_MAX`].
    pub fn with(&self, key: &str, value: &str) -> Result<Self, Error> {
        if !is_key(key) {
            let text = format!("a header's key is 1 to {HEADER_KEY_BYTES_MAX} letters, digits, `-`, `_` or `.`");
            return Err(Error::new(Code::Usage, text));
        }
        if value.chars().any(char::is_control) {
            return Err(Error::new(Code::Usage, format!("the header {key} has a control character in its value")));
        }
        let mut all: Vec<(&str, &str)> = self.iter().filter(|(other, _)| *other != key).collect();
        all.insert(all.partition_point(|(other, _)| *other < key), (key, value));
        if all.iter().map(|(key, value)| HEAD_BYTES + key.len() + value.len()).sum::<usize>() > HEADERS_BYTES_MAX {
            let text = format!("headers are longer than {HEADERS_BYTES_MAX} bytes together");
            return Err(Error::new(Code::Usage, text));
        }
        Ok(Self { encoded: encode(&all) })
    }

    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// Each key with its value, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || {
            let (key, value, behind) = take(rest)?;
            rest = behind;
            Some((key, value))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// As they travel.
    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Those of a batch. What is not well formed in it, and what stands behind, is passed over: whoever wrote it harms nobody else.
    pub(crate) fn of_extension(encoded: Bytes) -> Self {
        let mut rest = &encoded[..];
        while let Some((_, _, behind)) = take(rest) {
            rest = behind;
        }
        let length = encoded.len() - rest.len();
        Self { encoded: encoded.slice(..length) }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Which records a reader wants, by their headers; all, unless told otherwise. It looks itself: the broker gives it all, and counts as taken
/// what it passes over.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    wanted: Vec<(String, Option<String>)>,
}

impl Filter {
    /// Every record.
    pub const fn new() -> Self {
        Self { wanted: Vec::new() }
    }

    /// Of these, those whose header `key` has this value.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.wanted.push((key.to_owned(), Some(value.to_owned())));
        self
    }

    /// Of these, those that have a header `key`.
    #[must_use]
    pub fn has(mut self, key: &str) -> Self {
        self.wanted.push((key.to_owned(), None));
        self
    }

    /// Whether it wants every record.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether it wants the records of this batch.
    pub fn wants(&self, batch: &Batch) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let headers = batch.headers();
        self.wanted.iter().all(|(key, value)| match (headers.get(key), value) {
            (Some(is), Some(wanted)) => is == wanted,
            (is, None) => is.is_some(),
            (None, Some(_)) => false,
        })
    }
}

/// Bytes before a key.
const HEAD_BYTES: usize = 3;

fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=HEADER_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(allowed)
}

fn encode(all: &[(&str, &str)]) -> Bytes {
    let mut out = BytesMut::new();
    for (key, value) in all {
        out.put_u8(key.len() as u8);
        out.put_u16_le(value.len() as u16);
        out.put_slice(key.as_bytes());
        out.put_slice(value.as_bytes());
    }
    out.freeze()
}

/// The first key and value, and what is behind them; nothing where that is not well formed.
fn take(rest: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (head, rest) = rest.split_at_checked(HEAD_BYTES)?;
    let (key, rest) = rest.split_at_checked(usize::from(head[0]))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([head[1], head[2]])))?;
    let (key, value) = (std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?);
    (is_key(key) && !value.chars().any(char::is_control)).then_some((key, value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::id::{Epoch, Seq, SessionId};

    fn batch(headers: &Headers) -> Batch {
        let mut builder = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(0)).headers(headers.clone());
        assert!(builder.push(b"a record", true, true));
        Batch::decode(builder.build(None).encoded().clone()).unwrap()
    }

    #[test]
    fn keys_are_there_once_in_order() {
        let headers = Headers::new().with("b", "1").unwrap().with("a", "2").unwrap().with("b", "3").unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(format!("{headers:?}"), "{\"a\": \"2\", \"b\": \"3\"}");
        assert_eq!(batch(&headers).headers(), headers);
        assert_eq!(batch(&Headers::new()).headers(), Headers::new());
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let refused = |key: &str, value: &str| Headers::new().with(key, value).unwrap_err().code() == Code::Usage;
        assert!(refused("", "v") && refused("a=b", "v") && refused("ä", "v") && refused("k", "a\nb"));
        assert!(refused(&"k".repeat(HEADER_KEY_BYTES_MAX + 1), "v"));
        let longest = HEADERS_BYTES_MAX - HEAD_BYTES - 1;
        assert!(Headers::new().with("k", &"v".repeat(longest)).is_ok());
        assert!(refused("k", &"v".repeat(longest + 1)));
    }

    #[test]
    fn a_filter_wants_all_that_it_names() {
        let order = batch(&Headers::new().with("type", "order").unwrap().with("region", "north").unwrap());
        let plain = batch(&Headers::new());
        assert!(Filter::new().wants(&plain));
        assert!(Filter::new().with("type", "order").has("region").wants(&order));
        assert!(!Filter::new().with("type", "order").with("region", "south").wants(&order));
        assert!(!Filter::new().has("type").wants(&plain));
    }

    proptest! {
        #[test]
        fn any_bytes_are_headers_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let headers = Headers::of_extension(bytes.into());
            let again = Headers::of_extension(headers.encoded().clone());
            prop_assert_eq!(again.iter().count(), headers.iter().count());
            prop_assert!(headers.iter().all(|(key, _)| is_key(key)));
        }
    }
}
