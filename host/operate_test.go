package host

import (
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// last is the host's answer to an operator.
func (b *box) last() Report {
	for i := len(b.reports) - 1; i >= 0; i-- {
		if b.reports[i].Kind == Operator {
			return b.reports[i]
		}
	}
	return Report{}
}

// BTNS-TRUST-06: a comparison names its key; whoever names none, or one that nobody knows there, has slipped.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	stranger := key(t, "stranger").Public.Fingerprint()
	for _, c := range []struct {
		name string
		ev   Verify
		ok   bool
	}{
		{"no key", Verify{Addr: addrB}, false},
		{"a key at an address that nobody knows", Verify{Addr: addrC, Key: stranger}, false},
		{"the recorded key at its address", Verify{Addr: addrB, Key: b.key()}, true},
		{"a key beforehand", Verify{Key: stranger}, true},
	} {
		a.do(c.ev)
		r := a.last()
		if (r.Level == Info) != c.ok || r.Level != Info && r.Reason != NotDone {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	for _, r := range a.store {
		if !r.Verified() {
			t.Errorf("%v is not verified", r.Key)
		}
	}
	if len(a.store) != 2 {
		t.Fatalf("%d records", len(a.store))
	}
}

// A changed key that was compared is let in, at once (trust.md §5, row "user comparison").
func TestVerifyAChangedKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	b.kill()
	evil := w.box("reinstalled", addrB)
	a.boot()
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	a.do(Verify{Addr: addrB, Key: evil.key()})
	a.want(addrB, StateProtected, flow.Protect)
	if s := a.h.peers[addrB].session(); s.assurance != identity.Verified || s.who.Key.Fingerprint() != evil.key() {
		t.Fatalf("%v of %v", s.assurance, s.who.Key)
	}
}

// A key that cannot be revoked is none.
func TestRevokeNothing(t *testing.T) {
	a := newWorld(t).box("a", addrA)
	a.do(Revoke{})
	if r := a.last(); r.Level != Warn || len(a.store) != 0 {
		t.Fatalf("%+v", r)
	}
}

// What a text says is remembered, closed at once, and found after a restart; what displaces nothing is told by its line.
func TestImport(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	fresh := key(t, "fresh").Public.Fingerprint().String()
	entries, err := trust.ParseKnown([]byte(addrC.String() + " " + fresh + " level=continuity sticky\n" +
		addrB.String() + " " + fresh + " level=first-use\n"))
	if err != nil {
		t.Fatal(err)
	}
	a.do(Import{entries})
	if r := a.last(); r.Level != Info || !strings.Contains(r.Text, "1 of 2 keys") {
		t.Fatalf("%+v", r)
	}
	if !strings.Contains(a.story(), "line 2 is left out") {
		t.Fatal(a.story())
	}
	a.want(addrC, StateNegotiating, flow.Hold)
	a.want(addrB, StateProtected, flow.Protect)
	a.kill()
	a.boot()
	a.want(addrC, StateNegotiating, flow.Hold)
	withdrawn, err := trust.ParseKnown([]byte("@revoked * " + b.key().String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	a.acquire(addrB)
	a.want(addrB, StateProtected, flow.Protect)
	a.do(Import{withdrawn})
	a.want(addrB, StateRefused, flow.Hold)
	if len(a.sas) != 0 {
		t.Fatalf("%d pairs with a key that a text revokes", len(a.sas))
	}
}

// Many lines that are left out are counted, and a text that does not fit changes nothing.
func TestImportBounds(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet(func(c *Config) { c.Trust.Max = 40 })
	fresh := key(t, "fresh").Public.Fingerprint().String()
	lines := strings.Repeat(addrB.String()+" "+fresh+" level=first-use\n", 30)
	entries, err := trust.ParseKnown([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	a.do(Import{entries})
	if n := strings.Count(a.story(), "is left out"); n != maxSkipped || !strings.Contains(a.story(), "and 10 lines more") {
		t.Fatalf("%d lines are told\n%s", n, a.story())
	}
	var text strings.Builder
	for i := range 60 {
		text.WriteString("198.51.100." + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " " + fresh + "\n")
	}
	if entries, err = trust.ParseKnown([]byte(strings.ReplaceAll(text.String(), ".0", "."))); err != nil {
		t.Fatal(err)
	}
	a.do(Import{entries})
	if r := a.last(); r.Level != Warn || len(a.store) != 1 {
		t.Fatalf("%+v, %d records", r, len(a.store))
	}
}
