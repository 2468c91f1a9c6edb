//! The two ends at the relay of a few lines.

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::stream::connect;
use super::{Bare, CHUNK_BYTES, DONE, Duplex, READER};
use crate::Failure;
use crate::contender::{Receiver, Sender};
use crate::peers::wire::Outgoing;
use crate::record::Arrivals;

/// An end that is a stream of bytes.
pub(super) struct Bytes {
    incoming: ReadHalf<Box<dyn Duplex>>,
    outgoing: Outgoing<WriteHalf<Box<dyn Duplex>>>,
    space: Vec<u8>,
}

impl Bytes {
    pub(super) async fn connect(way: Bare, at: &str, side: u8) -> Result<Self, Failure> {
        let (mut incoming, mut outgoing) = split(connect(way, at).await?);
        outgoing.write_u8(side).await?;
        outgoing.flush().await?;
        if side == READER {
            done(incoming.read_u8().await?)?;
        }
        Ok(Self { incoming, outgoing: Outgoing::new(outgoing), space: vec![0; CHUNK_BYTES] })
    }
}

impl Sender for Bytes {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.outgoing.record(record).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.outgoing.flush().await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        Err("a bare relay acknowledges nothing before the end".into())
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.outgoing.end().await?;
        done(self.incoming.read_u8().await?)
    }
}

impl Receiver for Bytes {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let length = self.incoming.read(&mut self.space).await?;
        arrivals.take(&self.space[..length]);
        Ok(length > 0)
    }
}

/// An end that is a WebSocket.
pub(super) struct Messages {
    socket: WebSocketStream<Box<dyn Duplex>>,
    buffer: BytesMut,
}

impl Messages {
    pub(super) async fn connect(way: Bare, at: &str, side: u8) -> Result<Self, Failure> {
        let (socket, _) = tokio_tungstenite::client_async("ws://bare/", connect(way, at).await?).await?;
        let mut messages = Self { socket, buffer: BytesMut::with_capacity(CHUNK_BYTES) };
        messages.socket.send(Message::Binary(vec![side].into())).await?;
        if side == READER {
            messages.is_done().await?;
        }
        Ok(messages)
    }

    async fn is_done(&mut self) -> Result<(), Failure> {
        let message = self.socket.next().await.ok_or("the relay is gone")??;
        done(*message.into_data().first().ok_or("an empty message")?)
    }
}

impl Sender for Messages {
    async fn send(&mut self, mut record: &[u8]) -> Result<(), Failure> {
        while !record.is_empty() {
            let (part, rest) = record.split_at(record.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(part);
            record = rest;
            if self.buffer.len() == CHUNK_BYTES {
                self.socket.feed(Message::Binary(self.buffer.split().freeze())).await?;
                self.buffer.reserve(CHUNK_BYTES);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if !self.buffer.is_empty() {
            self.socket.feed(Message::Binary(self.buffer.split().freeze())).await?;
        }
        Ok(self.socket.flush().await?)
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        self.socket.send(Message::Text("?".into())).await?;
        self.is_done().await
    }
}

impl Receiver for Messages {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let Some(message) = self.socket.next().await else { return Ok(false) };
        arrivals.take(&message?.into_data());
        Ok(true)
    }
}

fn done(byte: u8) -> Result<(), Failure> {
    if byte == DONE { Ok(()) } else { Err("the relay says something else".into()) }
}
