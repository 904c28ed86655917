package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/trust"
)

const lead = 2 * time.Hour

// plan has b plan the change to another key, which its store then has.
func (b *box) plan(name string) identity.Signer {
	b.w.t.Helper()
	next := key(b.w.t, name)
	b.cfg.Rotation.Next, b.cfg.Rotation.From = next, b.w.now.Add(lead)
	b.do(Rotate{Next: next, From: b.w.now.Add(lead)})
	return next
}

// again makes another session in the place of the one between a and b, in which both know each other.
func (w *world) again(a, b *box) {
	w.t.Helper()
	a.do(Down{b.addr})
	a.acquire(b.addr)
	w.talk(a, b)
	if v := a.h.Peers(w.now); len(v) != 1 || v[0].Assurance != identity.Continuity {
		w.t.Fatalf("%+v", v)
	}
}

// chat moves packets both ways over a longer time.
func (w *world) chat(a, b *box, d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		a.packet(b)
		b.packet(a)
		w.pass(20 * time.Second)
	}
}

// calm fails when b was alarmed, or its traffic with the address of o was let out or held since mark.
func (b *box) calm(o *box, mark int) {
	b.w.t.Helper()
	for _, r := range b.reports {
		if r.Level >= Warn {
			b.w.t.Fatalf("%s is told: %s\n%s", b.name, r.Text, b.story())
		}
	}
	if slices.ContainsFunc(b.order[mark:], func(s flow.State) bool { return s != flow.Protect }) {
		b.w.t.Fatalf("%s: the traffic with %s was %v", b.name, o.name, b.order[mark:])
	}
}

func (b *box) shows(o *box) identity.PublicKey {
	b.w.t.Helper()
	p := b.h.peers[o.addr]
	if p == nil || p.session() == nil {
		b.w.t.Fatalf("%s has no session with %s\n%s", b.name, o.name, b.story())
	}
	return p.session().who.Key
}

// ownRecord is what b has recorded of the key itself, wherever it is.
func (b *box) ownRecord(k identity.Signer) (r trust.Record, ok bool) {
	r, ok = b.store[trust.Record{Key: k.Public.Fingerprint()}.ID()]
	return r, ok
}

// trust.md §11, T06: a change that was announced raises no alarm, keeps what is known, and stops no packet.
func TestPlannedChange(t *testing.T) {
	for name, verified := range map[string]bool{"continuity": false, "verified": true} {
		t.Run("BTNS-TRUST-40 BTNS-TRUST-41 BTNS-TRUST-42 BTNS-TRUST-43 T06 "+name+" is kept through a change of the key", func(t *testing.T) {
			w := newWorld(t)
			a, b := w.meet()
			w.again(a, b)
			old, level := b.cfg.Signer, identity.Continuity
			if verified {
				level = identity.Verified
				a.do(Verify{Addr: addrB, Key: old.Public.Fingerprint()})
			}
			mark := len(a.order)
			next := b.plan("the next key")
			if r, ok := a.ownRecord(old); !ok || len(r.Next) != 1 || r.Next[0].Key != next.Public || b.h.Own().Told != 1 {
				t.Fatalf("%+v, %v", r, ok)
			}
			w.chat(a, b, lead-time.Minute)
			if a.shows(b) != old.Public || b.h.Own().Key != old.Public {
				t.Fatal("before its time")
			}
			w.chat(a, b, 10*time.Minute)
			a.calm(b, mark)
			if a.shows(b) != next.Public || b.h.Own().Key != next.Public || b.cfg.Signer.Public != next.Public {
				t.Fatalf("a sees %v\n%s", a.shows(b), a.story())
			}
			if v := a.h.Peers(w.now)[0]; v.Assurance != level || len(v.Children) != 1 {
				t.Fatalf("%+v", v)
			}
			if len(a.h.sessions) != 1 || len(b.h.sessions) != 1 {
				t.Fatalf("a has %d sessions, b %d", len(a.h.sessions), len(b.h.sessions))
			}
			for id, r := range a.store {
				if r.Key != next.Public.Fingerprint() {
					t.Errorf("the old key is still recorded: %s", id)
				}
			}
			a.boot()
			b.boot()
			a.acquire(addrB)
			w.chat(a, b, time.Minute)
			if v := a.h.Peers(w.now)[0]; v.Key != next.Public.Fingerprint() || v.Assurance != level || v.State != StateProtected {
				t.Fatalf("%+v", v)
			}
		})
	}
}

// trust.md §11, T07: what a peer says in the session in which it came to be known counts for nothing; so that a change raises
// no alarm all the same, there is another session first.
func TestChangeAfterFirstContact(t *testing.T) {
	t.Run("BTNS-TRUST-41 T07 a list in the session that taught the key is ignored, and taken in the next", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		next := key(t, "the next key")
		s := b.h.peers[addrA].session()
		b.h.announce(w.now, s, []trust.Upcoming{{Signer: next, From: w.now}})
		b.take(b.h.take())
		seen := len(a.sent)
		w.settle()
		if r, ok := a.ownRecord(b.cfg.Signer); ok && len(r.Next) > 0 {
			t.Fatalf("%+v", r)
		}
		if !slices.ContainsFunc(a.reports, func(r Report) bool { return r.Reason == SuccessorEarly }) || len(a.sent) == seen {
			t.Fatal(a.story())
		}
	})
	t.Run("BTNS-TRUST-41 T07 a plan makes that other session", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		mark := len(a.order)
		next := b.plan("the next key")
		w.chat(a, b, time.Minute)
		if r, _ := a.ownRecord(b.cfg.Signer); len(r.Next) != 1 {
			t.Fatalf("%+v\n%s", r, a.story())
		}
		w.chat(a, b, lead)
		a.calm(b, mark)
		if a.shows(b) != next.Public {
			t.Fatal(a.story())
		}
	})
	t.Run("BTNS-TRUST-41 a first contact in the midst of a plan", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		next := b.plan("the next key")
		a.acquire(addrB)
		w.talk(a, b)
		mark := len(a.order)
		w.chat(a, b, lead+5*time.Minute)
		a.calm(b, mark)
		if a.shows(b) != next.Public {
			t.Fatal(a.story())
		}
	})
}

// trust.md §11, T08.
func TestUnprovenSuccessor(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	w.again(a, b)
	s := b.h.peers[addrA].session()
	other := key(t, "somebody else")
	forge := func(binding identity.Binding, current identity.Signer) []byte {
		data, err := trust.Announce(nil, binding, current.Public, []trust.Upcoming{{Signer: other, From: w.now}})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, data := range map[string][]byte{
		"another session": forge(identity.Binding{9}, b.cfg.Signer),
		"another key":     forge(s.talk.binding, other),
		"cut":             forge(s.talk.binding, b.cfg.Signer)[:40],
		"nothing":         {1, 0},
	} {
		t.Run("BTNS-TRUST-41 T08 without proof it is ignored: "+name, func(t *testing.T) {
			a.reports = nil
			b.h.ike(w.now, ikev2.Tell{SA: s.handle, Kind: ikev2.Successors, Data: data})
			b.take(b.h.take())
			w.settle()
			if r, ok := a.ownRecord(b.cfg.Signer); ok && len(r.Next) > 0 {
				t.Fatalf("%+v", r)
			}
			if len(a.reports) != 1 || a.reports[0].Reason != SuccessorRefused || a.reports[0].Level != Warn {
				t.Fatal(a.story())
			}
			a.want(addrB, StateProtected, flow.Protect)
		})
	}
}

// A machine that is restarted in the midst of a change, at any point of it, goes on with it.
func TestRestartsDuringChange(t *testing.T) {
	for name, when := range map[string]time.Duration{
		"at once": 0, "before the turn": lead - time.Minute, "just after it": lead + time.Second, "long after it": lead + time.Hour,
	} {
		t.Run("BTNS-TRUST-40 restarted "+name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.meet()
			w.again(a, b)
			next := b.plan("the next key")
			w.chat(a, b, when)
			b.kill()
			w.pass(30 * time.Second)
			b.boot()
			b.acquire(addrA)
			w.chat(a, b, lead+10*time.Minute)
			for _, r := range a.reports {
				if r.Level >= Alarm {
					t.Fatalf("%s\n%s", r.Text, a.story())
				}
			}
			if a.shows(b) != next.Public || a.h.Peers(w.now)[0].Assurance != identity.Continuity {
				t.Fatal(a.story())
			}
		})
	}
	t.Run("BTNS-TRUST-40 off while its time comes", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		w.again(a, b)
		next := b.plan("the next key")
		b.kill()
		w.pass(lead + time.Hour)
		b.cfg.Rotation = Rotation{Former: b.cfg.Signer.Public, Turned: w.now} // as an engine begins with it
		b.cfg.Signer = next
		b.boot()
		b.acquire(addrA)
		w.chat(a, b, time.Minute)
		if a.shows(b) != next.Public || a.count(KeyChanged) != 0 {
			t.Fatal(a.story())
		}
		for id, r := range a.store {
			if r.Key != next.Public.Fingerprint() {
				t.Errorf("the old key is still recorded: %s", id)
			}
		}
	})
}

// A peer that was not there while the change was announced comes with what it has recorded: that is the case that the lead is
// for. It is refused, and says so to both operators.
func TestPeerThatWasNotTold(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	w.again(a, b)
	a.kill()
	b.plan("the next key")
	w.pass(lead + time.Hour)
	a.boot()
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	if a.count(KeyChanged) == 0 {
		t.Fatal(a.story())
	}
}

func TestPlanTakenBack(t *testing.T) {
	t.Run("BTNS-TRUST-43 a successor that is taken back counts no more", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		w.again(a, b)
		old := b.cfg.Signer
		next := b.plan("the next key")
		b.do(Rotate{})
		b.cfg.Rotation = Rotation{}
		if r, ok := a.ownRecord(old); ok && len(r.Next) != 0 {
			t.Fatalf("%+v", r)
		}
		w.chat(a, b, lead+time.Minute)
		if a.shows(b) != old.Public || b.h.Own().Key != old.Public {
			t.Fatal(b.story())
		}
		b.cfg.Signer = next
		b.boot()
		b.acquire(addrA)
		if a.count(KeyChanged) == 0 {
			t.Fatal("a key that was taken back is let in")
		}
	})
	t.Run("what cannot be done says so", func(t *testing.T) {
		w := newWorld(t)
		b := w.box("b", addrB)
		for _, ev := range []Event{Rotate{}, Rotate{Next: b.cfg.Signer, From: w.now}, RevokeOwn{}, RevokeOwn{Next: key(t, "x"), Statement: []byte{1}}} {
			b.reports = nil
			b.do(ev)
			if len(b.reports) != 1 || b.reports[0].Kind != Operator || b.reports[0].Reason != NotDone {
				t.Errorf("%+v: %+v", ev, b.reports)
			}
		}
		b.plan("one")
		b.reports = nil
		b.do(Rotate{Next: key(t, "two"), From: w.now})
		if b.reports[0].Reason != NotDone || b.h.Own().Next != key(t, "one").Public {
			t.Errorf("%+v", b.reports)
		}
	})
}

// Many peers are told a few at a time.
func TestManyAreTold(t *testing.T) {
	w := newWorld(t)
	b := w.box("b", addrB)
	for i := range 70 {
		a := w.box(fmt.Sprint("a", i), netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)}))
		a.acquire(addrB)
	}
	b.sent = nil
	b.plan("the next key")
	if n := b.exchanges(byte(wire.Informational)); n != speakAtOnce {
		t.Fatalf("%d are told at once", n)
	}
	w.pass(time.Second)
	if own := b.h.Own(); own.Told != 70 {
		t.Fatalf("%d were told", own.Told)
	}
}

func revocationOf(t testing.TB, k identity.Signer) []byte {
	t.Helper()
	data, err := trust.SignRevocation(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// trust.md §6, BTNS-TRUST-44.
func TestKeyRevokesItself(t *testing.T) {
	statement := func(k identity.Signer) []byte { return revocationOf(t, k) }
	t.Run("BTNS-TRUST-44 a peer that revokes its key is told apart from one that was robbed", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		old, next := b.cfg.Signer, key(t, "another key")
		b.do(RevokeOwn{Next: next, Statement: statement(old)})
		r, ok := a.ownRecord(old)
		if !ok || r.Revoked.IsZero() || r.Evidence[len(r.Evidence)-1].Kind != trust.SelfRevoked || a.count(KeyRevoked) == 0 {
			t.Fatalf("%+v\n%s", r, a.story())
		}
		if len(a.h.sessions)+len(b.h.sessions) != 0 || b.h.Own().Key != next.Public {
			t.Fatal("a session under a revoked key")
		}
		a.want(addrB, StateNegotiating, flow.Hold)
		b.acquire(addrA)
		a.want(addrB, StateRefused, flow.Hold)
		a.do(Accept{Addr: addrB, Key: next.Public.Fingerprint()})
		w.settle()
		if a.shows(b) != next.Public {
			t.Fatal(a.story())
		}
		thief := w.box("thief", addrC)
		thief.cfg.Signer = old
		thief.boot()
		thief.acquire(addrA)
		if s := a.h.peers[addrC]; s != nil && len(s.sessions) > 0 {
			t.Fatal("the revoked key is let in elsewhere")
		}
		thief.acquire(addrB)
		if s := b.h.peers[addrC]; s != nil && len(s.sessions) > 0 {
			t.Fatal("its former owner lets it in")
		}
	})
	t.Run("BTNS-TRUST-44 whoever meets the host later is told, and so is who reads the text", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		old := b.cfg.Signer
		text := statement(old)
		b.do(RevokeOwn{Next: key(t, "another key"), Statement: text})
		a.acquire(addrB)
		w.pass(answerTime)
		if r, ok := a.ownRecord(old); !ok || r.Revoked.IsZero() {
			t.Fatal(a.story())
		}
		c := w.box("c", addrC)
		parsed, err := trust.ParseRevocation([]byte(trust.RevocationText(text)))
		if err != nil {
			t.Fatal(err)
		}
		c.do(RevokeSelf{parsed})
		if r, ok := c.ownRecord(old); !ok || r.Revoked.IsZero() || c.count(Operator) != 1 || c.count(KeyRevoked) != 1 {
			t.Fatal(c.story())
		}
	})
}

// Whether or not the store took it, the host knows that its former key was ended.
func TestOwnRevocationIsRecorded(t *testing.T) {
	t.Run("BTNS-TRUST-44 at the start, when the last run ended before it was recorded", func(t *testing.T) {
		w := newWorld(t)
		old := key(t, "before")
		b := w.box("b", addrB, func(c *Config) { c.Rotation.Revocation = revocationOf(t, old) })
		if r, ok := b.ownRecord(old); !ok || r.Revoked.IsZero() {
			t.Fatal(b.story())
		}
		n := len(b.reports)
		if b.boot(); len(b.reports) != n {
			t.Fatalf("told again: %s", b.story())
		}
		for _, bad := range [][]byte{revocationOf(t, b.cfg.Signer), []byte("none")} {
			c := w.box("c", addrC, func(c *Config) { c.Signer, c.Rotation.Revocation = b.cfg.Signer, bad })
			if len(c.store) != 0 {
				t.Errorf("%v", c.store)
			}
		}
	})
	t.Run("BTNS-TRUST-44 with a full store it is done, and warns", func(t *testing.T) {
		w := newWorld(t)
		b := w.box("b", addrB, func(c *Config) {
			c.Trust.Max = 1
			c.Records = []trust.Record{{Addr: addrC, Key: key(t, "c").Public.Fingerprint(), Assurance: identity.Verified, FirstSeen: epoch, LastSeen: epoch}}
		})
		old, next := b.cfg.Signer, key(t, "another key")
		b.do(RevokeOwn{Next: next, Statement: revocationOf(t, old)})
		if b.h.Own().Key != next.Public || b.told(Operator, Info) != 1 || b.told(Operator, Warn) != 0 || b.told(KeyRevoked, Warn) != 1 {
			t.Fatal(b.story())
		}
		if last := b.reports[len(b.reports)-1]; !strings.Contains(last.Text, "could not record") {
			t.Fatal(last.Text)
		}
	})
}

// A planned change after a revocation does not silence it.
func TestRevocationOutlivesChange(t *testing.T) {
	t.Run("BTNS-TRUST-44 whoever meets the host after another change is told, too", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		old := b.cfg.Signer
		b.do(RevokeOwn{Next: key(t, "another key"), Statement: revocationOf(t, old)})
		next := b.plan("the next key")
		w.pass(lead + time.Minute)
		if own := b.h.Own(); own.Key != next.Public || own.Revocation == nil {
			t.Fatalf("%+v", own)
		}
		a.acquire(addrB)
		w.pass(answerTime)
		if r, ok := a.ownRecord(old); !ok || r.Revoked.IsZero() || a.shows(b) != next.Public {
			t.Fatal(a.story())
		}
	})
}

// What a host does with a revocation that it did not ask for.
func TestRevocationsOfPeers(t *testing.T) {
	t.Run("BTNS-TRUST-44 a statement that is none changes nothing, and one about our own key is an alarm", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		s := a.h.peers[addrB].session()
		bad := revocationOf(t, b.cfg.Signer)
		bad[len(bad)-1] ^= 1
		for data, want := range map[string]Level{string(bad): Warn, string(revocationOf(t, b.cfg.Signer)): Alarm} {
			b.reports = nil
			a.h.ike(w.now, ikev2.Tell{SA: s.handle, Kind: ikev2.Revocation, Data: []byte(data)})
			a.take(a.h.take())
			w.settle()
			if len(b.reports) != 1 || b.reports[0].Level != want || len(b.h.sessions) != 1 {
				t.Errorf("%s", b.story())
			}
			if _, ok := b.ownRecord(b.cfg.Signer); ok {
				t.Error("the own key is recorded as revoked")
			}
		}
	})
	t.Run("BTNS-TRUST-44 a peer that never ends is not listened to any more", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		s := a.h.peers[addrB].session()
		for i := range 30 {
			a.h.ike(w.now, ikev2.Tell{SA: s.handle, Kind: ikev2.Revocation, Data: revocationOf(t, key(t, fmt.Sprint(i)))})
			a.take(a.h.take())
			w.settle()
		}
		n := 0
		for _, r := range b.store {
			if !r.Revoked.IsZero() {
				n++
			}
		}
		if n != maxHeard {
			t.Fatalf("%d revocations were taken", n)
		}
	})
}

// A peer with two addresses is told that the former key is gone when no session of either is under it.
func TestTwoAddressesChange(t *testing.T) {
	t.Run("BTNS-TRUST-43 the former key goes when no address needs it", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := three(w, func(c *Config) { c.IKE.Instance = ikev2.Instance{7} })
		gossip(w, a, b, c)
		for _, o := range []*box{b, c} {
			a.do(Down{o.addr})
			a.acquire(o.addr)
			w.talk(a, o)
		}
		old := a.cfg.Signer
		next := a.plan("the next key")
		w.pass(lead - time.Second)
		w.lose = func(from *box, s Send) bool { return s.Remote.Addr() == addrC || from == c }
		w.pass(8 * time.Second)
		if r, ok := b.ownRecord(old); b.shows(a) != next.Public || c.shows(a) != old.Public || !ok || !r.Retire.IsZero() && r.Retire.Before(w.now) {
			t.Fatalf("%v, %v, %+v", b.shows(a), c.shows(a), r)
		}
		w.lose = nil
		w.chat(a, c, 3*time.Minute)
		if _, ok := c.ownRecord(old); ok || c.shows(a) != next.Public {
			t.Fatalf("%v\n%s", c.shows(a), c.story())
		}
	})
}

// Where nothing can be recorded, sessions are not made anew for ever.
func TestNothingToBeKnownBy(t *testing.T) {
	w := newWorld(t)
	full := func(c *Config) {
		c.Trust.Max = 1
		c.Records = []trust.Record{{Addr: addrC, Key: key(t, "c").Public.Fingerprint(), Assurance: identity.Verified, FirstSeen: epoch, LastSeen: epoch}}
	}
	a, b := w.box("a", addrA, full), w.box("b", addrB, full)
	a.acquire(addrB)
	w.talk(a, b)
	a.plan("next of a")
	b.plan("next of b")
	a.sent, b.sent = nil, nil
	w.chat(a, b, time.Hour)
	if n := a.exchanges(ikeSAInit) + b.exchanges(ikeSAInit); n > 14 {
		t.Fatalf("%d sessions in an hour", n)
	}
}
