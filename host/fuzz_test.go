package host

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// program is a course of events for two hosts and somebody who poses as one of them.
type program struct {
	w    *world
	code []byte
}

func (g *program) next() byte {
	if len(g.code) == 0 {
		return 0
	}
	b := g.code[0]
	g.code = g.code[1:]
	return b
}

// others are the addresses that events name: hosts that are there, and one that is not.
var others = []netip.Addr{addrA, addrB, addrC, netip.MustParseAddr("198.51.100.7")}

// promises are the SPIs that are kept for children, and by whom.
func (w *world) promises() map[uint32]*box {
	out := make(map[uint32]*box)
	for _, b := range w.boxes {
		for _, s := range b.h.sessions {
			for _, p := range s.promised {
				out[p.spi] = b
			}
		}
	}
	return out
}

func (g *program) run() {
	w := g.w
	for len(g.code) > 0 {
		op, arg := g.next(), g.next()
		b, to := w.boxes[int(arg)%len(w.boxes)], others[int(arg>>2)%len(others)]
		switch op % 25 {
		case 0, 1:
			w.settle()
		case 2:
			w.pass(time.Duration(arg) * 100 * time.Millisecond)
		case 3:
			w.pass(time.Duration(arg) * 10 * time.Second)
		case 4: // the next thing under way happens, and no more
			if len(w.mail) > 0 {
				f := w.mail[0]
				w.mail = w.mail[1:]
				f.run()
			}
		case 5: // or never does
			if len(w.mail) > 0 {
				if i := int(arg) % len(w.mail); w.mail[i].datagram {
					w.mail = append(w.mail[:i:i], w.mail[i+1:]...)
				}
			}
		case 6: // or last
			if len(w.mail) > 0 {
				w.mail = append(w.mail[1:], w.mail[0])
			}
		case 7:
			if w.lose = nil; arg&1 != 0 {
				w.lose = nobody
			}
		case 8, 9:
			for _, o := range w.boxes {
				if o.addr == to && o != b {
					b.packet(o)
				}
			}
		case 10:
			if b.dead = !b.dead; !b.dead {
				b.boot()
			}
		default:
			b.step(g.event(b, op%25, arg, to))
		}
	}
}

func (g *program) event(b *box, op, arg byte, to netip.Addr) Event {
	id := flow.PairID(arg >> 4)
	switch op {
	case 11, 12:
		return FromPlane{dataplane.Acquire{Flow: selector.Flow{Proto: 17, Local: b.addr, Remote: to}, Held: arg&1 != 0}}
	case 13:
		return Connect{Remote: to, Name: []string{"", "x.example", "y.example"}[arg>>4%3]}
	case 14:
		return Down{to}
	case 15:
		return Forget{Addr: to}
	case 16:
		return operator(g.w.t, b, arg, to)
	case 17:
		return Forget{Key: key(g.w.t, "b").Public.Fingerprint()}
	case 18:
		return FromPlane{dataplane.Spent{ID: id, Hard: arg&1 != 0}}
	case 19:
		return FromPlane{dataplane.UnknownSPI{Local: ap(b.addr, 4500), Remote: ap(to, 4500), SPI: 0x1234}}
	case 20:
		if arg&8 != 0 && b.name == "a" {
			b.addr = map[netip.Addr]netip.Addr{addrA: netip.MustParseAddr("203.0.113.9")}[b.addr]
			if !b.addr.IsValid() {
				b.addr = addrA
			}
		}
		return FromPlane{dataplane.AddressChanged{}}
	case 21:
		switch arg % 3 {
		case 0:
			return SourceFound{Remote: to, Local: b.addr}
		case 1:
			return SourceFound{Remote: to, Local: to}
		}
		return SourceFound{Remote: to, Err: errNoRoute}
	case 22:
		return CountersRead{Counters: []dataplane.Counters{{ID: id, PacketsIn: uint64(g.next()), PacketsOut: uint64(g.next())}}}
	}
	if op == 24 {
		return another(g.w.t, b, arg, to)
	}
	switch arg % 5 {
	case 0:
		return FromPlane{dataplane.Carried{ID: id}}
	case 1:
		return FromPlane{dataplane.Moved{ID: id, Remote: ap(to, uint16(arg))}}
	case 2:
		return FromPlane{dataplane.Dropped{Remote: to, Reason: flow.Reason(arg), Count: 1}}
	case 3:
		return Stop{}
	}
	return Computed{Job: nil}
}

// operator is what somebody says about the keys of an address.
func operator(t testing.TB, b *box, arg byte, to netip.Addr) Event {
	k := key(t, "b").Public.Fingerprint()
	switch arg >> 4 {
	case 1, 2, 3:
		r := Rotate{Next: key(t, b.name+string(rune('0'+arg%4))), From: b.w.now.Add(time.Duration(arg>>4) * time.Minute)}
		if !b.h.rotating() {
			b.cfg.Rotation.Next, b.cfg.Rotation.From = r.Next, r.From
		}
		return r
	case 4:
		b.cfg.Rotation = Rotation{}
		return Rotate{}
	case 5:
		old := b.h.cfg.Signer
		return RevokeOwn{Next: key(t, b.name+string(rune('A'+arg%16))), Statement: revocationOf(t, old)}
	case 8:
		return Accept{Addr: to, Key: k, Beside: true}
	case 9:
		return Accept{Addr: to, Key: key(t, "x").Public.Fingerprint()}
	case 10:
		return Verify{Addr: to, Key: k}
	case 11:
		return Verify{Key: k}
	case 12, 13:
		return Revoke{k}
	case 14, 15:
		return Import{[]trust.Entry{{Record: trust.Record{Addr: to, Key: k, Sticky: true}, Bare: true, Withdrawn: arg&1 != 0}}}
	}
	return Accept{Addr: to}
}

// another is a configuration for b.
func another(t testing.TB, b *box, arg byte, to netip.Addr) Reload {
	c := b.cfg
	c.Peers, c.Policy = nil, unknown(t, policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass})
	rule := policy.Entry{Name: "rule", Source: "x:1", Local: selector.Any(), Remote: selector.Set{selector.Host(to)}}
	pad := []policy.PADEntry{policy.Anyone()}
	r := Reload{Trust: trust.AcceptNew}
	switch arg >> 5 {
	case 1:
		c.Policy = unknown(t, policy.Unknown{Fallback: policy.Require})
	case 2, 3:
		if to != b.addr {
			transport(t, Start(arg>>6)%3, to)(&c)
		}
	case 4:
		rule.Action = policy.Discard
	case 5:
		rule.Action = policy.Bypass
	case 6:
		pad = nil
	case 7:
		r.Trust = []trust.Mode{trust.Strict, trust.Ask}[arg>>4&1]
	}
	if rule.Action != 0 || pad == nil {
		spd := policy.Untouchable()
		if rule.Action != 0 {
			spd = append(spd, rule)
		}
		p, err := policy.New(append(spd, policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass})...), pad)
		if err != nil {
			t.Fatal(err)
		}
		c.Policy = p
	}
	r.Policy, r.Peers = c.Policy, c.Peers
	return r
}

// FuzzStep: whatever happens and in whatever order, nothing panics; SPIs are kept for as many children as are promised,
// and for none when nothing is under way; what must be protected, because policy or a record says so, is never let out in
// clear. The checks stand in [box.check].
func FuzzStep(f *testing.F) {
	meet := []byte{11, 4, 0, 0, 8, 4, 8, 1, 2, 20, 8, 4, 8, 1, 2, 20}
	for _, rest := range []string{
		"", // a first contact
		"\x0a\x01\x08\x04\x03\x06\x0b\x04\x03\x01",                                                 // b is gone
		"\x0a\x01\x0a\x01\x13\x00\x00\x00",                                                         // and back
		"\x17\x03\x00\x00\x02\x20\x0b\x01\x00\x00",                                                 // a stops
		"\x14\x08\x00\x00\x0b\x04\x00\x00",                                                         // a moves
		"\x0a\x00\x0a\x00\x0f\x04\x0b\x04\x00\x00",                                                 // a boots, forgets, asks
		"\x12\x10\x12\x11\x00\x00\x0b\x04\x00\x00",                                                 // limits
		"\x18\x04\x00\x00\x18\x24\x00\x00\x0b\x04\x00\x00\x18\x44\x00\x00\x18\x04\x0b\x04\x00\x00", // other configurations
		"\x18\x64\x00\x00\x18\x84\x00\x00\x0b\x04\x18\xa4\x04\x00\x18\xc4\x04\x00\x18\x04\x00\x00",
		"\x07\x01\x0e\x04\x0b\x04\x03\x09\x0d\x04",                                 // nothing arrives
		"\x10\x11\x00\x00\x03\x09\x08\x04\x08\x01\x03\x09\x08\x04\x08\x01\x00\x00", // b plans another key, and it comes
		"\x10\x11\x10\x20\x03\x06\x0a\x01\x03\x06\x0a\x01\x0b\x04\x00\x00\x10\x41\x10\x51\x00\x00",
		"\x0d\x04\x0d\x01\x04\x00\x04\x00\x04\x00\x05\x00\x06\x00\x00\x00",
	} {
		for kind := range byte(3) {
			f.Add(append(append([]byte{kind}, meet...), rest...))
		}
	}
	f.Add([]byte("0XX20+\x10+\x11")) // a rekey that was put off finds its child gone
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) == 0 || len(code) > 300 {
			return
		}
		w := newWorld(t)
		w.box("a", addrA, func(c *Config) {
			switch code[0] % 4 {
			case 1:
				c.Policy = unknown(t, policy.Unknown{Fallback: policy.Require})
			case 2:
				transport(t, Start(code[0]>>2)%3, addrB)(c)
			case 3:
				c.Trust.Mode = 1
			}
		})
		w.box("b", addrB)
		w.box("c", addrC)
		g := &program{w: w, code: code[1:]}
		g.run()
		w.lose = nil
		w.endless = true
		w.pass(10 * time.Minute)
		promised := w.promises() // of a rekey that has just begun, too
		w.pass(5 * time.Minute)
		still := w.promises()
		for spi, b := range promised {
			if still[spi] == b && !b.dead {
				t.Errorf("%s keeps the SPI %08x for a child that never comes", b.name, spi)
			}
		}
	})
}
