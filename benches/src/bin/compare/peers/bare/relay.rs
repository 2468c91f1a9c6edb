//! The relay of a few lines.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::stream::Listening;
use super::{Bare, CHUNK_BYTES, DONE, Duplex, READER};
use crate::Failure;

/// The reader of the day. A writer has it alone.
type Slot<R> = Arc<Mutex<Option<R>>>;
type BytesReader = (ReadHalf<Box<dyn Duplex>>, WriteHalf<Box<dyn Duplex>>);
type Socket = WebSocketStream<Box<dyn Duplex>>;

/// Forwards what each writer sends to the reader that came last. Prints where it is.
pub(crate) async fn serve(way: &str, socket: &str) -> Result<(), Failure> {
    let way = Bare::named(way)?;
    let (listening, at) = Listening::open(way, socket).await?;
    println!("{at}");
    let (bytes, messages) = (Slot::default(), Slot::default());
    loop {
        let stream = listening.accept().await?;
        if way.has_messages() {
            tokio::spawn(pass_messages(tokio_tungstenite::accept_async(stream).await?, messages.clone()));
        } else {
            tokio::spawn(pass_bytes(stream, bytes.clone()));
        }
    }
}

async fn pass_bytes(stream: Box<dyn Duplex>, slot: Slot<BytesReader>) -> Result<(), Failure> {
    let (mut from, mut back) = split(stream);
    if from.read_u8().await? == READER {
        back.write_u8(DONE).await?;
        back.flush().await?;
        *slot.lock().await = Some((from, back));
        return Ok(());
    }
    let mut reader = slot.lock().await;
    let (_, to) = reader.as_mut().ok_or("nobody reads")?;
    let mut space = vec![0; CHUNK_BYTES];
    while let length @ 1.. = from.read(&mut space).await? {
        to.write_all(&space[..length]).await?;
        to.flush().await?;
    }
    back.write_u8(DONE).await?;
    Ok(back.shutdown().await?)
}

async fn pass_messages(mut socket: Socket, slot: Slot<Socket>) -> Result<(), Failure> {
    let first = socket.next().await.ok_or("no message")??.into_data();
    if first.first() == Some(&READER) {
        socket.send(Message::Binary(vec![DONE].into())).await?;
        *slot.lock().await = Some(socket);
        return Ok(());
    }
    let mut reader = slot.lock().await;
    let to = reader.as_mut().ok_or("nobody reads")?;
    while let Some(message) = socket.next().await {
        match message? {
            message @ Message::Binary(_) => to.send(message).await?,
            Message::Text(_) => socket.send(Message::Binary(vec![DONE].into())).await?,
            _ => {}
        }
    }
    Ok(())
}
