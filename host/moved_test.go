package host

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

// A peer behind a NAT whose packets come from elsewhere is sent to there (RFC 7296 §2.23), and that is all: thousands of moves,
// over all the addresses there are, leave nothing behind, and those of other networks are not counted for what comes from theirs.
func TestMoved(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	s := b.h.peers[addrA].session()
	if !s.stranger {
		t.Fatal("who came by itself is no stranger")
	}
	state := func() string {
		return fmt.Sprint(len(b.h.peers), len(b.h.sessions), len(b.h.alarms.heap), b.h.sas.Len(), len(b.h.out), b.h.crowd.strangers, b.h.crowd.bySite,
			len(b.h.crowd.queue), len(b.h.crowd.sources), s.remote, b.prefixes)
	}
	before := state()
	var last netip.AddrPort
	for i := range 3000 {
		last = ap(netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)}), uint16(1024+i))
		b.h.act(w.now, ikev2.SAMoved{SA: s.handle, Remote: last})
		b.take(b.h.take())
	}
	if got := b.sas[b.sole()].OuterRemote; got != last {
		t.Errorf("packets go to %v", got)
	}
	if after := state(); after != before {
		t.Errorf("before the moves\n%s\nafter them\n%s", before, after)
	}
	b.want(addrA, StateProtected, flow.Protect)
	a.do(Stop{})
	if len(b.h.crowd.bySite) != 0 || b.h.crowd.strangers != 0 {
		t.Errorf("when it has gone, %v are counted", b.h.crowd.bySite)
	}
}
