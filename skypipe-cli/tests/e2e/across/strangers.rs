//! What somebody gets who is not known: nothing, and no hint.

use std::fs;

use super::sky::{Sky, join};
use crate::harness::{Home, In};

#[test]
fn an_unknown_key_gets_nothing_on_any_listener() {
    let sky = Sky::of(Home::new(), "127.0.0.1:0");
    sky.owner.store("secret", "nobody's business\n");
    let stranger = Home::new();
    for url in &sky.urls {
        for arguments in [
            &["read", "secret"][..],
            &["write", "secret", "x"],
            &["ls"],
            &["stat", "secret"],
            &["peek", "secret"],
            &["rm", "secret"],
            &["invite"],
            &["keys", "ls"],
            &["keys", "revoke", "x"],
            &["check"],
        ] {
            let done = stranger.skypipe(arguments.iter().copied()).env("SKYPIPE_RELAY", url).run().exits(3).gave("");
            assert!(done.stderr.contains("E_ACCESS") && !done.stderr.contains("business"), "{}", done.stderr);
        }
    }
    sky.owner.skypipe(["read", "secret"]).ok().gave("nobody's business\n");
}

#[test]
fn forbidden_and_unknown_look_the_same() {
    let sky = Sky::new();
    sky.owner.store("secret", "x\n");
    let other = sky.joined(&["--pipe", "logs/**"]);
    for verb in [&["read"][..], &["stat"], &["rm"], &["peek"], &["read", "--no-wait"]] {
        let said = |name: &str| {
            let done = other.skypipe(verb.iter().copied().chain([name])).run().exits(3).gave("");
            done.stderr.replace(name, "NAME")
        };
        assert_eq!(said("secret"), said("no-such"), "{verb:?}");
    }
}

#[test]
fn the_wrong_relay_is_never_talked_to() {
    let (sky, other) = (Sky::new(), Sky::new());
    for (url, own) in sky.urls.iter().zip(&other.urls) {
        let wrong = url.replace(&sky.key(), &other.key());
        assert_ne!(&wrong, url);
        let home = Home::new();
        home.skypipe(["write", "x", "secret"]).env("SKYPIPE_RELAY", &wrong).run().exits(6).fails_with("E_PIN");
        assert_ne!(own, &wrong);
    }
    assert_eq!(sky.owner.stat("x").items, 0);
}

#[test]
fn no_secret_in_arguments_logs_or_answers() {
    let sky = Sky::new();
    let line = sky.invite(&[]);
    let ticket = line.trim().rsplit(' ').next().unwrap().to_owned();
    let other = Home::new();
    let joined = join(&other, &line).ok();
    let reader = other.live_reader("x");
    let mut secrets = vec![ticket[4..40].to_owned(), ticket[ticket.len() - 36..].to_owned()];
    for home in [&sky.owner, &other] {
        let key = fs::read_to_string(home.config_home().join("skypipe/id_ed25519")).unwrap();
        secrets.extend(key.lines().filter(|l| !l.starts_with('-')).skip(1).map(str::to_owned));
    }
    let mut seen = vec![joined.stderr.clone(), reader.errors()];
    for pid in sky.owner.processes().into_iter().chain(other.processes()) {
        seen.push(fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default());
    }
    for arguments in [&["keys", "ls", "--json"][..], &["check", "--json"], &["ls", "--json"], &["keys"]] {
        let done = sky.skypipe(&sky.owner, arguments.iter().copied()).ok();
        seen.extend([done.text(), done.stderr]);
    }
    seen.push(fs::read_to_string(other.config_home().join("skypipe/config.toml")).unwrap());
    sky.owner.store("x", "end\n");
    reader.wait().exits(0);
    seen.push(join(&Home::new(), &line).run().exits(3).stderr);
    let (_owner, log) = sky.end();
    seen.push(log);
    for secret in &secrets {
        assert!(!seen.iter().any(|text| text.contains(secret)), "{secret} in {seen:?}");
    }
}

#[test]
fn key_files_are_the_users_alone_and_others_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let key = other.config_home().join("skypipe/id_ed25519");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    for name in ["relay_key", "authorized_keys", "tickets"] {
        let path = sky.owner.skypipe_home().join(name);
        assert!(!path.exists() || mode(&path) & 0o077 == 0, "{name}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    other.skypipe(["ls"]).run().exits(2).gave("").fails_with("E_KEY").says("chmod 600");
}

#[test]
fn another_key_may_be_named() {
    let sky = Sky::new();
    let home = Home::new();
    home.sh("ssh-keygen -q -t ed25519 -N '' -f id -C mine@here").ok();
    let line = fs::read_to_string(home.path("id.pub")).unwrap();
    sky.owner.skypipe(["keys", "add", line.trim()]).ok();
    sky.skypipe(&home, ["write", "x", "hi"]).env("SKYPIPE_KEY", home.path("id")).ok();
    sky.skypipe(&home, ["write", "x", "hi"]).run().exits(3);
    let config = home.config_home().join("skypipe/config.toml");
    fs::write(&config, format!("key = \"{}\"\n", home.path("id").display())).unwrap();
    sky.skypipe(&home, ["read", "x"]).stdin(In::Null).ok().gave("hi\n");
}
