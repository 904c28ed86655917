package policy

import (
	"net/netip"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Unknown is how traffic is treated that no other entry is about.
type Unknown struct {
	Fallback Fallback
	Inbound  Word
	Waiting  Waiting
	NullOK   bool
	Offer    []protect.Suite // nil: DefaultOffer
	Lifetime protect.Lifetime
}

// Default is the policy of a host without a configuration: everything that a network needs to work is left alone, and
// all other unicast traffic is protected with whoever can.
func Default() (*Policy, error) {
	spd := append(Untouchable(), Rest(Unknown{Fallback: Prefer, Waiting: Pass})...)
	return New(spd, []PADEntry{Anyone()})
}

// Anyone is the wildcard PAD entry: any peer that proves a key, for the address it speaks from.
func Anyone() PADEntry { return PADEntry{Name: "anyone", Kind: AnyKey} }

// Anonymous is the PAD entry for peers without authentication (RFC 7619).
func Anonymous() PADEntry { return PADEntry{Name: "anonymous", Kind: Null} }

// Untouchable are the entries that come before all others: what they are about must not be locked out by any rule.
func Untouchable() []Entry {
	any, v4, v6 := selector.Any(), selector.Any4(), selector.Any6()
	prefix := func(texts ...string) (s selector.Set) {
		for _, t := range texts {
			s = append(s, selector.Prefix(netip.MustParsePrefix(t)))
		}
		return s
	}
	udp := func(x selector.Selector, ports ...uint16) (s selector.Set) {
		for _, p := range ports {
			x.Proto, x.Ports = selector.UDP, selector.PortRange{From: p, To: p}
			s = append(s, x)
		}
		return s
	}
	nd := v6 // router and neighbour discovery, redirects (RFC 4861): types 133 to 137
	nd.Proto, nd.Ports = selector.ICMPv6, selector.PortRange{From: 133 << 8, To: 137<<8 | 255}
	bypass := func(name string, local, remote selector.Set) Entry {
		return Entry{Name: name, Action: Bypass, Local: local, Remote: remote}
	}
	return []Entry{
		bypass("loopback", any, prefix("127.0.0.0/8", "::1/128")),
		bypass("neighbour discovery", selector.Set{nd}, selector.Set{nd}),
		bypass("link-local", any, prefix("169.254.0.0/16", "fe80::/10")),
		bypass("multicast and broadcast", any, prefix("224.0.0.0/4", "255.255.255.255/32", "0.0.0.0/8", "ff00::/8", "::/128")),
		bypass("DHCP client", udp(v4, 68), udp(v4, 67)),
		bypass("DHCP server", udp(v4, 67), udp(v4, 67, 68)),
		bypass("DHCPv6 client", udp(v6, 546), udp(v6, 547)),
		bypass("DHCPv6 server", udp(v6, 547), udp(v6, 546, 547)),
		bypass("IKE", append(udp(v4, 500, 4500), udp(v6, 500, 4500)...), any),
	}
}

// Rest is the entries that come after all others.
func Rest(u Unknown) []Entry {
	if u.Offer == nil {
		u.Offer = DefaultOffer(true)
	}
	if u.Lifetime == (protect.Lifetime{}) {
		u.Lifetime = DefaultLifetime()
	}
	return []Entry{{
		Name: "everything else", Action: Protect, Local: selector.Any(), Remote: selector.Any(),
		Mode: protect.Transport, BtnsOK: true, NullOK: u.NullOK, Fallback: u.Fallback, Inbound: u.Inbound, Waiting: u.Waiting,
		Offer: u.Offer, Lifetime: u.Lifetime,
	}}
}
