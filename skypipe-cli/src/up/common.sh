# What every script of `skypipe up` and `skypipe down` begins with. POSIX sh, read from stdin.
exec 2>&1
trap '' HUP PIPE
tell() { printf '@sky %s %s\n' "$1" "$2"; }
fail() { tell failed "$1"; exit 0; }
has() { command -v "$1" >/dev/null 2>&1; }
sum=
for name in sha256sum shasum sha256 openssl; do [ -z "$sum" ] && has "$name" && sum=$name; done
sum_of() {
    case $sum in
        sha256sum) sha256sum <"$1" ;;
        shasum) shasum -a 256 <"$1" ;;
        sha256) sha256 -q "$1" ;;
        openssl) openssl dgst -sha256 -r <"$1" ;;
    esac 2>/dev/null | { read -r found rest; printf '%s' "$found"; }
}
# To the disk: the file alone where that is possible, else everything.
flush() { sync "$1" 2>/dev/null || sync; }
# A number in a file may be that of another process by now: its command line must name what it is to be.
is_process() {
    [ -n "$1" ] || return 1
    if [ -r "/proc/$1/cmdline" ]; then
        line=$(tr '\000' ' ' <"/proc/$1/cmdline")
    else
        line=$(ps -o args= -p "$1" 2>/dev/null)
    fi
    case $line in *"$2"*) return 0 ;; esac
    return 1
}
supervisor() {
    pid=$(cat "$data/supervisor.pid" 2>/dev/null)
    is_process "$pid" "$lib/supervise"
}
relay() {
    pid=
    { read -r pid rest <"$data/relay.lock"; } 2>/dev/null
    is_process "$pid" "$lib/skypipe relay"
}
pause() { sleep 0.1 2>/dev/null || sleep 1; }
# Asks process $pid to end, for as long as function $1 finds it. A relay drains for at most 10 s.
end_of() {
    "$1" || return 0
    kill -TERM "$pid"
    turns=0
    while "$1"; do
        turns=$((turns + 1))
        [ "$turns" -gt 200 ] && fail "process $pid there does not end"
        pause
    done
}
uid=$(id -u)
if [ "$uid" != 0 ]; then
    XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$uid}
    export XDG_RUNTIME_DIR
fi
