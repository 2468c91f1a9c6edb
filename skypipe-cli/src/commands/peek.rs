//! `skypipe peek NAME`

use std::collections::BTreeMap;

use serde::Serialize;
use skypipe_core::{Error, Headers, Mark, Piece, Pipe as _, Reader, ReaderOptions, Record, Seq, SessionId, Take};

use super::on_this_thread;
use super::read::write_failed;
use crate::args::NameArgs;
use crate::broker::{Relay, to_read};
use crate::exit::Exit;
use crate::pipe_line::json_line;
use crate::signals::{Stop, Watch};
use crate::start;
use crate::stdout::{Stdout, WriteError};

pub(crate) fn run(relay: Option<&str>, args: NameArgs) -> Result<Exit, Error> {
    let pipe = to_read(&args.name)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let Some(mut stdout) = Stdout::look() else { return Ok(Exit::StdoutClosed) };
        let mut watch = Watch::new(None)?;
        let mut options = ReaderOptions::default();
        options.take = Take::Peek;
        options.no_wait = true;
        let shown = async {
            let mut reader = relay.pipe(&pipe).reader_with(options).await?;
            let written = if args.json.json {
                records(&mut reader, &mut stdout).await?
            } else {
                bytes(&mut reader, &mut stdout).await?
            };
            written.map_or_else(write_failed, |()| Ok(Exit::Done))
        };
        watch.idle(shown).await.unwrap_or_else(|stop: Stop| stop.exit("nothing was taken"))
    })
}

/// A record as programs see it. The names of the fields are a promise.
#[derive(Serialize)]
pub(super) struct RecordLine<'a> {
    /// The pipe it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pipe: Option<&'a str>,
    /// Where it stands: `--from` begins there. Of queues and broadcasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    /// How often it was handed out, this time included. Of queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Which item: the first digits of its session's id.
    item: String,
    /// Its number within the item.
    number: u64,
    /// What its writer says about it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    /// The record, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The record in hexadecimal digits, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl<'a> From<&'a Record> for RecordLine<'a> {
    fn from(record: &'a Record) -> Self {
        Self::new(record.writer, record.seq, &record.headers, &record.body)
    }
}

impl<'a> RecordLine<'a> {
    /// A record of a queue or broadcast, with its place.
    pub(super) fn of_piece(
        writer: SessionId,
        piece: &'a Piece,
        at: &Mark,
        attempt: Option<u32>,
        headers: &'a Headers,
    ) -> Self {
        let position = (!at.position.0.is_empty()).then(|| start::shown(at));
        Self { position, attempt, ..Self::new(writer, piece.seq, headers, &piece.body) }
    }

    /// The same with the name of its pipe.
    pub(super) fn of_pipe(self, name: &'a str) -> Self {
        Self { pipe: Some(name), ..self }
    }

    fn new(writer: SessionId, number: Seq, headers: &'a Headers, body: &'a [u8]) -> Self {
        let text = std::str::from_utf8(body).ok();
        let hex = || body.iter().map(|b| format!("{b:02x}")).collect();
        let hex = if text.is_none() { Some(hex()) } else { None };
        let headers = headers.iter().collect();
        Self {
            pipe: None,
            position: None,
            attempt: None,
            item: writer.to_string(),
            number: number.0,
            headers,
            hex,
            text,
        }
    }
}

async fn bytes(reader: &mut Reader, stdout: &mut Stdout) -> Result<Result<(), WriteError>, Error> {
    while let Some(chunk) = reader.next_chunk().await? {
        if let Err(error) = stdout.write(chunk.bodies()).await {
            return Ok(Err(error));
        }
    }
    Ok(stdout.finish().await)
}

async fn records(reader: &mut Reader, stdout: &mut Stdout) -> Result<Result<(), WriteError>, Error> {
    while let Some(record) = reader.next().await? {
        let line = json_line(&RecordLine::from(&record));
        if let Err(error) = stdout.write(line.into()).await {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use skypipe_core::{Seq, SessionId};

    use super::*;

    #[test]
    fn records_are_text_or_digits() {
        let line = |body: &'static [u8]| {
            let record = Record {
                pipe: Default::default(),
                writer: SessionId([0xab; 16]),
                seq: Seq(3),
                body: body.into(),
                at: Default::default(),
                attempt: None,
                headers: Headers::new(),
            };
            json_line(&RecordLine::from(&record))
        };
        assert_eq!(line(b"a\n"), "{\"item\":\"abababab\",\"number\":3,\"text\":\"a\\n\"}\n");
        assert_eq!(line(b"\xff\x00"), "{\"item\":\"abababab\",\"number\":3,\"hex\":\"ff00\"}\n");
    }
}
