//! Records that are values of a type.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error};
use crate::headers::Headers;
use crate::pipe::{Pipe, ReaderOptions, WriterOptions};
use crate::reader::{Lease, Reader};
use crate::record::Record;
use crate::session::{Outcome, Until};
use crate::writer::{Receipt, Writer};

/// The header that names the encoding of a typed record.
pub const CONTENT_TYPE: &str = "content-type";

/// How values become bytes.
pub trait Encoding: Send + Sync + 'static {
    /// What the header [`CONTENT_TYPE`] says of it.
    const CONTENT_TYPE: &'static str;

    /// The bytes of a value.
    ///
    /// # Errors
    /// `E_VALUE` when it has none in this encoding.
    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error>;

    /// The value of these bytes.
    ///
    /// # Errors
    /// `E_VALUE` when they are none of this type.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error>;
}

/// A line of JSON for each record: what the command line writes and reads.
#[derive(Clone, Copy, Debug)]
pub struct Json;

/// [Postcard](https://docs.rs/postcard): few bytes, quick, and both sides must have the same type.
#[derive(Clone, Copy, Debug)]
pub struct Postcard;

/// A pipe whose records are values of type `T`; see [`Pipe::typed`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use skypipe_core::{Client, Env, LocalBroker, Pipe, Until};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     number: u32,
///     what: String,
/// }
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let orders = Client::over(LocalBroker::in_memory(Env::system())?).pipe("orders")?.typed::<Order>();
///     let mut writer = orders.writer().await?;
///     writer.send(&Order { number: 7, what: "bread".into() }).await?;
///     writer.end(Until::Stored).await?;
///
///     let mut reader = orders.reader().await?;
///     while let Some(order) = reader.next().await? {
///         assert_eq!((order.number, &order.what[..]), (7, "bread"));
///     }
///     Ok(())
/// }
/// ```
pub struct Typed<T, E = Json, P = crate::pipe::BrokerPipe> {
    pipe: P,
    types: PhantomData<fn() -> (T, E)>,
}

/// Writes values.
pub struct TypedWriter<T, E = Json> {
    writer: Writer,
    types: PhantomData<fn(T, E)>,
}

/// Reads values.
pub struct TypedReader<T, E = Json> {
    reader: Reader,
    types: PhantomData<fn() -> (T, E)>,
}

/// A value, and the record that it was.
#[derive(Clone, Debug)]
pub struct Value<T> {
    /// The value.
    pub value: T,
    /// The record.
    pub record: Record,
}

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A value of a queue, in one reader's hands; see [`Lease`].
pub struct TypedLease<T> {
    value: T,
    lease: Lease,
}

impl<T> Deref for TypedLease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, P: Pipe> Typed<T, Json, P> {
    pub(crate) fn over(pipe: P) -> Self {
        Self { pipe, types: PhantomData }
    }

    /// The same, encoded as [`Postcard`] instead of JSON.
    pub fn postcard(self) -> Typed<T, Postcard, P> {
        Typed { pipe: self.pipe, types: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned, E: Encoding, P: Pipe> Typed<T, E, P> {
    /// The pipe itself.
    pub fn pipe(&self) -> &P {
        &self.pipe
    }

    /// Attaches a writer.
    ///
    /// # Errors
    /// As [`Pipe::writer_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::writer_with`].
    pub async fn writer(&self) -> Result<TypedWriter<T, E>, Error> {
        self.writer_with(WriterOptions::default()).await
    }

    /// Attaches a writer. Its records carry the header [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// As [`Pipe::writer_with`]; `E_USAGE` when there is no room for that header.
    ///
    /// # Cancel safety
    /// As [`Pipe::writer_with`].
    pub async fn writer_with(&self, mut options: WriterOptions) -> Result<TypedWriter<T, E>, Error> {
        options.headers = options.headers.with(CONTENT_TYPE, E::CONTENT_TYPE)?;
        Ok(TypedWriter { writer: self.pipe.writer_with(options).await?, types: PhantomData })
    }

    /// Attaches a reader.
    ///
    /// # Errors
    /// As [`Pipe::reader_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::reader_with`].
    pub async fn reader(&self) -> Result<TypedReader<T, E>, Error> {
        self.reader_with(ReaderOptions::default()).await
    }

    /// Attaches a reader.
    ///
    /// # Errors
    /// As [`Pipe::reader_with`].
    ///
    /// # Cancel safety
    /// As [`Pipe::reader_with`].
    pub async fn reader_with(&self, options: ReaderOptions) -> Result<TypedReader<T, E>, Error> {
        Ok(TypedReader { reader: self.pipe.reader_with(options).await?, types: PhantomData })
    }
}

impl<T: Serialize, E: Encoding> TypedWriter<T, E> {
    /// Sends one value; see [`Writer::send`].
    ///
    /// # Errors
    /// `E_VALUE` when the value cannot be encoded: nothing was sent then. Else as [`Writer::send`].
    ///
    /// # Cancel safety
    /// As [`Writer::send`].
    pub async fn send(&mut self, value: &T) -> Result<(), Error> {
        self.writer.send(&E::encode(value)?).await
    }

    /// Ends the item; see [`Writer::end`].
    ///
    /// # Errors
    /// As [`Writer::end`].
    ///
    /// # Cancel safety
    /// As [`Writer::end`].
    pub async fn end(self, until: Until) -> Result<Receipt, Error> {
        self.writer.end(until).await
    }

    /// The writer beneath, for all that has nothing to do with types.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl<T: DeserializeOwned, E: Encoding> TypedReader<T, E> {
    /// The next value. Acknowledges the one before. `None` as in [`Reader::next`].
    ///
    /// # Errors
    /// `E_VALUE` for a record that is no such value: the call after it passes it over. Else as [`Reader::next`].
    ///
    /// # Cancel safety
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Value<T>>, Error> {
        let Some(record) = self.reader.next().await? else { return Ok(None) };
        let value = decode::<T, E>(&record.headers, &record.body)?;
        Ok(Some(Value { value, record }))
    }

    /// The next value of a queue, for this reader alone until it says what became of it. A record that is no such value is refused, so it comes to the
    /// dead letters in the end.
    ///
    /// # Errors
    /// `E_VALUE` for a record that is no such value; else as [`Reader::next_lease`].
    ///
    /// # Cancel safety
    /// As [`Reader::next_lease`].
    pub async fn next_lease(&mut self) -> Result<Option<TypedLease<T>>, Error> {
        let Some(lease) = self.reader.next_lease().await? else { return Ok(None) };
        match decode::<T, E>(lease.headers(), lease.body()) {
            Ok(value) => Ok(Some(TypedLease { value, lease })),
            Err(error) => {
                lease.refuse(Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Leaves before the end; see [`Reader::leave`].
    ///
    /// # Errors
    /// As [`Reader::leave`].
    ///
    /// # Cancel safety
    /// As [`Reader::leave`].
    pub async fn leave(self, part: bool) -> Result<Outcome, Error> {
        self.reader.leave(part).await
    }

    /// The reader beneath, for all that has nothing to do with types.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

impl<T> TypedLease<T> {
    /// The record is done with; see [`Lease::done`].
    pub fn done(self) {
        self.lease.done();
    }

    /// Somebody is to have it once more; see [`Lease::refuse`].
    pub fn refuse(self, delay: Duration) {
        self.lease.refuse(delay);
    }

    /// Value and lease apart.
    pub fn into_parts(self) -> (T, Lease) {
        (self.value, self.lease)
    }
}

/// A record without the header is taken for what is expected: whoever wrote it need not be a program like this one.
fn decode<T: DeserializeOwned, E: Encoding>(headers: &Headers, bytes: &[u8]) -> Result<T, Error> {
    match headers.get(CONTENT_TYPE) {
        Some(other) if other != E::CONTENT_TYPE => {
            Err(Error::new(Code::Value, format!("a record is {}, not {}", other.escape_debug(), E::CONTENT_TYPE)))
        }
        _ => E::decode(bytes),
    }
}

impl Encoding for Json {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
        let mut line = serde_json::to_vec(value).map_err(|error| no_bytes(error.to_string()))?;
        line.push(b'\n');
        Ok(line)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| no_value(error.to_string()))
    }
}

impl Encoding for Postcard {
    const CONTENT_TYPE: &'static str = "application/postcard";

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(value).map_err(|error| no_bytes(error.to_string()))
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
        let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| no_value(error.to_string()))?;
        if rest.is_empty() { Ok(value) } else { Err(no_value(format!("{} bytes are left", rest.len()))) }
    }
}

fn no_bytes(why: String) -> Error {
    Error::new(Code::Value, "a value cannot be encoded").because(why)
}

fn no_value(why: String) -> Error {
    Error::new(Code::Value, format!("a record is no such value: {why}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::broker::Mode;
    use crate::client::Client;
    use crate::env::Env;
    use crate::local_broker::LocalBroker;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        number: u32,
        what: String,
    }

    fn order(number: u32) -> Order {
        Order { number, what: "bread".into() }
    }

    fn pipe() -> crate::pipe::BrokerPipe {
        Client::over(LocalBroker::in_memory(Env::system()).unwrap()).pipe("orders").unwrap()
    }

    #[tokio::test]
    async fn values_come_as_they_went_in_either_encoding() {
        async fn both_ways<E: Encoding>(orders: Typed<Order, E>) -> Vec<u8> {
            let mut writer = orders.writer().await.unwrap();
            writer.send(&order(1)).await.unwrap();
            writer.end(Until::Stored).await.unwrap();
            let mut reader = orders.reader().await.unwrap();
            let got = reader.next().await.unwrap().unwrap();
            assert_eq!((&*got, got.record.headers.get(CONTENT_TYPE)), (&order(1), Some(E::CONTENT_TYPE)));
            assert!(reader.next().await.unwrap().is_none());
            got.record.body.to_vec()
        }
        assert_eq!(both_ways(pipe().typed()).await, b"{\"number\":1,\"what\":\"bread\"}\n");
        assert_eq!(both_ways(pipe().typed().postcard()).await, b"\x01\x05bread");
    }

    #[tokio::test]
    async fn what_is_no_such_value_is_told_and_passed_over() {
        let pipe = pipe();
        let mut writer = pipe.writer().await.unwrap();
        for text in [&b"nonsense"[..], b"{\"number\":1,\"what\":\"bread\"}"] {
            writer.send(text).await.unwrap();
        }
        writer.end(Until::Stored).await.unwrap();
        let mut reader = pipe.clone().typed::<Order>().reader().await.unwrap();
        assert_eq!(reader.next().await.unwrap_err().code(), Code::Value);
        assert_eq!(reader.next().await.unwrap().unwrap().value, order(1));
        assert!(reader.next().await.unwrap().is_none());
        // Written as the one, read as the other.
        let mut writer = pipe.clone().typed().writer().await.unwrap();
        writer.send(&order(1)).await.unwrap();
        writer.end(Until::Stored).await.unwrap();
        let mut reader = pipe.typed::<Order>().postcard().reader().await.unwrap();
        assert!(reader.next().await.unwrap_err().text().contains("application/json"));
    }

    #[tokio::test]
    async fn values_of_a_queue_are_done_or_go_to_the_dead_letters() {
        let pipe = pipe();
        let mut options = WriterOptions::default().with_mode(Mode::Queue);
        options.settings.max_deliveries = Some(1);
        let mut writer = pipe.writer_with(options).await.unwrap();
        for text in [&b"nonsense"[..], b"{\"number\":1,\"what\":\"bread\"}"] {
            writer.send(text).await.unwrap();
        }
        writer.end(Until::Stored).await.unwrap();
        let mut reader = pipe.typed::<Order>().reader().await.unwrap();
        assert_eq!(reader.next_lease().await.err().map(|error| error.code()), Some(Code::Value));
        let lease = reader.next_lease().await.unwrap().unwrap();
        assert_eq!(*lease, order(1));
        lease.done();
        reader.reader().settled().await.unwrap();
    }
}
