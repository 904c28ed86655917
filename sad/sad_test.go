package sad

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/btns-ipsec/btns/selector"
)

func spis(v ...uint32) *bytes.Reader {
	var b []byte
	for _, s := range v {
		b = binary.BigEndian.AppendUint32(b, s)
	}
	return bytes.NewReader(b)
}

// RFC 4303 §2.1: 0 to 255 are reserved; an SPI in use or promised is not drawn again.
func TestReserve(t *testing.T) {
	var d DB
	first, err := d.Reserve(spis(0, 255, 256))
	if err != nil || first != 256 {
		t.Fatalf("got %d, %v; want 256", first, err)
	}
	second, err := d.Reserve(spis(256, 257))
	if err != nil || second != 257 {
		t.Fatalf("got %d, %v; want 257", second, err)
	}
	d.Release(256)
	if again, err := d.Reserve(spis(256)); err != nil || again != 256 {
		t.Fatalf("released SPI not drawn: %d, %v", again, err)
	}
	d.Add(Pair{ID: 1, SPIIn: 256})
	if d.Reserved() != 1 {
		t.Fatalf("%d reserved, want the one of SPI 257", d.Reserved())
	}
	d.Release(256) // belongs to a pair: stays
	if _, err := d.Reserve(spis(256)); err == nil {
		t.Fatal("an SPI in use was drawn")
	}
}

// A rekeyed pair takes over sending; one for other traffic with the same peer goes on.
func TestUse(t *testing.T) {
	var d DB
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	set := func(x netip.Addr, port uint16) selector.Set {
		return selector.Set{{Proto: 6, Ports: selector.PortRange{From: port, To: port}, From: x, To: x}}
	}
	add := func(id uint64, port uint16) *Pair {
		return d.Add(Pair{ID: id, Owner: 7, Peer: b, SPIIn: uint32(0x1000 + id), Local: set(a, port), Remote: set(b, port)})
	}
	old, other, next := add(1, 22), add(2, 80), add(3, 22)
	d.Use(old)
	d.Use(other)
	d.Use(next)
	if old.Sending || !other.Sending || !next.Sending {
		t.Fatalf("sending: old %v, other %v, next %v", old.Sending, other.Sending, next.Sending)
	}
	if len(d.Owned(7)) != 3 || len(d.With(b)) != 3 {
		t.Fatalf("owned %d, with %d", len(d.Owned(7)), len(d.With(b)))
	}
	for _, id := range []uint64{1, 2, 3} {
		if d.Remove(id) == nil {
			t.Fatalf("pair %d was not there", id)
		}
	}
	if d.Remove(1) != nil || d.Len() != 0 || len(d.Owned(7)) != 0 || len(d.With(b)) != 0 {
		t.Fatal("something is left")
	}
}

// Whatever comes and goes, the pairs of an IKE SA and those with an address are there in the order in which they came.
func TestLists(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d DB
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.3")}
	var here []*Pair // in the order in which they came to their addresses
	gone := func(p *Pair) { here = slices.DeleteFunc(here, func(o *Pair) bool { return o == p }) }
	for id := range uint64(3000) {
		switch n := r.IntN(10); {
		case n < 5 || len(here) == 0:
			here = append(here, d.Add(Pair{ID: id + 1, Owner: r.Uint64N(4), Peer: addrs[r.IntN(3)], SPIIn: 0x1000 + uint32(id)}))
		default:
			p := here[r.IntN(len(here))]
			if d.Remove(p.ID) != p || d.Get(p.ID) != nil {
				t.Fatal("another pair was removed")
			}
			gone(p)
		}
		for owner := range uint64(4) {
			mine := d.Owned(owner)
			if !slices.IsSortedFunc(mine, func(a, b *Pair) int { return cmp.Compare(a.ID, b.ID) }) {
				t.Fatalf("the pairs of %d are not in order", owner)
			}
			for _, p := range mine {
				if p.Owner != owner || d.Sole(p) != (len(mine) == 1) {
					t.Fatalf("pair %d among those of %d; %d of them", p.ID, owner, len(mine))
				}
			}
		}
		total := 0
		for _, a := range addrs {
			var want []*Pair
			for _, p := range here {
				if p.Peer == a {
					want = append(want, p)
				}
			}
			if !slices.Equal(d.With(a), want) {
				t.Fatalf("with %v: %v, want %v", a, d.With(a), want)
			}
			total += len(want)
		}
		if d.Len() != total || d.Reserved() != 0 {
			t.Fatalf("%d pairs, %d reserved, want %d and none", d.Len(), d.Reserved(), total)
		}
	}
}
