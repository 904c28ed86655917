package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// TSType is the kind of a traffic selector (RFC 7296 §3.13.1).
type TSType = uint8

// Kinds of traffic selectors.
const (
	TSIPv4Range TSType = 7
	TSIPv6Range TSType = 8
	TSFC        TSType = 9
	TSSecLabel  TSType = 10 // RFC 9478
)

// TS is the Traffic Selector payload of either side (RFC 7296 §3.13).
type TS struct {
	Reserved  [3]byte
	Selectors []TrafficSelector // 1 to 255
}

// TrafficSelector is one selector (RFC 7296 §3.13.1). Start and End are of the family that Type says and in order; ports
// are in order or OPAQUE, which is 65535 to 0. Selectors of other types have only Type, Proto and Raw and are ignored.
type TrafficSelector struct {
	Type, Proto        uint8
	StartPort, EndPort uint16
	Start, End         netip.Addr
	Raw                []byte // unknown types: what follows the length
}

// rangeLen is the length of a selector of type t, 0 if it is no address range.
func rangeLen(t TSType) int {
	switch t {
	case TSIPv4Range:
		return 16
	case TSIPv6Range:
		return 40
	}
	return 0
}

func parseTS(t PayloadType, b []byte) (TS, error) {
	const fixed, least = 4, 4
	if len(b) < fixed {
		return TS{}, &Error{t.String(), "header", ErrTruncated}
	}
	count := int(b[0])
	ts := TS{Reserved: [3]byte(b[1:4])}
	b = b[fixed:]
	if count == 0 { // RFC 7296 §2.9: one or more
		return TS{}, &Error{t.String(), "number of TSs", ErrCount}
	}
	if count*least > len(b) {
		return TS{}, &Error{t.String(), "traffic selector", ErrTruncated}
	}
	ts.Selectors = make([]TrafficSelector, 0, count)
	for range count {
		if len(b) < least {
			return TS{}, &Error{t.String(), "traffic selector", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < least || rangeLen(b[0]) != 0 && n != rangeLen(b[0]) {
			return TS{}, &Error{t.String(), "selector length", ErrLength}
		}
		if n > len(b) {
			return TS{}, &Error{t.String(), "traffic selector", ErrTruncated}
		}
		s := parseSelector(b[:n:n])
		if !s.ordered() {
			return TS{}, &Error{t.String(), "traffic selector", ErrRange}
		}
		ts.Selectors, b = append(ts.Selectors, s), b[n:]
	}
	if len(b) != 0 {
		return TS{}, &Error{t.String(), "traffic selectors", ErrTrailing}
	}
	return ts, nil
}

// parseSelector reads a selector whose length fits its type.
func parseSelector(b []byte) TrafficSelector {
	s := TrafficSelector{Type: b[0], Proto: b[1]}
	if rangeLen(s.Type) == 0 {
		s.Raw = b[4:]
		return s
	}
	s.StartPort, s.EndPort = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	start, end := b[8:8+(len(b)-8)/2], b[8+(len(b)-8)/2:]
	s.Start, _ = netip.AddrFromSlice(start) // 4 or 16 octets
	s.End, _ = netip.AddrFromSlice(end)
	return s
}

// ordered says whether the selector selects anything (RFC 7296 §3.13.1; OPAQUE: RFC 4301 §4.4.1.1).
func (s TrafficSelector) ordered() bool {
	if rangeLen(s.Type) == 0 {
		return true
	}
	opaque := s.StartPort == 0xffff && s.EndPort == 0
	return s.Start.Compare(s.End) <= 0 && (s.StartPort <= s.EndPort || opaque)
}

func (s TrafficSelector) appendTo(dst []byte) []byte {
	n := rangeLen(s.Type)
	if n == 0 {
		dst = append(dst, s.Type, s.Proto)
		dst = binary.BigEndian.AppendUint16(dst, uint16(4+len(s.Raw)))
		return append(dst, s.Raw...)
	}
	dst = append(dst, s.Type, s.Proto, 0, byte(n))
	dst = binary.BigEndian.AppendUint16(dst, s.StartPort)
	dst = binary.BigEndian.AppendUint16(dst, s.EndPort)
	return append(append(dst, s.Start.AsSlice()...), s.End.AsSlice()...)
}

func (ts TS) appendTo(dst []byte) []byte {
	dst = append(dst, uint8(len(ts.Selectors)), ts.Reserved[0], ts.Reserved[1], ts.Reserved[2])
	for _, s := range ts.Selectors {
		dst = s.appendTo(dst)
	}
	return dst
}

func (ts TS) check() error {
	if n := len(ts.Selectors); n == 0 || n > 0xff {
		return &Error{"TS", "number of TSs", ErrCount}
	}
	for _, s := range ts.Selectors {
		n := rangeLen(s.Type)
		if n != 0 && (8+s.Start.BitLen()/4 != n || 8+s.End.BitLen()/4 != n) || len(s.Raw) > 0xffff-4 {
			return &Error{"TS", "traffic selector", ErrLength}
		}
		if !s.ordered() {
			return &Error{"TS", "traffic selector", ErrRange}
		}
	}
	return nil
}

func (ts TS) clone() Body {
	ts.Selectors = slices.Clone(ts.Selectors)
	for i := range ts.Selectors {
		ts.Selectors[i].Raw = slices.Clone(ts.Selectors[i].Raw)
	}
	return ts
}

func (ts TS) items() int { return len(ts.Selectors) }
