#!/bin/bash
# Runs Libreswan's pluto inside a network namespace, with its own configuration
# and state.
#
#   libreswan-host.sh start NETNS CONFDIR
#   libreswan-host.sh whack NETNS ARG...      e.g. --initiate --name lab, --trafficstatus
#   libreswan-host.sh log NETNS
#   libreswan-host.sh stop NETNS
#
# CONFDIR holds ipsec.conf and ipsec.secrets, perhaps policies/ (the groups of
# opportunistic encryption: private-or-clear, clear ...) and *.p12 files (no
# password), which are imported as keys.  Conns need leftupdown=%disabled.
# pluto knows kernel ESP only: where the kernel has none, FAKE_KERNEL=1 preloads
# fake-kernel.so, and everything works but the packets.  Without it the IKE SA
# comes up and the CHILD SA is refused (TS_UNACCEPTABLE).
# Packages: scripts/install-deps.sh.  State: ${LAB_RUN:-/run/ipsec-lab}.
set -euo pipefail

die() { echo "libreswan-host: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")" && pwd)
cmd=$1 ns=$2
shift 2
root=${LAB_PEERS:-/opt/lab-peers}/libreswan
bin=$root/usr/libexec/ipsec
state=${LAB_RUN:-/run/ipsec-lab}/libreswan.$ns

running() { # sets pid
    [ -f "$state/pid" ] || return 1
    pid=$(cat "$state/pid")
    # the same process, and not one that has ended and waits to be reaped
    [ "$(cut -d' ' -f3,22 "/proc/$pid/stat" 2>/dev/null | sed 's/^[^Z] //')" = "$(cat "$state/start" 2>/dev/null)" ]
}
whack() { ip netns exec "$ns" "$bin/whack" --rundir "$state/run" "$@"; }
stop() {
    if running; then
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 30); do running || break; sleep 0.1; done
        ! running || kill -9 "$pid" 2>/dev/null || true
    fi
    rm -rf "$state"
}
start() {
    local conf=${1:-} preload= f
    [ -f "$conf/ipsec.conf" ] && [ -f "$conf/ipsec.secrets" ] || die "need $conf/ipsec.conf and ipsec.secrets"
    conf=$(cd "$conf" && pwd)
    [ -x "$bin/pluto" ] || die "no $bin/pluto; run scripts/install-deps.sh"
    grep -qE "^$ns( |\$)" <<<"$(ip netns list)" || die "no network namespace $ns"
    ! running || die "already runs in $ns"
    stop
    mkdir -p "$state/run" "$state/nss"
    certutil -N -d "sql:$state/nss" --empty-password || die "certutil cannot make a key database"
    for f in "$conf"/*.p12; do
        [ ! -e "$f" ] || pk12util -i "$f" -d "sql:$state/nss" -W "" >/dev/null || die "cannot import $f"
    done
    if [ -n "${FAKE_KERNEL:-}" ]; then
        preload=$state/fake-kernel.so
        cc -shared -fPIC -O2 -o "$preload" "$here/fake-kernel.c" -ldl -lpthread ||
            die "cannot compile fake-kernel.c"
    fi
    # pluto looks for its helpers in one fixed place: give it that, in the mount
    # namespace that comes with the network namespace.
    ip netns exec "$ns" setsid sh -c 'mount --bind "$1" /usr/libexec || exit 1
        shift; [ -z "$1" ] || export LD_PRELOAD=$1; shift; exec "$@"' sh "$root/usr/libexec" "$preload" \
        "$bin/pluto" --config "$conf/ipsec.conf" --nofork --stderrlog --rundir "$state/run" \
        --secretsfile "$conf/ipsec.secrets" --ipsecdir "$conf" --nssdir "$state/nss" \
        --use-xfrm --nhelpers 1 --no-dnssec --log-no-audit </dev/null >"$state/log" 2>&1 &
    echo $! >"$state/pid"
    sleep 0.1
    cut -d' ' -f22 "/proc/$!/stat" >"$state/start" 2>/dev/null || true
    for _ in $(seq 100); do
        if ! running; then tail -n 5 "$state/log" >&2; die "pluto did not start in $ns"; fi
        if whack --status >/dev/null 2>&1; then
            whack --listen >/dev/null 2>&1 || true
            ip netns exec "$ns" "$bin/addconn" --config "$conf/ipsec.conf" \
                --ctlsocket "$state/run/pluto.ctl" --autoall >"$state/addconn.log" 2>&1 ||
                { cat "$state/addconn.log" >&2; die "pluto refuses the configuration"; }
            whack --listen >/dev/null 2>&1 || true
            return
        fi
        sleep 0.1
    done
    tail -n 5 "$state/log" >&2
    stop
    die "pluto in $ns does not answer"
}
case $cmd in
start) start "$@" ;;
stop) stop ;;
whack) running || die "nothing runs in $ns"; whack "$@" ;;
log) cat "$state/log" ;;
*) usage ;;
esac
