//! No secret where others see it, and no file that others can read (P14).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use skypipe_test::proof::{Proof, cases};

use crate::across::sky::{Sky, join};
use crate::harness::Home;

/// Letters of a secret that are looked for, wherever they stand in it.
const WINDOW: usize = 16;

#[test]
fn proof_p14_canaries() {
    let rounds = cases(1, 4, 200);
    let (proof, mut failures) = (Proof::begin("P14", "rounds of secrets"), Vec::new());
    (0..rounds).for_each(|_| failures.extend(round()));
    proof.end(rounds, &failures);
}

/// Keys and tickets are drawn anew, used in every way, and looked for everywhere else.
fn round() -> Vec<String> {
    let sky = Sky::new();
    let mut seen = Vec::new();
    let line = sky.invite(&["--uses", "4"]);
    let ticket = line.trim().rsplit(' ').next().unwrap().to_owned();
    let (first, second, third) = (Home::new(), Home::new(), Home::new());
    seen.push(join(&first, &line).ok().stderr);
    let file = second.file("ticket", &line);
    seen.push(second.skypipe(["join", "--ticket-file", "ticket"]).ok().stderr);
    fs::remove_file(file).unwrap();
    // On the command line it works, and the line says that others see it there.
    seen.push(third.skypipe(["join", &ticket]).ok().stderr);
    let (reader, writer) = (first.live_reader("canary"), second.open_writer("canary"));
    let homes = [&sky.owner, &first, &second, &third];
    for home in homes {
        for arguments in
            [&["keys"][..], &["keys", "own"], &["check"], &["check", "--json"], &["ls", "--json"], &["stat", "canary"]]
        {
            let done = home.skypipe(arguments.iter().copied()).run();
            seen.extend([done.text(), done.stderr]);
        }
        for pid in home.processes() {
            for name in ["cmdline", "environ"] {
                let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
                seen.push(fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default());
            }
        }
    }
    // What is broken is refused, without a word of it.
    let mut broken = ticket.clone();
    broken.replace_range(20..21, if &ticket[20..21] == "A" { "B" } else { "A" });
    let fourth = Home::new();
    seen.push(join(&fourth, &broken).run().exits_one_of(&[2, 3]).stderr);
    let mut secrets = vec![ticket[4..].to_owned()];
    let mut failures = Vec::new();
    for home in homes {
        secrets.extend(seed_texts(&home.config_home().join("skypipe/id_ed25519")));
        secrets.extend(seed_texts(&home.skypipe_home().join("relay_key")));
        failures.extend(open_to_others(&home.skypipe_home()));
        failures.extend(open_to_others(&home.config_home().join("skypipe")));
        for name in ["authorized_keys", "tickets", "relay.log", "relay.lock"] {
            seen.extend(fs::read_to_string(home.skypipe_home().join(name)));
        }
        seen.extend(fs::read_to_string(home.config_home().join("skypipe/config.toml")));
    }
    drop(writer);
    seen.extend([reader.errors(), reader.output()]);
    drop(reader);
    let (_owner, log) = sky.end();
    seen.push(log);
    assert!(secrets.len() > 24 && seen.iter().any(|text| !text.is_empty()), "there is something to look for");
    for secret in &secrets {
        let windows = secret.as_bytes().windows(WINDOW).filter_map(|window| std::str::from_utf8(window).ok());
        let hits = windows.filter(|window| seen.iter().any(|text| text.contains(window))).count();
        if hits > 0 {
            failures.push(format!("{hits} parts of a secret of {} letters are seen", secret.len()));
        }
    }
    failures
}

/// The secret of a private key in OpenSSH's format, in the ways it might be written: it stands before the last place of the public key, 32
/// bytes each, and in base64 it looks different at each third byte.
fn seed_texts(path: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let bytes = BASE64.decode(body.as_bytes()).unwrap();
    let kind = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
    let public = bytes.windows(kind.len()).position(|window| window == kind).unwrap() + kind.len();
    let public = &bytes[public..public + 32];
    let behind = bytes.windows(32).rposition(|window| window == public).unwrap();
    let seed = &bytes[behind - 32..behind];
    let base64 = (0..3).map(|at| BASE64.encode(&seed[at..at + 27]));
    base64.chain([HEXLOWER.encode(seed), BASE32_NOPAD.encode(seed).to_lowercase(), format!("{seed:?}")]).collect()
}

/// The files here that others than their owner may read or write; a public key may be read.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                folders.push(path);
            } else if mode & 0o077 != 0 && path.extension().is_none_or(|extension| extension != "pub") {
                failures.push(format!("{} has mode {mode:o}", path.display()));
            }
        }
    }
    failures
}
