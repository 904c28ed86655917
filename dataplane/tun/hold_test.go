//go:build linux

package tun

import (
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// heldTo is a frame of n octets to an address, with a vnet header.
func heldTo(a netip.Addr, n int) heldFrame {
	b := make([]byte, n)
	p := b[vnetLen:]
	p[0], p[8], p[9] = 0x45, 64, 17
	be.PutUint16(p[2:], uint16(min(len(p), 65535)))
	copy(p[12:], []byte{192, 0, 2, 1})
	copy(p[16:], a.AsSlice())
	return heldFrame{data: b}
}

// holding is a table in which packets to all hosts wait.
func holding(t *testing.T) *flow.Table {
	t.Helper()
	b := flow.NewTable().Build()
	if err := b.SetPrefix(netip.MustParsePrefix("198.18.0.0/15"), flow.Hold); err != nil {
		t.Fatal(err)
	}
	return b.Table()
}

func heldAddr(i int) (netip.Addr, netip.Prefix) {
	a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	return a, netip.PrefixFrom(a, 32)
}

// The largest frame there is finds room, what is refused leaves nothing behind, and what is released is what came.
func TestHeldFrames(t *testing.T) {
	var h held
	tab := holding(t)
	a, prefix := heldAddr(1)
	largest := heldTo(a, vnetLen+65535)
	for i, want := range []bool{true, false, false} {
		if got := h.put(prefix, largest, 1); got != want {
			t.Errorf("frame %d: %v", i, got)
		}
	}
	_, other := heldAddr(2)
	if h.put(other, heldFrame{data: make([]byte, heldOctets+1)}, 1) || len(h.by) != 1 {
		t.Errorf("%d queues", len(h.by))
	}
	if got := h.release(tab, 2); len(got) != 0 {
		t.Fatalf("%d frames are released while they wait", len(got))
	}
	got := h.release(flow.NewTable(), 2)
	if len(got) != 1 || len(got[0].data) != len(largest.data) || len(h.by) != 0 {
		t.Fatalf("%d frames, %d queues left", len(got), len(h.by))
	}
}

// Hosts that never answer do not take the room for good.
func TestHeldExpire(t *testing.T) {
	var h held
	tab := holding(t)
	for i := range heldPrefixes {
		a, prefix := heldAddr(i)
		if !h.put(prefix, heldTo(a, 100), 1) {
			t.Fatalf("no room for host %d", i)
		}
	}
	a, prefix := heldAddr(heldPrefixes)
	if h.put(prefix, heldTo(a, 100), heldTime) {
		t.Error("room for one more")
	}
	if !h.put(prefix, heldTo(a, 100), 2+heldTime) || len(h.by) != 1 {
		t.Errorf("no room after %d s; %d queues", heldTime/perSecond, len(h.by))
	}
	if got := h.release(tab, 4+2*heldTime); len(got) != 0 || len(h.by) != 0 {
		t.Errorf("%d frames, %d queues", len(got), len(h.by))
	}
}
