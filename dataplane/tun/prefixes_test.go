//go:build linux

package tun

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// A prefix comes back from its key as it was, and no two have one.
func TestPrefixKeys(t *testing.T) {
	seen := map[prefixKey]netip.Prefix{}
	for _, text := range []string{
		"0.0.0.0/0", "::/0", "::/96", "::ffff:0:0/95", "0.0.0.0/32", "::/128", "10.0.0.0/8", "10.1.2.3/32", "128.0.0.0/1", "2001:db8::/32",
		"2001:db8::1/128", "::10.1.2.3/128", "::a01:203/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
	} {
		p := netip.MustParsePrefix(text)
		k := keyOf(p)
		if o, taken := seen[k]; k.prefix() != p || taken && o != p {
			t.Errorf("%v comes back as %v; another with that key: %v", p, k.prefix(), o)
		}
		seen[k] = p
	}
}

// What is known of a route is what was noted last, however many addresses this host has had.
func TestRoutes(t *testing.T) {
	r := newRoutes()
	addr := func(n int) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24+uint32(n))
		return netip.AddrFrom4(b)
	}
	p := netip.MustParsePrefix("192.0.2.0/24")
	for n := range 1<<16 + 10 {
		c := prefixChange{prefix: p, state: flow.State(n % 4), local: addr(n), asked: netip.Addr{}}
		if n%2 == 0 {
			c.asked = c.local
		}
		r.set(c)
		got, ok := r.get(p)
		if n >= 1<<16-1 { // there is no number left
			c.local, c.asked = netip.Addr{}, netip.Addr{}
		}
		if !ok || got != c {
			t.Fatalf("%+v, want %+v", got, c)
		}
	}
	r.set(prefixChange{prefix: single(a6)})
	if len(r.list()) != 2 {
		t.Errorf("%v", r.list())
	}
	r.remove(p)
	if l := r.list(); len(l) != 1 || l[0].prefix != single(a6) {
		t.Errorf("%v", l)
	}
}
