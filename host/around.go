package host

import (
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Surroundings is the network that this host is in at present.
type Surroundings struct {
	// Network names it, for records of private addresses: prefix and gateway.
	Network string
	// Essential are the hosts without which there is no network: default gateways, resolvers, DHCP servers. They are
	// never locked out (design.md: sticky without lock-out).
	Essential []netip.Addr
	// Attached are the prefixes of this host's own addresses.
	Attached []netip.Prefix
}

// Same reports whether both are the same network. The order of lists counts.
func (s Surroundings) Same(o Surroundings) bool {
	return s.Network == o.Network && slices.Equal(s.Essential, o.Essential) && slices.Equal(s.Attached, o.Attached)
}

func (h *Host) settleIn(s Surroundings) {
	h.around = s
	h.book.SetEssential(s.Essential)
	h.probes.SetLocal(s.Attached)
}

// surroundings follows the host into another network: what is remembered there is closed, and what was closed here and
// need not be there is opened.
func (h *Host) surroundings(now time.Time, s Surroundings) {
	sticky := h.stickyAddrs(now)
	h.settleIn(s)
	h.setRules()
	for _, addr := range sticky {
		if h.book.Essential(addr) {
			h.report(now, Report{
				Kind: NetworkChanged, Level: Warn, Remote: addr, Reason: Spared,
				Text: "this recorded peer is a gateway, resolver or DHCP server of the network that this host is in now, " +
					"so its traffic may go in clear when it cannot be protected",
				Hint: "to require protection all the same, name it in a [[peer]] of the configuration",
			})
		}
	}
	for _, p := range h.sortedPeers() {
		if p.cfg == nil && p.installed != flow.Clear {
			h.freed(now, p.addr, "nothing that is recorded of this address counts in this network")
		}
	}
	h.closeRecorded(now)
}

// stickyAddrs are the addresses that were spoken to protected before, each once.
func (h *Host) stickyAddrs(now time.Time) (out []netip.Addr) {
	for _, r := range h.book.List() {
		if r.Addr.IsValid() && h.sticky(now, r.Addr) && h.protects(r.Addr) && (len(out) == 0 || out[len(out)-1] != r.Addr) {
			out = append(out, r.Addr)
		}
	}
	return out
}

// closeRecorded holds what goes to addresses that were spoken to protected before, until there are SAs.
func (h *Host) closeRecorded(now time.Time) {
	for _, addr := range h.stickyAddrs(now) {
		if p := h.peerAt(now, addr); p.cfg == nil && p.state == StateClear {
			h.enter(now, p, StateNegotiating, "recorded earlier; the next packet makes SAs", "")
		}
	}
}
