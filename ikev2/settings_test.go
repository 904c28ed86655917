package ikev2

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/protect"
)

// What the initiator says about itself reaches the judges of the responder: INITIAL_CONTACT, the identities, the key
// (RFC 7296 §2.4, BTNS-CORE-14, BTNS-CORE-44).
func TestQuestions(t *testing.T) {
	p := newPair(t, 200, plain(), plain())
	want := identity.ID{Type: identity.IDFQDN, Data: "b.example"}
	p.b.local.ID = want
	i := p.initiation(p.a)
	i.InitialContact = true
	i.Credential.ID = identity.ID{Type: identity.IDFQDN, Data: "a.example"}
	i.Expect = Remote{AnyKey: true, ID: want}
	p.step(p.a, i)
	p.run(time.Second)
	f, _ := last[FindCredential](p.b)
	j, _ := last[JudgePeer](p.b)
	var up SAUp
	for _, up = range p.b.up {
		break
	}
	if f.Wanted != want || f.ID != i.Credential.ID || f.Key != p.a.signer.Public || f.Method != Signature || f.Initiator {
		t.Errorf("%+v", f)
	}
	if !j.InitialContact || j.Peer.Key != f.Key || !up.InitialContact || up.Peer.ID != f.ID {
		t.Errorf("%+v\n%+v", j, up)
	}
	p = newPair(t, 201, plain(), plain()) // to a stranger nothing of this is sent
	p.connect()
	if f, _ = last[FindCredential](p.b); !f.Wanted.IsZero() || f.ID != identity.Null() {
		t.Errorf("%+v", f)
	}
	if j, _ = last[JudgePeer](p.b); j.InitialContact {
		t.Error("INITIAL_CONTACT out of nothing")
	}
}

// One IKE SA may have an offer, a lifetime and a liveness interval of its own, in either role.
func TestOverride(t *testing.T) {
	o := &Override{
		IKE:      []Proposal{{Encr: []Encryption{{protect.ChaCha20Poly1305, 256}}, PRF: []suite.PRF{suite.PRFSHA512}, KE: []suite.KE{suite.P384}}},
		Lifetime: protect.Lifetime{Soft: protect.Limits{Time: 10 * time.Minute}, Hard: protect.Limits{Time: 12 * time.Minute}},
		Liveness: 30 * time.Second,
		Usual:    Schedule{First: time.Second, Sends: 3},
	}
	p := newPair(t, 202, plain(), plain())
	i := p.initiation(p.a)
	i.Override = o
	p.step(p.a, i)
	p.run(time.Hour)
	if s := p.a.up[i.SA].Suite; s != "P-384 ChaCha20-Poly1305 PRF-HMAC-SHA2-512" {
		t.Error(s)
	}
	if v, _ := p.a.View(i.SA); v.Rekeys < 5 || count[Proven](p.a) < 100 || count[Proven](p.b) != 0 {
		t.Errorf("%d rekeys, %d checks", v.Rekeys, count[Proven](p.a))
	}
	p = newPair(t, 203, plain(), plain())
	p.b.credential = func(a FindCredential) Credential {
		return Credential{SA: a.SA, Local: p.b.local, Remote: p.b.remote, Override: o}
	}
	a, _ := p.connect()
	p.run(time.Hour)
	if v, _ := p.a.View(a); v.Rekeys < 5 || count[Proven](p.b) < 100 {
		t.Errorf("%d rekeys, %d checks", v.Rekeys, count[Proven](p.b))
	}
}

// ESP that arrives is as good as an answer: no check is needed (RFC 7296 §2.4).
func TestAlive(t *testing.T) {
	cfg := plain()
	cfg.Liveness = 20 * time.Second
	p := newPair(t, 204, cfg, plain())
	a, _ := p.connect()
	for range 60 {
		p.step(p.a, Alive{a})
		p.run(10 * time.Second)
	}
	if n := count[Proven](p.a); n != 0 {
		t.Errorf("%d checks of a peer that sends", n)
	}
}

// RFC 8420 §2: a peer that does not list the Identity hash gets no Ed25519 signature.
func TestFallbackKey(t *testing.T) {
	ed, _ := identity.NewEd25519(chacha(1, 1))
	ec, _ := identity.NewECDSA(chacha(1, 2))
	l := &Local{Method: Signature, Key: ed, Fallback: ec, SendKey: true}
	for _, c := range []struct {
		hashes []suite.Hash
		want   identity.PublicKey
	}{
		{suite.Hashes(), ed.Public},
		{[]suite.Hash{suite.SHA256}, ec.Public},
		{nil, ec.Public},
	} {
		if got := signerFor(l, c.hashes).Public; got != c.want {
			t.Errorf("%v: %v", c.hashes, got.Algorithm())
		}
	}
	if l.Fallback = (identity.Signer{}); signerFor(l, nil).Public != ed.Public {
		t.Error("a fallback out of nothing")
	}
}

// Jobs may come back late, in any order, or when nobody waits any more.
func TestLateJobs(t *testing.T) {
	p := newPair(t, 205, Config{}, Config{})
	p.a.hold, p.b.hold = true, true
	g := &program{p: p}
	i := p.initiation(p.a)
	p.step(p.a, i)
	for range 60 {
		p.run(500 * time.Millisecond)
		g.release(p.b, 0)
		g.release(p.a, 0)
	}
	if len(p.a.up) != 1 || len(p.b.up) != 1 {
		t.Fatalf("a %d, b %d", len(p.a.up), len(p.b.up))
	}
	p.step(p.a, RekeySA{i.SA})
	if len(p.a.jobs) != 1 {
		t.Fatal("no job")
	}
	p.step(p.a, DeleteSA{SA: i.SA})
	p.run(time.Second)
	for len(p.a.jobs) > 0 {
		g.release(p.a, 0)
	}
	p.run(time.Hour)
	if len(p.a.bySPI)+len(p.b.bySPI) != 0 {
		t.Error("something is left")
	}
	// What nobody waits for.
	p.step(p.a, Computed{&generate{}})
	p.step(p.a, Computed{nil})
}
