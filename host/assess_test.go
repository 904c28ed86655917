package host

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/trust"
)

// demanding is a policy that protects, in every direction, with peers of that assurance only.
func demanding(t *testing.T, level identity.Assurance) func(*Config) {
	return func(c *Config) {
		entries := policy.Rest(policy.Unknown{Fallback: policy.Require})
		for i := range entries {
			if entries[i].Action == policy.Protect {
				entries[i].MinAssurance = level
			}
		}
		p, err := policy.New(append(policy.Untouchable(), entries...), []policy.PADEntry{policy.Anyone()})
		if err != nil {
			t.Fatal(err)
		}
		c.Policy = p
	}
}

func (b *box) key() identity.Fingerprint { return b.cfg.Signer.Public.Fingerprint() }

func (b *box) told(k Kind, l Level) (n int) {
	for _, r := range b.reports {
		if r.Kind == k && r.Level == l {
			n++
		}
	}
	return n
}

// BTNS-TRUST-04: a session whose policy demands more than what is left of its assurance ends, with a report, and at once.
func TestSessionBelowItsPolicyEnds(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	a.cfg.Policy = nil
	demanding(t, identity.Verified)(&a.cfg)
	a.do(Verify{Addr: addrB, Key: b.key()})
	a.kill()
	a.boot()
	a.acquire(addrB)
	a.want(addrB, StateProtected, flow.Protect)
	if s := a.h.peers[addrB].session(); s.assurance != identity.Verified {
		t.Fatalf("assurance %v", s.assurance)
	}
	a.reports = nil
	a.do(Forget{Addr: addrB})
	a.want(addrB, StateRefused, flow.Hold)
	if len(a.sas) != 0 || a.told(KeyLowered, Warn) != 1 {
		t.Fatalf("%d pairs are left\n%s", len(a.sas), a.story())
	}
}

// One that still reaches it goes on, and the fall is told.
func TestFallIsTold(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	a.do(Verify{Addr: addrB, Key: b.key()})
	s := a.h.peers[addrB].session()
	if s.assurance != identity.Verified || a.told(KeyRaised, Info) != 1 {
		t.Fatalf("a comparison raises a session to %v", s.assurance)
	}
	a.do(Forget{Addr: addrB})
	a.want(addrB, StateProtected, flow.Protect)
	if s.assurance != identity.FirstUse || a.told(KeyLowered, Warn) != 1 {
		t.Fatalf("assurance %v\n%s", s.assurance, a.story())
	}
}

// A session that began as the first one stays that: its own record is no earlier session (BTNS-TRUST-01).
func TestFirstSessionStaysFirst(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	s := a.h.peers[addrB].session()
	a.h.reassess(w.now, b.key(), trust.Aged)
	a.take(a.h.take())
	if s.assurance != identity.FirstUse || a.count(KeyLowered) != 0 {
		t.Fatalf("assurance %v\n%s", s.assurance, a.story())
	}
}

// Events that were lost have every session assessed.
func TestLostEvents(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	if _, err := a.h.book.Revoke(w.now, b.key()); err != nil {
		t.Fatal(err)
	}
	a.h.book.Events()
	a.h.heedOne(w.now, trust.Lost{Count: 1})
	a.take(a.h.take())
	w.settle()
	a.want(addrB, StateRefused, flow.Hold)
	if len(a.sas) != 0 {
		t.Fatalf("%d pairs are left", len(a.sas))
	}
}

// BTNS-TRUST-44: revoking a key ends its sessions at once, and it does not come in again; the alarm suggests no accept.
func TestRevoke(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	w.lose = nobody // the peer does not hear of it
	a.do(Revoke{b.key()})
	a.want(addrB, StateRefused, flow.Hold)
	if len(a.sas) != 0 || a.told(KeyRevoked, Warn) != 2 {
		t.Fatalf("%d pairs are left\n%s", len(a.sas), a.story())
	}
	w.lose = nil
	w.pass(5 * time.Minute)
	a.reports = nil
	a.acquire(addrB)
	a.want(addrB, StateRefused, flow.Hold)
	if a.told(KeyRevoked, Alarm) != 1 || strings.Contains(a.h.peers[addrB].trouble().hint, "accept") {
		t.Fatalf("%q\n%s", a.h.peers[addrB].trouble().hint, a.story())
	}
	a.do(Accept{Addr: addrB})
	a.want(addrB, StateRefused, flow.Hold)
	a.do(Forget{Key: b.key()})
	a.do(Connect{Remote: addrB})
	a.want(addrB, StateProtected, flow.Upgrade)
}

// A key that is revoked while its session comes up does not stay.
func TestRevokeWhileComingUp(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	a.step(FromPlane{acquireOf(a, addrB)})
	for range 1000 {
		if len(a.h.withKey(b.key())) > 0 || len(w.mail) == 0 {
			break
		}
		next := w.mail[0]
		w.mail = w.mail[1:]
		next.run()
	}
	a.do(Revoke{b.key()})
	w.pass(3 * time.Second)
	if len(a.sas) != 0 || len(a.h.withKey(b.key())) != 0 {
		t.Fatalf("%d pairs\n%s", len(a.sas), a.story())
	}
}

// The same refusal within a minute is told once (BTNS-TRUST-33).
func TestRefusalsAreQuiet(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	b.kill()
	w.box("evil", addrB)
	a.boot()
	for range 5 {
		a.h.peers[addrB].fresh()
		a.acquire(addrB)
		a.want(addrB, StateRefused, flow.Hold)
		w.pass(5 * time.Second)
	}
	if n := a.count(KeyChanged); n != 1 {
		t.Fatalf("told %d times in half a minute", n)
	}
	w.pass(time.Minute)
	a.h.peers[addrB].fresh()
	a.acquire(addrB)
	if n := a.count(KeyChanged); n != 2 {
		t.Fatalf("told %d times after a minute more", n)
	}
}

// An accepted key ends the session of the one whose place it takes, and the address stays closed in between.
func TestAcceptEndsTheOldSession(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	fresh := key(t, "fresh")
	a.do(Accept{Addr: addrB, Key: fresh.Public.Fingerprint()})
	if s := a.prefix(addrB); s != flow.Hold || len(a.h.withKey(b.key())) != 0 || a.told(KeyReplaced, Info) != 1 {
		t.Fatalf("%v\n%s", s, a.story())
	}
}

// A session under a key that is not recorded, or under none, ends too when an operator names the key of its address.
func TestAcceptEndsUnrecordedSessions(t *testing.T) {
	w := newWorld(t)
	a, b := w.box("a", addrA), w.box("b", addrB)
	a.acquire(addrB)
	a.want(addrB, StateProtected, flow.Upgrade)
	w.lose = nobody
	a.do(Accept{Addr: addrB, Key: key(t, "other").Public.Fingerprint()})
	if len(a.h.withKey(b.key())) != 1 || len(a.sas) != 0 || a.prefix(addrB) != flow.Hold {
		t.Fatalf("%d pairs\n%s", len(a.sas), a.story())
	}
	w.pass(2 * time.Minute)
	if n := len(a.h.withKey(b.key())); n != 0 {
		t.Fatalf("%d sessions are left", n)
	}
}

// BTNS-TRUST-15: beside leaves the other key, and its session.
func TestAcceptBeside(t *testing.T) {
	w := newWorld(t)
	a, _ := w.meet()
	a.do(Accept{Addr: addrB, Key: key(t, "second").Public.Fingerprint(), Beside: true})
	a.want(addrB, StateProtected, flow.Protect)
	if len(a.store) != 2 {
		t.Fatalf("%d records", len(a.store))
	}
}

// Every event of trust that is only told has its words, its kind, and a reason that is in the table.
func TestEventsAreTold(t *testing.T) {
	at := trust.At(addrB, "")
	k := key(t, "a").Public.Fingerprint()
	for _, c := range []struct {
		ev    trust.Event
		kind  Kind
		level Level
		says  string
	}{
		{trust.Replaced{Place: at, Old: k, New: k, Why: trust.ModeOff}, KeyReplaced, Warn, addrB.String()},
		{trust.Replaced{Place: at, Old: k, New: k, Why: trust.OldIsGone}, KeyReplaced, Warn, k.String()},
		{trust.Replaced{Place: at, Old: k, New: k, Why: trust.ByOperator}, KeyReplaced, Info, k.String()},
		{trust.ConflictOver{Place: at, Key: k}, ConflictOver, Info, "is back"},
		{trust.Shared{Place: at, Count: 5}, KeyShared, Warn, "5 keys"},
		{trust.Shared{Key: k, Count: 5}, KeyShared, Warn, "5 addresses"},
		{trust.Cloned{Key: k, Places: [2]trust.Place{at, at}}, KeyCloned, Warn, "seems"},
		{trust.Cloned{Key: k, Places: [2]trust.Place{at, at}, Certain: true}, KeyCloned, Alarm, "SAME PRIVATE KEY"},
		{trust.Named{Key: k, Next: []identity.Fingerprint{k}}, KeyRotated, Info, k.String()},
		{trust.Named{Key: k}, KeyRotated, Info, "takes back"},
		{trust.Succeeded{Place: at, Old: k, New: k}, KeyRotated, Info, "handed over"},
	} {
		r, ok := tellEvent(c.ev)
		if !ok || r.Kind != c.kind || r.Level != c.level || !strings.Contains(r.Text, c.says) || r.Reason != "" && !r.Reason.Known() {
			t.Errorf("%T: %+v", c.ev, r)
		}
	}
	for _, why := range []trust.Why{
		trust.Forgotten, trust.Aged, trust.Superseded, trust.Recycled, trust.HandOver, trust.ByOperator, trust.ByRule,
		trust.ModeOff, trust.OldIsGone, trust.Withdraw,
	} {
		if !trustReason(why).Known() {
			t.Errorf("%q has no row", why)
		}
	}
}

// The session of a key whose time is over ends, and the next packet makes another.
func TestRetired(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet()
	a.h.heedOne(w.now, trust.Retired{Key: b.key(), Heir: key(t, "heir").Public.Fingerprint()})
	a.take(a.h.take())
	w.settle()
	a.want(addrB, StateNegotiating, flow.Hold)
	if len(a.sas) != 0 || a.count(KeyRotated) != 1 {
		t.Fatalf("%d pairs\n%s", len(a.sas), a.story())
	}
}

// An address that nothing holds any more goes in clear again.
func TestUnstuck(t *testing.T) {
	w := newWorld(t)
	a, b := w.meet(func(c *Config) { c.Trust.Life = 2 * time.Hour })
	b.kill()
	a.boot()
	a.want(addrB, StateNegotiating, flow.Hold)
	w.pass(4 * time.Hour)
	a.want(addrB, StateClear, flow.Clear)
}
