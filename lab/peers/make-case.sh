#!/bin/bash
# Turns one of ../cases/ into two complete swanctl directories, OUT/a and OUT/b,
# with keys and certificates made for it.
#
#   make-case.sh CASE OUT [key=TYPE] [ike=PROPOSALS] [esp=PROPOSALS]
#
#   key   ed25519 (default), ecdsa256, ecdsa384, rsa2048, rsa3072, rsa4096
#   ike   replaces the cases' IKE proposal, e.g. aes256-sha256-modp2048
#   esp   replaces the cases' ESP proposal, e.g. chacha20poly1305-x25519
#
# OUT must not exist, or be from an earlier run.  Files in each side:
#   private/self.pem  pubkey/self.pem  x509/self.pem    own key, bare and self-signed
#                     pubkey/peer.pem  x509/peer.pem    the other side's
#   x509ca/root.pem  x509/sub.pem  x509/host.pem        an authority, one below it, and own
#                                  chain.pem            key certified by that; host.pem and sub.pem
# The host that is not strongSwan takes its key from its side's private/self.pem
# and trusts its side's peer.pem.
set -euo pipefail

die() { echo "make-case: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }

[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")/.." && pwd)
name=$1 out=$2
shift 2
key=ed25519 ike= esp=
for o in "$@"; do
    case $o in
    key=*) key=${o#*=} ;;
    ike=*) ike=${o#*=} ;;
    esp=*) esp=${o#*=} ;;
    *) usage ;;
    esac
done
[ -f "$here/cases/$name/swanctl.conf" ] ||
    die "no case '$name'; there are: $(cd "$here/cases" && ls -d */ | grep -v ^base- | tr -d / | tr '\n' ' ')"
command -v pki >/dev/null || die "no pki command; run scripts/install-deps.sh"
case $key in
ed25519) type=$key size= ;;
ecdsa256 | ecdsa384) type=ecdsa size=${key#ecdsa} ;;
rsa2048 | rsa3072 | rsa4096) type=rsa size=${key#rsa} ;;
*) die "unknown key type '$key'" ;;
esac

if [ -e "$out" ]; then
    [ -f "$out/.lab-case" ] || die "$out exists and is not from this script"
    rm -rf "$out"
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
touch "$out/.lab-case"
umask 077

# Only what pki needs, whatever the machine's strongswan.conf says.
cat >"$out/pki.conf" <<CONF
pki {
    load = random openssl drbg x509 pubkey pkcs1 pkcs8 pem sha1 sha2 hmac gmp curve25519
}
CONF
export STRONGSWAN_CONF=$out/pki.conf

gen() { pki --gen --type "$type" ${size:+--size "$size"} --outform pem || die "pki cannot make a $key key"; }

for h in a b; do
    d=$out/$h
    mkdir -p "$d/private" "$d/pubkey" "$d/x509"
    cp "$here/cases/base-$h/base.conf" "$d/"
    for f in "$here/cases/$name"/*.conf; do cp "$f" "$d/"; done
    if [ -n "$ike" ]; then sed -i "s/^\( *proposals = \).*/\1$ike/" "$d"/*.conf; fi
    if [ -n "$esp" ]; then sed -i "s/^\( *esp_proposals = \).*/\1$esp/" "$d"/*.conf; fi
    gen >"$d/private/self.pem"
    pki --pub --in "$d/private/self.pem" --outform pem >"$d/pubkey/self.pem"
    pki --self --in "$d/private/self.pem" --dn "CN=$h.lab.example" --san "$h.lab.example" \
        --lifetime 30 --outform pem >"$d/x509/self.pem"
done
# Only a case with certified keys gets authorities, one that never sees a host, and one of each host.
if grep -q 'host\.pem' "$out/b/swanctl.conf"; then
    root=$out/root
    gen >"$root.key"
    pki --self --ca --in "$root.key" --dn "C=XX, O=lab, CN=root" --lifetime 30 --outform pem >"$root.pem"
    for h in a b; do
        d=$out/$h
        mkdir -p "$d/x509ca"
        cp "$root.pem" "$d/x509ca/"
        gen >"$out/sub.key"
        pki --issue --ca --cacert "$root.pem" --cakey "$root.key" --type priv --in "$out/sub.key" \
            --dn "C=XX, O=lab, CN=sub $h" --lifetime 30 --outform pem >"$d/x509/sub.pem"
        pki --issue --cacert "$d/x509/sub.pem" --cakey "$out/sub.key" --type priv --in "$d/private/self.pem" \
            --dn "C=XX, O=lab, CN=$h.lab.example" --san "$h.lab.example" --flag serverAuth --flag ikeIntermediate \
            --lifetime 30 --outform pem >"$d/x509/host.pem"
        cat "$d/x509/host.pem" "$d/x509/sub.pem" >"$d/chain.pem"
        rm "$d/x509/self.pem"
    done
fi
# Only a case that names the peer's key or certificate gets it.
for h in a b; do
    o=b
    [ $h = a ] || o=a
    if grep -q 'peer\.pem' "$out/$h/swanctl.conf"; then
        cp "$out/$o/pubkey/self.pem" "$out/$h/pubkey/peer.pem"
        cp "$out/$o/x509/self.pem" "$out/$h/x509/peer.pem"
    fi
done
