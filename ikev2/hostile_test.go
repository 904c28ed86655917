package ikev2

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// seal makes a message under the keys of n, which holds the SA with handle h: what an authentic but broken peer sends.
func (p *pair) seal(n *node, h Handle, x wire.ExchangeType, id uint32, response bool, ps ...wire.Payload) Send {
	p.t.Helper()
	s := n.sessions[h].current
	data, err := n.Endpoint.seal(s, s.header(x, id, response), s.path, ps)
	if err != nil {
		p.t.Fatal(err)
	}
	return Send{s.local, s.remote, data[0]}
}

func (p *pair) inject(from *node, s Send) {
	p.fly(p.other(from), Datagram{Local: s.Remote, Remote: s.Local, Data: s.Data})
}

// opened decrypts what n sends under the SA with handle h.
func (p *pair) opened(n *node, h Handle, s Send) wire.Message {
	p.t.Helper()
	m, err := wire.ParseMessage(s.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	sk, err := locate(s.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	var current *sa
	for _, x := range n.bySPI {
		if x.session.handle == h {
			current = x
		}
	}
	plain, _, err := current.in.Open(nil, s.Data[:sk.head], s.Data[sk.head:])
	if err != nil {
		p.t.Fatal(err)
	}
	if m.Payloads, err = wire.ParsePayloads(sk.first, plain); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// RFC 7296 §2.21.3: in an established IKE SA every bad request with the expected ID gets an error, and INVALID_SYNTAX ends
// the SA on both sides; §2.5: an unknown critical payload fails the request and nothing else.
func TestBadRequests(t *testing.T) {
	unknown := wire.Payload{Type: 200, Critical: true, Body: wire.Unknown{Data: []byte{1}}}
	plainUnknown := wire.Payload{Type: 200, Body: wire.Unknown{Data: []byte{1}}}
	sa := payload(wire.PayloadSA, espSA(newNode(t, "x", plain(), chacha(9, 9)).offer, nil, 7))
	for _, c := range []struct {
		name  string
		x     wire.ExchangeType
		ps    []wire.Payload
		want  wire.NotifyType // 0: an empty answer
		fatal bool
	}{
		{"second IKE_AUTH", wire.IKEAuth, nil, wire.InvalidSyntax, true},
		{"unknown exchange", 99, nil, wire.InvalidSyntax, true},
		{"IKE_SESSION_RESUME", wire.IKESessionResume, nil, wire.InvalidSyntax, true},
		{"IKE_INTERMEDIATE", wire.IKEIntermediate, []wire.Payload{keOf(31, make([]byte, 32))}, wire.InvalidSyntax, true},
		{"CREATE_CHILD_SA without SA", wire.CreateChildSA, []wire.Payload{nonceOf(make([]byte, 32))}, wire.InvalidSyntax, true},
		{"CREATE_CHILD_SA without nonce", wire.CreateChildSA, []wire.Payload{sa}, wire.InvalidSyntax, true},
		{"CREATE_CHILD_SA without selectors", wire.CreateChildSA, []wire.Payload{sa, nonceOf(make([]byte, 32))}, wire.InvalidSyntax, true},
		{"SA twice", wire.CreateChildSA, []wire.Payload{sa, sa, nonceOf(make([]byte, 32))}, wire.InvalidSyntax, true},
		{"IKE_FOLLOWUP_KE of nothing", wire.IKEFollowupKE, []wire.Payload{keOf(36, make([]byte, 100)), notify(wire.AdditionalKeyExchange, 1)}, wire.StateNotFound, false},
		{"unknown critical payload", wire.Informational, []wire.Payload{unknown}, wire.UnsupportedCriticalPayload, false},
		{"unknown payload", wire.Informational, []wire.Payload{plainUnknown}, 0, false},
		{"unknown error notify in a request", wire.Informational, []wire.Payload{notify(77)}, 0, false},
		{"SET_WINDOW_SIZE", wire.Informational, []wire.Payload{notify(wire.SetWindowSize, 0, 0, 0, 8)}, 0, false},
		{"delete of an unknown child", wire.Informational, []wire.Payload{payload(wire.PayloadDelete, wire.Delete{Protocol: wire.ProtoESP, SPIs: []uint32{0xdead}})}, 0, false},
		{"delete of AH", wire.Informational, []wire.Payload{payload(wire.PayloadDelete, wire.Delete{Protocol: wire.ProtoAH, SPIs: []uint32{0xdead}})}, 0, false},
		{"rekey of an unknown child", wire.CreateChildSA, []wire.Payload{
			notifyChild(wire.RekeySA, 0xdead), sa, nonceOf(make([]byte, 32)), mustTS(wire.PayloadTSi), mustTS(wire.PayloadTSr),
		}, wire.ChildSANotFound, false},
	} {
		p := newPair(t, 90, plain(), plain())
		a, b := p.connect()
		s := p.seal(p.a, a, c.x, p.a.sessions[a].current.nextOwn, false, c.ps...)
		var answers []Send
		p.carry = func(_ *node, s Send) []Send { answers = append(answers, s); return nil }
		p.inject(p.a, s)
		p.run(100 * time.Millisecond)
		if len(answers) != 1 {
			t.Errorf("%s: %d answers", c.name, len(answers))
			continue
		}
		if m := p.opened(p.a, a, answers[0]); errorOf(&m) != c.want || !m.Response() || m.Exchange != c.x {
			t.Errorf("%s: answered %v", c.name, m)
		}
		if _, up := p.b.up[b]; up == c.fatal {
			t.Errorf("%s: up is %v", c.name, up)
		}
		p.inject(p.a, s) // again: the same octets (RFC 7296 §2.1)
		p.run(100 * time.Millisecond)
		if len(answers) != 2 || string(answers[0].Data) != string(answers[1].Data) {
			t.Errorf("%s: the repetition is answered otherwise", c.name)
		}
		p.log = nil
	}
}

func mustTS(t wire.PayloadType) wire.Payload {
	return payload(t, wire.TS{Selectors: []wire.TrafficSelector{{Type: wire.TSIPv4Range, EndPort: 65535, Start: addrA, End: addrA}}})
}

// RFC 7296 §2.3, §2.2: old, future and foreign message IDs change nothing and get no answer.
func TestStaleIDs(t *testing.T) {
	p := newPair(t, 91, plain(), plain())
	var all []Send
	var from []*node
	p.carry = func(n *node, s Send) []Send { all, from = append(all, s), append(from, n); return []Send{s} }
	a, _ := p.connect()
	for range 4 {
		p.step(p.a, CheckAlive{a})
		p.run(time.Second)
	}
	before, _ := p.b.View(1)
	sent := p.sent
	p.carry = nil
	for i, s := range all[:len(all)-2] {
		p.inject(from[i], s)
	}
	p.inject(p.a, p.seal(p.a, a, wire.Informational, 9, false))
	p.inject(p.a, p.seal(p.a, a, wire.Informational, 0, true))
	p.run(time.Second)
	if after, _ := p.b.View(1); after.NextOwn != before.NextOwn || after.NextPeer != before.NextPeer || p.sent != sent {
		t.Errorf("%+v became %+v, %d answers", before, after, p.sent-sent)
	}
	p.inject(p.a, all[len(all)-2]) // the very last request
	p.run(time.Second)
	if p.sent != sent+1 {
		t.Error("the last request again is answered again")
	}
}

// Whatever bit is flipped and wherever a message is cut, nothing happens but counting (RFC 7296 §2.21, ikev2.md §12).
func TestTampering(t *testing.T) {
	p := newPair(t, 92, plain(), plain())
	hostile := 0
	p.carry = func(from *node, s Send) []Send {
		to := p.other(from)
		first := wire.ExchangeType(s.Data[18]) == wire.IKESAInit
		for i := 0; i < len(s.Data)*8; i += 5 {
			if first {
				break // not authentic yet: a changed message is just another message
			}
			bad := append([]byte(nil), s.Data...)
			bad[i/8] ^= 1 << (i % 8)
			hostile++
			p.hit(to, Datagram{s.Remote, s.Local, bad})
		}
		for n := range s.Data {
			p.hit(to, Datagram{s.Remote, s.Local, s.Data[:n]})
		}
		return []Send{s}
	}
	a, b := p.connect()
	p.step(p.a, RekeyChild{p.a.one(t).Child})
	p.run(time.Second)
	p.step(p.b, RekeySA{b})
	p.run(time.Second)
	p.step(p.a, CheckAlive{a})
	p.run(time.Second)
	p.carry = nil
	p.run(time.Minute)
	p.settled("after tampering")
	if hostile < 1000 {
		t.Errorf("only %d", hostile)
	}
}

// hit delivers a datagram at once and drops all answers.
func (p *pair) hit(n *node, d Datagram) {
	for _, a := range n.Step(p.now, d, nil) {
		switch a := a.(type) {
		case Send, Notice, Heard:
		default:
			p.t.Fatalf("a hostile datagram brought about %T %+v", a, a)
		}
	}
	p.invariants(n)
}

// RFC 7296 §2.4, §2.21.1: unprotected errors to IKE_SA_INIT may be forged: the initiator waits on for a good answer.
func TestForgedInitErrors(t *testing.T) {
	p := newPair(t, 93, plain(), plain())
	p.carry = func(from *node, s Send) []Send {
		h, _ := wire.ParseHeader(s.Data)
		if from == p.a && h.Exchange == wire.IKESAInit {
			for _, n := range []wire.Payload{
				notify(wire.NoProposalChosen), notify(wire.InvalidSyntax), notify(wire.AuthenticationFailed), notify(500),
				notify(wire.InvalidKEPayload, 0, 1), notify(wire.InvalidKEPayload, 0, 31), notify(wire.InvalidKEPayload), notify(wire.Cookie),
			} {
				m := wire.Message{Header: h, Payloads: []wire.Payload{n}}
				m.Flags = wire.FlagResponse
				m.SPIr = 5 // normally zero, but not to be rejected for that
				p.fly(p.a, Datagram{s.Local, s.Remote, m.Append(nil)})
			}
			s.Data = append([]byte(nil), s.Data...)
			return []Send{s}
		}
		return []Send{s}
	}
	p.delay = 5 * time.Millisecond
	p.connect()
	// Alone they end the attempt, after a while.
	p = newPair(t, 94, plain(), plain())
	p.b.cfg.IKE = DefaultProposals(true)[2:]
	p.a.cfg.IKE = DefaultProposals(true)[1:2]
	p.step(p.a, p.initiation(p.a))
	p.run(time.Minute)
	if len(p.a.down) != 1 {
		t.Fatal("no end")
	}
	var r *RefusedError
	if !errors.As(p.a.down[0].Err, &r) || r.Authenticated || r.Notify != uint16(wire.NoProposalChosen) {
		t.Errorf("%v", p.a.down[0].Err)
	}
}

// Endless cookies and methods do not keep an initiator busy (RFC 7296 §2.6.1).
func TestRetryLoops(t *testing.T) {
	p := newPair(t, 95, plain(), plain())
	n := byte(0)
	p.carry = func(from *node, s Send) []Send {
		h, _ := wire.ParseHeader(s.Data)
		n++
		m := wire.Message{Header: h, Payloads: []wire.Payload{notify(wire.Cookie, n)}}
		if n%2 == 0 {
			m.Payloads = []wire.Payload{notify(wire.InvalidKEPayload, 0, 19+n/2%2)}
		}
		m.Flags = wire.FlagResponse
		p.fly(p.a, Datagram{s.Local, s.Remote, m.Append(nil)})
		return nil
	}
	p.step(p.a, p.initiation(p.a))
	p.run(100 * time.Millisecond)
	if p.sent > 1+maxCookies+maxOtherKEs {
		t.Errorf("%d first messages", p.sent)
	}
	p.run(10 * time.Minute)
	if len(p.a.down) != 1 || len(p.a.bySPI) != 0 {
		t.Error("no end")
	}
}

// RFC 7296 §2.4, §2.21.4, BTNS-CORE-68: unprotected messages about an SA change nothing; they make us ask, at a limited rate.
func TestHints(t *testing.T) {
	t.Run("BTNS-CORE-68 unprotected messages about an SA change nothing", func(t *testing.T) {
		p := newPair(t, 96, plain(), plain())
		a, _ := p.connect()
		v, _ := p.a.View(a)
		hint := wire.Message{
			Header:   wire.Header{SPIi: v.SPIi, SPIr: v.SPIr, Version: wire.Version2, Exchange: wire.Informational, Flags: wire.FlagResponse, MessageID: v.NextOwn},
			Payloads: []wire.Payload{notify(wire.InvalidIKESPI)},
		}.Append(nil)
		for range 100 {
			p.fly(p.a, Datagram{ap(addrA, 500), ap(addrB, 500), hint})
		}
		p.run(time.Second)
		if len(p.a.up) != 1 || count[Proven](p.a) != 1 {
			t.Errorf("up %d, asked %d times", len(p.a.up), count[Proven](p.a))
		}
	})
}

// What proves nothing gets at most a short, rate-limited answer, never more octets than it had (RFC 7296 §2.5, §2.21.4).
func TestUnprotectedAnswers(t *testing.T) {
	p := newPair(t, 97, plain(), plain())
	var answers []Send
	p.carry = func(_ *node, s Send) []Send { answers = append(answers, s); return nil }
	h := wire.Header{SPIi: 1, SPIr: 2, Version: wire.Version2, Exchange: wire.Informational, Flags: wire.FlagInitiator, MessageID: 3}
	request := append(wire.Message{Header: h}.Append(nil), make([]byte, 40)...)
	binary.BigEndian.PutUint32(request[24:], uint32(len(request)))
	at := func(d []byte) Datagram { return Datagram{ap(addrB, 500), ap(addrA, 500), d} }
	for range 1000 {
		p.step(p.b, at(request))
	}
	if len(answers) == 0 || len(answers) > answersRate {
		t.Fatalf("%d answers to an unknown SPI", len(answers))
	}
	m, err := wire.ParseMessage(answers[0].Data)
	if err != nil || !hasNotify(&m, wire.InvalidIKESPI) || m.SPIi != 1 || m.SPIr != 2 || m.MessageID != 3 || m.Flags != wire.FlagResponse || len(answers[0].Data) > len(request) {
		t.Errorf("%+v %v", m, err)
	}
	p.now = p.now.Add(time.Hour)
	answers = nil
	response := append([]byte(nil), request...)
	response[19] |= wire.FlagResponse
	p.step(p.b, at(response)) // a response: silence
	for _, bad := range []Datagram{
		{ap(addrB, 500), ap(addrA, 0), request},
		{ap(addrB, 500), ap(netip.MustParseAddr("224.0.0.1"), 500), request},
		{ap(addrB, 500), ap(netip.IPv4Unspecified(), 500), request},
		{ap(addrB, 500), ap(addrA, 500), nil},
		{ap(addrB, 500), ap(addrA, 500), request[:27]},
	} {
		p.step(p.b, bad)
	}
	if len(answers) != 0 {
		t.Errorf("%d answers where silence is due", len(answers))
	}
	higher := append([]byte(nil), request...)
	higher[17] = 0x30
	p.step(p.b, at(higher))
	if len(answers) != 1 {
		t.Fatal("a higher major version is not answered")
	}
	if m, _ = wire.ParseMessage(answers[0].Data); !hasNotify(&m, wire.InvalidMajorVersion) || m.Version != wire.Version2 {
		t.Errorf("%+v", m)
	}
	if len(p.b.bySPI)+len(p.b.sessions) != 0 {
		t.Error("state was made")
	}
}

// flood sends first messages of initiators that do not exist.
func (p *pair) flood(n int, from func(i int) netip.Addr) {
	ghost := newPair(p.t, 4711, plain(), plain())
	var first []byte
	ghost.carry = func(_ *node, s Send) []Send { first = s.Data; return nil }
	ghost.step(ghost.a, ghost.initiation(ghost.a))
	for i := range n {
		d := append([]byte(nil), first...)
		binary.BigEndian.PutUint64(d, uint64(i)+1)
		p.step(p.b, Datagram{ap(addrB, 500), ap(from(i), 500), d})
	}
}

// RFC 7296 §2.6, ikev2.md §12: a flood meets a limit by source, then cookies, then a limit in all; when it is over nothing is
// left, and honest peers got through meanwhile.
func TestFlood(t *testing.T) {
	t.Run("BTNS-CORE-63 half-open IKE SAs are limited by source, and cookies are asked for when there are many", func(t *testing.T) {
		cfg := plain()
		cfg.CookieAbove, cfg.MaxHalfOpen, cfg.MaxHalfOpenPerPrefix = 50, 80, 5
		p := newPair(t, 98, plain(), cfg)
		p.carry = func(from *node, s Send) []Send {
			if s.Remote.Addr() == addrA || from == p.a {
				return []Send{s}
			}
			return nil
		}
		spoofed := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
		p.flood(20, func(int) netip.Addr { return spoofed(0) })
		if h := p.b.Stats().HalfOpen; h != 5 {
			t.Errorf("%d half-open of one address", h)
		}
		p.flood(5000, spoofed)
		st := p.b.Stats()
		if st.HalfOpen != 50 || st.Counts[CookieSent] < 4000 {
			t.Errorf("%d half-open, %d cookies", st.HalfOpen, st.Counts[CookieSent])
		}
		p.connect()
		p.b.hold = true
		p.run(time.Minute)
		if h := p.b.Stats().HalfOpen; h != 0 || len(p.b.bySPI) != 1 || len(p.b.front.byPrefix) != 0 {
			t.Errorf("%d half-open, %d SAs, %d prefixes after the flood", h, len(p.b.bySPI), len(p.b.front.byPrefix))
		}
		p.flood(1, spoofed)
		if len(p.b.front.seen) > 2 {
			t.Errorf("%d first messages are remembered", len(p.b.front.seen))
		}
	})
	t.Run("BTNS-CORE-63 half-open IKE SAs, and all of them, are limited", func(t *testing.T) {
		spoofed := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
		for _, c := range []struct {
			halfOpen, sas int
			why           Reason
		}{{20, 1000, TooManyHalfOpen}, {1000, 20, TooManySAs}} {
			cfg := plain()
			cfg.CookieAbove, cfg.MaxHalfOpen, cfg.MaxSAs = 1000, c.halfOpen, c.sas
			p := newPair(t, 98, plain(), cfg)
			p.carry = func(*node, Send) []Send { return nil }
			p.flood(100, spoofed)
			if st := p.b.Stats(); st.HalfOpen != 20 || len(p.b.bySPI) != 20 || st.Counts[c.why] != 80 {
				t.Errorf("%v: %d half-open, %d SAs, %d turned away", c.why, st.HalfOpen, len(p.b.bySPI), st.Counts[c.why])
			}
		}
	})
}

// A repeated first message gets the same answer while the SA is half-open, and makes nothing new (RFC 7296 §2.1).
func TestRepeatedInit(t *testing.T) {
	p := newPair(t, 99, plain(), plain())
	var first Send
	var answers []Send
	p.carry = func(from *node, s Send) []Send {
		if from == p.b {
			answers = append(answers, s)
			return nil
		}
		first = s
		return []Send{s}
	}
	p.step(p.a, p.initiation(p.a))
	p.run(100 * time.Millisecond)
	for range 5 {
		p.inject(p.a, first)
	}
	p.run(100 * time.Millisecond)
	if len(answers) != 6 || len(p.b.bySPI) != 1 {
		t.Fatalf("%d answers, %d SAs", len(answers), len(p.b.bySPI))
	}
	for _, s := range answers {
		if string(s.Data) != string(answers[0].Data) {
			t.Error("another answer")
		}
	}
	p.carry = nil
	p.run(5 * time.Second)
	p.settled("after repetition")
	p.inject(p.a, first)
	p.run(100 * time.Millisecond)
	if len(p.b.bySPI) != 1 {
		t.Error("a late copy made a new SA")
	}
}
