package ikev2

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// prober begins one quick attempt with a host that need not be there, and answers what answer makes of each datagram.
func prober(t *testing.T, local, remote string, quick int, answer func(n int, m wire.Message) *wire.Message) (sent []Send, took time.Duration, down SADown) {
	t.Helper()
	e := New(Config{Encap: true}, chacha(1, 'a'))
	signer, err := identity.NewEd25519(chacha(2, 'a'))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	now := began
	l, r := netip.MustParseAddr(local), netip.MustParseAddr(remote)
	events := []Event{Initiate{
		SA: e.NewHandle(), Local: ap(l, 500), Remote: ap(r, 500), Quick: quick, Encap: true,
		Credential: Local{ID: identity.Null(), Method: Signature, Key: signer, SendKey: true},
		Child: &ChildRequest{
			ID: e.NewChild(), SPI: 0x1000, Local: selector.Set{selector.Host(l)}, Remote: selector.Set{selector.Host(r)},
			Mode: protect.Transport, Offer: []protect.Suite{{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}},
		},
	}}
	for {
		for len(events) > 0 {
			ev := events[0]
			events = events[1:]
			for _, a := range e.Step(now, ev, nil) {
				switch a := a.(type) {
				case Compute:
					a.Job.Run()
					events = append(events, Computed(a))
				case Send:
					sent = append(sent, a)
					m, err := wire.ParseMessage(a.Data)
					if err != nil {
						t.Fatal(err)
					}
					if answer == nil {
						continue
					}
					if back := answer(len(sent), m); back != nil {
						events = append(events, Datagram{Local: a.Local, Remote: a.Remote, Data: back.Append(nil)})
					}
				case SADown:
					return sent, now.Sub(began), a
				}
			}
		}
		at, ok := e.Deadline()
		if !ok || at.Sub(began) > 10*time.Minute {
			t.Fatalf("the attempt does not end: %d datagrams", len(sent))
		}
		now = at
		events = append(events, Tick{})
	}
}

// reply is an unprotected answer to m with one notify.
func reply(m wire.Message, t wire.NotifyType, data ...byte) *wire.Message {
	back := wire.Message{Header: m.Header, Payloads: []wire.Payload{notify(t, data...)}}
	back.Flags = wire.FlagResponse
	return &back
}

// design.md, probing is polite: at most three datagrams of 600 octets to an unknown address, although ML-KEM is offered:
// its value of 1,184 octets travels in IKE_INTERMEDIATE, to hosts that have answered.
func TestFirstDatagramsArePolite(t *testing.T) {
	for _, at := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		sent, took, down := prober(t, at[0], at[1], 3, nil)
		headers := 20 + 8
		if ap(netip.MustParseAddr(at[0]), 0).Addr().Is6() {
			headers = 40 + 8
		}
		size := headers + len(sent[0].Data)
		t.Logf("to %s: %d IP packets of %d octets in %v, then %v", at[1], len(sent), size, took, down.Err)
		if len(sent) != 3 || size > 600 || took > 5*time.Second {
			t.Errorf("%d datagrams of %d octets in %v", len(sent), size, took)
		}
		var e *NoAnswerError
		if !errors.As(down.Err, &e) || e.Sent != 3 || e.Began {
			t.Errorf("ended by %v", down.Err)
		}
	}
}

// An unprotected refusal ends an attempt within seconds (it is not ignored for a minute), but not at once: what is true
// may still come (RFC 7296 §2.4, §2.21). It brings about not one datagram more than silence.
func TestUnprotectedRefusalOfProbe(t *testing.T) {
	for _, n := range []wire.NotifyType{wire.NoProposalChosen, wire.InvalidMajorVersion, wire.AuthenticationFailed, wire.InvalidSyntax} {
		sent, took, down := prober(t, "192.0.2.1", "192.0.2.2", 3, func(_ int, m wire.Message) *wire.Message { return reply(m, n) })
		var e *RefusedError
		if !errors.As(down.Err, &e) || e.Notify != uint16(n) || e.Authenticated {
			t.Errorf("%v: ended by %v", n, down.Err)
		}
		if len(sent) > 3 || took < time.Second || took > 10*time.Second {
			t.Errorf("%v: %d datagrams, %v", n, len(sent), took)
		}
	}
}

// Whoever answers with cookies and other methods for ever cannot make us send for ever: an answer brings about one
// datagram at most, and all that is not answered is counted against the three.
func TestEndlessAnswersToProbe(t *testing.T) {
	for name, answer := range map[string]func(int, wire.Message) *wire.Message{
		"cookies": func(_ int, m wire.Message) *wire.Message { return reply(m, wire.Cookie, make([]byte, 64)...) },
		"methods": func(n int, m wire.Message) *wire.Message {
			k := []suite.KE{suite.X25519, suite.P384, suite.P256}[n%3]
			return reply(m, wire.InvalidKEPayload, byte(k>>8), byte(k))
		},
		"the longest method": func(_ int, m wire.Message) *wire.Message {
			return reply(m, wire.InvalidKEPayload, byte(suite.MODP4096>>8), byte(suite.MODP4096&0xff))
		},
		"the longest cookie, then nothing": func(n int, m wire.Message) *wire.Message {
			if n > 1 {
				return nil
			}
			return reply(m, wire.Cookie, make([]byte, 64)...)
		},
	} {
		sent, _, down := prober(t, "2001:db8::1", "2001:db8::2", 3, answer)
		largest := 0
		for _, s := range sent {
			largest = max(largest, 48+len(s.Data))
		}
		t.Logf("%s: %d datagrams, the largest packet has %d octets; %v", name, len(sent), largest, down.Err)
		if len(sent) > 8 || largest > 700 { // what has answered is not unknown any more; it still gets nothing long
			t.Errorf("%s: %d datagrams, the largest packet has %d octets", name, len(sent), largest)
		}
	}
}
