package ikev2

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// A bad public value in IKE_SA_INIT is as if the message had not come; in later exchanges it ends the IKE SA (RFC 6989,
// RFC 7296 §2.12).
func TestBadPublicValue(t *testing.T) {
	p := newPair(t, 210, plain(), plain())
	forged := false
	p.carry = func(from *node, s Send) []Send {
		m, _ := wire.ParseMessage(s.Data)
		if m.Exchange != wire.IKESAInit || from == p.a || forged {
			return []Send{s}
		}
		forged = true
		m = m.Clone()
		for i := range m.Payloads {
			if k, ok := m.Payloads[i].Body.(wire.KE); ok {
				m.Payloads[i].Body = wire.KE{Method: k.Method, Data: make([]byte, len(k.Data))}
			}
		}
		p.fly(p.a, Datagram{s.Remote, s.Local, m.Append(nil)})
		return nil
	}
	p.connect() // by the answer to the repeated request
	if p.a.Stats().Counts[BadPublicValue] != 1 {
		t.Error("the forged answer was not noticed")
	}
	// As responder.
	p = newPair(t, 211, plain(), plain())
	first := true
	p.carry = func(from *node, s Send) []Send {
		if from == p.a && first {
			first = false
			m, _ := wire.ParseMessage(s.Data)
			m = m.Clone()
			for i := range m.Payloads {
				if k, ok := m.Payloads[i].Body.(wire.KE); ok {
					clear(k.Data)
				}
			}
			return []Send{{s.Local, s.Remote, m.Append(nil)}}
		}
		return []Send{s}
	}
	p.connect()
	if p.b.Stats().Counts[BadPublicValue] != 1 || len(p.b.bySPI) != 1 {
		t.Errorf("%d SAs", len(p.b.bySPI))
	}
	// In CREATE_CHILD_SA.
	p = newPair(t, 212, plain(), plain())
	p.a.kes, p.b.kes = []uint16{31}, []uint16{31}
	a, b := p.connect()
	r := p.request(p.a)
	r.KE = []uint16{31}
	ps, _ := childPayloads(r, nil, make([]byte, 32), nil)
	ps = append(ps, keOf(31, make([]byte, 32)))
	p.inject(p.a, p.seal(p.a, a, wire.CreateChildSA, p.a.sessions[a].current.nextOwn, false, ps...))
	p.run(time.Second)
	if _, up := p.b.up[b]; up {
		t.Error("the IKE SA survives a bad public value")
	}
}

// What a peer can make is bounded: new children, and rekeys whose old halves it never deletes (BTNS-CORE-63).
func TestMaxChildren(t *testing.T) {
	t.Run("BTNS-CORE-63 the children of one IKE SA are limited", func(t *testing.T) {
		cfg := plain()
		cfg.MaxChildren = 4
		p := newPair(t, 213, plain(), cfg)
		a, _ := p.connect()
		for range 8 {
			p.step(p.a, CreateChild{a, *p.request(p.a)})
			p.run(time.Second)
		}
		if len(p.b.children) != 4 || count[ChildFailed](p.a) != 5 {
			t.Errorf("%d children, %d failed", len(p.b.children), count[ChildFailed](p.a))
		}
		p.step(p.a, RekeyChild{pick(p.a.children, 0)}) // still possible
		p.run(time.Second)
		p.matched()
		id := p.a.sessions[a].current.nextOwn
		for i := range 20 {
			var old uint32
			for _, c := range p.b.sessions[1].children {
				if c.heir == 0 {
					old = c.spiOut
				}
			}
			r := p.request(p.a)
			ps, _ := childPayloads(r, &child{spiIn: old}, make([]byte, 32), nil)
			p.inject(p.a, p.seal(p.a, a, wire.CreateChildSA, id+uint32(i), false, ps...))
			p.run(100 * time.Millisecond)
		}
		if n := len(p.b.sessions[1].children); n > 8 {
			t.Errorf("%d children", n)
		}
	})
}

// A source of entropy that fails makes no keys of nothing.
func TestNoEntropy(t *testing.T) {
	p := newPair(t, 214, plain(), plain())
	p.a.rand = &fixed{rest: emptySource{}}
	p.step(p.a, p.initiation(p.a))
	p.run(time.Second)
	if len(p.a.down) != 1 || p.sent != 0 {
		t.Errorf("%d datagrams", p.sent)
	}
}

type emptySource struct{}

func (emptySource) Read([]byte) (int, error) { return 0, errNoKey }
