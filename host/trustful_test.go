package host

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/trust"
)

// BTNS-TRUST-16: a key is recorded when packets have gone both ways, not before.
func TestRecordedAfterBothWays(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	a.acquire(addrB)
	w.pass(5 * time.Second)
	if len(a.store)+len(b.store) != 0 {
		t.Fatal("recorded after a handshake")
	}
	for range 5 {
		a.packet(b)
		w.pass(time.Second)
	}
	if len(a.store)+len(b.store) != 0 {
		t.Fatal("recorded after traffic one way")
	}
	b.packet(a)
	w.pass(2 * time.Second)
	if len(a.store) != 1 || len(b.store) != 1 || a.count(FirstContact) != 1 || b.count(FirstContact) != 1 {
		t.Fatalf("%d and %d records after traffic both ways", len(a.store), len(b.store))
	}
	for _, r := range a.store {
		if r.Key != b.cfg.Signer.Public.Fingerprint() || !r.Sticky {
			t.Fatalf("%+v", r)
		}
	}
}

// The counters are read at once for the first packets, and at most once a second, however many peers come.
func TestReadingsAreBounded(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	a.readings = 0
	for range 50 {
		a.h.readSoon(w.now)
	}
	a.take(a.h.take())
	w.pass(time.Second)
	if a.readings > 2 {
		t.Fatalf("%d readings in a second", a.readings)
	}
	a.readings = 0
	for range 60 {
		a.packet(b)
		b.packet(a)
		w.pass(time.Second)
	}
	if a.readings < 20 || a.readings > 31 {
		t.Fatalf("%d readings in a minute", a.readings)
	}
}

// A host without SAs reads nothing.
func TestNoSAsNoReadings(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	a.do(Down{addrB})
	w.pass(10 * time.Second)
	a.readings = 0
	w.pass(10 * time.Minute)
	if a.readings != 0 {
		t.Fatalf("%d readings", a.readings)
	}
}

// BTNS-TRUST-30: another key at the address of a recorded one is refused with an explanation; after `btns trust accept`
// it is let in.
func TestKeyChanged(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	b.kill()
	evil := w.box("evil", addrB)
	a.boot()
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	p := a.h.peers[addrB]
	got := evil.cfg.Signer.Public.Fingerprint().String()
	if a.count(KeyChanged) != 1 || !strings.Contains(p.trouble().why, got) || !strings.Contains(p.trouble().hint, "btns trust accept") {
		t.Fatalf("%q %q", p.trouble().why, p.trouble().hint)
	}
	if e := a.h.Explain(w.now, addrB, 0); !strings.Contains(strings.Join(e.Story(), "\n"), got) || e.State != StateRefused {
		t.Fatalf("%+v", e)
	}
	a.do(Accept{Addr: addrB}) // the one refused last
	a.want(addrB, StateProtected, flow.Protect)
	if key := a.h.peers[addrB].session().who.Key.Fingerprint().String(); key != got {
		t.Fatalf("protected with %v", key)
	}
}

// What cannot be accepted says why.
func TestAcceptNothing(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA)
	a.do(Accept{Addr: addrB})
	if len(a.reports) != 1 || a.reports[0].Level != Warn || len(a.store) != 0 {
		t.Fatalf("%+v", a.reports)
	}
	a.do(Accept{Addr: addrB, Key: key(t, "b").Public.Fingerprint()}) // compared beforehand
	if len(a.store) != 1 {
		t.Fatal("a key that was named is not recorded")
	}
}

// design.md, who is recorded: a key that only ever came to us gives its address up when it is not alive, and keeps it
// when it is.
func TestInboundRecordDefendsItselfAlive(t *testing.T) {
	never := func(c *Config) { c.Policy = unknown(t, policy.Unknown{Fallback: policy.Never}) }
	for _, alive := range []bool{true, false} {
		w := newWorld(t)
		b := w.box("b", addrB, never)
		a := w.box("a", addrA)
		a.acquire(addrB)
		w.talk(a, b)
		if len(b.store) != 1 {
			t.Fatal("not recorded")
		}
		if !alive {
			b.boot()
		}
		a.dead = true
		other := w.box("other", addrA)
		other.acquire(addrB)
		if got := b.count(KeyChanged) == 1; got != alive {
			t.Errorf("old key alive %v: refused %v\n%s", alive, got, b.story())
		}
		w.talk(other, b)
		if r := slices.Collect(maps.Values(b.store)); len(r) != 1 || (r[0].Key == other.key()) == alive || b.state(addrA) != StateProtected {
			t.Errorf("old key alive %v: %+v\n%s", alive, r, b.story())
		}
	}
}

// BTNS-NULL-14: an address whose key is recorded does not come without one.
func TestDowngrade(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet(func(c *Config) {
		var err error
		c.Policy, err = policy.New(append(policy.Untouchable(), policy.Rest(policy.Unknown{Fallback: policy.Prefer, NullOK: true})...),
			[]policy.PADEntry{policy.Anyone(), policy.Anonymous()})
		if err != nil {
			t.Fatal(err)
		}
	})
	b.kill()
	a.boot()
	s := a.h.sessionOf(w.now, 77, ap(addrA, 500), ap(addrB, 500))
	a.h.act(w.now, ikev2.FindCredential{SA: 77, Local: netip.AddrPortFrom(s.local, portIKE), Remote: s.remote, Method: ikev2.Null, ID: identity.Null()})
	if s.pad == nil || s.pad.Kind != policy.Null {
		t.Fatal("no PAD entry takes in a peer without a key")
	}
	a.h.act(w.now, ikev2.JudgePeer{SA: 77, Local: netip.AddrPortFrom(s.local, portIKE), Remote: s.remote, Peer: ikev2.Peer{Method: ikev2.Null}})
	a.take(a.h.take())
	if a.count(KeyChanged) != 1 || a.reports[len(a.reports)-1].Reason != "downgrade" {
		t.Fatal(a.story())
	}
	a.want(addrB, StateRefused, flow.Hold)
	a.h.act(w.now, ikev2.SADown{SA: 77})
}

// BTNS-TRUST-17: a store without room refuses to record, and says so; the session stays.
func TestStoreFull(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet(func(c *Config) { c.Trust.Max = 1 })
	c := w.box("c", addrC)
	a.acquire(addrC)
	w.talk(a, c)
	if len(a.store) != 1 {
		t.Fatalf("%d records", len(a.store))
	}
	a.want(addrC, StateProtected, flow.Protect)
	if a.reports[len(a.reports)-1].Reason != "store-full" {
		t.Fatal(a.story())
	}
}

// BTNS-TRUST-34: when another key was recorded between the handshake and the first packets, the session ends.
func TestRecordedMeanwhile(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA, requiring(t)), w.box("b", addrB)
	a.acquire(addrB)
	a.do(Accept{Addr: addrB, Key: key(t, "other").Public.Fingerprint()})
	w.talk(a, b)
	if a.count(KeyChanged) == 0 || a.h.sas.Len() != 0 {
		t.Fatalf("%d pairs\n%s", a.h.sas.Len(), a.story())
	}
	if s := a.prefix(addrB); s != flow.Hold {
		t.Fatalf("the address is %v", s)
	}
}

// BTNS-TRUST-14: records age out by themselves, and stickiness with them.
func TestRecordsExpire(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet(func(c *Config) { c.Trust.Life = 2 * time.Hour })
	a.do(Down{addrB})
	b.kill()
	w.pass(4 * time.Hour)
	if len(a.store) != 0 {
		t.Fatal("still there")
	}
	a.acquire(addrB)
	w.pass(30 * time.Second)
	a.want(addrB, StateClear, flow.Clear)
}

// INITIAL_CONTACT (BTNS-CORE-14): sent only to a peer whose key is recorded and with whom there is no SA; the receiver
// deletes what has the same key and address, and nothing else.
func TestInitialContact(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	if a.h.expectsKey(w.now, a.h.peerAt(w.now, addrB)) {
		t.Error("sent to an unknown peer")
	}
	a.acquire(addrB)
	w.talk(a, b)
	if a.h.expectsKey(w.now, a.h.peers[addrB]) {
		t.Error("sent although there is an SA")
	}
	c := w.box("c", addrC)
	c.acquire(addrB)
	w.talk(b, c)
	old := b.h.peers[addrA].session().handle
	a.boot()
	if !a.h.expectsKey(w.now, a.h.peers[addrB]) {
		t.Error("not sent although the key is recorded and its SAs are lost")
	}
	a.acquire(addrB)
	if ss := b.h.peers[addrA].sessions; len(ss) != 1 || ss[0].handle == old {
		t.Fatalf("b has %d IKE SAs with a", len(ss))
	}
	if ss := b.h.peers[addrC].sessions; len(ss) != 1 {
		t.Fatal("it reached the SA with another key")
	}
	b.want(addrA, StateProtected, flow.Protect)
}

// IKE SAs belong together by their key, and by nothing else that their peers say.
func TestSAsAreGroupedByKey(t *testing.T) {
	second := func(t *testing.T, w *world, who func(ikev2.Peer) ikev2.Peer) (*box, *peer, *session) {
		_, b := w.meet()
		p := b.h.peers[addrA]
		s := &session{handle: 1000, peer: p, up: true, remote: p.session().remote, who: who(p.session().who)}
		p.sessions = append(p.sessions, s)
		t.Cleanup(func() { p.drop(s) })
		return b, p, s
	}
	t.Run("BTNS-CORE-14 INITIAL_CONTACT ends nothing of another key at the same address", func(t *testing.T) {
		w := newWorld(t)
		b, p, s := second(t, w, func(ikev2.Peer) ikev2.Peer { return ikev2.Peer{Key: key(t, "other").Public} })
		b.h.initialContact(w.now, s)
		if len(p.sessions) != 2 {
			t.Fatalf("%d sessions", len(p.sessions))
		}
	})
	t.Run("BTNS-CORE-14 two of one key are one too many, whatever they call themselves", func(t *testing.T) {
		b, p, _ := second(t, newWorld(t), func(w ikev2.Peer) ikev2.Peer {
			w.ID = identity.ID{Type: identity.IDFQDN, Data: "elsewhere.example"}
			return w
		})
		if len(b.h.twins(p)) == 0 {
			t.Error("not seen as such")
		}
	})
	t.Run("BTNS-CORE-14 two of two keys are not", func(t *testing.T) {
		b, p, _ := second(t, newWorld(t), func(w ikev2.Peer) ikev2.Peer {
			w.Key = key(t, "other").Public
			return w
		})
		if len(b.h.twins(p)) != 0 {
			t.Error("seen as twins")
		}
	})
}

// A refusal by a strict host says what to do; the operator's word lets the peer in, verified or not.
func TestStrict(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA, func(c *Config) { c.Trust.Mode = trust.Strict }, requiring(t))
	b := w.box("b", addrB)
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	if p := a.h.peers[addrB]; !strings.Contains(p.trouble().hint, "btns trust accept") {
		t.Fatalf("%q", p.trouble().hint)
	}
	a.do(Accept{Addr: addrB, Key: b.cfg.Signer.Public.Fingerprint()})
	a.want(addrB, StateProtected, flow.Protect)
}

// BTNS-TRUST-20: forgetting a peer ends the duty to protect, whether there are SAs or not.
func TestForget(t *testing.T) {
	for _, c := range []struct {
		name  string
		what  func(b *box) Forget
		empty bool
	}{
		{"by address", func(*box) Forget { return Forget{Addr: addrB} }, true},
		{"by key", func(b *box) Forget { return Forget{Key: b.cfg.Signer.Public.Fingerprint()} }, true},
		{"another address", func(*box) Forget { return Forget{Addr: addrC} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.meet()
			b.kill()
			a.boot()
			a.want(addrB, StateNegotiating, flow.Hold)
			a.do(c.what(b))
			if (len(a.store) == 0) != c.empty {
				t.Fatalf("%d records", len(a.store))
			}
			if c.empty {
				a.want(addrB, StateClear, flow.Clear)
			} else {
				a.want(addrB, StateNegotiating, flow.Hold)
			}
		})
	}
	t.Run("while an attempt is under way", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		b.kill()
		a.boot()
		a.acquire(addrB)
		a.want(addrB, StateNegotiating, flow.Hold)
		a.do(Forget{Addr: addrB})
		a.want(addrB, StateClear, flow.Clear)
		if len(a.h.sessions) != 0 || a.h.sas.Reserved() != 0 || len(a.h.peers) != 0 {
			t.Fatalf("%d sessions, %d SPIs, %d peers are left", len(a.h.sessions), a.h.sas.Reserved(), len(a.h.peers))
		}
	})
	t.Run("while it is protected", func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.meet()
		a.do(Forget{Addr: addrB})
		a.want(addrB, StateProtected, flow.Protect)
		a.do(Down{addrB})
		a.want(addrB, StateClear, flow.Clear)
	})
}

// A peer that left in good order is free until its next session (design.md: sticky without lock-out).
func TestLeaving(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	b.do(Stop{})
	a.want(addrB, StateClear, flow.Clear)
	if a.count(PeerLeft) != 1 || a.h.sticky(w.now, addrB) {
		t.Fatal(a.story())
	}
	b.boot()
	b.acquire(addrA)
	w.talk(a, b)
	if !a.h.sticky(w.now, addrB) {
		t.Fatal("a new session does not bring stickiness back")
	}
}

// RFC 7296 §2.4: silence while packets go out is followed up; traffic both ways, or none, is left alone.
func TestUnanswered(t *testing.T) {
	for _, c := range []struct {
		name     string
		traffic  func(w *world, a, b *box)
		min, max int // INFORMATIONAL requests in a minute
	}{
		{"traffic both ways", func(w *world, a, b *box) { a.packet(b); b.packet(a) }, 0, 0},
		{"no traffic", func(*world, *box, *box) {}, 0, 0},
		{"only inbound", func(w *world, a, b *box) { b.packet(a) }, 0, 0},
		{"only outbound", func(w *world, a, b *box) { a.packet(b) }, 4, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.meet()
			w.pass(20 * time.Second)
			before := a.exchanges(informational)
			for range 60 {
				c.traffic(w, a, b)
				w.pass(time.Second)
			}
			if n := a.exchanges(informational) - before; n < c.min || n > c.max {
				t.Fatalf("%d checks, want %d to %d", n, c.min, c.max)
			}
			a.want(addrB, StateProtected, flow.Protect)
		})
	}
}

// A plane that does not know when packets came is taken at its word that they came by now.
func TestCountersWithoutTimes(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	s := a.h.peers[addrB].session()
	w.now = w.now.Add(time.Minute)
	a.do(CountersRead{Counters: []dataplane.Counters{{ID: a.sole(), PacketsIn: 1000, PacketsOut: 1000}}})
	if !a.h.time(s.alive).Equal(w.now) {
		t.Fatalf("alive at %v", s.alive)
	}
}
