//! One message of the multiplexer.

use bytes::{BufMut, Bytes, BytesMut};

use super::Breach;
use super::constants::{DATA_BYTES_MAX, HEADER_BYTES, kind};

/// The number of a stream: odd ones are opened by the client, even ones by the relay, each two more than the last.
pub(crate) type StreamId = u32;

/// What a message says of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Open,
    Data(Bytes),
    Window(u32),
    Fin,
    Reset,
    Streams(u32),
}

/// Takes a message apart; its bytes stay where they are.
pub(crate) fn parse(mut message: Bytes) -> Result<(StreamId, Said), Breach> {
    let Some((&[kind, a, b, c, d], _)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Breach::Protocol("a message is shorter than its header"));
    };
    let stream = StreamId::from_le_bytes([a, b, c, d]);
    let payload = message.split_off(HEADER_BYTES);
    let said = match kind {
        kind::OPEN if payload.is_empty() => Said::Open,
        kind::DATA if payload.len() > DATA_BYTES_MAX => return Err(Breach::TooLong),
        kind::DATA if !payload.is_empty() => Said::Data(payload),
        kind::WINDOW => Said::Window(number(&payload)?),
        kind::FIN if payload.is_empty() => Said::Fin,
        kind::RESET if payload.is_empty() => Said::Reset,
        kind::STREAMS if stream == 0 => Said::Streams(number(&payload)?),
        _ => return Err(Breach::Protocol("a message of no known form")),
    };
    Ok((stream, said))
}

fn number(payload: &[u8]) -> Result<u32, Breach> {
    let bytes = payload.try_into().map_err(|_| Breach::Protocol("a number of another length than four bytes"))?;
    Ok(u32::from_le_bytes(bytes))
}

/// A message without payload.
pub(crate) fn plain(kind: u8, stream: StreamId) -> Bytes {
    head(kind, stream, 0).freeze()
}

/// A message with a number.
pub(crate) fn numbered(kind: u8, stream: StreamId, number: u32) -> Bytes {
    let mut message = head(kind, stream, 4);
    message.put_u32_le(number);
    message.freeze()
}

/// A message's header, with room for `payload` bytes behind it.
pub(crate) fn head(kind: u8, stream: StreamId, payload: usize) -> BytesMut {
    let mut message = BytesMut::with_capacity(HEADER_BYTES + payload);
    message.put_u8(kind);
    message.put_u32_le(stream);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_page() {
        assert_eq!(&plain(kind::OPEN, 1)[..], [1, 1, 0, 0, 0]);
        assert_eq!(&numbered(kind::WINDOW, 3, 0x0002_0000)[..], [3, 3, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(&plain(kind::FIN, 0x0102)[..], [4, 2, 1, 0, 0]);
        assert_eq!(&plain(kind::RESET, 2)[..], [5, 2, 0, 0, 0]);
        assert_eq!(&numbered(kind::STREAMS, 0, 4080)[..], [6, 0, 0, 0, 0, 0xf0, 0x0f, 0, 0]);
        assert_eq!(parse(Bytes::from_static(&[2, 1, 0, 0, 0, 9])).unwrap(), (1, Said::Data(Bytes::from_static(&[9]))));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let too_long = [&[2, 1, 0, 0, 0][..], &vec![0; DATA_BYTES_MAX + 1]].concat();
        assert_eq!(parse(too_long.into()).unwrap_err(), Breach::TooLong);
        for bad in [&[][..], &[1], &[0, 1, 0, 0, 0], &[7, 1, 0, 0, 0], &[2, 1, 0, 0, 0], &[1, 1, 0, 0, 0, 0]] {
            assert!(matches!(parse(Bytes::copy_from_slice(bad)), Err(Breach::Protocol(_))), "{bad:?}");
        }
        for bad in [&[3, 1, 0, 0, 0][..], &[3, 1, 0, 0, 0, 1, 0, 0], &[6, 1, 0, 0, 0, 1, 0, 0, 0], &[4, 1, 0, 0, 0, 4]]
        {
            assert!(matches!(parse(Bytes::copy_from_slice(bad)), Err(Breach::Protocol(_))), "{bad:?}");
        }
    }
}
