package ikev2

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

// Recorded conversations of strongSwan and Libreswan, with all their secrets (testdata/exchanges): one side's packets go into
// our machine, which is given the nonces, SPIs and key exchange results that the other side had. It has to derive the same
// keys, accept every AUTH, and answer what the recorded side answered.

type octs []byte

func (o *octs) UnmarshalText(b []byte) (err error) {
	*o, err = hex.DecodeString(string(b))
	return err
}

type recorded struct {
	Name     string
	Peers    []string
	IKESuite struct {
		Encr    protect.Encr
		KeyBits uint16 `json:"key_bits"`
		Integ   protect.Integ
		PRF     suite.PRF
		KE      suite.KE
		AddKE   suite.KE `json:"addke1"`
	} `json:"ike_suite"`
	IKESAs []struct {
		SPIi        octs `json:"spi_i"`
		SPIr        octs `json:"spi_r"`
		KESecret    octs `json:"ke_secret"`
		AddKESecret octs `json:"add_ke_secret"`
		Nonces      octs
		D           octs `json:"sk_d"`
		Ai          octs `json:"sk_ai"`
		Ar          octs `json:"sk_ar"`
		Ei          octs `json:"sk_ei"`
		Er          octs `json:"sk_er"`
	} `json:"ike_sas"`
	ChildSAs []struct {
		KESecret octs `json:"ke_secret"`
		AddKE    octs `json:"add_ke_secret"`
		Seed     octs
		EncrI    octs `json:"encr_i"`
		EncrR    octs `json:"encr_r"`
		IntegI   octs `json:"integ_i"`
		SPIFromI octs `json:"spi_from_i"`
		SPIFromR octs `json:"spi_from_r"`
	} `json:"child_sas"`
	PSK        octs
	PublicKeys map[string]octs `json:"public_keys"`
	Packets    []struct {
		N            int
		Kind         string
		UDP          octs
		Src, Dst     netip.AddrPort
		IKESA        *int  `json:"ike_sa"`
		Fragment     []int `json:"fragment"`
		SKPlaintext  octs  `json:"sk_plaintext"`
		FirstPayload byte  `json:"first_payload"`
		Reassembled  octs
		Retransmit   bool `json:"retransmission"`
	}
}

// said is one IKE message of a recording.
type said struct {
	wire.Message
	n       int
	src     netip.AddrPort
	dst     netip.AddrPort
	raw     [][]byte // datagrams; several when in fragments
	ours    bool
	retrans bool
}

func (m said) key() string {
	return fmt.Sprintf("%x/%x %v %d response=%v initiator=%v", m.SPIi, m.SPIr, m.Exchange, m.MessageID, m.Response(), m.Initiator())
}

// fixed is entropy that yields the recorded values by their lengths, in their order, and then something else.
type fixed struct {
	spis, nonces [][]byte
	rest         io.Reader
}

func (f *fixed) Read(b []byte) (int, error) {
	q := &f.nonces
	if len(b) == 8 {
		q = &f.spis
	}
	if (len(b) == 8 || len(b) == 32) && len(*q) > 0 {
		n := copy(b, (*q)[0])
		*q = (*q)[1:]
		return n, nil
	}
	return f.rest.Read(b)
}

type replay struct {
	t       *testing.T
	x       recorded
	msgs    []said
	n       *node
	now     time.Time
	entropy *fixed
	spis    []uint32           // of our children, in order
	secrets map[string][2]octs // the other side's public value: ours, and the shared secret
	sent    map[string][]Send  // by key
	grants  map[string]*said   // our recorded answer to a request for a child, by its TSi, TSr and message ID
	asked   *said              // request being worked on
}

func loadReplay(t *testing.T, file string) *replay {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "exchanges", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	r := &replay{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), secrets: map[string][2]octs{}, sent: map[string][]Send{}}
	if err := json.Unmarshal(b, &r.x); err != nil {
		t.Fatal(err)
	}
	return r
}

// read turns packets into messages with their inner payloads. side is the address that we play; INIT rounds before the one
// that counts are left out, since cookies and first tries cannot be chosen.
func (r *replay) read(side string, from, to int) {
	r.t.Helper()
	var parts [][]byte
	for _, p := range r.x.Packets {
		if p.Kind != "ike" || p.N < from || to > 0 && p.N >= to {
			continue
		}
		raw := []byte(p.UDP)
		if p.Src.Port() == 4500 || p.Dst.Port() == 4500 {
			raw = raw[4:]
		}
		parts = append(parts, raw)
		if len(p.Fragment) == 2 && p.Fragment[0] < p.Fragment[1] {
			continue
		}
		m, err := wire.ParseMessage(raw)
		if err != nil {
			r.t.Fatal(p.N, err)
		}
		if p.IKESA != nil {
			plain := []byte(p.SKPlaintext)
			if len(p.Reassembled) > 0 {
				plain = p.Reassembled
			} else {
				plain = plain[:len(plain)-1-int(plain[len(plain)-1])]
			}
			if m.Payloads, err = wire.ParsePayloads(wire.PayloadType(p.FirstPayload), plain); err != nil {
				r.t.Fatal(p.N, err)
			}
		}
		r.msgs = append(r.msgs, said{m, p.N, p.Src, p.Dst, parts, strings.HasPrefix(p.Src.Addr().String(), side), p.Retransmit})
		parts = nil
	}
}

// prepare collects what our side drew and computed.
func (r *replay) prepare() {
	r.entropy = &fixed{rest: chacha(1, 1)}
	requests := map[string]said{}
	var lastNi, lastNr []byte
	for _, m := range r.msgs {
		k := fmt.Sprintf("%x %v %d %v", m.SPIi, m.Exchange, m.MessageID, m.Initiator() != m.Response())
		if !m.Response() {
			requests[k] = m
		}
		nonce, hasNonce := wire.Find[wire.Nonce](m.Message, wire.PayloadNonce)
		sa, hasSA := wire.Find[wire.SA](m.Message, wire.PayloadSA)
		if m.ours && !m.retrans {
			switch {
			case m.Exchange == wire.IKESAInit && m.Response():
				r.entropy.spis = append(r.entropy.spis, spi64(m.SPIr))
			case m.Exchange == wire.IKESAInit:
				r.entropy.spis = append(r.entropy.spis, spi64(m.SPIi))
			case hasSA && sa.Proposals[0].Protocol == wire.ProtoIKE:
				r.entropy.spis = append(r.entropy.spis, sa.Proposals[0].SPI)
			}
			if hasNonce {
				r.entropy.nonces = append(r.entropy.nonces, nonce.Data)
			}
		}
		if !m.Response() {
			continue
		}
		request := requests[k]
		ours, okA := wire.Find[wire.KE](request.Message, wire.PayloadKE)
		theirs, okB := wire.Find[wire.KE](m.Message, wire.PayloadKE)
		if n, ok := wire.Find[wire.Nonce](request.Message, wire.PayloadNonce); ok && hasNonce {
			lastNi, lastNr = n.Data, nonce.Data
		}
		if !okA || !okB {
			continue
		}
		secret := r.secretOf(m.Exchange, lastNi, lastNr)
		if m.ours {
			r.secrets[string(ours.Data)] = [2]octs{theirs.Data, secret}
		} else {
			r.secrets[string(theirs.Data)] = [2]octs{nil, secret}
		}
	}
}

func (r *replay) secretOf(x wire.ExchangeType, ni, nr []byte) octs {
	nonces := slices.Concat(ni, nr)
	for i, s := range r.x.IKESAs {
		if !bytes.Equal(s.Nonces, nonces) {
			continue
		}
		switch x {
		case wire.IKEIntermediate:
			return r.x.IKESAs[i+1].KESecret
		case wire.IKEFollowupKE:
			return s.AddKESecret
		}
		return s.KESecret
	}
	for _, c := range r.x.ChildSAs {
		if bytes.Contains(c.Seed, nonces) {
			if x == wire.IKEFollowupKE {
				return c.AddKE
			}
			return c.KESecret
		}
	}
	return nil
}

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
				queue = append(queue, Computed{a.Job})
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

// open decrypts what we sent with the recorded keys of the IKE SA: ours have to be the same.
func (r *replay) open(s Send) (wire.Message, bool) {
	m, err := wire.ParseMessage(s.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	if m.Exchange == wire.IKESAInit {
		return m, true
	}
	sk, err := locate(s.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range r.x.IKESAs {
		if binary.BigEndian.Uint64(k.SPIi) != m.SPIi {
			continue
		}
		encr, integ := k.Er, k.Ar
		if m.Initiator() {
			encr, integ = k.Ei, k.Ai
		}
		key, err := r.suite().New(encr, integ)
		if err != nil {
			r.t.Fatal(err)
		}
		plain, _, err := key.Open(nil, s.Data[:sk.head], s.Data[sk.head:])
		if err != nil {
			continue // of another generation
		}
		if m.Payloads, err = wire.ParsePayloads(sk.first, plain); err != nil {
			r.t.Fatal(err)
		}
		return m, true
	}
	return m, false
}

// compare holds what we sent against the recorded message, as far as both mean the same.
func (r *replay) compare(want said) {
	list := r.sent[want.key()]
	if len(list) == 0 {
		r.t.Errorf("packet %d: we did not send %s", want.n, want.key())
		return
	}
	if len(list) > 1 || len(want.raw) > 1 {
		return // fragments of either side
	}
	got, ok := r.open(list[0])
	if !ok {
		r.t.Errorf("packet %d: what we sent does not open with the recorded keys", want.n)
		return
	}
	if a, b := errorOf(&got), errorOf(&want.Message); a != b {
		r.t.Errorf("packet %d: we say %v, recorded is %v", want.n, a, b)
	}
	for _, t := range []wire.PayloadType{wire.PayloadSA, wire.PayloadNonce, wire.PayloadKE, wire.PayloadTSi, wire.PayloadTSr, wire.PayloadDelete} {
		a, hasA := got.First(t)
		b, hasB := want.First(t)
		if hasA != hasB {
			r.t.Errorf("packet %d: payload %v: ours %v, recorded %v", want.n, t, hasA, hasB)
			continue
		}
		if !hasA || t == wire.PayloadKE && !want.Response() || t == wire.PayloadSA && !want.Response() {
			continue
		}
		x, y := wire.AppendPayloads(nil, []wire.Payload{a}), wire.AppendPayloads(nil, []wire.Payload{b})
		if t == wire.PayloadSA { // transforms have no order
			x, y = sortedSA(a.Body.(wire.SA)), sortedSA(b.Body.(wire.SA))
		}
		if !bytes.Equal(x, y) {
			r.t.Errorf("packet %d: %v:\nours     %x\nrecorded %x", want.n, t, x, y)
		}
	}
	for _, t := range []wire.NotifyType{wire.UseTransportMode, wire.RekeySA} {
		if hasNotify(&got, t) != hasNotify(&want.Message, t) {
			r.t.Errorf("packet %d: %v: ours %v", want.n, t, hasNotify(&got, t))
		}
	}
}

func sortedSA(sa wire.SA) []byte {
	p := sa.Proposals[0]
	p.Transforms = slices.SortedFunc(slices.Values(p.Transforms), func(a, b wire.Transform) int { return int(a.Type) - int(b.Type) })
	return wire.AppendPayloads(nil, []wire.Payload{payload(wire.PayloadSA, wire.SA{Proposals: []wire.Proposal{p}})})
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
		if ok && n.follow != nil {
			n.follow.blob = v.Data
		}
		if ok && n.followChild != nil {
			n.followChild.blob = v.Data
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
		{"ss6-mobike-update", both[1:], 0, 6}, // MOBIKE is not spoken here
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
