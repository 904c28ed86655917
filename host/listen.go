package host

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// speaksOn reports whether this host speaks IKE on an address of its own.
func (h *Host) speaksOn(local netip.Addr) bool {
	return len(h.cfg.Listen) == 0 || slices.Contains(h.cfg.Listen, local.Unmap().WithZone(""))
}

// mute is about a peer to whom packets leave from an address on which this host does not speak IKE: they cannot be
// protected, since the SAs of an address are made from it.
func (h *Host) mute(now time.Time, p *peer) {
	why := fmt.Sprintf("packets to it leave from %v, and IKE is not spoken on that address", p.local)
	hint := fmt.Sprintf("add %v to listen in the configuration", p.local)
	if h.required(now, p) {
		h.enter(now, p, StateOutage, why, hint)
		h.fallSilent(now, p)
		return
	}
	h.enter(now, p, StateClear, why, hint)
}
