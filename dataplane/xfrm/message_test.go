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

// Sizes are those of the kernel's structures; the state in what asks for an SPI is read as it was.
func TestState(t *testing.T) {
	for _, s := range []state{
		{
			to: netip.MustParseAddr("192.0.2.7"), from: netip.MustParseAddr("192.0.2.1"), proto: protoESP, seq: 4, reqid: ReqID,
			mode: 1, mark: mark{0, 1 << 28},
		},
		{to: netip.MustParseAddr("2001:db8::7"), from: netip.MustParseAddr("2001:db8::1"), proto: protoESP, seq: 1<<32 - 1, reqid: 9},
	} {
		b := s.putAlloc()
		if len(b) != stateLen+8+12 {
			t.Errorf("%v: %d octets", s.to, len(b))
		}
		ranged := append(append([]byte(nil), b[:stateLen]...), b[stateLen+8:]...)
		if got, err := readState(ranged); err != nil || got != s {
			t.Errorf("%+v, %v; want %+v", got, err, s)
		}
		if id := s.putID(); len(id) != idLen+12 {
			t.Errorf("%v: ID of %d octets", s.to, len(id))
		}
		if f := filter(netip.PrefixFrom(s.to, 24)); len(f) != 4+36 {
			t.Errorf("%v: filter of %d octets", s.to, len(f))
		}
		for n := range stateLen {
			if _, err := readState(ranged[:n]); err == nil {
				t.Fatalf("%d octets are a state", n)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(policy{to: everything6, reqid: 9}.put())
	f.Add(make([]byte, acquireLen))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = readPolicy(b)
		_, _, _ = readAcquire(b)
		_, _ = readState(b)
	})
}

var everything6 = netip.MustParsePrefix("::/0")
