package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// SA is the Security Association payload (RFC 7296 §3.3): proposals in order of preference.
type SA struct{ Proposals []Proposal }

// Proposal is one proposal substructure (RFC 7296 §3.3.1).
type Proposal struct {
	Number     uint8
	Protocol   Protocol
	Reserved   uint8
	SPI        []byte
	Transforms []Transform
}

// Transform is one transform substructure (RFC 7296 §3.3.2).
type Transform struct {
	Type     TransformType
	ID       uint16
	Reserved [2]byte
	Attrs    []Attribute
}

// Attribute is a transform attribute (RFC 7296 §3.3.5), in the TV form when Long is nil, else in the TLV form.
type Attribute struct {
	Type  uint16 // without the format bit
	Value uint16
	Long  []byte // not nil, but possibly empty, in the TLV form
}

// KeyLength is the only transform attribute in use, in bits.
const KeyLength uint16 = 14

// KeyBits returns the Key Length attribute. known is false when an attribute of another type or form is there: the
// transform cannot be used (RFC 7296 §3.3.6).
func (t Transform) KeyBits() (bits uint16, present, known bool) {
	for _, a := range t.Attrs {
		if a.Type != KeyLength || a.Long != nil || present {
			return 0, false, false
		}
		bits, present = a.Value, true
	}
	return bits, present, true
}

const (
	maxProposals  = 255 // the number is one octet
	proposalLen   = 8
	transformLen  = 8
	lastSubstruct = 0
	moreProposals = 2
	moreTransform = 3
	formatTV      = 0x8000
)

func parseSA(b []byte) (Body, error) {
	var sa SA
	for more := true; more; {
		if len(sa.Proposals) == maxProposals {
			return nil, &Error{"SA", "proposals", ErrTooMany}
		}
		part, rest, last, err := substructure(b, moreProposals, proposalLen, "proposal")
		if err != nil {
			return nil, err
		}
		p, err := parseProposal(part)
		if err != nil {
			return nil, err
		}
		sa.Proposals, b, more = append(sa.Proposals, p), rest, !last
	}
	if len(b) != 0 {
		return nil, &Error{"SA", "last proposal", ErrTrailing}
	}
	return sa, nil
}

// substructure cuts off the first substructure, whose first octet says whether it is the last one.
func substructure(b []byte, more byte, fixed int, what string) (part, rest []byte, last bool, err error) {
	if len(b) < fixed {
		return nil, nil, false, &Error{"SA", what, ErrTruncated}
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case b[0] != lastSubstruct && b[0] != more:
		return nil, nil, false, &Error{"SA", what + " last/more", ErrValue}
	case n < fixed:
		return nil, nil, false, &Error{"SA", what + " length", ErrLength}
	case n > len(b):
		return nil, nil, false, &Error{"SA", what + " length", ErrTruncated}
	case b[1] != 0 && what == "transform":
		return nil, nil, false, &Error{"SA", what + " reserved", ErrValue}
	}
	return b[:n:n], b[n:], b[0] == lastSubstruct, nil
}

func parseProposal(b []byte) (Proposal, error) {
	p := Proposal{Reserved: b[1], Number: b[4], Protocol: Protocol(b[5])}
	size, count := int(b[6]), int(b[7])
	b = b[proposalLen:]
	if size > len(b) {
		return p, &Error{"SA", "SPI", ErrTruncated}
	}
	if size != 0 && size != p.Protocol.spiSize() && p.Protocol <= ProtoESP {
		return p, &Error{"SA", "SPI", ErrSPISize}
	}
	p.SPI, b = b[:size:size], b[size:]
	if count == 0 && len(b) == 0 {
		return p, nil
	}
	if count*transformLen > len(b) {
		return p, &Error{"SA", "transforms", ErrTruncated}
	}
	p.Transforms = make([]Transform, 0, count)
	for i := range count {
		part, rest, last, err := substructure(b, moreTransform, transformLen, "transform")
		if err != nil {
			return p, err
		}
		if last != (i == count-1) {
			return p, &Error{"SA", "transform last/more", ErrValue}
		}
		t, err := parseTransform(part)
		if err != nil {
			return p, err
		}
		p.Transforms, b = append(p.Transforms, t), rest
	}
	if len(b) != 0 {
		return p, &Error{"SA", "last transform", ErrTrailing}
	}
	return p, nil
}

func parseTransform(b []byte) (Transform, error) {
	t := Transform{Type: TransformType(b[4]), Reserved: [2]byte{b[5], 0}, ID: binary.BigEndian.Uint16(b[6:])}
	for b = b[transformLen:]; len(b) > 0; {
		if len(b) < 4 {
			return t, &Error{"SA", "attribute", ErrTruncated}
		}
		kind, value := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		a := Attribute{Type: kind &^ formatTV, Value: value}
		b = b[4:]
		if kind&formatTV == 0 {
			n := int(value)
			if n > len(b) {
				return t, &Error{"SA", "attribute", ErrTruncated}
			}
			a.Value, a.Long, b = 0, b[:n:n], b[n:]
			if a.Long == nil {
				a.Long = []byte{}
			}
		}
		t.Attrs = append(t.Attrs, a)
	}
	return t, nil
}

func (s SA) append(dst []byte) []byte {
	for i, p := range s.Proposals {
		last := byte(moreProposals)
		if i == len(s.Proposals)-1 {
			last = lastSubstruct
		}
		at := len(dst)
		dst = append(dst, last, p.Reserved, 0, 0, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
		dst = append(dst, p.SPI...)
		for j, t := range p.Transforms {
			dst = t.append(dst, j == len(p.Transforms)-1)
		}
		binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	}
	return dst
}

func (t Transform) append(dst []byte, last bool) []byte {
	more := byte(moreTransform)
	if last {
		more = lastSubstruct
	}
	at := len(dst)
	dst = append(dst, more, 0, 0, 0, byte(t.Type), t.Reserved[0])
	dst = binary.BigEndian.AppendUint16(dst, t.ID)
	for _, a := range t.Attrs {
		if a.Long == nil {
			dst = binary.BigEndian.AppendUint16(dst, a.Type|formatTV)
			dst = binary.BigEndian.AppendUint16(dst, a.Value)
			continue
		}
		dst = binary.BigEndian.AppendUint16(dst, a.Type)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Long)))
		dst = append(dst, a.Long...)
	}
	binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	return dst
}

func (s SA) clone() Body {
	s.Proposals = slices.Clone(s.Proposals)
	for i := range s.Proposals {
		p := &s.Proposals[i]
		p.SPI = bytes.Clone(p.SPI)
		p.Transforms = slices.Clone(p.Transforms)
		for j := range p.Transforms {
			t := &p.Transforms[j]
			t.Attrs = slices.Clone(t.Attrs)
			for k := range t.Attrs {
				t.Attrs[k].Long = bytes.Clone(t.Attrs[k].Long)
			}
		}
	}
	return s
}
