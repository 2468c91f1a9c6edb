//! `skypipe up [USER@]HOST`

use std::time::Duration;

use skypipe_core::{Code, Error};
use tokio::time::timeout;

use super::keys::own_comment;
use super::{on_this_thread, print};
use crate::args::{PrintArg, UpArgs};
use crate::broker::{Relay, identity};
use crate::config;
use crate::exit::{Exit, say};
use crate::progress::size;
use crate::shell::quoted;
use crate::switch::switch_to;
use crate::up::{self, Firewall, Machine, Plan, Program, Settings, Site, Started, Step, Wish};

/// How long the new relay may take to answer from here: it accepts already, only the way there may be shut.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &UpArgs) -> Result<Exit, Error> {
    // A config file that is wrong is said to be before anything is changed anywhere.
    let owner = own_line()?;
    match (args.print, &args.host) {
        (Some(what), _) => print(&file(what, args, &owner)),
        (None, Some(host)) => up(host, args, owner),
        (None, None) => Err(Error::new(Code::Usage, "which machine? `skypipe up [USER@]HOST`")),
    }
}

/// A file for those who deploy by other means.
fn file(what: PrintArg, args: &UpArgs, owner: &str) -> String {
    let usual = Settings::default();
    let settings = Settings { port: args.port.unwrap_or(usual.port), public: args.public.clone(), ..usual };
    // Without the comment: nothing in it is special to whoever reads the file.
    let owner = owner.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    match what {
        PrintArg::Systemd => up::systemd(&settings, &owner),
        PrintArg::Docker => up::dockerfile(&settings, &owner),
        PrintArg::Compose => up::compose(&settings, &owner),
    }
}

fn up(host: &str, args: &UpArgs, owner: String) -> Result<Exit, Error> {
    let program = Program::open(args.binary.as_deref())?;
    let site = Site::new(host, &args.ssh.option)?;
    let machine = site.look(args.port)?;
    say(&format!("{host}: {}", machine.describe()));
    let wish = Wish {
        port: args.port,
        bind: args.bind.clone(),
        public: args.public.clone(),
        data: args.data.clone(),
        reached_as: reached_as(&site, host)?,
        owner,
    };
    let plan = Plan::make(&machine, &program, &wish)?;
    let started = carry_out(&site, &machine, &program, &plan, &wish)?;
    if started.urls.is_empty() {
        return Err(Error::new(Code::Protocol, "the relay there names no URL for other machines"));
    }
    on_this_thread(async {
        reach(&site, &machine, &plan, &started.urls).await?;
        config::set_up(Some(host))?;
        switch_to(&started.urls).await?;
        say("for each other machine of yours, `skypipe invite` prints the line to run there");
        print(&started.urls.iter().map(|url| format!("{url}\n")).collect::<String>())
    })
}

/// The address that ssh connects to, without what only ssh understands.
fn reached_as(site: &Site, host: &str) -> Result<String, Error> {
    let address = site.address().unwrap_or_else(|| host.rsplit('@').next().unwrap_or(host).to_owned());
    up::settings::host(&address)
}

fn carry_out(site: &Site, machine: &Machine, program: &Program, plan: &Plan, wish: &Wish) -> Result<Started, Error> {
    if plan.steps.contains(&Step::Copy) {
        say(&format!("copying the binary, {}", size(program.bytes as f64)));
        site.copy(program, machine, &plan.place)?;
    }
    if plan.steps.contains(&Step::Serve) {
        let started = site.serve(plan, machine, &wish.owner)?;
        tell_started(machine, plan, &started);
        return Ok(started);
    }
    let version = machine.running().map(|v| format!(", of version {v}")).unwrap_or_default();
    say(&format!("the relay runs already{version}; nothing to do"));
    Ok(Started { urls: up::network_urls(&machine.urls), ends_at_logout: false })
}

fn tell_started(machine: &Machine, plan: &Plan, started: &Started) {
    let what = if machine.is_active { "started again" } else { "started" };
    say(&format!(
        "the relay is {what}; it listens on port {} (UDP and TCP) and stores in {}",
        plan.settings.port, plan.place.data
    ));
    if started.ends_at_logout {
        let line = format!(
            "it ends when {} logs out: `loginctl enable-linger {}` as root there changes that",
            machine.user, machine.user
        );
        say(&line);
    }
    if machine.init == up::Init::None {
        let script = quoted(&plan.place.service);
        say(&format!("nothing there starts it after a reboot; `crontab -e` with the line `@reboot sh {script}` does"));
    }
}

/// Asks the relay from here: that it runs there says nothing about the way.
async fn reach(site: &Site, machine: &Machine, plan: &Plan, urls: &[String]) -> Result<(), Error> {
    let relay = Relay::at(&urls.join(","))?;
    let error = match timeout(ANSWER_WITHIN, relay.broker.admitted()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => Error::new(Code::Unreachable, "no answer"),
    };
    match error.code() {
        Code::Unreachable | Code::Disconnected | Code::Timeout => Err(shut(site, machine, plan, &error)),
        Code::Access => Err(stranger(site, plan)),
        _ => Err(error),
    }
}

/// The relay runs and the way to it is shut: the firewall is its owner's to open.
fn shut(site: &Site, machine: &Machine, plan: &Plan, error: &Error) -> Error {
    let (host, port) = (site.host(), plan.settings.port);
    let open = match machine.firewall {
        Some(Firewall::Ufw) => format!("ufw allow {port}"),
        Some(Firewall::Firewalld) => {
            format!("firewall-cmd --permanent --add-port={port}/tcp --add-port={port}/udp && firewall-cmd --reload")
        }
        None => format!("for p in tcp udp; do iptables -I INPUT -p $p --dport {port} -j ACCEPT; done"),
    };
    let line = format!(
        "the relay runs on {host} but cannot be reached from here ({}). Open port {port} there, as root: `{open}`; and in the firewall of who \
         hosts it. Or name the address that works with --public. Then run this again",
        error.text()
    );
    Error::new(Code::Unreachable, line)
}

/// The relay has an owner from before, such as of data that an earlier `down` kept.
fn stranger(site: &Site, plan: &Plan) -> Error {
    let (owner, list) = (quoted(&plan.place.owner()), quoted(&format!("{}/authorized_keys", plan.place.data)));
    let command = format!("printf 'admin,owner=\"relay\" %s\\n' \"$(cat {owner})\" >> {list}");
    let line = format!(
        "the data kept on {} know another owner, not your key. To make yours one of them, run there: `{command}`; then run this again",
        site.host()
    );
    Error::new(Code::Access, line)
}

/// The line of this user's public key.
fn own_line() -> Result<String, Error> {
    Ok(skypipe_keys::public_line(identity()?.key(), &own_comment()))
}
