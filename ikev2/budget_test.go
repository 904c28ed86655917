package ikev2

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// At the limit of half-open IKE SAs, whoever shows that it has its address is let in, and the one that was begun first gives
// way.
func TestFloodKeepsNobodyOut(t *testing.T) {
	t.Run("BTNS-CORE-64 a flood of first messages keeps no peer out", func(t *testing.T) {
		cfg := plain()
		cfg.CookieAbove, cfg.MaxHalfOpen = 20, 20
		p := newPair(t, 98, plain(), cfg)
		p.carry = func(from *node, s Send) []Send {
			if s.Remote.Addr() == addrA || from == p.a {
				return []Send{s}
			}
			return nil
		}
		p.flood(100, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) })
		p.connect()
		p.run(time.Second)
		if st := p.b.Stats(); st.SAs != 1 || st.HalfOpen != 19 || st.Counts[TooManyHalfOpen] != 1 || st.Counts[CookieSent] != 81 {
			t.Errorf("%d IKE SAs, %d half-open, %d gave way, %d cookies", st.SAs, st.HalfOpen, st.Counts[TooManyHalfOpen], st.Counts[CookieSent])
		}
		p.run(time.Minute)
		if st := p.b.Stats(); st.SAs != 1 || st.HalfOpen != 0 || len(p.b.bySPI) != 1 {
			t.Errorf("%d IKE SAs, %d half-open, %d kept after the flood", st.SAs, st.HalfOpen, len(p.b.bySPI))
		}
	})
	t.Run("BTNS-CORE-63 who is turned away again and again costs little", func(t *testing.T) {
		cfg := plain()
		cfg.MaxHalfOpen = 10
		p := newPair(t, 99, plain(), cfg)
		p.b.judgePeer = func(JudgePeer) error { return errBadProof }
		for range 50 {
			p.step(p.a, p.initiation(p.a))
			p.run(100 * time.Millisecond)
		}
		if n := len(p.b.bySPI); n > 11 || len(p.b.sessions) > 0 {
			t.Errorf("%d IKE SAs are kept, %d sessions", n, len(p.b.sessions))
		}
	})
}

// What a peer may ask for in a while is limited unless the judge knows it (BTNS-CORE-63).
func TestBudget(t *testing.T) {
	for name, tc := range map[string]struct {
		known bool
		ask   func(p *pair, sa Handle)
		times int
		quick bool // it is within the budget
	}{
		"BTNS-CORE-63 requests of a stranger":      {false, func(p *pair, sa Handle) { p.step(p.a, CheckAlive{sa}) }, 600, false},
		"BTNS-CORE-63 as many as are usual":        {false, func(p *pair, sa Handle) { p.step(p.a, CheckAlive{sa}) }, 300, true},
		"BTNS-CORE-63 rekeys of a stranger":        {false, func(p *pair, sa Handle) { p.step(p.a, RekeySA{sa}) }, 60, false},
		"BTNS-CORE-63 rekeys of a known peer":      {true, func(p *pair, sa Handle) { p.step(p.a, RekeySA{sa}) }, 60, true},
		"BTNS-CORE-63 a known peer is not hurried": {true, func(p *pair, sa Handle) { p.step(p.a, CheckAlive{sa}) }, 600, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 7, plain(), plain())
			p.delay = 0
			p.b.known = tc.known
			p.connect()
			p.run(time.Second)
			var sa Handle
			for h := range p.a.up {
				sa = h
			}
			for range tc.times {
				tc.ask(p, sa)
				p.run(time.Millisecond)
			}
			if n := p.b.Stats().Counts[Throttled]; (n == 0) != tc.quick {
				t.Errorf("%d requests were left", n)
			}
			p.run(30 * time.Second)
			if len(p.a.up) != 1 || len(p.b.up) != 1 || p.a.Stats().SAs != 1 || len(p.b.bySPI) > 2 {
				t.Errorf("in the end there are %d and %d IKE SAs, %d kept", len(p.a.up), len(p.b.up), len(p.b.bySPI))
			}
			p.step(p.a, CheckAlive{sa})
			before := p.b.Stats().Counts[Throttled]
			p.run(time.Second)
			if p.b.Stats().Counts[Throttled] != before {
				t.Error("a request is left after a pause")
			}
		})
	}
}

// A peer that rekeys and does not delete what it replaced is told to wait.
func TestUndeletedSAs(t *testing.T) {
	t.Run("BTNS-CORE-63 IKE SAs that were replaced and not deleted", func(t *testing.T) {
		p := newPair(t, 8, plain(), plain())
		p.b.known = true
		p.connect()
		p.run(time.Second)
		p.carry = func(from *node, s Send) []Send {
			if h, _ := wire.ParseHeader(s.Data); from == p.a && h.Exchange == wire.Informational {
				return nil
			}
			return []Send{s}
		}
		var sa Handle
		for h := range p.a.up {
			sa = h
		}
		for range 30 {
			p.step(p.a, RekeySA{sa})
			p.run(100 * time.Millisecond)
		}
		if n := len(p.b.bySPI); n > maxOthers+1 || n < 3 {
			t.Errorf("%d IKE SAs of one session", n)
		}
	})
}
