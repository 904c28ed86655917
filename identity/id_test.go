package identity

import (
	"errors"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	for _, tc := range []struct {
		in, out string
		t       IDType
		bad     bool
	}{
		{in: "host.example", out: "fqdn:host.example", t: IDFQDN},
		{in: "@host.example", out: "fqdn:host.example", t: IDFQDN},
		{in: "fqdn:host.example", out: "fqdn:host.example", t: IDFQDN},
		{in: "user@host.example", out: "email:user@host.example", t: IDRFC822},
		{in: "192.0.2.1", out: "ipv4:192.0.2.1", t: IDv4},
		{in: "2001:db8::1", out: "ipv6:2001:db8::1", t: IDv6},
		{in: "ipv6:2001:db8::1", out: "ipv6:2001:db8::1", t: IDv6},
		{in: "key-id:0badcafe", out: "key-id:0badcafe", t: IDKeyID},
		{in: "null", out: "null", t: IDNull},
		{in: "", bad: true},
		{in: "@", bad: true},
		{in: "a b", bad: true},
		{in: "fe80::1%eth0", bad: true},
		{in: "::ffff:192.0.2.1", bad: true},
		{in: "ipv4:2001:db8::1", bad: true},
		{in: "key-id:xyz", bad: true},
		{in: "what:ever", bad: true},
		{in: "host\x1b[31m", bad: true},
		{in: strings.Repeat("a", 256), bad: true},
	} {
		id, err := ParseID(tc.in)
		if tc.bad {
			if !errors.Is(err, ErrID) {
				t.Errorf("%q: %v, %v", tc.in, id, err)
			}
			continue
		}
		if err != nil || id.Type != tc.t || id.String() != tc.out {
			t.Errorf("%q: %v, %v", tc.in, id, err)
		}
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Errorf("%q read back: %v, %v", tc.in, back, err)
		}
	}
}

// BTNS-CORE-43: a peer's text reaches a log only escaped and bounded.
func TestIDStringIsSafe(t *testing.T) {
	t.Run("BTNS-CORE-43 asserted text is shown escaped and bounded", func(t *testing.T) {
		for _, id := range []ID{
			{IDFQDN, "a\x1b[2J\nlevel=ERROR"},
			{IDRFC822, strings.Repeat("\x00", 5000)},
			{IDKeyID, strings.Repeat("k", 5000)},
			{IDv4, "toolong"},
			{IDDN, "\x30\x80"},
			{99, "\xff\xfe"},
			{IDNull, "ignored"},
		} {
			s := id.String()
			if len(s) > 160 {
				t.Errorf("%d octets: %s", len(s), s)
			}
			for _, c := range s {
				if c < ' ' || c > '~' {
					t.Errorf("%q holds %q", s, c)
				}
			}
		}
	})
}

func TestIDMatches(t *testing.T) {
	a := ID{IDFQDN, "Host.example"}
	if !a.Matches(ID{IDFQDN, "host.EXAMPLE"}) || a.Matches(ID{IDRFC822, "Host.example"}) {
		t.Error("host names compare without case, and only with host names")
	}
	if (ID{IDKeyID, "a"}).Matches(ID{IDKeyID, "A"}) {
		t.Error("key IDs compare octet for octet")
	}
}

// FuzzID: no text panics, what parses survives a round trip.
func FuzzID(f *testing.F) {
	f.Add("host.example", []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, s string, octets []byte) {
		for typ := range 15 {
			if out := (ID{IDType(typ), string(octets)}).String(); len(out) > 160 {
				t.Fatalf("%d octets", len(out))
			}
		}
		id, err := ParseID(s)
		if err != nil || id.Type == IDDN || len(id.Data) > 60 {
			return
		}
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Fatalf("%q: %v reads back as %v, %v", s, id, back, err)
		}
	})
}
