package ikev2

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// settled checks that both sides have exactly one child and send on it, and one IKE SA.
func (p *pair) settled(what string) {
	p.t.Helper()
	if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.up) != 1 || len(p.b.up) != 1 {
		p.t.Fatalf("%s: a has %d children and %d SAs, b %d and %d", what, len(p.a.children), len(p.a.up), len(p.b.children), len(p.b.up))
	}
	p.matched()
	if !p.a.using[p.a.one(p.t).Child] || !p.b.using[p.b.one(p.t).Child] {
		p.t.Fatalf("%s: a side does not send on the child", what)
	}
	if len(p.a.bySPI) != 1 || len(p.b.bySPI) != 1 {
		p.t.Fatalf("%s: a holds %d IKE SAs, b %d", what, len(p.a.bySPI), len(p.b.bySPI))
	}
}

// traffic tells every node that its children carry packets, as far as the other side sends on them.
func (p *pair) traffic() {
	for _, n := range []*node{p.a, p.b} {
		o := p.other(n)
		for id, c := range n.children {
			for oid, d := range o.children {
				if d.SPIOut == c.SPIIn && o.using[oid] {
					p.step(n, ChildCarried{id})
				}
			}
		}
	}
}

// RFC 7296 §1.3.3, §2.8: a rekeyed child has new keys, replaces the old one, and no moment is without one that works.
func TestRekeyChild(t *testing.T) {
	for _, kes := range [][]uint16{nil, {uint16(suite.X25519)}, {uint16(suite.P256), uint16(suite.X25519)}} {
		p := newPair(t, 10, plain(), plain())
		p.a.kes, p.b.kes = kes, kes
		p.connect()
		old := p.a.one(t)
		p.step(p.a, RekeyChild{old.Child})
		p.step(p.a, RekeyChild{old.Child})
		p.until(time.Second, func() bool {
			if len(p.a.children) == 0 || len(p.b.children) == 0 {
				t.Fatal("a moment without a child")
			}
			return false
		})
		fresh := p.a.one(t)
		if fresh.Replaces != old.Child || fresh.SPIIn == old.SPIIn || string(fresh.KeysIn.Encr) == string(old.KeysIn.Encr) {
			t.Errorf("%s does not replace %s", describe(fresh), describe(old))
		}
		if p.b.one(t).Replaces == 0 || count[ChildUse](p.b) != 1 {
			t.Error("the responder switches when the old child is deleted")
		}
		if d, _ := last[ChildDown](p.a); !d.Linger || d.Err != nil {
			t.Error("packets in flight are given no time")
		}
		p.run(time.Minute)
		p.settled(fmt.Sprint(kes))
	}
}

// RFC 7296 §1.3: INVALID_KE_PAYLOAD in CREATE_CHILD_SA leads to a new exchange with that method.
func TestRekeyChildOtherKE(t *testing.T) {
	p := newPair(t, 11, plain(), plain())
	p.a.kes, p.b.kes = []uint16{uint16(suite.X25519), uint16(suite.P384)}, []uint16{uint16(suite.P384)}
	p.connect()
	p.step(p.a, RekeyChild{p.a.one(t).Child})
	p.run(time.Minute)
	p.settled("P-384 in the second try")
	if v, _ := p.a.View(1); v.NextOwn != 5 { // init, auth, two exchanges, delete
		t.Errorf("next message ID %d", v.NextOwn)
	}
}

// A peer that wants forward secrecy for children gets it in the second try.
func TestRekeyChildWantsKE(t *testing.T) {
	p := newPair(t, 19, plain(), plain())
	p.b.kes = []uint16{uint16(suite.MODP2048)}
	p.connect()
	p.step(p.a, RekeyChild{p.a.one(t).Child})
	p.run(time.Minute)
	p.settled("forward secrecy")
	if count[ChildFailed](p.a) != 0 {
		t.Error("the judge was told of a failure")
	}
}

// RFC 7296 §2.8: rekeying by the clock, with jitter, on both sides, for as long as one likes.
func TestRekeyByTime(t *testing.T) {
	cfg := plain()
	cfg.Lifetime = protect.Lifetime{
		Soft: protect.Limits{Time: 40 * time.Minute}, Hard: protect.Limits{Time: time.Hour}, Jitter: 10 * time.Minute,
	}
	p := newPair(t, 12, cfg, cfg)
	life := protect.Lifetime{
		Soft: protect.Limits{Time: 8 * time.Minute}, Hard: protect.Limits{Time: 10 * time.Minute}, Jitter: time.Minute,
	}
	p.a.life, p.b.life = life, life
	p.connect()
	p.run(24 * time.Hour)
	p.traffic()
	p.run(time.Minute)
	if len(p.a.down)+len(p.b.down) != 0 {
		t.Fatalf("%v %v", p.a.down, p.b.down)
	}
	p.settled("after a day")
	v, _ := p.a.View(1)
	if v.Rekeys < 24 || len(p.a.Views()) != 1 {
		t.Errorf("the IKE SA was rekeyed %d times", v.Rekeys)
	}
	for _, n := range []*node{p.a, p.b} {
		for _, a := range n.acts {
			if d, ok := a.(ChildDown); ok && d.Err != nil {
				t.Errorf("%s: a child came to its hard end: %v", n.name, d.Err)
			}
		}
	}
}

// A child or IKE SA past its lifetime is not used (RFC 7296 §2.8, RFC 4301 §4.4.2.1).
func TestHardLifetime(t *testing.T) {
	cfg := plain()
	cfg.Lifetime = protect.Lifetime{Hard: protect.Limits{Time: time.Hour}}
	p := newPair(t, 13, cfg, plain())
	p.a.life = protect.Lifetime{Hard: protect.Limits{Time: 10 * time.Minute}}
	p.connect()
	p.run(11 * time.Minute)
	if d, _ := last[ChildDown](p.a); d.Err == nil || len(p.a.children)+len(p.b.children) != 0 {
		t.Fatal("the child outlives its lifetime, or its end has no reason")
	}
	p.run(time.Hour)
	if len(p.a.down) != 1 || p.a.down[0].Err == nil || len(p.b.down) != 1 || !p.b.down[0].Peer {
		t.Fatalf("%v %v", p.a.down, p.b.down)
	}
}

// RFC 7296 §1.3.2, §2.18: the IKE SA goes on under new SPIs, message IDs begin at 0, children stay.
func TestRekeySA(t *testing.T) {
	for _, from := range []string{"a", "b"} {
		p := newPair(t, 14, plain(), plain())
		a, b := p.connect()
		before, _ := p.a.View(a)
		child := p.a.one(t)
		if from == "a" {
			p.step(p.a, RekeySA{a})
		} else {
			p.step(p.b, RekeySA{b})
		}
		p.run(time.Second)
		va, _ := p.a.View(a)
		vb, _ := p.b.View(b)
		if va.SPIi == before.SPIi || va.SPIi != vb.SPIi || va.SPIr != vb.SPIr || va.Initiator != (from == "a") || vb.Initiator == va.Initiator {
			t.Fatalf("before %+v\nafter %+v\nb %+v", before, va, vb)
		}
		if va.NextOwn != 0 || va.NextPeer != 0 || count[SARekeyed](p.a) != 1 || count[SARekeyed](p.b) != 1 {
			t.Errorf("%+v", va)
		}
		if p.a.one(t).Child != child.Child {
			t.Error("the child did not move along")
		}
		p.step(p.b, CheckAlive{b})
		p.step(p.a, RekeyChild{child.Child})
		p.run(10 * time.Minute)
		p.settled("rekeyed from " + from)
		if count[Proven](p.b) != 1 {
			t.Error("the new IKE SA does not work")
		}
	}
}

// RFC 7296 §2.8.1: both sides rekey the same child at once. Whatever the order and the losses, one child stays.
func TestChildRekeyCollision(t *testing.T) {
	for seed := range uint64(200) {
		p := newPair(t, seed, plain(), plain())
		p.record = true
		if seed%2 == 1 {
			p.a.kes, p.b.kes = []uint16{31}, []uint16{31}
		}
		p.connect()
		p.loss, p.wobble, p.dup = float64(seed%4)*0.15, 100*time.Millisecond, 0.1
		p.step(p.a, RekeyChild{p.a.one(t).Child})
		if seed%3 == 0 {
			p.run(time.Duration(p.dice.Int64N(int64(60 * time.Millisecond))))
		}
		if len(p.b.children) == 1 {
			p.step(p.b, RekeyChild{p.b.one(t).Child})
		}
		p.until(5*time.Minute, func() bool { p.traffic(); return false })
		if len(p.a.down)+len(p.b.down) > 0 && seed%4 > 1 {
			continue // the wire was too bad
		}
		p.traffic()
		p.settled(fmt.Sprintf("seed %d", seed))
		p.settledLog(seed)
	}
}

func (p *pair) settledLog(uint64) { p.log = p.log[:0] }

// RFC 7296 §2.8.2, §2.25: both sides rekey the IKE SA at once; one stays, with all children, in either nonce order.
func TestSARekeyCollision(t *testing.T) {
	crossed := 0
	for seed := range uint64(200) {
		p := newPair(t, seed, plain(), plain())
		a, b := p.connect()
		p.loss, p.wobble, p.dup = float64(seed%4)*0.15, 100*time.Millisecond, 0.1
		p.step(p.a, RekeySA{a})
		if seed%3 == 0 {
			p.run(time.Duration(p.dice.Int64N(int64(60 * time.Millisecond))))
		}
		p.step(p.b, RekeySA{b})
		if !p.until(5*time.Minute, func() bool {
			if p.a.sessions[a] == nil || p.b.sessions[b] == nil {
				return true
			}
			if p.a.sessions[a].turn().rival != nil && p.b.sessions[b].turn().rival != nil {
				crossed++
			}
			return false
		}) && len(p.a.down)+len(p.b.down) == 0 {
			p.loss = 0
			p.run(5 * time.Minute)
			p.settled(fmt.Sprintf("seed %d", seed))
			va, _ := p.a.View(a)
			vb, _ := p.b.View(b)
			if va.SPIi != vb.SPIi || va.SPIr != vb.SPIr {
				t.Fatalf("seed %d: the sides go on under different IKE SAs", seed)
			}
			p.a.acts, p.b.acts = nil, nil
			p.step(p.a, CheckAlive{a})
			p.step(p.b, CheckAlive{b})
			p.run(time.Minute)
			if count[Proven](p.a) != 1 || count[Proven](p.b) != 1 {
				t.Fatalf("seed %d: the IKE SA does not work", seed)
			}
		}
		p.log = p.log[:0]
	}
	if crossed == 0 {
		t.Error("no collision was complete on both sides")
	}
}

const storms = 150

// RFC 7296 §2.25: everything at once: rekeys, deletes, new children from both sides on a bad wire. What remains fits.
func TestStorm(t *testing.T) {
	n := uint64(storms)
	if testing.Short() {
		n /= 10
	}
	for seed := range n {
		p := newPair(t, 1000+seed, plain(), plain())
		a, b := p.connect()
		p.loss, p.wobble, p.dup = 0.1, 80*time.Millisecond, 0.1
		for range 12 {
			n, h := p.a, a
			if p.dice.IntN(2) == 0 {
				n, h = p.b, b
			}
			switch p.dice.IntN(6) {
			case 0, 1:
				p.step(n, RekeyChild{pick(n.children, byte(p.dice.IntN(8)))})
			case 2:
				p.step(n, RekeySA{h})
			case 3:
				p.step(n, CreateChild{h, *p.request(n)})
			case 4:
				if len(n.children) > 1 {
					p.step(n, DeleteChild{pick(n.children, byte(p.dice.IntN(8)))})
				}
			case 5:
				p.step(n, CheckAlive{h})
			}
			p.run(time.Duration(p.dice.Int64N(int64(40 * time.Millisecond))))
			p.traffic()
		}
		p.loss = 0
		for range 20 {
			p.run(20 * time.Second)
			p.traffic()
		}
		if len(p.a.down)+len(p.b.down) > 0 {
			continue
		}
		va, _ := p.a.View(a)
		vb, _ := p.b.View(b)
		if va.SPIi != vb.SPIi {
			t.Fatalf("seed %d: different IKE SAs", seed)
		}
		p.matched()
		p.log = p.log[:0]
	}
}

// RFC 7296 §1.3.1: more children under the same IKE SA; refusal of one leaves the others (RFC 7296 §1.3).
func TestNewChild(t *testing.T) {
	p := newPair(t, 15, plain(), plain())
	a, b := p.connect()
	r := p.request(p.a)
	r.Local = selector.Set{selector.Host(addrA)}
	r.Local[0].Proto, r.Local[0].Ports = selector.TCP, selector.PortRange{From: 80, To: 80}
	r.Remote[0].Proto = selector.TCP
	r.KE = []uint16{uint16(suite.X25519)}
	p.step(p.a, CreateChild{a, *r})
	p.step(p.b, CreateChild{b, *p.request(p.b)})
	p.run(time.Second)
	if len(p.a.children) != 3 {
		t.Fatalf("%d children", len(p.a.children))
	}
	p.matched()
	no := errors.New("no")
	p.b.judgeChild = func(_ JudgeChild, v ChildJudged) ChildJudged { v.Refuse = no; return v }
	r = p.request(p.a)
	p.step(p.a, CreateChild{a, *r})
	p.run(time.Second)
	f, ok := last[ChildFailed](p.a)
	var refused *RefusedError
	if !ok || f.Child != r.ID || !errors.As(f.Err, &refused) || wire.NotifyType(refused.Notify) != wire.TSUnacceptable {
		t.Fatalf("%+v", f)
	}
	p.b.judgeChild = func(_ JudgeChild, v ChildJudged) ChildJudged {
		v.Offer = []protect.Suite{{Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA512}}
		return v
	}
	p.step(p.a, CreateChild{a, *p.request(p.a)})
	p.run(time.Second)
	f, _ = last[ChildFailed](p.a)
	if !errors.As(f.Err, &refused) || wire.NotifyType(refused.Notify) != wire.NoProposalChosen {
		t.Fatalf("%+v", f)
	}
	p.matched()
	id := r.ID
	for id = range p.a.children {
		break
	}
	p.step(p.a, DeleteChild{id})
	p.run(time.Second)
	if len(p.a.children) != 2 {
		t.Errorf("%d children", len(p.a.children))
	}
	p.matched()
}

// RFC 7296 §2.9: the initiator deletes a child whose selectors its own judge does not confirm.
func TestAnsweredRefused(t *testing.T) {
	p := newPair(t, 16, plain(), plain())
	no := errors.New("not these")
	p.a.judgeChild = func(q JudgeChild, v ChildJudged) ChildJudged {
		if q.Stage == Answered {
			v.Refuse = no
		}
		return v
	}
	p.step(p.a, p.initiation(p.a))
	p.run(time.Second)
	if f, _ := last[ChildFailed](p.a); !errors.Is(f.Err, no) || len(p.a.children)+len(p.b.children) != 0 || len(p.a.up) != 1 {
		t.Fatalf("%+v, b has %d", f, len(p.b.children))
	}
}

// RFC 9370 §2.2.4: with ML-KEM in the IKE SA its rekey has it too, by IKE_FOLLOWUP_KE, from either side.
func TestRekeyHybrid(t *testing.T) {
	p := newPair(t, 17, Config{}, Config{})
	a, b := p.connect()
	for i, step := range []func(){
		func() { p.step(p.a, RekeySA{a}) },
		func() { p.step(p.b, RekeySA{b}) },
		func() { p.step(p.a, RekeySA{a}); p.step(p.b, RekeySA{b}) },
	} {
		step()
		p.run(2 * time.Minute)
		p.settled(fmt.Sprint("hybrid ", i))
		va, _ := p.a.View(a)
		vb, _ := p.b.View(b)
		if va.SPIi != vb.SPIi || va.Suite != p.a.up[a].Suite || va.Rekeys < uint32(i+1) {
			t.Fatalf("%d: %+v\n%+v", i, va, vb)
		}
	}
}

// RFC 7296 §2.25: a peer that answers TEMPORARY_FAILURE for minutes loses the IKE SA.
func TestTemporaryFailureForEver(t *testing.T) {
	p := newPair(t, 18, plain(), plain())
	a, _ := p.connect()
	p.b.sessions[Handle(1)].closing = true // as if it were deleting all the time
	sent := p.sent
	p.step(p.a, CreateChild{a, *p.request(p.a)})
	p.run(time.Minute)
	if n := p.sent - sent; n < 6 || n > 40 {
		t.Errorf("%d datagrams in a minute of back-off", n)
	}
	p.run(10 * time.Minute)
	if len(p.a.down) != 1 || p.a.down[0].Err == nil {
		t.Fatalf("%+v", p.a.down)
	}
}
