//! What a folder holds that is to be a log: its salt, and which of its files are the segments of this log.

use std::io::IoSlice;

use super::disk::{Disk, read_short, write_all_at};
use super::format::{
    FORMAT_FILE, FORMAT_FILE_NEW, Header, LOG_VERSION, QUARANTINE, format_text, newer, parse_format, segment_name,
    segment_number,
};
use super::tolerant::Tolerant;
use super::{LogOptions, segment_header, storage};
use crate::error::{Code, Error};

/// Most of the `format` file that is read: it has two short lines.
const FORMAT_BYTES_MAX: usize = 4096;

/// What the folder of a log holds.
pub(super) struct Folder {
    pub(super) salt: u64,
    /// The numbers of its segments, in order.
    pub(super) segments: Vec<u64>,
    /// The highest number that a file here has, a stranger's too.
    pub(super) last: u64,
    /// Numbers between them whose files are gone.
    pub(super) missing: Vec<u64>,
    /// What was odd, for people.
    pub(super) notes: Vec<String>,
}

/// Looks into the folder, and begins a log if there is none. Nothing is changed before it is known that all can be read.
///
/// # Errors
/// `E_FORMAT` for a newer format, `E_STORAGE` where there are segments and nothing tells their salt.
pub(super) fn look(disk: &dyn Disk, options: &LogOptions) -> Result<Folder, Error> {
    let names = disk.list().map_err(|e| storage("the data folder cannot be read", e))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
    numbers.sort_unstable();
    let mut folder = Folder { salt: 0, segments: Vec::new(), last: 0, missing: Vec::new(), notes: Vec::new() };
    folder.last = numbers.last().copied().unwrap_or(0);
    let headers = headers(disk, &numbers)?;
    let told = told_salt(disk, &names)?;
    folder.salt = match (&told, numbers.is_empty()) {
        (Some(Ok(salt)), _) if is_theirs(*salt, &headers) => *salt,
        (None, true) => begin(disk, &names, options.salt)?,
        // Were the salt of `format` taken, all segments were a stranger's; that of the segments is, where none is in doubt.
        (Some(Ok(_)), _) if headers.iter().any(|(_, header)| header.is_none()) => return Err(other_salt()),
        (Some(Ok(_)), _) => {
            let salt = salt_of(&headers).ok_or_else(other_salt)?;
            restore(disk, &names, salt)?;
            folder.notes.push(RESTORED.to_owned());
            salt
        }
        (Some(Err(_)), true) | (_, false) => {
            let salt = salt_of(&headers).ok_or_else(|| told.and_then(Result::err).unwrap_or_else(lost_format))?;
            restore(disk, &names, salt)?;
            folder.notes.push(RESTORED.to_owned());
            salt
        }
    };
    for (number, header) in headers {
        match header {
            Some(header) if header.pipe.0 != number || header.item.0 != folder.salt => {
                let name = segment_name(number);
                folder.notes.push(format!(
                    "{name} is a copy, was renamed or is of another log: it is left as it is and not read"
                ));
            }
            _ => folder.segments.push(number),
        }
    }
    folder.find_missing();
    Ok(folder)
}

impl Folder {
    /// Segments are removed oldest first, so none is missing in between unless somebody took it.
    fn find_missing(&mut self) {
        for pair in self.segments.windows(2) {
            self.missing.extend((pair[0] + 1..pair[1]).take(MISSING_MAX));
        }
        for number in &self.missing {
            self.notes.push(format!("{} is missing: readers are told what was in it", segment_name(*number)));
        }
    }
}

/// What people are told of a `format` file that was made again.
const RESTORED: &str = "the file `format` was missing or damaged, and is made again from the segments";

/// More missing segments than this are not told one by one.
const MISSING_MAX: usize = 20;

/// The first entry of each segment, where that can be read.
fn headers(disk: &dyn Disk, numbers: &[u64]) -> Result<Vec<(u64, Option<Header>)>, Error> {
    let mut headers = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let read = || segment_header(&Tolerant::new(disk.open(&segment_name(number))?));
        let header = read().map_err(|e| storage("the log cannot be read", e))?;
        if let Some(version) = header.map(|h| h.first.0).filter(|version| *version > u64::from(LOG_VERSION)) {
            return Err(newer(version));
        }
        headers.push((number, header));
    }
    Ok(headers)
}

/// What the `format` file says; none where there is no such file.
fn told_salt(disk: &dyn Disk, names: &[String]) -> Result<Option<Result<u64, Error>>, Error> {
    if !names.iter().any(|n| n == FORMAT_FILE) {
        return Ok(None);
    }
    let read = || read_short(&Tolerant::new(disk.open(FORMAT_FILE)?), FORMAT_BYTES_MAX);
    let text = read().map_err(|e| storage("the file `format` of the data folder cannot be read", e))?;
    match parse_format(&text) {
        Err(error) if error.code() == Code::Format => Err(error),
        told => Ok(Some(told)),
    }
}

/// The salt that the segments tell, if they all tell the same.
fn salt_of(headers: &[(u64, Option<Header>)]) -> Option<u64> {
    let mut salts = headers.iter().filter_map(|(_, header)| header.map(|h| h.item.0));
    let salt = salts.next()?;
    salts.all(|other| other == salt).then_some(salt)
}

/// Whether one of the segments tells this salt, or none that has its own name tells any.
fn is_theirs(salt: u64, headers: &[(u64, Option<Header>)]) -> bool {
    let own = || headers.iter().filter_map(|(number, header)| header.filter(|h| h.pipe.0 == *number));
    own().next().is_none() || own().any(|header| header.item.0 == salt)
}

fn other_salt() -> Error {
    Error::new(
        Code::Storage,
        "no segment of the data folder is of the log that its file `format` tells; nothing was changed",
    )
}

fn lost_format() -> Error {
    Error::new(Code::Storage, "the data folder has lost its file `format`; nothing was changed")
}

/// Writes the `format` file of a new log.
fn begin(disk: &dyn Disk, names: &[String], salt: u64) -> Result<u64, Error> {
    write_format(disk, names, salt).map_err(|e| storage("no log can be begun in the data folder", e))?;
    Ok(salt)
}

/// Writes the `format` file of a log that has lost it; what stands there now is kept.
fn restore(disk: &dyn Disk, names: &[String], salt: u64) -> Result<(), Error> {
    let restore = || {
        if names.iter().any(|n| n == FORMAT_FILE) {
            disk.rename(FORMAT_FILE, &format!("{QUARANTINE}/{FORMAT_FILE}"))?;
        }
        write_format(disk, names, salt)
    };
    restore().map_err(|e| storage("the file `format` of the data folder cannot be made again", e))
}

fn write_format(disk: &dyn Disk, names: &[String], salt: u64) -> std::io::Result<()> {
    if names.iter().any(|n| n == FORMAT_FILE_NEW) {
        disk.remove(FORMAT_FILE_NEW)?;
    }
    let file = disk.create(FORMAT_FILE_NEW)?;
    write_all_at(&*file, 0, &mut [IoSlice::new(format_text(salt).as_bytes())])?;
    file.sync()?;
    disk.rename(FORMAT_FILE_NEW, FORMAT_FILE)?;
    disk.sync_folder()
}
