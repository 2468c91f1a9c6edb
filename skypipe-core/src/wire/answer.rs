//! What a relay answers, once on each stream.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::constants::{KEY_LINE_PREFIX_BYTES, KEYS_BYTES_MAX, KEYS_MAX, PAYLOAD_BYTES_MAX, kind};
use super::fields::{ack, known_mode, payload, position, put_ack, seq};
use super::frame::Frame;
use super::message::{Message, carried_error, refused_frame};
use super::stat::{put_stat, stat};
use crate::broker::{LIST_PAGE_MAX, ListPage, Mode, ReaderWelcome, WriterWelcome};
use crate::codec::{Fields, put_short};
use crate::error::{Code, Error};
use crate::id::Position;
use crate::stat::PipeStat;

/// The answer to a [`Request`](super::Request). A refusal is the error it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The writer is attached.
    WriterWelcome(WriterWelcome),
    /// The reader is attached.
    ReaderWelcome(ReaderWelcome),
    /// A page of pipes. One too long for a frame is cut, and says that there are more.
    Page(ListPage),
    /// One pipe's figures.
    Stat(PipeStat),
    /// It is done.
    Done,
    /// The bytes of the ping.
    Pong(Bytes),
    /// The ticket.
    Invited(Invited),
    /// The keys that are known, a line of `authorized_keys` each. A list too long for a frame becomes a refusal.
    Keys(Vec<String>),
    /// So many.
    Count(u32),
}

/// A ticket that a relay made: what [`Gatekeeper::invite`](crate::Gatekeeper::invite) gave, and where the relay is.
#[derive(Clone, PartialEq, Eq)]
pub struct Invited {
    /// The token: a secret.
    pub token: Bytes,
    /// The URLs of the relay, as it knows them itself.
    pub urls: Vec<String>,
}

impl fmt::Debug for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invited({:?}, token of {} bytes not shown)", self.urls, self.token.len())
    }
}

impl Message for Answer {
    fn into_frame(self) -> Frame {
        match self {
            Self::WriterWelcome(welcome) => Frame::new(kind::WRITER_WELCOME, payload(|out| put_welcome(out, &welcome))),
            Self::ReaderWelcome(welcome) => {
                let fields = payload(|out| put_reader_welcome(out, &welcome));
                Frame::new(kind::READER_WELCOME, fields)
            }
            Self::Page(page) => Frame::new(kind::PAGE, put_page(&page)),
            Self::Stat(stat) => Frame::new(kind::STAT_OF, payload(|out| put_stat(out, &stat))),
            Self::Done => Frame::new(kind::DONE, Bytes::new()),
            Self::Pong(bytes) => Frame::new(kind::PONG, payload(|out| put_short(out, &bytes))),
            Self::Invited(invited) if !fit(&invited.urls, 2 + invited.token.len()) => too_long("URLs"),
            Self::Invited(invited) => Frame::new(
                kind::INVITED,
                payload(|out| {
                    put_short(out, &invited.token);
                    put_texts(out, &invited.urls);
                }),
            ),
            Self::Keys(lines) if !fit(&lines, 0) => too_long("keys"),
            Self::Keys(lines) => Frame::new(kind::KEYS_ARE, payload(|out| put_texts(out, &lines))),
            Self::Count(count) => Frame::new(kind::COUNT, payload(|out| out.put_u32_le(count))),
        }
    }

    fn from_frame(frame: Frame) -> Result<Option<Self>, Error> {
        let answer = match frame.kind {
            kind::WRITER_WELCOME => Self::WriterWelcome(welcome(&mut frame.open().0)?),
            kind::READER_WELCOME => Self::ReaderWelcome(reader_welcome(&mut frame.open().0)?),
            kind::PAGE => Self::Page(page(&mut frame.open().0)?),
            kind::STAT_OF => Self::Stat(stat(&mut frame.open().0)?),
            kind::DONE => Self::Done,
            kind::PONG => Self::Pong(frame.open().0.short()?),
            kind::INVITED => {
                let mut fields = frame.open().0;
                Self::Invited(Invited { token: fields.short()?, urls: texts(&mut fields)? })
            }
            kind::KEYS_ARE => Self::Keys(texts(&mut frame.open().0)?),
            kind::COUNT => Self::Count(frame.open().0.u32()?),
            kind::REFUSED | kind::ERROR => return Err(carried_error(frame)),
            _ => return frame.unknown(),
        };
        Ok(Some(answer))
    }
}

fn put_welcome(out: &mut BytesMut, welcome: &WriterWelcome) {
    out.put_u64_le(welcome.next.0);
    put_ack(out, &welcome.ack);
    out.put_u64_le(welcome.credit);
    out.put_u32_le(welcome.readers);
    if welcome.mode != Mode::Default {
        out.put_u8(welcome.mode as u8);
    }
}

pub(super) fn put_reader_welcome(out: &mut BytesMut, welcome: &ReaderWelcome) {
    if *welcome != ReaderWelcome::default() {
        out.put_u8(welcome.mode as u8);
        put_short(out, &welcome.position.0);
    }
}

/// Of a default pipe nothing is said.
fn mode_if_any(fields: &mut Fields) -> Result<Mode, Error> {
    if fields.0.is_empty() { Ok(Mode::Default) } else { known_mode(fields.u8()?) }
}

pub(super) fn reader_welcome(fields: &mut Fields) -> Result<ReaderWelcome, Error> {
    let mode = mode_if_any(fields)?;
    let position = if fields.0.is_empty() { Position::default() } else { position(fields)? };
    Ok(ReaderWelcome { mode, position })
}

fn welcome(fields: &mut Fields) -> Result<WriterWelcome, Error> {
    let (next, ack, credit, readers) = (seq(fields)?, ack(fields)?, fields.u64()?, fields.u32()?);
    Ok(WriterWelcome { next, ack, credit, readers, mode: mode_if_any(fields)? })
}

/// Whether these lines go into one frame, behind `before` bytes, none of them cut.
fn fit(texts: &[String], before: usize) -> bool {
    let short = texts.iter().all(|text| text.len() <= usize::from(u16::MAX));
    let bytes: usize = texts.iter().map(|text| KEY_LINE_PREFIX_BYTES + text.len()).sum();
    short && texts.len() <= KEYS_MAX && before + bytes <= KEYS_BYTES_MAX
}

/// A list that does not go into one frame is refused whole: a part would pass for all of it.
fn too_long(what: &str) -> Frame {
    refused_frame(&Error::new(Code::Busy, format!("the list of {what} is too long for one answer")))
}

fn put_texts(out: &mut BytesMut, texts: &[String]) {
    out.put_u16_le(texts.len() as u16);
    texts.iter().for_each(|text| put_short(out, text.as_bytes()));
}

fn texts(fields: &mut Fields) -> Result<Vec<String>, Error> {
    let count = fields.u16()? as usize;
    if count > KEYS_MAX {
        return Err(Error::new(Code::Protocol, format!("a list of {count} lines is over {KEYS_MAX}")));
    }
    (0..count).map(|_| fields.text()).collect()
}

fn put_page(page: &ListPage) -> Bytes {
    let (mut stats, mut count) = (BytesMut::new(), 0u32);
    for stat in &page.pipes {
        let before = stats.len();
        put_stat(&mut stats, stat);
        // One byte and the count of four stand before the stats.
        if stats.len() + 5 > PAYLOAD_BYTES_MAX {
            stats.truncate(before);
            break;
        }
        count += 1;
    }
    let more = page.more || (count as usize) < page.pipes.len();
    payload(|out| {
        out.put_u8(u8::from(more));
        out.put_u32_le(count);
        out.put_slice(&stats);
    })
}

fn page(fields: &mut Fields) -> Result<ListPage, Error> {
    let (more, count) = (fields.u8()? != 0, fields.u32()?);
    if count > LIST_PAGE_MAX {
        return Err(Error::new(Code::Protocol, format!("a page of {count} pipes is over {LIST_PAGE_MAX}")));
    }
    let pipes = (0..count).map(|_| stat(fields)).collect::<Result<_, _>>()?;
    Ok(ListPage { pipes, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::PipePath;

    #[test]
    fn a_page_too_long_is_cut_and_says_so() {
        let path = |i: u32| PipePath::from_segments([&i.to_be_bytes()[..], &[b'x'; 250], &[b'y'; 250]]);
        let pipes: Vec<_> = (1..=1000).map(|i| PipeStat::empty(path(i), Mode::Default)).collect();
        let frame = Answer::Page(ListPage { pipes: pipes.clone(), more: false }).into_frame();
        assert!(frame.payload_bytes() <= PAYLOAD_BYTES_MAX);
        let Some(Answer::Page(page)) = Answer::from_frame(frame).unwrap() else { panic!("not a page") };
        assert!(page.more && page.pipes.len() > 900 && page.pipes[..] == pipes[..page.pipes.len()]);
    }

    #[test]
    fn a_list_of_keys_comes_whole_or_not_at_all() {
        let lines = |count: usize| vec!["k".repeat(1000); count];
        let most = KEYS_BYTES_MAX / (KEY_LINE_PREFIX_BYTES + 1000);
        let frame = Answer::Keys(lines(most)).into_frame();
        assert!(frame.payload_bytes() <= PAYLOAD_BYTES_MAX);
        assert_eq!(Answer::from_frame(frame).unwrap(), Some(Answer::Keys(lines(most))));
        for too_many in [lines(most + 1), vec![String::new(); KEYS_MAX + 1], vec!["k".repeat(1 << 16)]] {
            assert_eq!(Answer::from_frame(Answer::Keys(too_many).into_frame()).unwrap_err().code(), Code::Busy);
        }
    }
}
