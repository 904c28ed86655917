package ikev2

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// channel-binding.md §4, synthetic vector.
func TestBindingVector(t *testing.T) {
	count := func(from, to int) (b []byte) {
		for i := from; i < to; i++ {
			b = append(b, byte(i))
		}
		return b
	}
	var i, r shown
	i.octets, r.octets = count(0, 0x40), count(0x40, 0xa0)
	i.by(wire.Auth{Method: 13, Data: bytes.Repeat([]byte{0xa5}, 32)})
	r.by(wire.Auth{Method: 14, Data: bytes.Repeat([]byte{0x5a}, 40)})
	got := bindingOf(i, r)
	if want := "3fcca1cfb30ecc444c7fe4ec847f16102adbcf6f9d29131f0f93156c3c5bd3de"; hex.EncodeToString(got[:]) != want {
		t.Fatalf("%x", got)
	}
}

// sides returns how both ends report the IKE SA.
func (p *pair) sides(a, b Handle) (SAUp, SAUp) { return p.a.up[a], p.b.up[b] }

// channel-binding.md §4: both ends have the same binding, and each IKE SA another one.
func TestBindingNamesTheSA(t *testing.T) {
	for _, local := range []Method{Signature, SharedKey, Null} {
		p := newPair(t, 320, plain(), plain())
		for _, n := range []*node{p.a, p.b} {
			n.local.Method, n.local.PSK, n.remote = local, []byte("secret"), Remote{PSK: []byte("secret")}
			switch local {
			case Signature:
				n.remote = Remote{AnyKey: true}
			case Null:
				n.remote = Remote{AnyNull: true}
			}
		}
		seen := map[[32]byte]bool{}
		for range 2 {
			a, b := p.connect()
			x, y := p.sides(a, b)
			if x.Binding != y.Binding || seen[x.Binding] || x.Binding == [32]byte{} {
				t.Fatalf("method %d: %x and %x", local, x.Binding, y.Binding)
			}
			seen[x.Binding] = true
			if signs := local == Signature; x.Own.IsZero() == signs || y.Peer.Key != x.Own || x.Peer.Key != y.Own {
				t.Fatalf("method %d: a signed with %v, b saw %v", local, x.Own, y.Peer.Key)
			}
			p.step(p.a, DeleteSA{SA: a})
			p.run(time.Minute)
		}
	}
}

// stated is the statements that n has heard, in order.
func stated(n *node) (out []Stated) {
	for _, a := range n.acts {
		if s, ok := a.(Stated); ok {
			out = append(out, s)
		}
	}
	return out
}

func TestStatements(t *testing.T) {
	t.Run("BTNS-TRUST-40 BTNS-TRUST-44 BTNS-TRUST-53 statements arrive once, in both directions, over a bad wire", func(t *testing.T) {
		for seed := range uint64(20) {
			p := newPair(t, 330+seed, plain(), plain())
			a, b := p.connect()
			p.loss, p.dup, p.wobble = 0.2, 0.2, 50*time.Millisecond
			for k := Successors; k < statements; k++ {
				p.step(p.a, Tell{a, k, []byte{1, byte(k)}})
				p.step(p.b, Tell{b, k, []byte{2, byte(k)}})
			}
			p.run(5 * time.Minute)
			if len(p.a.down)+len(p.b.down) > 0 {
				continue // lost altogether
			}
			for from, n := range map[byte]*node{2: p.a, 1: p.b} {
				got := stated(n)
				if len(got) != 3 || count[Told](n) != 3 {
					t.Fatalf("seed %d: %s heard %+v, and knows of %d that arrived", seed, n.name, got, count[Told](n))
				}
				for i, s := range got {
					if s.Kind != Statement(i+1) || !bytes.Equal(s.Data, []byte{from, byte(s.Kind)}) {
						t.Fatalf("seed %d: %+v", seed, got)
					}
				}
			}
		}
	})
	t.Run("a long one travels in fragments, and a newer one takes the place of one that waits", func(t *testing.T) {
		p := newPair(t, 321, plain(), plain())
		a, _ := p.connect()
		long := bytes.Repeat([]byte{7}, carriers[Successors].max)
		p.step(p.a, CheckAlive{a}) // the window is taken
		p.step(p.a, Tell{a, Successors, []byte("outdated")})
		p.step(p.a, Tell{a, Successors, long})
		p.run(time.Minute)
		if got := stated(p.b); len(got) != 1 || !bytes.Equal(got[0].Data, long) {
			t.Fatalf("%d statements", len(got))
		}
	})
	t.Run("they go on after the IKE SA was rekeyed", func(t *testing.T) {
		p := newPair(t, 322, plain(), plain())
		a, b := p.connect()
		p.step(p.a, RekeySA{a})
		p.step(p.a, Tell{a, Revocation, []byte{1}})
		p.run(time.Minute)
		p.step(p.b, Tell{b, Revocation, []byte{2}})
		p.run(time.Minute)
		if len(stated(p.a)) != 1 || len(stated(p.b)) != 1 {
			t.Fatalf("%+v, %+v", stated(p.a), stated(p.b))
		}
	})
	t.Run("BTNS-TRUST-44 a revocation goes with the delete", func(t *testing.T) {
		p := newPair(t, 323, plain(), plain())
		a, _ := p.connect()
		p.step(p.a, DeleteSA{SA: a, Revocation: []byte{9}})
		p.run(time.Minute)
		if got := stated(p.b); len(got) != 1 || got[0].Kind != Revocation || len(p.b.down) != 1 || !p.b.down[0].Peer {
			t.Fatalf("%+v, %+v", got, p.b.down)
		}
	})
}

// Nobody is told anything who would not understand it, or has no key; what nobody can have said is not sent.
func TestStatementsNotMade(t *testing.T) {
	for name, edit := range map[string]func(p *pair){
		"to a peer that is not btns":  func(p *pair) { p.b.foreign = true },
		"to a peer without a key":     func(p *pair) { p.b.local, p.a.remote = Local{Method: Null}, Remote{AnyNull: true} },
		"to a peer with a shared key": func(p *pair) { p.b.local = Local{Method: SharedKey, PSK: []byte("x")} },
	} {
		p := newPair(t, 324, plain(), plain())
		edit(p)
		i := p.initiation(p.a)
		if p.b.local.Method != Signature {
			i.Expect = Remote{AnyNull: true, PSK: []byte("x")}
		}
		p.step(p.a, i)
		p.run(2 * time.Second)
		if len(p.a.up) != 1 {
			t.Fatalf("%s: not up", name)
		}
		before := p.sent
		for k := Successors; k < statements; k++ {
			p.step(p.a, Tell{i.SA, k, []byte{1}})
		}
		p.run(time.Second)
		if p.sent != before || len(stated(p.b)) != 0 {
			t.Errorf("%s: %d datagrams", name, p.sent-before)
		}
	}
	p := newPair(t, 325, plain(), plain())
	a, _ := p.connect()
	before := p.sent
	for _, ev := range []Tell{{a, 0, []byte{1}}, {a, statements, []byte{1}}, {a, Successors, nil}, {a, Revocation, make([]byte, 5000)}, {a + 7, Successors, []byte{1}}} {
		p.step(p.a, ev)
	}
	p.run(time.Second)
	if p.sent != before {
		t.Errorf("%d datagrams of what cannot be said", p.sent-before)
	}
}

// say has n send payloads in an authentic INFORMATIONAL request.
func (p *pair) say(n *node, h Handle, ps ...wire.Payload) {
	s := n.sessions[h].current
	p.inject(n, p.seal(n, h, wire.Informational, s.nextOwn, false, ps...))
	s.nextOwn++
}

// Malformed statements are answered as any INFORMATIONAL, told, and change nothing.
func TestMalformedStatements(t *testing.T) {
	for name, ps := range map[string][]wire.Payload{
		"empty":       {notify(notifySuccessors)},
		"too long":    {notify(notifyShortString, make([]byte, 65)...)},
		"with an SPI": {{Type: wire.PayloadNotify, Body: wire.Notify{Protocol: wire.ProtoESP, Type: notifyRevocation, SPI: []byte{1, 2, 3, 4}, Data: []byte{1}}}},
	} {
		p := newPair(t, 326, plain(), plain())
		a, _ := p.connect()
		p.say(p.a, a, ps...)
		p.run(time.Second)
		if len(stated(p.b)) != 0 || p.b.Stats().Counts[BadStatement] != 1 || len(p.b.up) != 1 {
			t.Errorf("%s: %+v, counted %d", name, stated(p.b), p.b.Stats().Counts[BadStatement])
		}
	}
	p := newPair(t, 327, plain(), plain())
	a, _ := p.connect()
	p.say(p.a, a, notify(notifySuccessors, 1), notify(notifySuccessors, 2), notify(notifyRevocation, 3), notify(notifyInstance, 4), notify(40999, 5))
	p.run(time.Second)
	if got := stated(p.b); len(got) != 2 || got[0].Data[0] != 1 || got[1].Data[0] != 3 || p.b.Stats().Counts[BadStatement] != 1 {
		t.Errorf("one there twice: %+v", got)
	}
}

// A btns peer is told which instance this is, by whoever signs; nobody else is.
func TestInstances(t *testing.T) {
	cfg := func(n byte) Config { c := plain(); c.Instance = Instance{n}; return c }
	p := newPair(t, 328, cfg(1), cfg(2))
	a, b := p.connect()
	if x, y := p.sides(a, b); x.Instance != (Instance{2}) || y.Instance != (Instance{1}) {
		t.Fatalf("%v, %v", x.Instance, y.Instance)
	}
	for name, edit := range map[string]func(p *pair){
		"to who is not btns": func(p *pair) { p.b.foreign = true },
		"without a key": func(p *pair) {
			p.a.local, p.b.remote = Local{Method: Null}, Remote{AnyNull: true}
			p.b.local, p.a.remote = Local{Method: Null}, Remote{AnyNull: true}
		},
	} {
		p := newPair(t, 329, cfg(1), cfg(2))
		edit(p)
		heard := p.listen(nil)
		p.connect()
		for _, n := range []*node{p.a, p.b} {
			if _, ok := auth(t, *heard, n).Notify(notifyInstance); ok {
				t.Errorf("%s: %s says which instance it is", name, n.name)
			}
		}
	}
	for name, data := range map[string][]byte{"none": nil, "cut": {1, 2}, "another version": append([]byte{2}, make([]byte, 16)...)} {
		p := newPair(t, 330, cfg(1), cfg(2))
		p.listen(func(ps []wire.Payload) []wire.Payload {
			for i := range ps {
				if v, ok := ps[i].Body.(wire.Notify); ok && v.Type == notifyInstance {
					ps[i] = notify(notifyInstance, data...)
				}
			}
			return ps
		})
		a, b := p.connect()
		if _, y := p.sides(a, b); y.Instance != (Instance{}) || p.b.Stats().Counts[BadStatement] != 1 {
			t.Errorf("%s: %v", name, y.Instance)
		}
	}
}

// FuzzStatement: whatever stands in an authentic notify of any type, only statements within bounds are handed on, and nothing
// but an error ends the IKE SA.
func FuzzStatement(f *testing.F) {
	for _, c := range carriers[1:] {
		f.Add(uint16(c.notify), []byte{1, 1}, false)
		f.Add(uint16(c.notify), make([]byte, 34), true)
	}
	f.Add(uint16(notifyInstance), make([]byte, 17), false)
	f.Fuzz(func(t *testing.T, typ uint16, data []byte, twice bool) {
		if len(data) > 20000 {
			return
		}
		p := newPair(t, 1, plain(), plain())
		p.record = false
		a, _ := p.connect()
		ps := []wire.Payload{notify(wire.NotifyType(typ), data...)}
		if twice {
			ps = append(ps, ps[0])
		}
		p.say(p.a, a, ps...)
		p.run(time.Second)
		for _, s := range stated(p.b) {
			if !s.Kind.fits(s.Data) || !bytes.Equal(s.Data, data) {
				t.Fatalf("%d octets as %d", len(s.Data), s.Kind)
			}
		}
		if len(stated(p.b)) > 1 || len(p.b.up) != 1 && typ >= 16384 {
			t.Fatalf("%d statements, %d IKE SAs", len(stated(p.b)), len(p.b.up))
		}
	})
}

// FuzzInstance: whatever a peer says about its instance, the handshake goes on, and only what can be read is believed.
func FuzzInstance(f *testing.F) {
	f.Add(append([]byte{1}, make([]byte, 16)...), []byte{})
	f.Add([]byte{1, 2}, []byte{1, 2, 3, 4})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, data, spi []byte) {
		if len(data) > 2000 || len(spi) != 0 && len(spi) != 4 {
			return
		}
		cfg := plain()
		cfg.Instance = Instance{1}
		p := newPair(t, 1, cfg, plain())
		p.record = false
		p.listen(func(ps []wire.Payload) []wire.Payload {
			for i := range ps {
				if v, ok := ps[i].Body.(wire.Notify); ok && v.Type == notifyInstance {
					v.Data, v.SPI = data, spi
					if len(spi) > 0 {
						v.Protocol = wire.ProtoESP
					}
					ps[i].Body = v
				}
			}
			return ps
		})
		a, b := p.connect()
		_, y := p.sides(a, b)
		want := Instance{}
		if len(data) == 17 && data[0] == 1 && len(spi) == 0 {
			want = Instance(data[1:])
		}
		if y.Instance != want {
			t.Fatalf("%x of %x", y.Instance, data)
		}
	})
}
