package ikev2

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	secrets map[string][2]octs // the other side's public value: ours, and the shared secret
	sent    map[string][]Send  // by key
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
