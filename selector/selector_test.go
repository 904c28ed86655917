package selector

import (
	"errors"
	"net/netip"
	"testing"
)

func sel(t testing.TB, text string) Selector {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func set(t testing.TB, texts ...string) Set {
	t.Helper()
	var s Set
	for _, x := range texts {
		s = append(s, sel(t, x))
	}
	return s
}

func TestText(t *testing.T) {
	for _, tc := range []struct{ in, out string }{
		{"192.0.2.1", "192.0.2.1/32"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"},
		{"192.0.2.0-192.0.2.255", "192.0.2.0/24"},
		{"2001:db8::/64 tcp/22", "2001:db8::/64 tcp/22"},
		{"any4 udp/1000-1999", "0.0.0.0/0 udp/1000-1999"},
		{"any6 icmpv6/128", "::/0 icmpv6/128"},
		{"any4 icmp/3:4", "0.0.0.0/0 icmp/3:4"},
		{"any4 icmp/3:4-5:0", "0.0.0.0/0 icmp/3:4-5:0"},
		{"any4 tcp/opaque", "0.0.0.0/0 tcp/opaque"},
		{"any4 47", "0.0.0.0/0 gre"},
		{"any4 99/1", "0.0.0.0/0 99/1"},
		{"any4 any/22", "0.0.0.0/0 any/22"},
	} {
		s := sel(t, tc.in)
		if s.String() != tc.out || !s.Valid() {
			t.Errorf("%q is %v", tc.in, s)
		}
		if back := sel(t, tc.out); back != s {
			t.Errorf("%q reads back as %v", tc.out, back)
		}
	}
	for _, bad := range []string{
		"", "192.0.2.1/24", "192.0.2.9-192.0.2.1", "192.0.2.1-::1", "fe80::1%lo", "::ffff:1.2.3.4", "any4 tcp/", "any4 tcp/2-1",
		"any4 tcp/65536", "any4 256", "any4 nonsense", "any4 icmp/8:256", "::ffff:1.2.3.4/128",
	} {
		if s, err := Parse(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v, %v", bad, s, err)
		}
	}
}

// RFC 4301 §4.4.1.1: OPAQUE is its own value, ANY includes it, a range of ports does not.
func TestHiddenPorts(t *testing.T) {
	f := Flow{Proto: TCP, NoPorts: true, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2")}
	for text, want := range map[string]bool{
		"any4": true, "any4 tcp": true, "any4 tcp/opaque": true, "any4 tcp/0-65534": false, "any4 udp": false,
	} {
		if got := set(t, text).ContainsLocal(f); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if l, _ := f.Ends(); l.Ports != Opaque {
		t.Errorf("ends %v", l)
	}
}

func TestContains(t *testing.T) {
	f := Flow{
		Proto: TCP, LocalPort: 40000, RemotePort: 22,
		Local: netip.MustParseAddr("fe80::1%eth0"), Remote: netip.MustParseAddr("::ffff:192.0.2.2"),
	}
	if !set(t, "fe80::1 tcp/40000").ContainsLocal(f) || set(t, "fe80::1 tcp/22").ContainsLocal(f) {
		t.Error("the local end has the local port; zones do not count")
	}
	if !Match(set(t, "any6"), set(t, "192.0.2.2 tcp/22"), f) || Match(set(t, "any4"), Any(), f) {
		t.Error("mapped addresses are IPv4")
	}
	l, r := f.Ends()
	if l.String() != "fe80::1/128 tcp/40000" || r.String() != "192.0.2.2/32 tcp/22" {
		t.Errorf("ends %v, %v", l, r)
	}
	if s := Prefix(netip.MustParsePrefix("::ffff:192.0.2.7/120")); s.String() != "192.0.2.0/24" {
		t.Errorf("mapped prefix %v", s)
	}
}

func TestSubtract(t *testing.T) {
	for _, tc := range []struct{ name, a, b, want string }{
		{"middle of addresses", "10.0.0.0/24", "10.0.0.5", "10.0.0.0-10.0.0.4, 10.0.0.6-10.0.0.255"},
		{"all", "10.0.0.0/24", "any4", "nothing"},
		{"nothing in common", "10.0.0.0/24 tcp", "any4 udp", "10.0.0.0/24 tcp"},
		{"other family", "10.0.0.0/24", "any6", "10.0.0.0/24"},
		{"a port of all keeps hidden ports", "10.0.0.1 tcp", "any4 tcp/22", "10.0.0.1/32 tcp/0-21, 10.0.0.1/32 tcp/23-65535, 10.0.0.1/32 tcp/opaque"},
		{"a port of some", "10.0.0.1 tcp/20-30", "any4 any/22", "10.0.0.1/32 tcp/20-21, 10.0.0.1/32 tcp/23-30"},
		{"hidden ports", "10.0.0.1 tcp", "any4 tcp/opaque", "10.0.0.1/32 tcp/0-32767, 10.0.0.1/32 tcp/32768-65535"},
		{"edges of the address space", "any4", "0.0.0.0/1", "128.0.0.0/1"},
	} {
		if got := set(t, tc.a).Subtract(set(t, tc.b)).String(); got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
}

// RFC 7296 §2.9 as in ikev2.md §9.
func TestNarrow(t *testing.T) {
	for _, tc := range []struct {
		name, want       string
		offered, allowed Set
	}{
		{
			"trigger and range are both allowed: the range holds the trigger", "10.0.0.0/24",
			set(t, "10.0.0.7 tcp/22", "10.0.0.0/24"), set(t, "any4"),
		},
		{
			"piece with the trigger leads", "10.0.0.128/25, 10.0.0.0/26",
			set(t, "10.0.0.200 tcp/22", "10.0.0.0/24"), set(t, "10.0.0.0/26", "10.0.0.128/25"),
		},
		{"first not allowed, others are", "10.0.0.0/26", set(t, "10.0.0.200", "10.0.0.0/24"), set(t, "10.0.0.0/26")},
		{"nothing allowed", "nothing", set(t, "10.0.0.0/24"), set(t, "10.0.1.0/24", "any6")},
		{"any protocol narrows to the policy's", "10.0.0.1/32 tcp/2049", set(t, "10.0.0.1"), set(t, "any4 tcp/2049")},
		{"equal offers once", "10.0.0.1/32", set(t, "10.0.0.1", "10.0.0.1"), Any()},
	} {
		if got := Narrow(tc.offered, tc.allowed, true).String(); got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
	many := make(Set, 300)
	for i := range many {
		many[i] = Host(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if got := len(Narrow(many, Any(), false)); got != 255 {
		t.Errorf("%d selectors do not fit on the wire", got)
	}
}

// FuzzParse: no text panics; what parses is valid and survives a round trip.
func FuzzParse(f *testing.F) {
	f.Add("2001:db8::/64 tcp/22")
	f.Add("192.0.2.1-192.0.2.9 icmp/3:4-5:6")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if back, err := Parse(s.String()); err != nil || back != s || !s.Valid() {
			t.Fatalf("%q: %v reads back as %v, %v", text, s, back, err)
		}
	})
}
