package host

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
)

const exampleName = "host.example"

// named is what b has recorded for the name.
func (b *box) named() (keys []identity.Fingerprint) {
	for _, r := range b.store {
		if r.Name == exampleName {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// byName has a ask for o by the name, and the two talk.
func (w *world) byName(a, o *box) {
	w.t.Helper()
	a.do(Connect{Remote: o.addr, Name: exampleName})
	w.talk(a, o)
}

func TestAskedByName(t *testing.T) {
	t.Run("BTNS-TRUST-13 the key is recorded for the name, and for the address besides", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		w.byName(a, b)
		if got := a.named(); len(got) != 1 || got[0] != b.key() || len(a.store) != 2 {
			t.Fatalf("%v of %d records", got, len(a.store))
		}
	})
	t.Run("BTNS-TRUST-13 also in a session that was there before", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Connect{Remote: addrB, Name: "HOST.example."})
		if got := a.named(); len(got) != 1 || got[0] != b.key() {
			t.Fatalf("%v", got)
		}
		a.want(addrB, StateProtected, flow.Protect)
		a.do(Connect{Remote: addrB, Name: exampleName})
		for _, r := range a.store {
			if r.Sessions != 1 {
				t.Fatalf("one session is counted as %d: %+v", r.Sessions, r)
			}
		}
	})
	t.Run("BTNS-TRUST-13 at another address the key of the name is known, and where the address has another one that warns", func(t *testing.T) {
		for _, taken := range []bool{false, true} {
			w := newWorld(t)
			a, b := w.meet()
			w.byName(a, b)
			if taken {
				a.do(Accept{Addr: addrC, Key: key(t, "somebody").Public.Fingerprint()})
			}
			b.kill()
			moved := w.box("b at another address", addrC, func(c *Config) { c.Signer = b.cfg.Signer })
			w.byName(a, moved)
			v := a.h.peers[addrC].session()
			if v == nil || v.assurance != identity.Continuity || a.count(KeyChanged) != map[bool]int{true: 1}[taken] {
				t.Fatalf("taken %v: %+v\n%s", taken, v, a.story())
			}
			if a.h.peers[addrB].name != "" || a.h.peers[addrC].name != exampleName {
				t.Fatal("the name has not moved")
			}
		}
	})
}

func TestOtherKeyForName(t *testing.T) {
	// known is a host that knows the name with one key, and meets another key, which it knows at that address.
	known := func(t *testing.T) (w *world, a, c *box) {
		w = newWorld(t)
		a, b := w.meet()
		w.byName(a, b)
		b.kill()
		c = w.box("c", addrC)
		a.acquire(addrC)
		w.talk(a, c)
		a.want(addrC, StateProtected, flow.Protect)
		return w, a, c
	}
	t.Run("BTNS-TRUST-13 another key than that of the name is refused, though the address knows it", func(t *testing.T) {
		w, a, c := known(t)
		w.byName(a, c)
		a.want(addrC, StateRefused, flow.Hold)
		p := a.h.peers[addrC]
		if !strings.Contains(p.trouble().why, exampleName) || !strings.Contains(p.trouble().hint, "btns trust accept "+exampleName) || a.told(KeyChanged, Alarm) != 1 {
			t.Fatalf("%q, %q\n%s", p.trouble().why, p.trouble().hint, a.story())
		}
		if text := strings.Join(a.h.Explain(w.now, addrC, 0).Story(), "\n"); !strings.Contains(text, "is recorded for the name "+exampleName) {
			t.Fatal(text)
		}
		t.Run("until it is accepted for the name", func(t *testing.T) {
			a.do(Accept{Addr: addrC, Name: exampleName, Key: c.key()})
			w.talk(a, c)
			a.want(addrC, StateProtected, flow.Protect)
			if got := a.named(); len(got) != 1 || got[0] != c.key() {
				t.Fatalf("%v", got)
			}
		})
	})
	t.Run("BTNS-TRUST-13 or the name is forgotten", func(t *testing.T) {
		w, a, c := known(t)
		w.byName(a, c)
		a.do(Forget{Addr: addrC, Name: exampleName})
		if len(a.named()) != 0 {
			t.Fatal("still recorded")
		}
		w.pass(2 * time.Minute)
		a.acquire(addrC)
		w.talk(a, c)
		a.want(addrC, StateProtected, flow.Protect)
	})
	t.Run("BTNS-TRUST-13 a comparison holds for the name, too", func(t *testing.T) {
		w, a, c := known(t)
		w.byName(a, c)
		a.do(Verify{Addr: addrC, Name: exampleName, Key: c.key()})
		w.talk(a, c)
		if got := a.named(); len(got) != 1 || got[0] != c.key() {
			t.Fatalf("%v\n%s", got, a.story())
		}
		a.want(addrC, StateProtected, flow.Protect)
	})
	t.Run("what cannot be a name is none", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		for _, name := range []string{"", "192.0.2.1", "a b", strings.Repeat("x", 300), "..", "\x00"} {
			a.do(Connect{Remote: addrB, Name: name})
		}
		w.talk(a, b)
		if len(a.store) != 1 || a.h.peers[addrB].name != "" {
			t.Fatalf("%d records", len(a.store))
		}
	})
	t.Run("BTNS-TRUST-15 others behind the NAT of an address that was asked for by name are not held against it", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		w.byName(a, b)
		s := a.h.peers[addrB].session()
		if q := a.h.query(s, s.who, false); q.Name != exampleName {
			t.Fatalf("%+v", q)
		}
		s.initiator, s.nat.Peer = false, true
		if q := a.h.query(s, s.who, false); q.Name != "" {
			t.Fatalf("%+v", q)
		}
	})
}

// Who is behind a NAT and came by itself is not known to be who was asked for.
func TestNameOfStranger(t *testing.T) {
	t.Run("BTNS-TRUST-15 a name is not recorded for strangers behind a NAT", func(t *testing.T) {
		for _, stranger := range []bool{false, true} {
			w := newWorld(t)
			a, b := w.meet()
			s := a.h.peers[addrB].session()
			s.initiator, s.nat.Peer = !stranger, true
			a.do(Connect{Remote: addrB, Name: exampleName})
			if got := a.named(); (len(got) == 0) != stranger || !stranger && got[0] != b.key() {
				t.Errorf("it came by itself %v: %v", stranger, got)
			}
		}
	})
}
