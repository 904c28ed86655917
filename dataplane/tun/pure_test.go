package tun

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// fragments cuts an IPv4 packet into pieces of n octets of payload.
func fragments(p []byte, n int) (out [][]byte) {
	for off := 20; off < len(p); off += n {
		end := min(off+n, len(p))
		f := append(bytes.Clone(p[:20]), p[off:end]...)
		be.PutUint16(f[2:], uint16(len(f)))
		word := uint16(off-20) / 8
		if end < len(p) {
			word |= 0x2000
		}
		be.PutUint16(f[6:], word)
		out = append(out, f)
	}
	return out
}

// Datagrams are put together whatever the order of the fragments, and not when fragments overlap (RFC 5722).
func TestReassembly(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	whole := make([]byte, 20+9001)
	for i := range whole {
		whole[i] = byte(i * 7)
	}
	flow.PutHeader(whole, src, dst, protoUDP, 0, 64, 9001)
	be.PutUint16(whole[6:], 0)
	sumIPv4(whole[:20])
	r := rand.New(rand.NewPCG(1, 2))
	var ra reassembly
	for range 50 {
		all := fragments(whole, 8*(1+r.IntN(180)))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i, f := range all {
			a, ok := ra.add(f, 0)
			if !ok || (a != nil) != (i == len(all)-1) {
				t.Fatalf("fragment %d of %d: %v, %v", i, len(all), a != nil, ok)
			}
			if a == nil {
				continue
			}
			if at, end := a.packet(); !bytes.Equal(a.buf[at:end], whole) {
				t.Fatal("the datagram is not what was cut")
			}
			ra.done(a)
		}
	}
	all := fragments(whole, 1400)
	if _, ok := ra.add(all[0], 0); !ok {
		t.Error("first fragment refused")
	}
	if _, ok := ra.add(all[0], 0); ok || len(ra.by) != 0 {
		t.Error("a fragment that overlaps was taken")
	}
	for i := range 10 * maxReassemblies { // bounded, until time has passed
		f := bytes.Clone(all[0])
		be.PutUint16(f[4:], uint16(i))
		ra.add(f, 1)
	}
	if len(ra.by) != maxReassemblies {
		t.Errorf("%d begun", len(ra.by))
	}
	late := bytes.Clone(all[0])
	be.PutUint16(late[4:], 0xffff)
	if _, ok := ra.add(late, 2+reassemblyTime); !ok || len(ra.by) != 1 {
		t.Errorf("old ones are kept: %d", len(ra.by))
	}
}

func FuzzReassembly(f *testing.F) {
	f.Add(make([]byte, 28), make([]byte, 28))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r reassembly
		for _, p := range [][]byte{a, b, a} {
			if x, ok := r.add(p, 0); ok && x != nil {
				at, end := x.packet()
				if at < headroom+vnetLen || end > len(x.buf)-tailroom {
					t.Fatalf("packet at %d to %d", at, end)
				}
			}
		}
	})
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if got, want := ^fold(sum(b, 0)), flow.Checksum(b); got != want {
			t.Fatalf("%d octets: %04x, want %04x", n, got, want)
		}
	}
}

// Remote addresses that anybody can make up cost bounded memory, and events come once a second.
func TestDrops(t *testing.T) {
	var events []dataplane.Dropped
	d := dropped{sink: func(e dataplane.Event) { events = append(events, e.(dataplane.Dropped)) }}
	defer d.end()
	one := netip.MustParseAddr("192.0.2.1")
	now := 10 * perSecond
	for range 5 {
		d.add(now, one, flow.BadICV, flowKey{Remote: one})
	}
	d.add(now, one, flow.Replayed, flowKey{})
	d.add(now+perSecond, one, flow.BadICV, flowKey{})
	if len(events) != 3 || events[0].Count != 1 || events[1].Reason != flow.Replayed || events[2].Count != 5 {
		t.Errorf("%+v", events)
	}
	for i := range 5 * maxRemotes {
		d.add(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), flow.UnknownSPI, flowKey{})
	}
	if len(d.by) > maxRemotes+1 || d.total[flow.UnknownSPI] != 5*maxRemotes {
		t.Errorf("%d rows, %d counted", len(d.by), d.total[flow.UnknownSPI])
	}
	var l limiter
	if !l.allow(one, now) || l.allow(one, now+perSecond-1) || !l.allow(one, now+perSecond) {
		t.Error("not once a second")
	}
	for i := range 5 * maxRemotes {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.last) > maxRemotes {
		t.Errorf("%d remembered", len(l.last))
	}
}

func TestConfig(t *testing.T) {
	c := Config{}.withDefaults()
	if c.outer() != 1<<28 || c.opened() != 1<<29 || c.Port != 500 || c.EncapPort != 4500 || c.Device != "btns0" {
		t.Errorf("%+v: %x, %x", c, c.outer(), c.opened())
	}
}
