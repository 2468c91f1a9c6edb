//! Tickets and `authorized_keys`.

use data_encoding::BASE64URL_NOPAD;
use skypipe_core::WallTime;
use skypipe_keys::{AllowList, Entry, Ticket, fingerprint};

use crate::allocated::within;
use crate::names::assert_is_a_line;

/// What a line of `authorized_keys` may cost: an SSH key is read by a general decoder.
const BYTES_FOR_EACH: usize = 256;
const BYTES_AT_LEAST: usize = 64 * 1024;
/// A time without `Z` is one of this machine's zone, whose rules are read from its disk.
const TIME_ZONE_BYTES: usize = 512 * 1024;

/// A ticket as text, or what is inside of one with a good checksum.
pub(crate) fn tickets(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let text = if first & 1 == 0 {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        let sum = crc32c::crc32c(bytes).to_be_bytes();
        format!("sky1{}", BASE64URL_NOPAD.encode(&[bytes, &sum].concat()))
    };
    match within(BYTES_AT_LEAST + BYTES_FOR_EACH * bytes.len(), || text.parse::<Ticket>()) {
        Ok(ticket) => {
            assert_eq!(ticket.to_string().parse::<Ticket>().as_ref(), Ok(&ticket), "a ticket survives its text");
            assert!(ticket.urls.iter().all(|url| url.bytes().all(|b| b.is_ascii_graphic())));
        }
        Err(error) => assert_is_a_line(&error),
    }
}

pub(crate) fn authorized_keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let list = match within(TIME_ZONE_BYTES + BYTES_FOR_EACH * text.len(), || AllowList::parse(&text)) {
        Ok(list) => list,
        Err(error) => return assert_is_a_line(&error),
    };
    let lines = |text: &str| text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&list.to_string()), lines(&text), "nothing is changed");
    let mut copy = AllowList::default();
    for entry in list.entries() {
        let _ = (list.owner(entry.key), list.admitted(entry.key, WallTime(1)), fingerprint(entry.key));
        // A pattern that cannot stand in a line says so.
        if let Ok(line) = entry.to_line() {
            let comment: String = entry.comment.chars().filter(|c| !c.is_control()).collect();
            let clean = Entry { comment: comment.trim().to_owned(), ..entry.clone() };
            assert_eq!(Entry::parse(&line), Ok(clean), "a line survives its text, but for control characters");
            assert!(copy.put(entry.clone()).is_ok());
        }
    }
    for entry in list.entries() {
        copy.remove(&entry.key.to_string());
    }
    assert_eq!(copy.entries().count(), 0, "who is removed is gone");
}
