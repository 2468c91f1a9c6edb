//! What comes out is what went in, byte for byte, stored or live, as lines or as one record.

use crate::harness::{Data, Digest, Home, In, Out};

/// Through a pipe that nobody reads yet.
fn stored(bytes: &[u8], options: &[&str]) {
    let home = Home::new();
    home.skypipe([&["write", "x"], options].concat()).stdin(In::Pipe(bytes.into())).ok().gave("").quietly();
    home.skypipe(["read", "x"]).ok().gave(bytes).quietly();
    assert_eq!(home.stat("x").items, 0);
}

/// Through a pipe whose reader waits already.
fn live(bytes: &[u8], options: &[&str]) {
    let home = Home::new();
    let reader = home.live_reader("x");
    home.skypipe([&["write", "x"], options].concat()).stdin(In::Pipe(bytes.into())).ok().gave("").quietly();
    reader.wait().exits(0).gave(bytes).quietly();
    assert_eq!(home.stat("x").items, 0);
}

macro_rules! exact {
    ($($name:ident: $bytes:expr;)*) => {
        $(mod $name {
            #[test] fn stored() { super::stored(&$bytes, &[]) }
            #[test] fn live() { super::live(&$bytes, &[]) }
            #[test] fn stored_as_one_record() { super::stored(&$bytes, &["--item"]) }
            #[test] fn live_as_one_record() { super::live(&$bytes, &["--item"]) }
            #[test] fn stored_by_nul() { super::stored(&$bytes, &["-0"]) }
        })*
    };
}

exact! {
    nothing: *b"";
    one_byte: *b"x";
    one_newline: *b"\n";
    one_nul: *b"\0";
    no_final_newline: *b"one\ntwo";
    newlines: [b'\n'; 70_000];
    five_megabytes_without_newline: vec![b'y'; 5_000_000];
    five_megabytes_of_line: [vec![b'y'; 5_000_000], b"\nshort\n".to_vec()].concat();
    random: crate::harness::Data::random(11, 3_000_000).bytes();
    every_byte: (0..=255).collect::<Vec<u8>>();
}

/// Sizes at the borders of reads, records, batches and windows.
#[test]
fn borders() {
    let home = Home::new();
    for border in [4 << 10, 64 << 10, 256 << 10, 512 << 10, 4 << 20_u64] {
        for length in [border - 1, border, border + 1] {
            let bytes = vec![b'z'; length as usize];
            home.store("x", &bytes);
            home.skypipe(["read", "x"]).stdout(Out::Summed).ok().gave_digest(&Digest::of(&bytes));
        }
    }
}

#[test]
fn a_record_in_one_part_is_still_one_record() {
    let home = Home::new();
    home.store("x", Data::random(3, 1_000_000).bytes());
    home.skypipe(["write", "--item", "y"]).stdin(In::Pipe(b"a\nb\n".to_vec())).ok();
    home.skypipe(["read", "-n", "1", "y"]).ok().gave("a\nb\n");
}

#[test]
fn a_lone_line_arrives_at_once() {
    let home = Home::new();
    let reader = home.live_reader("x");
    let mut writer = home.open_writer("x");
    for n in 0..20 {
        writer.feed(format!("line {n}\n"));
        reader.until_gave(&format!("line {n}\n"));
    }
    writer.end_input();
    writer.wait().exits(0);
    reader.wait().exits(0);
}

#[test]
fn a_line_that_never_ends_arrives_too() {
    let home = Home::new();
    let reader = home.live_reader("x");
    let mut writer = home.open_writer("x");
    writer.feed("password: ");
    reader.until_gave("password: ");
    writer.feed("secret\n").end_input();
    writer.wait().exits(0);
    reader.wait().exits(0).gave("password: secret\n");
}
