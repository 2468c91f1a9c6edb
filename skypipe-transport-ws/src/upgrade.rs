//! From an HTTP request to a WebSocket, at a relay: who may, and what everybody else is told.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::header::{
    HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::http::{Method, StatusCode, Uri};
use tokio_tungstenite::tungstenite::{Error as WsError, http};

use crate::SUBPROTOCOL;
use crate::limits::{REQUEST_BYTES_MAX, REQUEST_HEADERS_MAX};

/// Whom a relay lets in by what stands in the request. Programs send no origin; browsers send the page's, whatever it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doorman {
    /// Pages that may connect, as `https://relay.example`.
    pub(crate) origins: Vec<String>,
    /// Names by which the relay may be called; none is any. A page that a foreign name leads here calls it by that name.
    pub(crate) hosts: Vec<String>,
}

/// No, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    why: &'static str,
}

const fn refusal(status: StatusCode, why: &'static str) -> Refusal {
    Refusal { status, why }
}

const NO_HTTP: Refusal = refusal(StatusCode::BAD_REQUEST, "this is no HTTP request");
const TOO_LARGE: Refusal = refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too large");
const FORBIDDEN: Refusal = refusal(StatusCode::FORBIDDEN, "not from there");
/// What a request that takes too long is told.
pub(crate) const TOO_SLOW: Refusal = refusal(StatusCode::REQUEST_TIMEOUT, "the request took too long");

/// Reads a request and answers it. None: the connection broke before there was anything to answer.
pub(crate) async fn upgrade<S>(stream: &mut S, doorman: &Doorman) -> Result<(), Option<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = read(stream).await?;
    let answer = doorman.answer(&request)?;
    stream.write_all(&answer).await.map_err(|_| None)?;
    stream.flush().await.map_err(|_| None)
}

/// Tells a client no and closes.
pub(crate) async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, refusal: &Refusal) {
    let Refusal { status, why } = refusal;
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n{why}\n",
        why.len() + 1
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Reads until the request is whole; nothing may follow before it is answered.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Request, Option<Refusal>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let before = bytes.len();
        let room = (REQUEST_BYTES_MAX + 1 - before) as u64;
        let read = (&mut *stream).take(room).read_buf(&mut bytes).await.map_err(|_| None)?;
        if read == 0 {
            return Err(None);
        }
        // Only an empty line ends a request: a drip of single bytes is not parsed again for each.
        let ends = bytes[before.saturating_sub(3)..].windows(2).any(|two| two == b"\n\n" || two == b"\n\r");
        if ends && let Some((request, length)) = parse(&bytes)? {
            return if length == bytes.len() { Ok(request) } else { Err(Some(NO_HTTP)) };
        }
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Some(TOO_LARGE));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut headers);
    let length = match raw.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(NO_HTTP),
    };
    if raw.version != Some(1) {
        return Err(refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here"));
    }
    request(&raw).map(|request| Some((request, length))).ok_or(NO_HTTP)
}

fn request(raw: &httparse::Request<'_, '_>) -> Option<Request> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(raw.method?.as_bytes()).ok()?;
    *request.uri_mut() = raw.path?.parse::<Uri>().ok()?;
    for header in raw.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(request)
}

impl Doorman {
    /// The bytes of the answer that makes it a WebSocket.
    fn answer(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let headers = request.headers();
        self.check_host(headers)?;
        self.check_origin(headers)?;
        let mut response = create_response(request).map_err(|e| not_an_upgrade(&e))?;
        if !offers(headers, SUBPROTOCOL) {
            return Err(refusal(StatusCode::BAD_REQUEST, "only the subprotocol skypipe.1 is spoken here"));
        }
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let mut answer = Vec::new();
        write_response(&mut answer, &response).map_err(|_| NO_HTTP)?;
        Ok(answer)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = only(headers, &HOST)?.ok_or(NO_HTTP)?;
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let is_host = |allowed: &String| {
            allowed.eq_ignore_ascii_case(host) || name.is_some_and(|(name, _)| allowed.eq_ignore_ascii_case(name))
        };
        if self.hosts.is_empty() || self.hosts.iter().any(is_host) { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// A page of another site comes with its origin; a browser that hides the origin still says that it is another site.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(origin) = only(headers, &ORIGIN)? {
            let allowed = self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
            return if allowed { Ok(()) } else { Err(FORBIDDEN) };
        }
        let site = only(headers, &HeaderName::from_static("sec-fetch-site"))?;
        if site.is_some_and(|site| site != "none") { Err(FORBIDDEN) } else { Ok(()) }
    }
}

/// The one header of this name. Two that contradict each other are no request.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let mut all = headers.get_all(name).iter();
    let (first, second) = (all.next(), all.next());
    if second.is_some() {
        return Err(NO_HTTP);
    }
    first.map(|value| value.to_str().map_err(|_| NO_HTTP)).transpose()
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offered| offered.trim() == protocol)
}

fn not_an_upgrade(error: &WsError) -> Refusal {
    let status = match error {
        WsError::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
        WsError::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => http::StatusCode::UPGRADE_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    };
    refusal(status, "this is a skypipe relay: it speaks WebSocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /any/path HTTP/1.1\r\nHost: relay.example:7473\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
        Sec-WebSocket-Protocol: chat, skypipe.1\r\n";

    async fn ask(request: &str, doorman: &Doorman) -> (Result<(), Option<Refusal>>, String) {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        near.write_all(request.as_bytes()).await.unwrap();
        let answered = upgrade(&mut far, doorman).await;
        if let Err(Some(refusal)) = &answered {
            refuse(&mut far, refusal).await;
        }
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        (answered, answer)
    }

    async fn status(request: &str, doorman: &Doorman) -> u16 {
        ask(request, doorman).await.1.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    #[tokio::test]
    async fn a_program_is_let_in_at_any_path() {
        let (answered, answer) = ask(&format!("{GOOD}\r\n"), &Doorman::default()).await;
        assert_eq!(answered, Ok(()));
        assert!(
            answer.starts_with("HTTP/1.1 101 ") && answer.contains("sec-websocket-protocol: skypipe.1"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn everybody_else_is_told_no() {
        let any = Doorman::default();
        let without = |header: &str| {
            let lines = GOOD.split_inclusive("\r\n").filter(|line| !line.starts_with(header));
            format!("{}\r\n", lines.collect::<String>())
        };
        for (request, expected) in [
            (format!("{}\r\n", GOOD.replace("GET", "POST")), 405),
            (format!("{}\r\n", GOOD.replace("HTTP/1.1", "HTTP/1.0")), 505),
            (format!("{}\r\n", GOOD.replace("skypipe.1", "skypipe.2")), 400),
            (format!("{GOOD}Host: other.example\r\n\r\n"), 400),
            (format!("{GOOD}X: {}\r\n\r\n", "x".repeat(10 * 1024)), 431),
            (format!("{GOOD}{}\r\n", "X: x\r\n".repeat(70)), 431),
            (format!("{GOOD}\r\nmore"), 400),
            (without("Host"), 400),
            (without("Upgrade"), 426),
            (without("Sec-WebSocket-Key"), 400),
            (without("Sec-WebSocket-Protocol"), 400),
            ("\x16\x03\x01 tls?\r\n\r\n".to_owned(), 400),
        ] {
            assert_eq!(status(&request, &any).await, expected, "{request}");
        }
    }

    #[tokio::test]
    async fn pages_are_let_in_only_from_where_it_is_allowed() {
        let doorman =
            Doorman { origins: vec!["https://good.example".to_owned()], hosts: vec!["relay.example".to_owned()] };
        let hosts = ["relay.example:7473", "RELAY.example", "evil.example", "127.0.0.1:7473"];
        let origins = [
            "https://good.example",
            "http://good.example",
            "https://good.example:444",
            "https://good.example.evil.example",
            "https://evil.example",
            "null",
            "file://",
            "",
        ];
        for host in hosts {
            let request = GOOD.replace("relay.example:7473", host);
            let host_passes = host.to_ascii_lowercase().starts_with("relay");
            for origin in origins {
                let passes = host_passes && origin == "https://good.example";
                let expected = if passes { 101 } else { 403 };
                assert_eq!(
                    status(&format!("{request}Origin: {origin}\r\n\r\n"), &doorman).await,
                    expected,
                    "{host} {origin}"
                );
            }
            let expected = if host_passes { 101 } else { 403 };
            assert_eq!(status(&format!("{request}\r\n"), &doorman).await, expected, "{host}");
        }
        for (site, expected) in [("cross-site", 403), ("same-site", 403), ("none", 101)] {
            assert_eq!(status(&format!("{GOOD}Sec-Fetch-Site: {site}\r\n\r\n"), &doorman).await, expected, "{site}");
        }
        let both = format!("{GOOD}Origin: https://good.example\r\nSec-Fetch-Site: cross-site\r\n\r\n");
        assert_eq!(status(&both, &doorman).await, 101);
    }
}
