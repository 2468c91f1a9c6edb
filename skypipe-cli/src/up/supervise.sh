# Keeps the skypipe relay of this account running where no service manager does: one at a time, started again with growing pauses.
# Written by `skypipe up`, taken away by `skypipe down`. To have it after a reboot as well, a line for `crontab -e`:
#   @reboot sh "$lib/supervise"
cd / && umask 077 && mkdir -p "$data" || exit 1
if command -v flock >/dev/null 2>&1; then
    exec 9>"$data/supervisor.lock"
    flock -n 9 || exit 0
fi
printf '%s\n' "$$" >"$data/supervisor.pid"
child=
stopping=
trap 'stopping=yes; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT
trap '' HUP
pause=1
while [ -z "$stopping" ]; do
    began=$(date +%s)
    # The log has starts, stops and faults, no traffic: one that is long is begun anew.
    [ "$(wc -c <"$data/relay.log" 2>/dev/null || echo 0)" -gt 1048576 ] && : >"$data/relay.log"
    run </dev/null >/dev/null 2>>"$data/relay.log" 9>&- &
    child=$!
    # A signal that came before the child did has not reached it.
    [ -n "$stopping" ] && kill -TERM "$child" 2>/dev/null
    # A signal ends the waiting, not the child.
    while kill -0 "$child" 2>/dev/null; do wait "$child"; done
    child=
    [ -n "$stopping" ] && break
    [ $(($(date +%s) - began)) -ge 60 ] && pause=1
    sleep "$pause" 9>&- &
    wait $!
    pause=$((pause * 2))
    [ "$pause" -gt 60 ] && pause=60
done
rm -f "$data/supervisor.pid"
