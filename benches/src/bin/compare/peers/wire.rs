//! Buffers for the clients here: small records leave together, large ones without a copy.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Failure;
use crate::record::Arrivals;

/// What is read or written at once.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;
/// From this length on a record is not copied into the buffer.
const LARGE_BYTES: usize = 32 * 1024;

/// The writing half of a connection.
pub(crate) struct Outgoing<W> {
    stream: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self { stream, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Puts a few bytes into the buffer.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Puts a number in decimal into the buffer.
    pub(crate) fn put_number(&mut self, number: usize) {
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), number);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.put(&digits[at..]);
            }
        }
    }

    /// Puts a record behind what is in the buffer; writes when there is enough.
    pub(crate) async fn record(&mut self, record: &[u8]) -> Result<(), Failure> {
        if record.len() >= LARGE_BYTES {
            self.flush().await?;
            self.stream.write_all(record).await?;
            return Ok(());
        }
        self.put(record);
        if self.buffer.len() > BUFFER_BYTES - LARGE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if !self.buffer.is_empty() {
            self.stream.write_all(&self.buffer).await?;
            self.buffer.clear();
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Writes the rest and ends the stream.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }
}

/// The reading half of a connection.
pub(crate) struct Incoming<R> {
    stream: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], from: 0, to: 0 }
    }

    /// Whether the next line is here already.
    pub(crate) fn has_line(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer[self.from..self.to]).is_some()
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> Result<&[u8], Failure> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.from + looked..self.to]) {
                let line = self.from..self.from + looked + at;
                self.from = line.end + 1;
                return Ok(self.buffer[line].trim_ascii_end());
            }
            looked = self.to - self.from;
            self.fill().await?;
        }
    }

    /// Passes over so many bytes.
    pub(crate) async fn skip(&mut self, length: usize) -> Result<(), Failure> {
        self.body(length, |_| ()).await
    }

    /// Hands a record of this length over, in parts as it comes.
    pub(crate) async fn record(&mut self, length: usize, arrivals: &mut Arrivals) -> Result<(), Failure> {
        self.body(length, |part| arrivals.take(part)).await
    }

    /// One byte.
    pub(crate) async fn byte(&mut self) -> Result<u8, Failure> {
        let mut byte = 0;
        self.body(1, |part| byte = part[0]).await?;
        Ok(byte)
    }

    async fn body(&mut self, mut length: usize, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        while length > 0 {
            if self.from == self.to {
                self.fill().await?;
            }
            let part = length.min(self.to - self.from);
            take(&self.buffer[self.from..self.from + part]);
            self.from += part;
            length -= part;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        match self.stream.read(&mut self.buffer[self.to..]).await? {
            0 => Err("the server closed the connection".into()),
            length => {
                self.to += length;
                Ok(())
            }
        }
    }
}

/// The number that a line ends with, behind its kind: `$128`.
pub(crate) fn number(digits: &[u8]) -> Result<usize, Failure> {
    let text = std::str::from_utf8(digits)?;
    text.parse().map_err(|_| format!("not a number: {text}").into())
}
