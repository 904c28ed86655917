package ikev2

import (
	"errors"
	"testing"
	"time"
)

// suspicion is one way in which a check of a suspected peer begins.
var suspicions = []struct {
	name  string
	begin func(p *pair, a Handle)
}{
	{"nothing else is under way", func(*pair, Handle) {}},
	{"an ordinary check is under way", func(p *pair, a Handle) {
		p.step(p.a, CheckAlive{SA: a})
		p.run(4 * time.Second)
	}},
	{"a rekey waits for its answer", func(p *pair, a Handle) {
		p.step(p.a, RekeyChild{Child: p.a.one(p.t).Child})
		p.run(20 * time.Second)
	}},
}

// RFC 7296 §2.4: when packets went out and none came back, the check decides within ten seconds and after at
// least five transmissions, whatever had the window.
func TestSuspect(t *testing.T) {
	for _, c := range suspicions {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 3, plain(), plain())
			a, _ := p.connect()
			p.loss = 1
			c.begin(p, a)
			before, began := p.sent, p.now
			p.step(p.a, Unanswered{SA: a})
			if !p.until(time.Minute, func() bool { return len(p.a.down) > 0 }) {
				t.Fatal("the peer is still taken for a live one after a minute")
			}
			if took := p.now.Sub(began); took < 8*time.Second || took > 10*time.Second {
				t.Errorf("given up after %v", took)
			}
			if n := p.sent - before; n < 5 {
				t.Errorf("only %d transmissions", n)
			}
			var silent *NoAnswerError
			if !errors.As(p.a.down[0].Err, &silent) {
				t.Errorf("ended by %v", p.a.down[0].Err)
			}
		})
	}
}

// One lost packet, or several, are no reason to give up: any answer clears the peer.
func TestSuspectAnswers(t *testing.T) {
	for _, c := range suspicions {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 4, plain(), plain())
			a, _ := p.connect()
			p.loss = 1
			c.begin(p, a)
			p.step(p.a, Unanswered{SA: a})
			p.run(5 * time.Second)
			p.loss = 0
			p.run(time.Minute)
			if len(p.a.down)+len(p.b.down) != 0 {
				t.Fatal("the IKE SA was given up although the peer answered")
			}
			p.step(p.a, CheckAlive{SA: a})
			p.run(time.Second)
			if count[Proven](p.a) == 0 {
				t.Error("no check is possible any more")
			}
		})
	}
}

// RFC 7296 §2.4: a protected packet is proof of life, so that what is only slow is waited for as usual.
func TestSuspectHeardMeanwhile(t *testing.T) {
	p := newPair(t, 5, plain(), plain())
	a, _ := p.connect()
	p.loss = 1
	p.step(p.a, Unanswered{SA: a})
	p.run(5 * time.Second)
	p.step(p.a, Alive{SA: a})
	p.run(15 * time.Second)
	if len(p.a.down) != 0 {
		t.Fatal("given up although ESP came in")
	}
	p.step(p.a, Unanswered{SA: a})
	p.run(12 * time.Second)
	if len(p.a.down) != 1 {
		t.Fatal("a new suspicion is not followed up")
	}
}
