package ikev2

import (
	"encoding/binary"
	"slices"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

const (
	snShort    = 0 // 32-bit sequence numbers
	snExtended = 1
)

// espSA is an offer for a child. Suites that differ in nothing but the AEAD cipher share a proposal. kes is nil in IKE_AUTH,
// where the child takes its keys from the exchange of the IKE SA (RFC 7296 §1.2).
func espSA(offer []protect.Suite, kes []uint16, spi uint32) wire.SA {
	var sa wire.SA
	for i, s := range offer {
		t := encrTransform(s.Encr, s.KeyBits)
		if i > 0 && shares(offer[i-1], s) {
			p := &sa.Proposals[len(sa.Proposals)-1]
			n := 1 + slices.IndexFunc(p.Transforms, func(t wire.Transform) bool { return t.Type != wire.TransformENCR })
			p.Transforms = slices.Insert(p.Transforms, n-1, t)
			continue
		}
		p := wire.Proposal{Number: uint8(len(sa.Proposals) + 1), Protocol: wire.ProtoESP, SPI: spi32(spi)}
		p.Transforms = append(p.Transforms, t)
		if s.Integ != protect.NoInteg {
			p.Transforms = append(p.Transforms, transform(wire.TransformINTEG, uint16(s.Integ)))
		}
		for _, k := range kes {
			p.Transforms = append(p.Transforms, transform(wire.TransformKE, k))
		}
		if s.ESN {
			p.Transforms = append(p.Transforms, transform(wire.TransformSN, snExtended))
		}
		p.Transforms = append(p.Transforms, transform(wire.TransformSN, snShort))
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa
}

func shares(a, b protect.Suite) bool {
	return a.Encr.AEAD() && b.Encr.AEAD() && a.ESN == b.ESN
}

// chosenESP is what a responder takes of an offer for a child, and what an initiator gets.
type chosenESP struct {
	protect.Suite
	ke       suite.KE
	hadKE    bool // the offer has the type, so that the answer does
	hadInteg bool
	add      []wire.Transform // the ADDKE types of the offer, each with what was chosen, NONE included (RFC 9370)
	number   uint8
	spi      uint32
}

var espTypes = append([]wire.TransformType{wire.TransformINTEG, wire.TransformSN}, ikeTypes...)

// further is the additional key exchanges to come, in order.
func (c chosenESP) further() (ks []suite.KE) {
	for _, t := range c.add {
		if t.ID != 0 {
			ks = append(ks, suite.KE(t.ID))
		}
	}
	return ks
}

// chooseESP takes the first offered proposal that fits a suite of ours. ke is the method of the KE payload, NoKE without
// one; kes are those that we accept, nil for none demanded. In IKE_AUTH (auth) KE transforms are ignored.
func chooseESP(offer wire.SA, ours []protect.Suite, ke suite.KE, kes []uint16, auth bool) (c chosenESP, ok bool) {
	for _, p := range offer.Proposals {
		if p.Protocol != wire.ProtoESP || len(p.SPI) != 4 {
			continue
		}
		m, known := byType(p, espTypes...)
		if !known || len(m[wire.TransformPRF]) > 0 || len(m[wire.TransformENCR]) == 0 || len(m[wire.TransformSN]) == 0 {
			continue // a type that we do not know, or without a mandatory one
		}
		for _, own := range ours {
			if c, ok = matchESP(m, own); !ok {
				continue
			}
			if auth {
				c.hadKE, c.add = false, nil
			} else if !c.matchAddKE(m) {
				continue
			} else if c.ke, ok = matchKE(m[wire.TransformKE], ke, kes); !ok {
				continue
			}
			c.number, c.spi = p.Number, binary.BigEndian.Uint32(p.SPI)
			return c, true
		}
	}
	return c, false
}

// matchAddKE takes the first method of every ADDKE type that we can do.
func (c *chosenESP) matchAddKE(m map[wire.TransformType][]wire.Transform) bool {
	for n := range 7 {
		x := wire.TransformADDKE1 + wire.TransformType(n)
		if len(m[x]) == 0 {
			continue
		}
		id, ok := firstID(m[x], func(id uint16) bool {
			return id == 0 || suite.KE(id).Supported() && !slices.Contains(c.further(), suite.KE(id))
		})
		if !ok {
			return false
		}
		c.add = append(c.add, transform(x, id))
	}
	return true
}

func matchESP(m map[wire.TransformType][]wire.Transform, own protect.Suite) (c chosenESP, ok bool) {
	c.Suite = own
	c.hadKE = len(m[wire.TransformKE]) > 0
	c.hadInteg = len(m[wire.TransformINTEG]) > 0
	ok = slices.ContainsFunc(m[wire.TransformENCR], func(t wire.Transform) bool {
		x, valid := encryptionOf(t)
		return valid && x == Encryption{own.Encr, own.KeyBits}
	})
	if !ok {
		return c, false
	}
	if _, ok = matchInteg(m[wire.TransformINTEG], own.Encr, []protect.Integ{own.Integ}); !ok {
		return c, false
	}
	sn := func(v uint16) bool {
		_, found := firstID(m[wire.TransformSN], func(id uint16) bool { return id == v })
		return found
	}
	switch {
	case own.ESN && sn(snExtended):
	case sn(snShort):
		c.ESN = false
	default:
		return c, false
	}
	return c, true
}

// matchKE settles the key exchange of a child. With none demanded the offered NONE, or one that we can do, is taken.
func matchKE(offered []wire.Transform, ke suite.KE, kes []uint16) (suite.KE, bool) {
	if len(offered) == 0 {
		return suite.NoKE, len(kes) == 0 || slices.Contains(kes, 0)
	}
	takes := func(id uint16) bool {
		if len(kes) == 0 {
			return id == 0 || suite.KE(id).Supported() && !suite.KE(id).KEM()
		}
		return slices.Contains(kes, id)
	}
	if id, ok := firstID(offered, func(id uint16) bool { return id == uint16(ke) && takes(id) }); ok && ke != suite.NoKE {
		return suite.KE(id), true
	}
	id, ok := firstID(offered, takes)
	return suite.KE(id), ok
}

// answerSA is the one proposal that says what was chosen.
func (c chosenESP) answerSA(spi uint32) wire.SA {
	p := wire.Proposal{Number: c.number, Protocol: wire.ProtoESP, SPI: spi32(spi)}
	p.Transforms = append(p.Transforms, encrTransform(c.Encr, c.KeyBits))
	if c.hadInteg {
		p.Transforms = append(p.Transforms, transform(wire.TransformINTEG, uint16(c.Integ)))
	}
	if c.hadKE {
		p.Transforms = append(p.Transforms, transform(wire.TransformKE, uint16(c.ke)))
	}
	sn := uint16(snShort)
	if c.ESN {
		sn = snExtended
	}
	p.Transforms = append(append(p.Transforms, transform(wire.TransformSN, sn)), c.add...)
	return wire.SA{Proposals: []wire.Proposal{p}}
}

// acceptESP checks that an answer is a choice from our offer (RFC 7296 §3.3.6).
func acceptESP(answer wire.SA, offer []protect.Suite, kes []uint16) (c chosenESP, ok bool) {
	if len(answer.Proposals) != 1 {
		return c, false
	}
	p := answer.Proposals[0]
	sent := espSA(offer, kes, 0).Proposals
	if p.Protocol != wire.ProtoESP || len(p.SPI) != 4 || p.Number == 0 || int(p.Number) > len(sent) {
		return c, false
	}
	m, known := byType(p, espTypes...)
	if !known || !single(m) || len(m[wire.TransformENCR]) != 1 || len(m[wire.TransformSN]) != 1 {
		return c, false
	}
	c.spi = binary.BigEndian.Uint32(p.SPI)
	for _, t := range p.Transforms { // each must have been offered in that very proposal
		if t.Type == wire.TransformINTEG && t.ID == 0 {
			continue // the absence of INTEG, in words
		}
		if !slices.ContainsFunc(sent[p.Number-1].Transforms, func(o wire.Transform) bool {
			return o.Type == t.Type && o.ID == t.ID && o.KeyBits == t.KeyBits && t.Attrs == nil
		}) {
			return c, false
		}
		switch t.Type {
		case wire.TransformENCR:
			x, _ := encryptionOf(t)
			c.Encr, c.KeyBits = x.Encr, x.KeyBits
		case wire.TransformINTEG:
			c.Integ = protect.Integ(t.ID)
		case wire.TransformKE:
			c.ke = suite.KE(t.ID)
		case wire.TransformSN:
			c.ESN = t.ID == snExtended
		}
	}
	if len(kes) > 0 && !slices.Contains(kes, 0) && c.ke == suite.NoKE {
		return c, false
	}
	return c, c.Valid() == nil && c.spi != 0
}
