package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

func (r *replay) suite() suite.IKE {
	s := r.x.IKESuite
	out := suite.IKE{Cipher: suite.Cipher{Encr: s.Encr, KeyBits: s.KeyBits, Integ: s.Integ}, PRF: s.PRF, KE: s.KE}
	if s.Encr == protect.ChaCha20Poly1305 {
		out.KeyBits = 256
	}
	if s.AddKE != 0 {
		out.AddKE = []suite.KE{s.AddKE}
	}
	return out
}

// start makes our endpoint.
func (r *replay) start() {
	r.n = newNode(r.t, "we", Config{IKE: []Proposal{ProposalOf(r.suite())}}, chacha(7, 7))
	r.n.rand = r.entropy
	r.n.remote = Remote{PSK: r.x.PSK, AnyNull: strings.Contains(r.x.Name, "null")}
	if r.x.PSK != nil {
		r.n.local = Local{Method: SharedKey, PSK: r.x.PSK}
	}
	if r.n.remote.AnyNull {
		r.n.local = Local{Method: Null}
	}
	r.n.local.Fallback, _ = identity.NewECDSA(chacha(8, 8))
	for _, k := range r.x.PublicKeys {
		key, err := identity.ParsePublicKey(k)
		if err != nil {
			r.t.Fatal(err)
		}
		r.n.remote.Keys = append(r.n.remote.Keys, key)
	}
}

func (r *replay) step(ev Event) {
	queue := []Event{ev}
	for len(queue) > 0 {
		ev, queue = queue[0], queue[1:]
		for _, a := range r.n.Step(r.now, ev, nil) {
			switch a := a.(type) {
			case Send:
				m, err := wire.ParseMessage(a.Data)
				if err != nil {
					r.t.Fatal(err)
				}
				k := said{Message: m}.key()
				r.sent[k] = append(r.sent[k], a)
				continue
			case Compute:
				r.compute(a.Job)
				queue = append(queue, Computed(a))
				continue
			case JudgeChild:
				r.n.acts = append(r.n.acts, a)
				queue = append(queue, r.judge(a))
				continue
			}
			r.n.acts = append(r.n.acts, a)
			r.log(a)
			switch a := a.(type) {
			case FindCredential:
				queue = append(queue, Credential{SA: a.SA, Local: r.n.local, Remote: r.n.remote})
			case JudgePeer:
				queue = append(queue, PeerJudged{SA: a.SA})
			case SAUp:
				r.n.up[a.SA] = a
			case ChildUp:
				r.n.children[a.Child] = a
				r.keys(a)
			case ChildDown:
				delete(r.n.children, a.Child)
			}
		}
	}
}

func (r *replay) log(a Action) { r.t.Logf("      %s", describe(a)) }

// compute gives jobs the recorded results.
func (r *replay) compute(j Job) {
	switch j := j.(type) {
	case *respond:
		v, ok := r.secrets[string(j.peer)]
		if !ok {
			r.t.Fatalf("a key exchange that is not in the recording: %v", j.ke)
		}
		j.public, j.shared = slices.Clone([]byte(v[0])), slices.Clone([]byte(v[1]))
	case *agree:
		v, ok := r.secrets[string(j.peer)]
		if !ok {
			r.t.Fatal("a key exchange that is not in the recording")
		}
		j.shared = slices.Clone([]byte(v[1]))
	default:
		j.Run()
	}
}

// judge grants what the recorded side granted.
func (r *replay) judge(q JudgeChild) ChildJudged {
	v := ChildJudged{SA: q.SA, Child: q.Child, Local: q.Local, Remote: q.Remote, Mode: q.Mode}
	if q.Stage == Answered {
		return v
	}
	m := r.answerTo()
	_, ok := m.First(wire.PayloadSA)
	if t := errorOf(&m.Message); t != 0 && t != wire.InvalidKEPayload {
		v.Refuse = errors.New("refused in the recording")
		return v
	}
	if t := errorOf(&m.Message); t == wire.InvalidKEPayload {
		n, _ := m.Notify(t)
		v.SPI, v.Offer, v.KE = 1, suitesOf(r.asked), []uint16{binary.BigEndian.Uint16(n.Data)}
		return v
	}
	if !ok {
		r.t.Fatalf("%s asks for a child, the recording has no answer", m.key())
	}
	tsi, _ := wire.Find[wire.TS](m.Message, wire.PayloadTSi)
	tsr, _ := wire.Find[wire.TS](m.Message, wire.PayloadTSr)
	v.Local, v.Remote = setOf(tsr), setOf(tsi)
	if q.Stage == Propose {
		v.Local, v.Remote = v.Remote, v.Local
	}
	v.Offer = suitesOf(m)
	if k, ok := wire.Find[wire.KE](m.Message, wire.PayloadKE); ok {
		v.KE = []uint16{k.Method}
	}
	sa, _ := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	v.SPI = binary.BigEndian.Uint32(sa.Proposals[0].SPI)
	return v
}

// suitesOf reads the suites of the first proposal.
func suitesOf(m *said) (out []protect.Suite) {
	sa, _ := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	s := protect.Suite{}
	for _, t := range sa.Proposals[0].Transforms {
		switch t.Type {
		case wire.TransformENCR:
			x, _ := encryptionOf(t)
			s.Encr, s.KeyBits = x.Encr, x.KeyBits
		case wire.TransformINTEG:
			s.Integ = protect.Integ(t.ID)
		case wire.TransformSN:
			s.ESN = t.ID == 1
		}
	}
	return []protect.Suite{s}
}

// answerTo is the recorded message that we have to make now: the answer to the request being worked on, or that request
// itself when it is ours.
func (r *replay) answerTo() *said {
	if r.asked.ours {
		return r.asked
	}
	for i := range r.msgs {
		m := &r.msgs[i]
		if m.ours && m.Response() && m.Exchange == r.asked.Exchange && m.MessageID == r.asked.MessageID && m.SPIi == r.asked.SPIi && m.n > r.asked.n {
			return m
		}
	}
	r.t.Fatalf("no recorded answer to packet %d", r.asked.n)
	return nil
}

// keys checks the keys of a child against the recording, if that has them.
func (r *replay) keys(c ChildUp) {
	for _, k := range r.x.ChildSAs {
		for _, x := range [][2]octs{{k.EncrI, k.EncrR}, {k.EncrR, k.EncrI}} {
			if bytes.Equal(c.KeysIn.Encr, x[0]) && bytes.Equal(c.KeysOut.Encr, x[1]) {
				r.t.Logf("      keys of child %x are those of the recording", c.SPIIn)
				return
			}
		}
	}
	if len(r.x.ChildSAs) > 0 {
		r.t.Errorf("child %x in, %x out has keys that are not in the recording", c.SPIIn, c.SPIOut)
	}
}

// play goes through the recording.
func (r *replay) play() {
	for i := range r.msgs {
		m := &r.msgs[i]
		r.t.Logf("%3d ours=%v %s", m.n, m.ours, m.key())
		r.now = r.now.Add(20 * time.Millisecond)
		switch {
		case !m.ours:
			if !m.Response() {
				r.crossing(i)
				r.asked = m
				r.blob(m)
			}
			for _, raw := range m.raw {
				r.step(Datagram{Local: m.dst, Remote: m.src, Data: append([]byte(nil), raw...)})
			}
		case m.retrans:
		default:
			if !m.Response() && len(r.sent[m.key()]) == 0 {
				r.asked = m
				r.wish(m)
			}
			r.compare(*m)
		}
		if r.t.Failed() {
			r.t.FailNow()
		}
	}
}

// blob gives what we wait for the recorded name (RFC 9370 §2.2.4).
func (r *replay) blob(m *said) {
	v, ok := m.Notify(wire.AdditionalKeyExchange)
	for _, n := range r.n.sessions {
		if ok && n.turn().follow != nil {
			n.turn().follow.blob = v.Data
		}
		if ok && n.turn().followChild != nil {
			n.turn().followChild.blob = v.Data
		}
	}
}

// crossing begins what our side began before it saw request i, as its late answer shows.
func (r *replay) crossing(i int) {
	for j := i + 1; j < len(r.msgs); j++ {
		m := &r.msgs[j]
		if m.ours && m.Response() {
			return
		}
		if m.ours && len(r.sent[m.key()]) == 0 {
			r.asked = m
			r.wish(m)
		}
	}
}

// wish makes us begin what the recorded side began.
func (r *replay) wish(m *said) {
	var h Handle
	for h = range r.n.up {
		break
	}
	sa, hasSA := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	d, hasD := wire.Find[wire.Delete](m.Message, wire.PayloadDelete)
	switch rekey, isRekey := m.Notify(wire.RekeySA); {
	case m.Exchange == wire.IKESAInit:
		r.initiate(m)
	case isRekey:
		spi, _ := rekey.SPI32()
		for id, c := range r.n.children {
			if c.SPIIn == spi {
				r.step(RekeyChild{id})
				return
			}
		}
		r.t.Fatalf("packet %d rekeys %x, which we do not have", m.n, spi)
	case hasSA && sa.Proposals[0].Protocol == wire.ProtoIKE:
		r.step(RekeySA{h})
	case hasSA:
		r.step(CreateChild{h, r.childOf(m)})
	case hasD && d.Protocol == wire.ProtoIKE:
		r.step(DeleteSA{SA: h})
	case hasD:
		for id, c := range r.n.children {
			if c.SPIIn == d.SPIs[0] {
				r.step(DeleteChild{id})
			}
		}
	default:
		r.step(CheckAlive{h})
	}
}

func (r *replay) childOf(m *said) ChildRequest {
	tsi, _ := wire.Find[wire.TS](m.Message, wire.PayloadTSi)
	tsr, _ := wire.Find[wire.TS](m.Message, wire.PayloadTSr)
	c := ChildRequest{ID: r.n.NewChild(), Local: setOf(tsi), Remote: setOf(tsr), Mode: protect.Tunnel, Offer: suitesOf(m)}
	sa, _ := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	c.SPI = binary.BigEndian.Uint32(sa.Proposals[0].SPI)
	if hasNotify(&m.Message, wire.UseTransportMode) {
		c.Mode = protect.Transport
	}
	if k, ok := wire.Find[wire.KE](m.Message, wire.PayloadKE); ok {
		c.KE = []uint16{k.Method}
	}
	return c
}

func (r *replay) initiate(m *said) {
	i := Initiate{SA: r.n.NewHandle(), Local: m.src, Remote: m.dst, Credential: r.n.local, Expect: r.n.remote}
	for k := range r.msgs {
		if a := &r.msgs[k]; a.Exchange == wire.IKEAuth && a.ours {
			r.asked = a
			if _, ok := a.First(wire.PayloadSA); ok {
				c := r.childOf(a)
				i.Child = &c
			}
			break
		}
	}
	r.step(i)
}

func TestReplay(t *testing.T) {
	both := []string{"10.9.0.1", "10.9.0.2"}
	for _, c := range []struct {
		file     string
		sides    []string
		from, to int // packets; 0: to the end
	}{
		{"ss6-ed25519-x25519-aesgcm256", both, 0, 0},
		{"ss6-psk-aescbc-cookie-invalidke", both[1:], 6, 0},
		{"libreswan-null-auth-aesgcm256-x25519", []string{"10.9.0.3", "10.9.0.2"}, 0, 0},
		{"libreswan-psk-aesgcm256-x25519", both, 0, 0},
		{"ss6-auth-failed", both[1:], 0, 0},
		{"ss6-child-rekey-collision", both, 0, 0},
		{"ss6-ike-rekey-collision", both, 0, 0},
		{"ss6-errors-tsunacceptable-noproposal", both, 0, 0},
		{"ss6-ts-narrowing-two-children", both, 0, 0},
		{"ss6-rsapss-childless-transport-ipv6", []string{"fd09::1", "fd09::2"}, 0, 0},
		{"ss6-mobike-update", both[1:], 0, 6},                 // MOBIKE is not spoken here
		{"ss6-mlkem768-hybrid-ecdsa-chacha", both[1:], 0, 36}, // we offer no additional key exchange for children
	} {
		for i, side := range c.sides {
			t.Run(fmt.Sprintf("%s/%d", c.file, i), func(t *testing.T) {
				r := loadReplay(t, c.file)
				r.read(side, c.from, c.to)
				r.prepare()
				r.start()
				if c.file == "ss6-auth-failed" {
					r.n.remote.PSK = []byte("another one")
				}
				r.play()
			})
		}
	}
}
