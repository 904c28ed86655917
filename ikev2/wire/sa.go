package wire

import (
	"encoding/binary"
	"slices"
)

// TransformType is the kind of a transform (RFC 7296 §3.3.2).
type TransformType uint8

// Kinds of transforms.
const (
	TransformENCR   TransformType = 1
	TransformPRF    TransformType = 2
	TransformINTEG  TransformType = 3
	TransformKE     TransformType = 4 // Diffie-Hellman group until RFC 9370
	TransformSN     TransformType = 5 // ESN until RFC 9827
	TransformADDKE1 TransformType = 6 // RFC 9370
	TransformADDKE2 TransformType = 7
	TransformADDKE3 TransformType = 8
	TransformADDKE4 TransformType = 9
	TransformADDKE5 TransformType = 10
	TransformADDKE6 TransformType = 11
	TransformADDKE7 TransformType = 12
)

// SA is the Security Association payload (RFC 7296 §3.3).
type SA struct{ Proposals []Proposal }

// Proposal is one proposal. That the numbers of an offer are 1, 2, 3.. and that of an answer one of the offer's is for
// the receiver to check: the payload does not say which it is.
type Proposal struct {
	Number     uint8
	Reserved   uint8
	Protocol   Protocol
	SPI        []byte
	Transforms []Transform
}

// Transform is one transform of a proposal. Attributes that are anything but one sensible Key Length stand in Attrs, and
// the transform with them has to be skipped (RFC 7296 §3.3.6).
type Transform struct {
	Type     TransformType
	ID       uint16
	KeyBits  uint16  // the Key Length attribute; 0: absent
	Reserved [2]byte // the octets after the marker and after the type
	Attrs    []byte  // attributes in octets as received; nil when KeyBits says all
}

const (
	lastSubstruct  = 0
	moreProposals  = 2
	moreTransforms = 3
	maxProposals   = 255 // they are numbered by an octet

	keyLengthAttr = 0x800e // Key Length in TV form (RFC 7296 §3.3.5)
)

func parseSA(b []byte) (SA, error) {
	const fixed = 8
	var sa SA
	for more := true; more; {
		if len(b) < fixed {
			return SA{}, &Error{"SA", "proposal", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		switch {
		case n < fixed:
			return SA{}, &Error{"SA", "proposal length", ErrLength}
		case n > len(b):
			return SA{}, &Error{"SA", "proposal", ErrTruncated}
		case len(sa.Proposals) == maxProposals:
			return SA{}, &Error{"SA", "proposals", ErrTooMany}
		}
		p, err := parseProposal(b[:n:n])
		if err != nil {
			return SA{}, err
		}
		switch {
		case b[0] == moreProposals && n < len(b):
		case b[0] == lastSubstruct && n == len(b):
			more = false
		default:
			return SA{}, &Error{"SA", "last substruct", ErrMore}
		}
		sa.Proposals, b = append(sa.Proposals, p), b[n:]
	}
	return sa, nil
}

// parseProposal reads the proposal that fills b; b has at least the 8 fixed octets.
func parseProposal(b []byte) (Proposal, error) {
	const fixed, least = 8, 8
	p := Proposal{Number: b[4], Reserved: b[1], Protocol: Protocol(b[5])}
	size, count := int(b[6]), int(b[7])
	b = b[fixed:]
	if size > len(b) {
		return Proposal{}, &Error{"SA", "SPI", ErrTruncated}
	}
	p.SPI, b = b[:size:size], b[size:]
	if err := p.checkHead(); err != nil {
		return Proposal{}, err
	}
	if count*least > len(b) {
		return Proposal{}, &Error{"SA", "transforms", ErrTruncated}
	}
	if count > 0 {
		p.Transforms = make([]Transform, 0, count)
	}
	for i := range count {
		if len(b) < least {
			return Proposal{}, &Error{"SA", "transform", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < least {
			return Proposal{}, &Error{"SA", "transform length", ErrLength}
		}
		if n > len(b) {
			return Proposal{}, &Error{"SA", "transform", ErrTruncated}
		}
		want := byte(moreTransforms)
		if i == count-1 {
			want = lastSubstruct
		}
		if b[0] != want {
			return Proposal{}, &Error{"SA", "last substruct", ErrMore}
		}
		t, err := parseTransform(b[:n:n])
		if err != nil {
			return Proposal{}, err
		}
		p.Transforms, b = append(p.Transforms, t), b[n:]
	}
	if len(b) != 0 {
		return Proposal{}, &Error{"SA", "transforms", ErrTrailing}
	}
	return p, nil
}

// checkHead checks what stands before the transforms (RFC 7296 §3.3.1).
func (p Proposal) checkHead() error {
	switch {
	case p.Number == 0:
		return &Error{"SA", "proposal number", ErrRange}
	case p.Protocol == None:
		return &Error{"SA", "protocol", ErrProtocol}
	case len(p.SPI) > 0xff || !p.Protocol.allowsSPI(len(p.SPI)):
		return &Error{"SA", "SPI", ErrSPISize}
	}
	return nil
}

// parseTransform reads the transform that fills b; b has at least the 8 fixed octets.
func parseTransform(b []byte) (Transform, error) {
	const fixed = 8
	t := Transform{Type: TransformType(b[4]), ID: binary.BigEndian.Uint16(b[6:]), Reserved: [2]byte{b[1], b[5]}}
	attrs := b[fixed:]
	if len(attrs) == 4 && binary.BigEndian.Uint16(attrs) == keyLengthAttr {
		if t.KeyBits = binary.BigEndian.Uint16(attrs[2:]); t.KeyBits != 0 {
			return t, nil
		}
	}
	if err := checkAttrs(attrs); err != nil {
		return Transform{}, err
	}
	if len(attrs) > 0 {
		t.Attrs = attrs
	}
	return t, nil
}

// checkAttrs walks over data attributes (RFC 7296 §3.3.5): type and value in four octets, or type, length and value.
func checkAttrs(b []byte) error {
	const fixed = 4
	for len(b) > 0 {
		if len(b) < fixed {
			return &Error{"SA", "attribute", ErrTruncated}
		}
		n := fixed
		if b[0]&0x80 == 0 {
			n += int(binary.BigEndian.Uint16(b[2:]))
		}
		if n > len(b) {
			return &Error{"SA", "attribute value", ErrTruncated}
		}
		b = b[n:]
	}
	return nil
}

func (t Transform) appendTo(dst []byte, marker byte) []byte {
	start := len(dst)
	dst = append(dst, marker, t.Reserved[0], 0, 0, byte(t.Type), t.Reserved[1])
	dst = binary.BigEndian.AppendUint16(dst, t.ID)
	if t.KeyBits != 0 {
		dst = binary.BigEndian.AppendUint16(dst, keyLengthAttr)
		dst = binary.BigEndian.AppendUint16(dst, t.KeyBits)
	}
	dst = append(dst, t.Attrs...)
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	return dst
}

func (p Proposal) appendTo(dst []byte, marker byte) []byte {
	start := len(dst)
	dst = append(dst, marker, p.Reserved, 0, 0, p.Number, byte(p.Protocol), uint8(len(p.SPI)), uint8(len(p.Transforms)))
	dst = append(dst, p.SPI...)
	for i, t := range p.Transforms {
		marker := byte(moreTransforms)
		if i == len(p.Transforms)-1 {
			marker = lastSubstruct
		}
		dst = t.appendTo(dst, marker)
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	return dst
}

func (sa SA) appendTo(dst []byte) []byte {
	for i, p := range sa.Proposals {
		marker := byte(moreProposals)
		if i == len(sa.Proposals)-1 {
			marker = lastSubstruct
		}
		dst = p.appendTo(dst, marker)
	}
	return dst
}

func (sa SA) check() error {
	if n := len(sa.Proposals); n == 0 || n > maxProposals {
		return &Error{"SA", "proposals", ErrCount}
	}
	for _, p := range sa.Proposals {
		if err := p.checkHead(); err != nil {
			return err
		}
		if len(p.Transforms) > 0xff {
			return &Error{"SA", "transforms", ErrCount}
		}
		for _, t := range p.Transforms {
			if err := checkAttrs(t.Attrs); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sa SA) clone() Body {
	sa.Proposals = slices.Clone(sa.Proposals)
	for i := range sa.Proposals {
		p := &sa.Proposals[i]
		p.SPI, p.Transforms = slices.Clone(p.SPI), slices.Clone(p.Transforms)
		for j := range p.Transforms {
			p.Transforms[j].Attrs = slices.Clone(p.Transforms[j].Attrs)
		}
	}
	return sa
}

func (sa SA) items() int {
	n := len(sa.Proposals)
	for _, p := range sa.Proposals {
		n += len(p.Transforms)
	}
	return n
}
