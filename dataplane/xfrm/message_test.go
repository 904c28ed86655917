package xfrm

import (
	"net/netip"
	"testing"
)

// Sizes are those of the kernel's structures, and what is written is read.
func TestPolicy(t *testing.T) {
	for _, p := range []policy{
		{to: netip.MustParsePrefix("192.0.2.0/24"), priority: 7, reqid: 5, mark: mark{0, 8}},
		{to: netip.MustParsePrefix("::/0"), icmp6: 135, priority: 0x7ffb7000},
	} {
		b := p.put()
		if tmpl := p.template(); len(tmpl) != templateLen {
			t.Errorf("template of %d octets", len(tmpl))
		}
		want := policyLen + 12
		if p.reqid != 0 {
			want += 4 + templateLen
		}
		if len(b) != want {
			t.Errorf("%v: %d octets, want %d", p.to, len(b), want)
		}
		got, out, err := readPolicy(b)
		if err != nil || !out || got != p {
			t.Errorf("%+v, %v, %v; want %+v", got, out, err, p)
		}
		for n := range len(b) {
			_, _, _ = readPolicy(b[:n])
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(policy{to: everything6, reqid: 9}.put())
	f.Add(make([]byte, acquireLen))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = readPolicy(b)
		_, _, _ = readAcquire(b)
	})
}

var everything6 = netip.MustParsePrefix("::/0")
