package ikev2

import (
	"encoding/binary"
	"slices"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

func transform(t wire.TransformType, id uint16) wire.Transform {
	return wire.Transform{Type: t, ID: id}
}

// encrTransform has the Key Length exactly where it belongs (RFC 7296 §3.3.5).
func encrTransform(e protect.Encr, bits uint16) wire.Transform {
	t := transform(wire.TransformENCR, uint16(e))
	if e != protect.ChaCha20Poly1305 {
		t.KeyBits = bits
	}
	return t
}

// encryptionOf reads what encrTransform writes.
func encryptionOf(t wire.Transform) (Encryption, bool) {
	x := Encryption{protect.Encr(t.ID), t.KeyBits}
	if x.Encr == protect.ChaCha20Poly1305 {
		x.KeyBits = 256
		return x, t.KeyBits == 0 && t.Attrs == nil
	}
	return x, t.KeyBits != 0 && t.Attrs == nil
}

// ikeSA is an offer. spi is empty in IKE_SA_INIT.
func ikeSA(ps []Proposal, spi []byte) wire.SA {
	var sa wire.SA
	for i, p := range ps {
		w := wire.Proposal{Number: uint8(i + 1), Protocol: wire.ProtoIKE, SPI: spi}
		for _, x := range p.Encr {
			w.Transforms = append(w.Transforms, encrTransform(x.Encr, x.KeyBits))
		}
		for _, x := range p.PRF {
			w.Transforms = append(w.Transforms, transform(wire.TransformPRF, uint16(x)))
		}
		for _, x := range p.Integ {
			w.Transforms = append(w.Transforms, transform(wire.TransformINTEG, uint16(x)))
		}
		for _, x := range p.KE {
			w.Transforms = append(w.Transforms, transform(wire.TransformKE, uint16(x)))
		}
		for n, ks := range p.AddKE {
			for _, x := range ks {
				w.Transforms = append(w.Transforms, transform(wire.TransformADDKE1+wire.TransformType(n), uint16(x)))
			}
		}
		sa.Proposals = append(sa.Proposals, w)
	}
	return sa
}

// byType sorts the transforms of a proposal; ok is false when it holds a type outside known.
func byType(p wire.Proposal, known ...wire.TransformType) (m map[wire.TransformType][]wire.Transform, ok bool) {
	m = make(map[wire.TransformType][]wire.Transform)
	for _, t := range p.Transforms {
		if !slices.Contains(known, t.Type) {
			return nil, false // RFC 7296 §3.3.6: skip the proposal
		}
		m[t.Type] = append(m[t.Type], t)
	}
	return m, true
}

var ikeTypes = []wire.TransformType{
	wire.TransformENCR, wire.TransformPRF, wire.TransformINTEG, wire.TransformKE,
	wire.TransformADDKE1, wire.TransformADDKE2, wire.TransformADDKE3, wire.TransformADDKE4,
	wire.TransformADDKE5, wire.TransformADDKE6, wire.TransformADDKE7,
}

// chosenIKE is what a responder takes of an offer.
type chosenIKE struct {
	suite.IKE
	number uint8
	spi    []byte
	add    []wire.Transform // the ADDKE types of the offer, each with what was chosen, NONE included
}

// chooseIKE takes the first offered proposal that fits one of ours, in the initiator's order of preference. With a key
// exchange of the method ke it takes that one if it can. further says whether IKE_INTERMEDIATE can carry more of them.
func chooseIKE(offer wire.SA, ours []Proposal, ke suite.KE, further bool, spiLen int) (c chosenIKE, ok bool) {
	for _, p := range offer.Proposals {
		if p.Protocol != wire.ProtoIKE || len(p.SPI) != spiLen {
			continue
		}
		m, known := byType(p, ikeTypes...)
		if !known {
			continue
		}
		for _, own := range ours {
			if c, ok = matchIKE(m, own, ke, further); ok {
				c.number, c.spi = p.Number, p.SPI
				return c, true
			}
		}
	}
	return c, false
}

func matchIKE(m map[wire.TransformType][]wire.Transform, own Proposal, ke suite.KE, further bool) (c chosenIKE, ok bool) {
	for _, t := range m[wire.TransformENCR] {
		if x, valid := encryptionOf(t); valid && slices.Contains(own.Encr, x) {
			c.Encr, c.KeyBits, ok = x.Encr, x.KeyBits, true
			break
		}
	}
	if !ok {
		return c, false
	}
	if c.Integ, ok = matchInteg(m[wire.TransformINTEG], c.Encr, own.Integ); !ok {
		return c, false
	}
	prf, ok := firstID(m[wire.TransformPRF], func(id uint16) bool { return slices.Contains(own.PRF, suite.PRF(id)) })
	if !ok {
		return c, false
	}
	c.PRF = suite.PRF(prf)
	takes := func(id uint16) bool { return slices.Contains(own.KE, suite.KE(id)) }
	method, ok := firstID(m[wire.TransformKE], func(id uint16) bool { return id == uint16(ke) && takes(id) })
	if !ok {
		method, ok = firstID(m[wire.TransformKE], takes)
	}
	c.KE = suite.KE(method)
	return c, ok && c.matchAddKE(m, own, further) && c.Valid() == nil
}

// matchAddKE settles the additional key exchanges (RFC 9370 §2.2.1): every type that is offered is answered, and what we
// want must be there.
func (c *chosenIKE) matchAddKE(m map[wire.TransformType][]wire.Transform, own Proposal, further bool) bool {
	for n := range 7 {
		offered := m[wire.TransformADDKE1+wire.TransformType(n)]
		var want []suite.KE
		if n < len(own.AddKE) {
			want = own.AddKE[n]
		}
		if len(offered) == 0 {
			if len(want) > 0 && !slices.Contains(want, suite.NoKE) {
				return false
			}
			continue
		}
		id, ok := firstID(offered, func(id uint16) bool {
			return id == 0 && (len(want) == 0 || slices.Contains(want, suite.NoKE)) ||
				further && id != 0 && slices.Contains(want, suite.KE(id)) && !slices.Contains(c.AddKE, suite.KE(id)) && suite.KE(id) != c.KE
		})
		if !ok {
			return false
		}
		c.add = append(c.add, transform(wire.TransformADDKE1+wire.TransformType(n), id))
		if id != 0 {
			c.AddKE = append(c.AddKE, suite.KE(id))
		}
	}
	return true
}

func firstID(ts []wire.Transform, good func(uint16) bool) (uint16, bool) {
	for _, t := range ts {
		if t.KeyBits == 0 && t.Attrs == nil && good(t.ID) {
			return t.ID, true
		}
	}
	return 0, false
}

// matchInteg accepts INTEG=NONE beside AEAD (RFC 7296 §3.3.3) and demands something real beside other ciphers.
func matchInteg(offered []wire.Transform, e protect.Encr, own []protect.Integ) (protect.Integ, bool) {
	if e.AEAD() {
		if len(offered) == 0 {
			return protect.NoInteg, true
		}
		_, ok := firstID(offered, func(id uint16) bool { return id == 0 })
		return protect.NoInteg, ok
	}
	id, ok := firstID(offered, func(id uint16) bool { return id != 0 && slices.Contains(own, protect.Integ(id)) })
	return protect.Integ(id), ok
}

// answerSA is the one proposal that says what was chosen: exactly one transform of each type that the offer had.
func (c chosenIKE) answerSA(spi []byte) wire.SA {
	p := ProposalOf(c.IKE)
	p.AddKE = nil
	sa := ikeSA([]Proposal{p}, spi)
	w := &sa.Proposals[0]
	w.Number = c.number
	w.Transforms = append(w.Transforms, c.add...)
	return sa
}

// acceptIKE checks that an answer is a choice from our offer, as the initiator MUST (RFC 7296 §3.3.6).
func acceptIKE(answer wire.SA, offer []Proposal, spiLen int) (s suite.IKE, spi []byte, ok bool) {
	if len(answer.Proposals) != 1 {
		return s, nil, false
	}
	p := answer.Proposals[0]
	if p.Protocol != wire.ProtoIKE || len(p.SPI) != spiLen || int(p.Number) > len(offer) || p.Number == 0 {
		return s, nil, false
	}
	m, known := byType(p, ikeTypes...)
	if !known || !single(m) {
		return s, nil, false
	}
	c, ok := matchIKE(m, offer[p.Number-1], suite.NoKE, true)
	return c.IKE, p.SPI, ok
}

func single(m map[wire.TransformType][]wire.Transform) bool {
	for _, ts := range m {
		if len(ts) != 1 {
			return false
		}
	}
	return true
}

// offersKE reports whether any proposal has the method: what INVALID_KE_PAYLOAD may ask for (RFC 7296 §1.2).
func offersKE(ps []Proposal, k suite.KE) bool {
	return slices.ContainsFunc(ps, func(p Proposal) bool { return slices.Contains(p.KE, k) })
}

func offersAddKE(ps []Proposal) bool {
	return slices.ContainsFunc(ps, func(p Proposal) bool { return len(p.AddKE) > 0 })
}

func spi64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func spi32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
