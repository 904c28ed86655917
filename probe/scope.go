package probe

import (
	"net/netip"
	"slices"
)

// Scope says which addresses may be tried. The zero value is all of them.
type Scope struct {
	Mode Mode
	List []netip.Prefix // for Listed
}

// Mode is the kind of a [Scope].
type Mode uint8

const (
	All    Mode = iota // every unicast address
	Local              // those of networks that this host is attached to
	Listed             // those of a list; an empty list is none
)

// Possible reports whether an address can be that of one host elsewhere.
func Possible(a netip.Addr) bool { return unicast(plain(a)) }

// Admits reports whether an address may be tried at all.
func (p *Prober) Admits(a netip.Addr) bool { return p.admits(plain(a)) }

// admits reports whether a, in plain form, may be tried.
func (p *Prober) admits(a netip.Addr) bool {
	if !unicast(a) || p.isBroadcast(a) {
		return false
	}
	in := func(x netip.Prefix) bool { return x.Contains(a) }
	switch p.cfg.Scope.Mode {
	case All:
		return true
	case Local:
		return slices.ContainsFunc(p.local, in)
	case Listed:
		return slices.ContainsFunc(p.cfg.Scope.List, in)
	}
	return false
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")   // RFC 1122 §3.2.1.3
	reserved    = netip.MustParsePrefix("240.0.0.0/4") // RFC 1112 §4; holds the limited broadcast
)

// unicast reports whether a can be one host elsewhere. Link-local addresses mean another host on every link.
func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
		!thisNetwork.Contains(a) && !reserved.Contains(a)
}

// isBroadcast reports whether a is the broadcast or network address of an attached network.
func (p *Prober) isBroadcast(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	for _, n := range p.local {
		if n.Addr().Is4() && n.Bits() < 31 && n.Contains(a) {
			host := a.As4()
			ones, zeros := true, true
			for i := n.Bits(); i < 32; i++ {
				if host[i/8]&(0x80>>(i%8)) != 0 {
					zeros = false
				} else {
					ones = false
				}
			}
			if ones || zeros {
				return true
			}
		}
	}
	return false
}
