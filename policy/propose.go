package policy

import (
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Propose is what an initiator asks for a packet of this entry: the packet's own selectors first (RFC 7296 §2.9), then
// what the entry allows, in transport mode between the packet's two hosts. What the entry populates from the packet is
// the packet's.
func (d Decision) Propose(f selector.Flow) (local, remote selector.Set) {
	l, r := f.Ends()
	local, remote = selector.Set{l}, selector.Set{r}
	if d.PFP == PFPAll {
		return local, remote
	}
	allowedL, allowedR := d.Local, d.Remote
	if d.Mode != protect.Tunnel || d.PFP&PFPLocalAddr != 0 {
		allowedL = allowedL.Intersect(selector.Set{selector.Host(f.Local)})
	}
	if d.Mode != protect.Tunnel || d.PFP&PFPRemoteAddr != 0 {
		allowedR = allowedR.Intersect(selector.Set{selector.Host(f.Remote)})
	}
	allowedL = allowedL.Intersect(d.populated(l, PFPLocalPort))
	allowedR = allowedR.Intersect(d.populated(r, PFPRemotePort))
	return append(local, allowedL...).Wire(), append(remote, allowedR...).Wire()
}

// populated is everything with the protocol and ports of the packet, as far as they are populated from it. Ports mean
// nothing without their protocol.
func (d Decision) populated(end selector.Selector, port PFP) selector.Set {
	s := selector.Any()
	for i := range s {
		if d.PFP&(PFPProto|port) != 0 {
			s[i].Proto = end.Proto
		}
		if d.PFP&port != 0 {
			s[i].Ports = end.Ports
		}
	}
	return s
}
