//! What has to be done on a machine, decided from what is known of it. Nothing here touches anything.

use skypipe_core::{Code, Error};

use super::machine::{Init, Libc, Machine};
use super::place::Place;
use super::program::{Program, Target, sum_of};
use super::service;
use super::settings::Settings;
use super::version::Version;

/// Room that must be left on the disk behind the binary's own size, in bytes: for files of a few lines.
const ROOM_BYTES: u64 = 1 << 20;

/// What the user asked for; what is not asked for stays as it is, or is the usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) port: Option<u16>,
    pub(crate) bind: Option<String>,
    pub(crate) public: Option<String>,
    pub(crate) data: Option<String>,
    /// The name by which ssh reaches the machine: other machines may do the same, unless somebody says otherwise.
    pub(crate) reached_as: String,
    /// The line of this user's public key.
    pub(crate) owner: String,
}

/// The way to a relay that runs as wished. An interrupted one is made again from what is there then, and is shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In this order; none when everything is as it should be.
    pub(crate) steps: Vec<Step>,
    /// Where everything lies.
    pub(crate) place: Place,
    /// How the relay is set up.
    pub(crate) settings: Settings,
    /// The file for the service manager.
    pub(crate) service: String,
}

/// A step. Each can be done again without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The binary goes over under another name, is checked and tried there, and only then takes its name.
    Copy,
    /// Settings and service file are written, and the service starts, or starts again.
    Serve,
}

impl Plan {
    /// Decides.
    ///
    /// # Errors
    /// `E_ACCESS` when the relay there belongs to another key, `E_VERSION` when it is newer, `E_USAGE` when the binary does not fit, `E_LOCKED`
    /// when the port is taken, `E_NO_SPACE`, and `E_UNSUPPORTED` for what cannot be done on such a machine.
    pub(crate) fn make(machine: &Machine, program: &Program, wish: &Wish) -> Result<Self, Error> {
        let settings = settled(machine, wish)?;
        let place = Place::of(machine, &settings)?;
        let service = service::text(machine, &place, &settings);
        check_owner(machine, wish)?;
        check_version(machine, program)?;
        let mut steps = Vec::new();
        if needs_copy(machine, program) {
            check_fit(machine, program)?;
            check_room(machine, program)?;
            check_sums(machine)?;
            steps.push(Step::Copy);
        }
        let runs = machine.is_active && machine.running() == machine.installed.as_ref().and_then(|i| i.version.clone());
        let is_as_wished = machine.service_sum.as_deref() == Some(&sum_of(&service));
        if !steps.is_empty() || !runs || !is_as_wished || machine.urls.is_empty() {
            steps.push(Step::Serve);
            check_port(machine)?;
        }
        Ok(Self { steps, place, settings, service })
    }
}

/// What was asked for now, else what was asked for last, else the usual.
fn settled(machine: &Machine, wish: &Wish) -> Result<Settings, Error> {
    let last = machine.settings.clone();
    if machine.init == Init::System && wish.data.is_some() {
        let line = "as root the data lies in /var/lib/private/skypipe: mount another disk there instead of --data";
        return Err(Error::new(Code::Unsupported, line));
    }
    Ok(Settings {
        port: wish.port.unwrap_or(last.port),
        bind: wish.bind.clone().or(last.bind),
        public: wish.public.clone().or(last.public).or_else(|| Some(wish.reached_as.clone())),
        data: wish.data.clone().or(last.data),
    })
}

fn check_owner(machine: &Machine, wish: &Wish) -> Result<(), Error> {
    // The comment behind the key is for people.
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    match &machine.owner {
        Some(owner) if key(owner) != key(&wish.owner) => {
            let line = "the relay there belongs to another key: join it with a ticket of its owner's (`skypipe invite`), or take it away first (`skypipe down`)";
            Err(Error::new(Code::Access, line))
        }
        _ => Ok(()),
    }
}

/// Never an older one over a newer: the data may be of a format that the older does not know.
///
/// # Errors
/// `E_VERSION`.
pub(crate) fn check_newer(installed: Option<&Version>, offered: Option<&Version>) -> Result<(), Error> {
    match (installed, offered) {
        (Some(installed), Some(offered)) if installed > offered => {
            let line = format!(
                "the relay there is of version {installed}, newer than {offered}: bring this machine up to date"
            );
            Err(Error::new(Code::Version, line))
        }
        _ => Ok(()),
    }
}

fn check_version(machine: &Machine, program: &Program) -> Result<(), Error> {
    let installed = machine.installed.as_ref().and_then(|i| i.version.as_ref());
    check_newer(installed, program.version.as_ref())
}

fn needs_copy(machine: &Machine, program: &Program) -> bool {
    match &machine.installed {
        Some(installed) if installed.sum == program.sum => false,
        // Another build of the same version is no upgrade, unless somebody chose it.
        Some(installed) => program.is_chosen || installed.version.is_none() || installed.version != program.version,
        None => true,
    }
}

fn check_fit(machine: &Machine, program: &Program) -> Result<(), Error> {
    let Some(target) = &program.target else {
        return Err(Error::new(Code::Usage, format!("the binary is not one for {}; {}", machine.os, advice(machine))));
    };
    let is_same = target.os == machine.os && target.arch == machine.arch;
    if is_same && !(target.needs_glibc && machine.libc == Some(Libc::Musl)) {
        return Ok(());
    }
    let Target { os, arch, needs_glibc } = target;
    let libc = if *needs_glibc { " with glibc" } else { "" };
    let there = if machine.libc == Some(Libc::Musl) { " with musl" } else { "" };
    let line = format!(
        "this binary is for {os} {arch}{libc}, the machine is {} {}{there}; {}",
        machine.os,
        machine.arch,
        advice(machine)
    );
    Err(Error::new(Code::Usage, line))
}

/// How to get a binary that fits. The ones with musl are static: they run whatever C library is there, of whatever age.
pub(crate) fn advice(machine: &Machine) -> String {
    let arch = machine.arch.as_str();
    let target = match machine.os.as_str() {
        "linux" if arch == "arm" => "armv7-unknown-linux-musleabihf".to_owned(),
        "linux" if arch == "x86" => "i686-unknown-linux-musl".to_owned(),
        "linux" if arch == "riscv64" => "riscv64gc-unknown-linux-musl".to_owned(),
        "linux" => format!("{arch}-unknown-linux-musl"),
        "macos" => format!("{arch}-apple-darwin"),
        os => format!("{arch}-unknown-{os}"),
    };
    format!(
        "in skypipe's checkout, `rustup target add {target} && cargo build --release -p skypipe-cli --target {target}` makes one \
         that fits, and `--binary target/{target}/release/skypipe` takes it"
    )
}

fn check_room(machine: &Machine, program: &Program) -> Result<(), Error> {
    match machine.free_bytes {
        Some(free) if free < program.bytes + ROOM_BYTES => {
            let line = format!("the disk there has {free} bytes left, the binary needs {}", program.bytes);
            Err(Error::new(Code::NoSpace, line))
        }
        _ => Ok(()),
    }
}

fn check_sums(machine: &Machine) -> Result<(), Error> {
    match machine.sum {
        Some(_) => Ok(()),
        None => {
            let line = "there is no program for SHA-256 sums there: sha256sum, shasum, sha256 or openssl";
            Err(Error::new(Code::Unsupported, line))
        }
    }
}

fn check_port(machine: &Machine) -> Result<(), Error> {
    match machine.taken {
        Some(port) => {
            let line = format!("port {port} there is taken by another program: choose one with --port");
            Err(Error::new(Code::Locked, line))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Installed;
    use super::*;

    const OWNER: &str = "ssh-ed25519 AAAA me@here";

    fn program() -> Program {
        let mut program = Program::open(None).unwrap();
        program.version = "0.2.0".parse().ok();
        program.target = Some(Target { os: "linux".into(), arch: "x86_64".into(), needs_glibc: true });
        program
    }

    fn bare() -> Machine {
        Machine {
            os: "linux".into(),
            arch: "x86_64".into(),
            libc: Some(Libc::Glibc),
            home: "/home/u".into(),
            sum: Some("sha256sum".into()),
            ..Machine::default()
        }
    }

    fn wish() -> Wish {
        Wish { reached_as: "h".into(), owner: OWNER.into(), ..Wish::default() }
    }

    /// The machine as `plan` leaves it.
    fn after(machine: &Machine, program: &Program, plan: &Plan) -> Machine {
        Machine {
            installed: Some(Installed { version: program.version.clone(), sum: program.sum.clone() }),
            owner: Some(OWNER.into()),
            service_sum: Some(sum_of(&plan.service)),
            is_active: true,
            urls: vec![format!("# skypipe {}", program.version.clone().unwrap()), "quic://k@h:7473".into()],
            settings: plan.settings.clone(),
            ..machine.clone()
        }
    }

    #[track_caller]
    fn refused(machine: &Machine, program: &Program, wish: &Wish) -> Error {
        Plan::make(machine, program, wish).unwrap_err()
    }

    #[test]
    fn a_bare_machine_gets_everything_and_then_nothing_more() {
        for init in [Init::System, Init::User, Init::None] {
            let machine = Machine { init, ..bare() };
            let plan = Plan::make(&machine, &program(), &wish()).unwrap();
            assert_eq!(plan.steps, [Step::Copy, Step::Serve]);
            let again = Plan::make(&after(&machine, &program(), &plan), &program(), &wish()).unwrap();
            assert_eq!(again, Plan { steps: vec![], ..plan });
        }
    }

    #[test]
    fn an_interrupted_one_goes_on_where_it_stopped() {
        let plan = Plan::make(&bare(), &program(), &wish()).unwrap();
        let done = after(&bare(), &program(), &plan);
        let copied = Machine { service_sum: None, is_active: false, urls: vec![], owner: None, ..done.clone() };
        let stopped = Machine { is_active: false, urls: vec![], ..done.clone() };
        let not_restarted = Machine { urls: vec!["# skypipe 0.1.0".into()], ..done };
        for machine in [copied, stopped, not_restarted] {
            assert_eq!(Plan::make(&machine, &program(), &wish()).unwrap().steps, [Step::Serve], "{machine:?}");
        }
    }

    #[test]
    fn upgrades_go_one_way() {
        let (mut old, new) = (program(), program());
        old.version = "0.1.9".parse().ok();
        old.sum = "another".into();
        let plan = Plan::make(&bare(), &old, &wish()).unwrap();
        let machine = after(&bare(), &old, &plan);
        assert_eq!(Plan::make(&machine, &new, &wish()).unwrap().steps, [Step::Copy, Step::Serve]);
        let newer = after(&bare(), &new, &plan);
        assert_eq!(refused(&newer, &old, &wish()).code(), Code::Version);
    }

    #[test]
    fn another_build_of_the_same_version_goes_over_only_when_chosen() {
        let plan = Plan::make(&bare(), &program(), &wish()).unwrap();
        let machine = after(&bare(), &program(), &plan);
        let mut other = program();
        other.sum = "another".into();
        assert_eq!(Plan::make(&machine, &other, &wish()).unwrap().steps, []);
        other.is_chosen = true;
        assert_eq!(Plan::make(&machine, &other, &wish()).unwrap().steps, [Step::Copy, Step::Serve]);
    }

    #[test]
    fn settings_stay_until_others_are_asked_for() {
        let first = Wish { port: Some(9000), public: Some("p".into()), data: Some("/srv/d".into()), ..wish() };
        let plan = Plan::make(&bare(), &program(), &first).unwrap();
        let machine = after(&bare(), &program(), &plan);
        assert_eq!(Plan::make(&machine, &program(), &wish()).unwrap().steps, []);
        let moved = Plan::make(&machine, &program(), &Wish { port: Some(9001), ..wish() }).unwrap();
        assert_eq!(moved.steps, [Step::Serve]);
        assert_eq!((moved.settings.port, moved.settings.public.as_deref()), (9001, Some("p")));
    }

    #[test]
    fn a_binary_that_does_not_fit_is_refused_with_the_way_to_one_that_does() {
        for (os, arch, libc, target) in [
            ("linux", "aarch64", Some(Libc::Glibc), "aarch64-unknown-linux-musl"),
            ("linux", "x86_64", Some(Libc::Musl), "x86_64-unknown-linux-musl"),
            ("linux", "arm", None, "armv7-unknown-linux-musleabihf"),
            ("macos", "aarch64", None, "aarch64-apple-darwin"),
            ("freebsd", "x86_64", None, "x86_64-unknown-freebsd"),
        ] {
            let machine = Machine { os: os.into(), arch: arch.into(), libc, ..bare() };
            let error = refused(&machine, &program(), &wish());
            assert_eq!(error.code(), Code::Usage, "{error}");
            assert!(
                error.text().contains(&format!("cargo build --release -p skypipe-cli --target {target}`")),
                "{error}"
            );
            assert!(error.text().contains("--binary"), "{error}");
        }
    }

    #[test]
    fn what_cannot_go_well_is_not_begun() {
        let taken = Machine { taken: Some(7473), ..bare() };
        assert_eq!(refused(&taken, &program(), &wish()).code(), Code::Locked);
        let sumless = Machine { sum: None, ..bare() };
        assert_eq!(refused(&sumless, &program(), &wish()).code(), Code::Unsupported);
        let full = Machine { free_bytes: Some(10), ..bare() };
        assert_eq!(refused(&full, &program(), &wish()).code(), Code::NoSpace);
        let others = Machine { owner: Some("ssh-ed25519 BBBB me@here".into()), ..bare() };
        assert_eq!(refused(&others, &program(), &wish()).code(), Code::Access);
        let own = Machine { owner: Some("ssh-ed25519 AAAA renamed".into()), ..bare() };
        assert!(Plan::make(&own, &program(), &wish()).is_ok());
        let system = Machine { init: Init::System, ..bare() };
        let elsewhere = Wish { data: Some("/srv/d".into()), ..wish() };
        assert_eq!(refused(&system, &program(), &elsewhere).code(), Code::Unsupported);
        let strange = Machine { home: "/home/$(x)".into(), ..bare() };
        assert_eq!(refused(&strange, &program(), &wish()).code(), Code::Usage);
    }
}
