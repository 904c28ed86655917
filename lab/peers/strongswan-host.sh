#!/bin/bash
# Runs a strongSwan IKE daemon with ESP in user space (kernel-libipsec) inside a
# network namespace, with its own configuration and state, so that any number
# of them run side by side and none touches the machine's own /etc.
#
#   strongswan-host.sh start NETNS CONFDIR   start and load CONFDIR
#   strongswan-host.sh swanctl NETNS ARG...  talk to it, e.g. --initiate --child net
#   strongswan-host.sh reload NETNS          load CONFDIR again
#   strongswan-host.sh log NETNS             print its log
#   strongswan-host.sh pid NETNS             print its process id
#   strongswan-host.sh stop NETNS
#
# CONFDIR is laid out as swanctl expects it: swanctl.conf, private/, pubkey/,
# x509/, x509ca/ ...  If it holds a file charon.conf, that is read inside the
# "charon" section of strongswan.conf (cookie_threshold, retransmit_timeout ...).
#
# Environment:
#   SS_PREFIX   another build's prefix, a directory (default: Debian's)
#   SS_DATA     libipsec (default) | kernel: ESP in user space or in the kernel
#   SS_LOG      default log level, -1..4 (default 1; ike and cfg get one more)
#   SS_PLUGINS  further plugins to load, e.g. load-tester
#   LAB_RUN     state directory (default /run/ipsec-lab)
# With a build that has the save-keys plugin, keys for a packet dissector are
# written to the state directory.
set -euo pipefail

die() { echo "strongswan-host: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }

[ $# -ge 2 ] || usage
cmd=$1 ns=$2
shift 2
run=${LAB_RUN:-/run/ipsec-lab}
state=$run/strongswan.$ns

if [ -n "${SS_PREFIX:-}" ]; then
    plugindir=$SS_PREFIX/lib/ipsec/plugins
    swanctl=$SS_PREFIX/sbin/swanctl
    daemons="$SS_PREFIX/sbin/charon-systemd $SS_PREFIX/libexec/ipsec/charon $SS_PREFIX/lib/ipsec/charon"
    piddir=$SS_PREFIX/run
else
    plugindir=/usr/lib/ipsec/plugins
    swanctl=/usr/sbin/swanctl
    daemons="/usr/sbin/charon-systemd /usr/lib/ipsec/charon"
    piddir=
fi
uri=unix://$state/vici

running() { # sets pid
    [ -f "$state/pid" ] || return 1
    pid=$(cat "$state/pid")
    # the same process, and not one that has ended and waits to be reaped
    [ "$(cut -d' ' -f3,22 "/proc/$pid/stat" 2>/dev/null | sed 's/^[^Z] //')" = "$(cat "$state/start" 2>/dev/null)" ]
}

stop() {
    if running; then
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do running || break; sleep 0.1; done
        if running; then
            echo "strongswan-host: $pid does not end, killing it" >&2
            kill -9 "$pid" 2>/dev/null || true
            sleep 0.2
        fi
    fi
    rm -rf "$state"
}

ctl() {
    local c=$1
    shift
    ip netns exec "$ns" env SWANCTL_DIR="$state/conf" STRONGSWAN_CONF="$state/strongswan.conf" \
        "$swanctl" "$c" --uri "$uri" "$@"
}

start() {
    local conf=${1:-} d daemon= plugins= p data=${SS_DATA:-libipsec} log=${SS_LOG:-1}
    [ -f "$conf/swanctl.conf" ] || die "no $conf/swanctl.conf"
    conf=$(cd "$conf" && pwd)
    grep -qE "^$ns( |\$)" <<<"$(ip netns list)" || die "no network namespace $ns"
    for d in $daemons; do
        if [ -x "$d" ]; then daemon=$d; break; fi
    done
    [ -n "$daemon" ] || die "no strongSwan daemon (looked for: $daemons); run scripts/install-deps.sh"
    [ -x "$swanctl" ] || die "no $swanctl; run scripts/install-deps.sh"
    ! running || die "already runs in $ns (pid $pid); stop it first"
    stop
    mkdir -p "$state"
    ln -s "$conf" "$state/conf"

    # Exactly these, so that the machine's configuration has no say.  The first
    # that offers an algorithm or a kernel backend provides it.
    local want="${SS_PLUGINS:-} random nonce openssl drbg x509 revocation constraints pubkey pkcs1 pkcs8 pem
        hmac kdf sha2 sha1 sha3 ml curve25519 chapoly gcm ctr ccm xcbc cmac gmp mgf1 eap-identity eap-mschapv2
        md4 kernel-libipsec kernel-netlink socket-default vici updown counters save-keys"
    [ "$data" = libipsec ] || want=${want/kernel-libipsec/}
    for p in $want; do
        if [ -f "$plugindir/libstrongswan-$p.so" ]; then plugins="$plugins $p"; fi
    done
    if [ "$data" = libipsec ]; then
        case $plugins in *kernel-libipsec*) ;; *) die "no kernel-libipsec plugin in $plugindir" ;; esac
        [ -c /dev/net/tun ] || die "no /dev/net/tun, which kernel-libipsec needs"
    fi
    {
        cat <<-CONF
		charon {
		    load_modular = no
		    load =$plugins
		    install_virtual_ip = yes
		    filelog {
		        lab {
		            path = $state/log
		            default = $log
		            ike = $((log < 4 ? log + 1 : 4))
		            cfg = $((log < 4 ? log + 1 : 4))
		            flush_line = yes
		            ike_name = yes
		            time_format = %T
		            time_add_ms = yes
		        }
		    }
		    plugins {
		        vici { socket = $uri
		        }
		        save-keys { load = yes
		            esp = yes
		            ike = yes
		            wireshark_keys = $state
		        }
		    }
		CONF
        if [ -f "$conf/charon.conf" ]; then echo "    include $conf/charon.conf"; fi
        echo "}"
        echo "swanctl {"
        echo "    load = random nonce openssl x509 pubkey pkcs1 pkcs8 pem sha1 sha2 hmac curve25519"
        echo "}"
    } >"$state/strongswan.conf"

    # Builds of the plain daemon write a pid file whose place is fixed when
    # they are built: give each its own (the namespace command has already made
    # a mount namespace for it).
    ip netns exec "$ns" setsid env STRONGSWAN_CONF="$state/strongswan.conf" sh -c '
        if [ -n "$1" ]; then mkdir -p "$1"; mount -t tmpfs tmpfs "$1" || exit 1; fi
        exec "$2"' sh "$piddir" "$daemon" </dev/null >"$state/stdout" 2>&1 &
    echo $! >"$state/pid"
    sleep 0.1
    cut -d' ' -f22 "/proc/$!/stat" >"$state/start" 2>/dev/null || true
    for _ in $(seq 100); do
        if ! running; then
            tail -n 20 "$state/stdout" "$state/log" >&2 || true
            rm -f "$state/pid"
            die "the daemon did not start in $ns"
        fi
        if [ -S "$state/vici" ] && ctl --stats >/dev/null 2>&1; then
            reload
            return
        fi
        sleep 0.1
    done
    tail -n 20 "$state/stdout" "$state/log" >&2 || true
    stop
    die "the daemon in $ns does not answer on its socket"
}

reload() {
    local out
    out=$(ctl --load-all --noprompt 2>&1) || {
        echo "$out" >&2
        die "swanctl refuses the configuration"
    }
    # load-all reports failed connections and keys without failing itself, and
    # complains about directories that are not there
    out=$(grep -v '^opening directory' <<<"$out" || true)
    if grep -qE "failed|skipped|unsupported" <<<"$out"; then
        echo "$out" >&2
        die "swanctl refuses part of the configuration"
    fi
}

case $cmd in
start) start "$@" ;;
stop) stop ;;
swanctl) running || die "nothing runs in $ns"; [ $# -ge 1 ] || usage; ctl "$@" ;;
reload) running || die "nothing runs in $ns"; reload ;;
log) cat "$state/log" ;;
pid) running || die "nothing runs in $ns"; echo "$pid" ;;
*) usage ;;
esac
