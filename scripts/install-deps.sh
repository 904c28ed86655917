#!/bin/bash
# Installs what the tests or the demo need and the machine lacks, from Debian packages.
#
#   install-deps.sh test | demo | emulator
#
# No service is started or enabled. Libreswan's package conflicts with strongSwan's: it is unpacked beside it, in
# ${LAB_PEERS:-/opt/lab-peers}/libreswan, and only what it depends on is installed. Can be run any number of times;
# without anything to do it takes no network and no time.
set -euo pipefail

die() { echo "install-deps: $*" >&2; exit 1; }

[ $# = 1 ] || die "what for? test, demo or emulator"
[ "$(id -u)" = 0 ] || die "needs root to install packages"

peers=${LAB_PEERS:-/opt/lab-peers}
need=()

# want PACKAGE FILE...: the package is needed if one of its files is not there.
want() {
    local package=$1 f
    shift
    for f in "$@"; do
        case $f in
        /*) [ -e "$f" ] || { need+=("$package"); return; } ;;
        *) command -v "$f" >/dev/null || { need+=("$package"); return; } ;;
        esac
    done
}

want iproute2 ip
want nftables nft
want iputils-ping ping
want tcpdump tcpdump
case $1 in
demo) ;;
emulator) want qemu-user qemu-mips ;;
test)
    plugins=/usr/lib/ipsec/plugins
    want iperf3 iperf3
    want curl curl
    want openssh-client ssh ssh-keygen
    want openssh-server /usr/sbin/sshd
    want openssl openssl
    want systemd systemd-analyze
    want python3-minimal python3
    want gcc gcc
    want libc6-dev /usr/include/stdio.h
    want linux-libc-dev /usr/include/linux/xfrm.h
    want charon-systemd /usr/sbin/charon-systemd
    want strongswan-swanctl /usr/sbin/swanctl
    want strongswan-pki pki
    # kernel-libipsec is ESP in user space; curve25519 and chapoly are extras of libstrongswan.
    want libcharon-extra-plugins $plugins/libstrongswan-kernel-libipsec.so
    want libstrongswan-extra-plugins $plugins/libstrongswan-chapoly.so
    want libstrongswan-standard-plugins $plugins/libstrongswan-gcm.so
    if [ ! -x "$peers/libreswan/usr/libexec/ipsec/pluto" ]; then
        unpack_libreswan=1
    fi
    ;;
*) die "what for? test, demo or emulator" ;;
esac

[ ${#need[@]} -gt 0 ] || [ -n "${unpack_libreswan:-}" ] || exit 0
command -v apt-get >/dev/null || die "this machine has no apt-get; install by hand: ${need[*]} ${unpack_libreswan:+libreswan}"

# A temporary policy-rc.d keeps maintainer scripts from starting daemons.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >/dev/null
}

echo "install-deps: ${need[*]} ${unpack_libreswan:+libreswan}"
apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null || die "apt-get update failed"
[ ${#need[@]} = 0 ] || apt_install "${need[@]}" || die "cannot install ${need[*]}"

if [ -n "${unpack_libreswan:-}" ]; then
    # shellcheck disable=SC2046 # a list of packages
    apt_install $(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances libreswan | sed -n 's/^  Depends: \([^<].*\)/\1/p') ||
        die "cannot install what libreswan depends on"
    tmp=$(mktemp -d)
    chmod 755 "$tmp"
    (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download libreswan >/dev/null) || die "cannot download libreswan"
    rm -rf "$peers/libreswan"
    mkdir -p "$peers/libreswan"
    dpkg-deb -x "$tmp"/libreswan_*.deb "$peers/libreswan" || die "cannot unpack libreswan"
    rm -rf "$tmp"
    [ -x "$peers/libreswan/usr/libexec/ipsec/pluto" ] || die "no pluto in the libreswan package"
fi
