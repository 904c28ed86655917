package ikev2

import (
	"errors"
	"testing"
	"time"
)

// The whole way: IKE_SA_INIT, IKE_AUTH, a child with equal keys on both sides, authenticated by bare keys
// (RFC 7296 §1.2, RFC 7670, BTNS-CORE-08, BTNS-CORE-30).
func TestHandshake(t *testing.T) {
	p := newPair(t, 1, plain(), plain())
	a, b := p.connect()
	ua, ub := p.a.up[a], p.b.up[b]
	if ua.Peer.Key != p.b.signer.Public || ub.Peer.Key != p.a.signer.Public {
		t.Errorf("peers are %v and %v", ua.Peer.Key, ub.Peer.Key)
	}
	if !ua.Initiator || ub.Initiator || !ua.Btns || !ub.Btns || string(ua.Nonce) != string(ub.Nonce) || ua.Suite != ub.Suite {
		t.Errorf("%+v\n%+v", ua, ub)
	}
	if p.sent != 4 {
		t.Errorf("%d datagrams, a handshake takes 4", p.sent)
	}
	if !p.a.using[p.a.one(t).Child] || !p.b.using[p.b.one(t).Child] {
		t.Error("the first child is used at once on both sides")
	}
}

// RFC 7296 §1.4.1: deleting the IKE SA takes the children with it, on both sides.
func TestDeleteSA(t *testing.T) {
	p := newPair(t, 2, plain(), plain())
	a, _ := p.connect()
	p.step(p.a, DeleteSA{SA: a, Leaving: true})
	p.run(time.Second)
	if len(p.a.up)+len(p.b.up)+len(p.a.children)+len(p.b.children) != 0 {
		t.Fatal("something is left")
	}
	if p.a.down[0].Peer || !p.b.down[0].Peer || p.a.down[0].Err != nil || !p.b.down[0].WasUp {
		t.Errorf("%+v %+v", p.a.down, p.b.down)
	}
	if count[PeerLeaving](p.b) != 1 {
		t.Error("b was not told that a stops on purpose")
	}
	p.run(time.Hour)
	if len(p.a.bySPI)+len(p.b.bySPI) != 0 {
		t.Error("an SA outlives its end")
	}
	if _, ok := p.a.Deadline(); ok {
		t.Error("a still waits for something")
	}
}

// RFC 7296 §2.4: a live peer answers, a dead one ends the IKE SA by timeout and by nothing else.
func TestLiveness(t *testing.T) {
	p := newPair(t, 3, plain(), plain())
	a, _ := p.connect()
	p.step(p.a, CheckAlive{SA: a})
	p.step(p.a, CheckAlive{SA: a}) // one is running
	p.run(time.Second)
	if count[Proven](p.a) != 1 {
		t.Fatal("the peer did not prove that it lives, or twice")
	}
	p.loss = 1
	p.step(p.a, CheckAlive{SA: a})
	p.run(2 * time.Minute)
	var silent *NoAnswerError
	if len(p.a.down) != 1 || !errors.As(p.a.down[0].Err, &silent) || silent.Sent != Defaults().Quick.Sends {
		t.Fatalf("%+v", p.a.down)
	}
	if len(p.a.children) != 0 {
		t.Error("children outlive their IKE SA")
	}
}

// RFC 7296 §2.1, §2.4: whatever is lost, doubled or overtaken, both sides end with one IKE SA and one child.
func TestLoss(t *testing.T) {
	for seed := range uint64(60) {
		p := newPair(t, seed, plain(), plain())
		p.loss, p.dup, p.wobble = 0.3, 0.2, 300*time.Millisecond
		i := p.initiation(p.a)
		p.step(p.a, i)
		if !p.until(10*time.Minute, func() bool { return len(p.a.up) == 1 && len(p.b.up) == 1 }) {
			if len(p.a.down) == 1 {
				continue // nobody can promise more
			}
			t.Fatalf("seed %d: not up", seed)
		}
		p.loss = 0
		p.run(time.Minute)
		p.matched()
		p.a.one(t)
		p.step(p.a, DeleteSA{SA: i.SA})
		p.run(time.Minute)
		if len(p.b.up) != 0 {
			t.Fatalf("seed %d: b still up", seed)
		}
	}
}

// An attempt that nobody answers ends, and says so (RFC 7296 §2.4); a polite probe after so many datagrams.
func TestNobodyThere(t *testing.T) {
	for _, quick := range []int{0, 3} {
		p := newPair(t, 5, plain(), plain())
		p.loss = 1
		i := p.initiation(p.a)
		i.Quick = quick
		p.step(p.a, i)
		p.run(10 * time.Minute)
		var silent *NoAnswerError
		if len(p.a.down) != 1 || !errors.As(p.a.down[0].Err, &silent) || p.a.down[0].WasUp {
			t.Fatalf("%+v", p.a.down)
		}
		want := quick
		if quick == 0 {
			want = Defaults().Init.Sends
		}
		if silent.Sent != want || p.sent != want {
			t.Errorf("%d datagrams, reported %d, want %d", p.sent, silent.Sent, want)
		}
		if len(p.a.bySPI) != 0 {
			t.Error("state is left")
		}
	}
}
