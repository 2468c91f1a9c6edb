# What `skypipe up` asks a machine before it touches anything; it only looks.
# Set in front of it: want_port, the port that is asked for, or nothing.
# Whether somebody listens on port $1, over UDP or TCP; nothing is known where there is no /proc.
is_taken() {
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$hex [0-9A-F]*:[0-9A-F]* 0A " && return 0
    cat /proc/net/udp /proc/net/udp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$hex "
}

user=$(id -un)
home=${HOME:-$(pwd)}
tell os "$(uname -s)"
tell arch "$(uname -m)"
tell user "$user"
tell home "$home"
tell sum "$sum"

libc=
for file in /lib/ld-musl-*; do [ -e "$file" ] && libc=musl; done
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) && libc=$glibc
tell libc "$libc"

init=none
if [ -d /run/systemd/system ] && has systemctl; then
    if [ "$uid" = 0 ]; then
        init=system
    else
        systemctl --user show-environment >/dev/null 2>&1 && init=user
    fi
fi
tell init "$init"
[ -e /proc/net/if_inet6 ] && tell ipv6 yes
[ -e /proc/net/tcp ] || tell ipv6 yes
if has firewall-cmd; then tell firewall firewalld; elif has ufw; then tell firewall ufw; fi

if [ "$init" = system ]; then
    lib=/usr/local/lib/skypipe
    service=/etc/systemd/system/skypipe.service
    data=/var/lib/private/skypipe
else
    lib=$home/.local/lib/skypipe
    service=$lib/supervise
    [ "$init" = user ] && service=$home/.config/systemd/user/skypipe.service
    data=$home/.local/share/skypipe-relay
fi
own_port=7473
if [ -r "$lib/settings" ]; then
    while IFS= read -r line; do
        tell setting "$line"
        case $line in
            data=*) data=${line#data=} ;;
            port=*) own_port=${line#port=} ;;
        esac
    done <"$lib/settings"
fi
port=${want_port:-$own_port}

if [ -x "$lib/skypipe" ]; then
    tell installed "$("$lib/skypipe" --version 2>/dev/null </dev/null | tail -n 1)"
    tell installed_sum "$(sum_of "$lib/skypipe")"
fi
[ -r "$lib/owner.pub" ] && tell owner "$(head -n 1 "$lib/owner.pub")"
[ -r "$service" ] && tell service_sum "$(sum_of "$service")"
active=no
case $init in
    system) systemctl is-active --quiet skypipe.service && active=yes ;;
    user) systemctl --user is-active --quiet skypipe.service && active=yes ;;
    *) supervisor && active=yes ;;
esac
tell active "$active"
if relay && [ -r "$data/urls" ]; then
    while IFS= read -r line; do tell url "$line"; done <"$data/urls"
fi
if [ -d "$data" ]; then
    set -- $(du -sk "$data" 2>/dev/null)
    tell data_kib "${1:-0}"
fi
if ! { relay && [ "$port" = "$own_port" ]; } && is_taken "$port"; then tell taken "$port"; fi
there=$home
[ "$init" = system ] && there=/usr/local
set -- $(df -Pk "$there" 2>/dev/null | tail -n 1)
tell free_kib "${4:-}"
tell end ok
