//! Folders that somebody or something has been at: the log opens, says what was odd, and touches nothing that is not its own.

use super::format::{FORMAT_FILE, segment_name};
use super::tests::{batch, eventually, fact, numbers, open, segments, start, try_open};
use super::*;

/// Three segments and more with one item of a pipe in them.
fn stored() -> RamDisk {
    let disk = RamDisk::new();
    let bed = start(&disk, 4096);
    bed.store(fact(1, "made"));
    for n in 0..20 {
        bed.store(batch(1, 1, n, 1, 500));
    }
    bed.log.close();
    drop(bed);
    assert!(segments(&disk).len() > 3);
    disk
}

fn content(disk: &RamDisk, name: &str) -> Vec<u8> {
    disk::read_whole(disk, name, 1 << 20).unwrap()
}

fn put(disk: &RamDisk, name: &str, bytes: &[u8]) {
    let _ = disk.remove(name);
    disk::write_all_at(&*disk.create(name).unwrap(), 0, &mut [std::io::IoSlice::new(bytes)]).unwrap();
}

/// All files with their bytes.
fn all(disk: &RamDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), content(disk, &name))).collect()
}

#[test]
fn a_format_file_that_is_gone_or_damaged_is_made_again_from_the_segments() {
    let other_salt = format!("skypipe log 1\nsalt {:016x}\n", 0x5eed);
    let texts = ["", "skypipe log x\nsalt y\n", "\0\0\0\0", &other_salt];
    for damage in texts.map(|text| Some(text.as_bytes())).into_iter().chain([None]) {
        let disk = stored();
        let format = content(&disk, FORMAT_FILE);
        disk.remove(FORMAT_FILE).unwrap();
        if let Some(bytes) = damage {
            put(&disk, FORMAT_FILE, bytes);
        }
        let again = open(&disk);
        assert_eq!(again.read_all(1, 1), (numbers(0..20), vec![]));
        assert!(again.log.recovery().notes[0].contains("format"), "{:?}", again.log.recovery());
        assert_eq!(content(&disk, FORMAT_FILE), format);
        let kept = disk.names().contains(&format!("{QUARANTINE}/{FORMAT_FILE}"));
        assert_eq!(kept, damage.is_some());
    }
}

#[test]
fn without_a_salt_nothing_is_guessed_and_nothing_touched() {
    let disk = stored();
    disk.remove(FORMAT_FILE).unwrap();
    for number in segments(&disk) {
        disk.flip(&segment_name(number), 20, 0).unwrap();
    }
    let before = all(&disk);
    assert_eq!(try_open(&disk, 4096).err().unwrap().code(), Code::Storage);
    assert_eq!(all(&disk), before);
}

#[test]
fn a_salt_that_is_no_segments_is_refused_where_theirs_is_in_doubt() {
    let disk = stored();
    disk.flip(&segment_name(2), 20, 0).unwrap();
    put(&disk, FORMAT_FILE, b"skypipe log 1\nsalt 0000000000005eed\n");
    let before = all(&disk);
    assert_eq!(try_open(&disk, 4096).err().unwrap().code(), Code::Storage);
    assert_eq!(all(&disk), before);
}

#[test]
fn a_newer_log_is_refused_byte_for_byte_whichever_file_says_so() {
    for in_format in [true, false] {
        let disk = stored();
        if in_format {
            put(&disk, FORMAT_FILE, b"skypipe log 2\nsalt 0000000000000000\n");
        } else {
            let mut header = Vec::new();
            let number = segments(&disk).len() as u64 + 1;
            Header { first: Seq(2), ..Header::of_segment(number, 0) }.encode(0, 0, &mut header);
            put(&disk, &segment_name(number), &header);
        }
        let before = all(&disk);
        assert_eq!(try_open(&disk, 4096).err().unwrap().code(), Code::Format);
        assert_eq!(all(&disk), before);
    }
}

#[test]
fn strangers_copies_and_renamed_segments_are_left_alone() {
    let disk = stored();
    let last = *segments(&disk).last().unwrap();
    let mut other = Vec::new();
    Header::of_segment(last + 5, 0x5eed).encode(0, 0, &mut other);
    // A copy under a later number, a segment of another log, and files that are none of ours.
    put(&disk, &segment_name(last + 3), &content(&disk, &segment_name(2)));
    put(&disk, &segment_name(last + 5), &other);
    for name in ["notes.txt", "17.segment", "000000000001.segment~", "quarantine.old"] {
        put(&disk, name, b"somebody's");
    }
    let before = all(&disk);
    let again = open(&disk);
    assert_eq!(again.read_all(1, 1), (numbers(0..20), vec![]));
    assert_eq!(again.log.recovery().notes.len(), 2, "{:?}", again.log.recovery());
    // What is written from now on does not touch them either.
    again.run();
    for n in 20..40 {
        again.store(batch(1, 1, n, 1, 500));
    }
    again.log.forget(PipeId(1), ItemNo(1), Seq(u64::MAX));
    again.log.close();
    let after = all(&disk);
    let strangers = [segment_name(last + 3), segment_name(last + 5), "notes.txt".into(), "17.segment".into()];
    for name in strangers.iter().chain(&["000000000001.segment~".to_owned(), "quarantine.old".to_owned()]) {
        let of = |all: &[(String, Vec<u8>)]| all.iter().find(|(n, _)| n == name).cloned();
        assert!(of(&before).is_some() && of(&before) == of(&after), "{name}");
    }
}

#[test]
fn a_missing_segment_is_a_gap_and_what_else_there_is_is_kept() {
    for gone in 0..3 {
        let disk = stored();
        disk.remove(&segment_name(gone + 1)).unwrap();
        let again = open(&disk);
        let (read, gaps) = again.read_all(1, 1);
        let lost: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        assert!(read.len() as u64 + lost == 20 || gone == 0, "{read:?} {gaps:?}");
        assert!(read.len() >= 12 && read.windows(2).all(|pair| pair[0] < pair[1]));
        // Nobody knows of a first one that is gone: the oldest is always the first to go.
        assert_eq!(again.log.recovery().missing, if gone == 0 { vec![] } else { vec![gone + 1] });
        assert_eq!(again.log.recovery().has_damage(), gone > 0);
    }
}

#[test]
fn what_cannot_be_understood_is_put_aside_with_its_segment() {
    let disk = stored();
    disk.flip(&segment_name(2), 20, 0).unwrap();
    let again = open(&disk);
    again.run();
    assert!(again.log.recovery().has_damage());
    again.log.keep_aside(PipeId(1), None);
    again.log.forget_pipe(PipeId(1));
    again.store(fact(2, "other"));
    for number in 1..4 {
        eventually(|| disk.names().contains(&format!("{QUARANTINE}/{}", segment_name(number))));
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_wherever_it_lies() {
    let (mut whole, mut tried) = (0, 0);
    let last = *segments(&stored()).last().unwrap();
    for number in segments(&stored()) {
        let size = stored().open(&segment_name(number)).unwrap().size().unwrap();
        for at in (0..size).step_by(97) {
            let disk = stored();
            disk.spoil(&segment_name(number), at..at + 1).unwrap();
            let again = open(&disk);
            let (read, gaps) = again.read_all(1, 1);
            assert!(read.windows(2).all(|pair| pair[0] < pair[1]), "{number} {at}: {read:?}");
            assert!(read.iter().all(|n| !gaps.iter().any(|gap| gap.contains(n))), "{number} {at}: {read:?} {gaps:?}");
            assert!(read.len() >= 10, "{number} {at}: {read:?}");
            whole += u64::from(read.len() == 20);
            // Nothing is cut off: the disk may read it again tomorrow.
            assert_eq!(disk.open(&segment_name(number)).unwrap().size().unwrap(), size, "{number} {at}");
            // And it goes on.
            again.run();
            again.store(batch(1, 2, 0, 1, 100));
            // What is written over such a sector is another matter.
            assert!(number == last || again.read_all(1, 2) == (vec![0], vec![]));
            tried += 1;
        }
    }
    assert!(whole < tried / 2, "the disk could read {whole} of {tried}");
}

#[test]
fn a_segment_that_is_to_be_emptied_and_cannot_be_read_stays_where_it_is() {
    let disk = RamDisk::new();
    let bed = start(&disk, 4096);
    bed.store(fact(1, "made"));
    bed.store(batch(1, 1, 0, 1, 500));
    for n in 0..20 {
        bed.store(batch(1, 2, n, 1, 500));
    }
    let first = segment_name(1);
    disk.spoil(&first, 300..301).unwrap();
    bed.log.forget(PipeId(1), ItemNo(2), Seq(u64::MAX));
    eventually(|| !disk.names().contains(&first) || lock(&bed.log.core.state).idle_moves);
    assert!(disk.names().contains(&first), "{:?}", disk.names());
    assert_eq!(bed.log.extent(PipeId(1), ItemNo(1)), [Seq(0)..Seq(1)]);
}
