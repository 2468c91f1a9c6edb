//! The scripts that look at a machine and change it: POSIX sh, each whole, each safe to run again.

use super::machine::Init;
use super::place::Place;
use super::plan::Plan;
use super::service::quoted;

const COMMON: &str = include_str!("common.sh");
const PROBE: &str = include_str!("probe.sh");

/// The end of a file that stands in a script. No file that is written has such a line.
const END_OF_FILE: &str = "END_OF_FILE_OF_SKYPIPE_UP";

/// Looks at a machine.
pub(crate) fn probe(port: Option<u16>) -> String {
    let port = port.map(|p| p.to_string()).unwrap_or_default();
    whole(&format!("{COMMON}want_port={port}\n{PROBE}"))
}

/// Makes room for the binary, and clears away what an interrupted copy left.
pub(crate) fn prepare(place: &Place) -> String {
    script(
        place,
        "umask 022\nmkdir -p \"$lib\" || fail 'the folder for the binary cannot be made'\nrm -f \"$lib\"/upload.*\n",
    )
}

/// The file under which a copy arrives.
pub(crate) fn upload_path(place: &Place, id: u64) -> String {
    format!("{}/upload.{id:016x}", place.lib)
}

/// Checks the copy, tries it, and has it on the disk; tells its version.
pub(crate) fn check_upload(place: &Place, upload: &str, sum: &str) -> String {
    let steps = "\
[ -n \"$sum\" ] || fail 'there is no program for SHA-256 sums (sha256sum, shasum, sha256 or openssl)'
[ \"$(sum_of \"$upload\")\" = \"$expected\" ] || { rm -f \"$upload\"; fail 'the binary did not arrive as it was sent: try again'; }
chmod 755 \"$upload\"
if said=$(\"$upload\" --version </dev/null 2>&1); then
    tell version \"$(printf '%s\\n' \"$said\" | tail -n 1)\"
else
    rm -f \"$upload\"
    tell unfit \"$(printf '%s\\n' \"$said\" | tail -n 1)\"
fi
[ ! -e \"$upload\" ] || flush \"$upload\"
";
    script(place, &format!("upload={}\nexpected={}\n{steps}", quoted(upload), quoted(sum)))
}

/// Gives the copy its name: whoever looks finds the old binary or the new one, whole.
pub(crate) fn install(place: &Place, upload: &str) -> String {
    let steps = "mv -f \"$upload\" \"$lib/skypipe\" || fail 'the binary cannot be put in its place'\nflush \"$lib\"\n";
    script(place, &format!("upload={}\n{steps}", quoted(upload)))
}

/// Takes the copy away again.
pub(crate) fn discard(place: &Place, upload: &str) -> String {
    script(place, &format!("rm -f {}\n", quoted(upload)))
}

/// Writes settings and service file, starts the service or starts it again, and waits until it accepts; tells its URLs.
pub(crate) fn serve(plan: &Plan, init: Init, owner: &str) -> String {
    let place = &plan.place;
    let put = "\
put() {
    mkdir -p \"${1%/*}\" && cat >\"$1.new\" && chmod \"$2\" \"$1.new\" && flush \"$1.new\" && mv -f \"$1.new\" \"$1\" ||
        fail \"$1 cannot be written\"
}
umask 022
";
    let mut steps = put.to_owned();
    steps.push_str(&file(&place.owner(), "644", &format!("{}\n", owner.trim())));
    steps.push_str(&file(&format!("{}/settings", place.lib), "644", &plan.settings.text()));
    let mode = if init == Init::None { "755" } else { "644" };
    steps.push_str(&file(&place.service, mode, &plan.service));
    steps.push_str("umask 077\n");
    steps.push_str(start(init));
    steps.push_str(WAIT);
    script(place, &steps)
}

/// Stops and removes service and binary. The data stay.
pub(crate) fn remove(place: &Place, init: Init) -> String {
    let stop = match init {
        Init::System => {
            "systemctl disable --now skypipe.service 2>/dev/null\nrm -f \"$service\"\nsystemctl daemon-reload\n"
        }
        Init::User => {
            "systemctl --user disable --now skypipe.service 2>/dev/null\nrm -f \"$service\"\nsystemctl --user daemon-reload\n"
        }
        Init::None => "",
    };
    let files = "\
rm -f \"$data/urls\" \"$data/supervisor.lock\" \"$data/supervisor.pid\"
rm -f \"$lib/supervise\" \"$lib/skypipe\" \"$lib/settings\" \"$lib/owner.pub\" \"$lib\"/upload.* \"$lib\"/*.new
rmdir \"$lib\" 2>/dev/null
[ ! -e \"$lib/skypipe\" ] || fail \"$lib/skypipe cannot be removed\"
";
    script(place, &format!("{stop}end_of supervisor\nend_of relay\n{files}"))
}

/// Deletes what the relay stored, and its keys. A folder that is none of a relay's is left alone.
pub(crate) fn delete_data(place: &Place) -> String {
    let steps = "\
if [ -d \"$data\" ]; then
    [ -e \"$data/relay.lock\" ] || [ -e \"$data/relay_key\" ] || fail \"$data is not the folder of a relay\"
    rm -rf \"$data\" || fail \"$data cannot be deleted\"
    [ \"$data\" != /var/lib/private/skypipe ] || rm -f /var/lib/skypipe
fi
";
    script(place, steps)
}

fn start(init: Init) -> &'static str {
    match init {
        Init::System => {
            "rm -f \"$data/urls\"
{ systemctl daemon-reload && systemctl enable --quiet skypipe.service && systemctl restart skypipe.service; } || {
    journalctl -u skypipe.service -n 5 -o cat --no-pager
    fail 'systemd cannot start the relay'
}
why() { journalctl -u skypipe.service -n 5 -o cat --no-pager; }
"
        }
        Init::User => {
            "end_of supervisor
end_of relay
rm -f \"$data/urls\"
mkdir -p \"$data\" || fail \"$data cannot be made\"
{ systemctl --user daemon-reload && systemctl --user enable --quiet skypipe.service && systemctl --user restart skypipe.service; } || {
    journalctl --user -u skypipe.service -n 5 -o cat --no-pager
    fail 'systemd cannot start the relay'
}
loginctl enable-linger >/dev/null 2>&1 || tell nolinger yes
why() { journalctl --user -u skypipe.service -n 5 -o cat --no-pager; }
"
        }
        Init::None => {
            "end_of supervisor
end_of relay
mkdir -p \"$data\" || fail \"$data cannot be made\"
rm -f \"$data/urls\"
# In a session of its own, with nothing of this one open: it stays when this one ends.
if has setsid; then
    setsid sh \"$lib/supervise\" </dev/null >/dev/null 2>&1 &
else
    nohup sh \"$lib/supervise\" </dev/null >/dev/null 2>&1 &
fi
why() { tail -n 5 \"$data/relay.log\"; }
"
        }
    }
}

/// 20 s: opening the log of a full disk takes a second or two.
const WAIT: &str = "\
turns=0
until [ -s \"$data/urls\" ]; do
    turns=$((turns + 1))
    [ \"$turns\" -gt 200 ] && { why; fail 'the relay was started and does not accept'; }
    pause
done
while IFS= read -r line; do tell url \"$line\"; done <\"$data/urls\"
";

fn file(path: &str, mode: &str, text: &str) -> String {
    format!("put {} {mode} <<'{END_OF_FILE}'\n{text}{END_OF_FILE}\n", quoted(path))
}

fn script(place: &Place, steps: &str) -> String {
    let Place { lib, service, data } = place;
    let [lib, service, data] = [lib, service, data].map(|path| quoted(path));
    whole(&format!("{COMMON}lib={lib}\nservice={service}\ndata={data}\n{steps}tell end ok\n"))
}

/// The shell runs nothing before it has read the last line: a script that is cut off on its way does nothing at all.
fn whole(script: &str) -> String {
    format!("{{\n{script}}}\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::answer::Answer;
    use super::super::machine::Machine;
    use super::*;

    /// Runs a script here, as ssh would there.
    fn run(script: &str, home: &std::path::Path) -> Result<Answer, skypipe_core::Error> {
        let mut sh = Command::new("sh")
            .arg("-s")
            .env("HOME", home)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        Answer::parse(&String::from_utf8_lossy(&sh.wait_with_output().unwrap().stdout))
    }

    #[test]
    fn the_probe_knows_this_machine_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let machine = Machine::of_answer(&run(&probe(None), home.path()).unwrap()).unwrap();
        assert_eq!((machine.os.as_str(), machine.arch.as_str()), (std::env::consts::OS, std::env::consts::ARCH));
        assert!(machine.sum.is_some() && machine.free_bytes > Some(0) && machine.libc.is_some(), "{machine:?}");
        assert!(machine.installed.is_none() && !machine.is_active);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_probe_sees_a_port_that_is_taken() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let home = tempfile::tempdir().unwrap();
        for port in [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()] {
            let machine = Machine::of_answer(&run(&probe(Some(port)), home.path()).unwrap()).unwrap();
            assert_eq!(machine.taken, Some(port));
        }
    }

    #[test]
    fn a_script_that_is_cut_off_does_nothing() {
        let home = tempfile::tempdir().unwrap();
        let lib = home.path().join("lib");
        let place = Place { lib: lib.display().to_string(), service: "none".into(), data: "none".into() };
        let script = prepare(&place);
        for end in (0..script.len() - 2).rev().step_by(7) {
            assert!(run(&script[..end], home.path()).is_err() && !lib.exists(), "cut at {end}");
        }
        assert!(run(&script, home.path()).is_ok() && lib.exists());
    }

    #[test]
    fn a_copy_that_was_changed_on_the_way_is_thrown_away() {
        let home = tempfile::tempdir().unwrap();
        let place =
            Place { lib: format!("{}/it's a lib", home.path().display()), service: "none".into(), data: "none".into() };
        run(&prepare(&place), home.path()).unwrap();
        let upload = upload_path(&place, 1);
        std::fs::write(&upload, "#!/bin/sh\necho skypipe 1.2.3\n").unwrap();
        let error = run(&check_upload(&place, &upload, "00"), home.path()).unwrap_err();
        assert!(error.text().contains("try again") && !std::path::Path::new(&upload).exists(), "{error}");
        std::fs::write(&upload, "#!/bin/sh\necho skypipe 1.2.3\n").unwrap();
        let sum = super::super::program::sum_of("#!/bin/sh\necho skypipe 1.2.3\n");
        let answer = run(&check_upload(&place, &upload, &sum), home.path()).unwrap();
        assert_eq!(answer.get("version"), Some("skypipe 1.2.3"));
        run(&install(&place, &upload), home.path()).unwrap();
        assert!(std::path::Path::new(&place.program()).exists() && !std::path::Path::new(&upload).exists());
    }

    #[test]
    fn a_binary_that_does_not_run_there_is_thrown_away_with_its_words() {
        let home = tempfile::tempdir().unwrap();
        let place =
            Place { lib: format!("{}/lib", home.path().display()), service: "none".into(), data: "none".into() };
        run(&prepare(&place), home.path()).unwrap();
        let upload = upload_path(&place, 2);
        let text = "#!/bin/sh\necho version GLIBC_2.99 not found >&2; exit 1\n";
        std::fs::write(&upload, text).unwrap();
        let sum = super::super::program::sum_of(text);
        let answer = run(&check_upload(&place, &upload, &sum), home.path()).unwrap();
        assert_eq!(answer.get("unfit"), Some("version GLIBC_2.99 not found"));
        assert!(answer.get("version").is_none() && !std::path::Path::new(&upload).exists());
    }

    #[test]
    fn a_folder_that_is_no_relays_is_not_deleted() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let place = Place { lib: "/none".into(), service: "none".into(), data: data.display().to_string() };
        run(&delete_data(&place), home.path()).unwrap();
        std::fs::create_dir(&data).unwrap();
        assert!(run(&delete_data(&place), home.path()).is_err() && data.exists());
        std::fs::write(data.join("relay_key"), "").unwrap();
        run(&delete_data(&place), home.path()).unwrap();
        assert!(!data.exists());
    }
}
