package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Traffic selector types (RFC 7296 §3.13.1).
const (
	TSv4 uint8 = 7
	TSv6 uint8 = 8
)

// TS is a Traffic Selector payload (RFC 7296 §3.13).
type TS struct {
	Reserved  [3]byte
	Selectors []TrafficSelector
}

// TrafficSelector is one selector. For types other than TSv4 and TSv6 only Type, Proto and Raw count.
type TrafficSelector struct {
	Type      uint8
	Proto     uint8
	StartPort uint16 // with EndPort 0 and 65535 here: OPAQUE
	EndPort   uint16
	Start     netip.Addr
	End       netip.Addr
	Raw       []byte // what follows the length of an unknown type
}

func parseTS(t PayloadType, b []byte) (Body, error) {
	const fixed, selectorFixed = 4, 4
	if len(b) < fixed {
		return nil, &Error{t.String(), "header", ErrTruncated}
	}
	count := int(b[0])
	ts := TS{Reserved: [3]byte(b[1:4])}
	b = b[fixed:]
	if count == 0 {
		return nil, &Error{t.String(), "selectors", ErrEmpty}
	}
	if count*selectorFixed > len(b) {
		return nil, &Error{t.String(), "selectors", ErrTruncated}
	}
	ts.Selectors = make([]TrafficSelector, 0, count)
	for range count {
		if len(b) < selectorFixed {
			return nil, &Error{t.String(), "selector", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < selectorFixed {
			return nil, &Error{t.String(), "selector length", ErrLength}
		}
		if n > len(b) {
			return nil, &Error{t.String(), "selector length", ErrTruncated}
		}
		s, err := parseSelector(t, b[:n:n])
		if err != nil {
			return nil, err
		}
		ts.Selectors, b = append(ts.Selectors, s), b[n:]
	}
	if len(b) != 0 {
		return nil, &Error{t.String(), "last selector", ErrTrailing}
	}
	return ts, nil
}

func parseSelector(t PayloadType, b []byte) (TrafficSelector, error) {
	s := TrafficSelector{Type: b[0], Proto: b[1]}
	size := 0
	switch s.Type {
	case TSv4:
		size = 4
	case TSv6:
		size = 16
	default:
		s.Raw = b[4:]
		return s, nil
	}
	if len(b) != 8+2*size {
		return s, &Error{t.String(), "selector length", ErrLength}
	}
	s.StartPort, s.EndPort = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	s.Start, _ = netip.AddrFromSlice(b[8 : 8+size])
	s.End, _ = netip.AddrFromSlice(b[8+size:])
	if s.End.Less(s.Start) {
		return s, &Error{t.String(), "addresses", ErrValue}
	}
	if s.StartPort > s.EndPort && (s.StartPort != 0xffff || s.EndPort != 0) { // 65535..0 is OPAQUE
		return s, &Error{t.String(), "ports", ErrValue}
	}
	return s, nil
}

func (t TS) append(dst []byte) []byte {
	dst = append(dst, byte(len(t.Selectors)), t.Reserved[0], t.Reserved[1], t.Reserved[2])
	for _, s := range t.Selectors {
		if s.Type != TSv4 && s.Type != TSv6 {
			dst = append(dst, s.Type, s.Proto)
			dst = binary.BigEndian.AppendUint16(dst, uint16(4+len(s.Raw)))
			dst = append(dst, s.Raw...)
			continue
		}
		start, end := s.Start.AsSlice(), s.End.AsSlice()
		dst = append(dst, s.Type, s.Proto)
		dst = binary.BigEndian.AppendUint16(dst, uint16(8+len(start)+len(end)))
		dst = binary.BigEndian.AppendUint16(dst, s.StartPort)
		dst = binary.BigEndian.AppendUint16(dst, s.EndPort)
		dst = append(append(dst, start...), end...)
	}
	return dst
}

func (t TS) clone() Body {
	t.Selectors = slices.Clone(t.Selectors)
	for i := range t.Selectors {
		t.Selectors[i].Raw = bytes.Clone(t.Selectors[i].Raw)
	}
	return t
}
