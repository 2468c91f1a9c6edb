//! Files for those who deploy by other means: `skypipe up --print`.

use super::place::Place;
use super::service;
use super::settings::Settings;

/// The folder for data in the container.
const CONTAINER_DATA: &str = "/data";
/// The user's and the group's number in the container: no system's own.
const CONTAINER_ID: u32 = 7473;

/// A unit for the whole machine. `owner` is the key `ssh-ed25519 AAAA…`, without a comment.
pub(crate) fn systemd(settings: &Settings, owner: &str) -> String {
    let place = Place::system();
    let arguments = service::arguments(&place, settings, true, owner);
    let unit = service::system_unit(&place, &arguments);
    let head = "\
# A relay for skypipe. To install it, as root:
#   install -D skypipe /usr/local/lib/skypipe/skypipe
#   skypipe up --print systemd > /etc/systemd/system/skypipe.service
#   systemctl daemon-reload && systemctl enable --now skypipe.service
# Its URLs are in /var/lib/skypipe/urls then. The key behind --owner administers it.
";
    let rest = unit.split_once('\n').map_or(unit.as_str(), |(_, rest)| rest);
    format!("{head}{rest}")
}

/// A Dockerfile that builds from a checkout.
pub(crate) fn dockerfile(settings: &Settings, owner: &str) -> String {
    let port = settings.port;
    let command = json_words(&container_arguments(settings, owner));
    format!(
        "\
# A relay for skypipe. In its checkout, from which the image is built:
#   skypipe up --print docker > Dockerfile
#   docker build --tag skypipe .
#   docker run --detach --name skypipe --restart unless-stopped --publish {port}:{port}/udp --publish {port}:{port}/tcp --volume skypipe:{CONTAINER_DATA} skypipe
# `docker logs skypipe` shows its URLs. The key behind --owner administers it.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p skypipe-cli

FROM debian:bookworm-slim
COPY --from=build /src/target/release/skypipe /usr/local/bin/skypipe
# What a volume at this folder begins with belongs to the relay's user alone.
RUN groupadd --gid {CONTAINER_ID} skypipe \\
 && useradd --uid {CONTAINER_ID} --gid {CONTAINER_ID} --no-create-home --home-dir {CONTAINER_DATA} --shell /usr/sbin/nologin skypipe \\
 && install --directory --mode 700 --owner skypipe --group skypipe {CONTAINER_DATA}
USER skypipe
VOLUME {CONTAINER_DATA}
EXPOSE {port}/udp {port}/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT [\"/usr/local/bin/skypipe\"]
CMD {command}
"
    )
}

/// A compose.yaml that goes with [`dockerfile`].
pub(crate) fn compose(settings: &Settings, owner: &str) -> String {
    let port = settings.port;
    let command = json_words(&container_arguments(settings, owner));
    format!(
        "\
# A relay for skypipe, with the Dockerfile beside it that `skypipe up --print docker` prints:
#   skypipe up --print compose > compose.yaml
#   docker compose up --detach --build
# `docker compose logs` shows its URLs. The key behind --owner administers it.
services:
  skypipe:
    build: .
    image: skypipe
    command: {command}
    ports:
      - \"{port}:{port}/udp\"
      - \"{port}:{port}/tcp\"
    volumes:
      - skypipe:{CONTAINER_DATA}
    restart: unless-stopped
    # SIGTERM drains for at most 10 s.
    stop_grace_period: 20s
    read_only: true
    cap_drop: [ALL]
    security_opt: [\"no-new-privileges:true\"]
    mem_limit: 1g
    ulimits:
      nofile: 524288
volumes:
  skypipe: {{}}
"
    )
}

fn container_arguments(settings: &Settings, owner: &str) -> Vec<String> {
    let place = Place { lib: String::new(), service: String::new(), data: CONTAINER_DATA.to_owned() };
    // Networks of containers have IPv6 only where somebody gave it to them.
    service::arguments(&place, settings, false, owner)
}

/// Words as JSON has them, which Dockerfiles and YAML read the same way.
fn json_words(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::golden::golden;
    use super::*;

    const OWNER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    #[test]
    fn the_files_are_as_they_are_shown() {
        let settings = Settings { public: Some("relay.example.org".into()), ..Settings::default() };
        golden("print.service", &systemd(&settings, OWNER));
        golden("Dockerfile", &dockerfile(&settings, OWNER));
        golden("compose.yaml", &compose(&settings, OWNER));
    }
}
