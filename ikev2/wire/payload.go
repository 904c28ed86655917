package wire

import "encoding/binary"

// Bounds on what one chain may hold. They keep the memory that a datagram costs in proportion to its size; a real message
// stays far below.
const (
	maxPayloads = 256
	maxItems    = 4096 // proposals, transforms, selectors, attributes and SPIs together
)

// genericLen is the length of the generic payload header (RFC 7296 §3.2).
const genericLen = 4

// Payload is one payload of a chain.
type Payload struct {
	Type     PayloadType
	Critical bool  // sent as false for all types known here, ignored for them on receipt (RFC 7296 §2.5)
	Reserved uint8 // seven bits, sent as 0, kept as received
	Body     Body
}

// Body is the content of a payload: one of the structs SA, KE, ID, Cert, CertReq, Auth, Nonce, Notify, Delete, VendorID,
// TS, Encrypted, CP, EAP and Unknown.
type Body interface {
	appendTo(dst []byte) []byte
	clone() Body
	check() error // that the octets can hold it
	items() int   // how much it adds to maxItems
}

// ParsePayloads reads a chain that begins with a payload of type first and fills b exactly: what an SK payload held,
// without its padding. An encrypted payload in it is malformed. See [UnsupportedCriticalError] for the one error that
// leaves the payloads usable.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, b, true)
}

func parseChain(next PayloadType, b []byte, inner bool) ([]Payload, error) {
	var (
		ps       []Payload
		critical error
		items    int
	)
	for next != NoPayload {
		if len(b) < genericLen {
			return nil, &Error{next.String(), "generic header", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		switch {
		case n < genericLen:
			return nil, &Error{next.String(), "payload length", ErrLength}
		case n > len(b):
			return nil, &Error{next.String(), "payload length", ErrTruncated}
		case len(ps) == maxPayloads:
			return nil, &Error{"message", "payloads", ErrTooMany}
		}
		p := Payload{Type: next, Critical: b[1]&0x80 != 0, Reserved: b[1] & 0x7f}
		following := PayloadType(b[0])
		var err error
		if encrypted := next == PayloadSK || next == PayloadSKF; encrypted {
			if inner {
				return nil, &Error{next.String(), "type", ErrNested} // RFC 7296 §3.14
			}
			p.Body, err = parseEncrypted(next, following, b[genericLen:n])
			following = NoPayload // it is the last one: its Next Payload names the first inner payload
		} else {
			p.Body, err = parseBody(next, b[genericLen:n:n])
		}
		if err != nil {
			return nil, err
		}
		if _, unknown := p.Body.(Unknown); unknown && p.Critical && critical == nil {
			critical = &UnsupportedCriticalError{next}
		}
		if items += p.Body.items(); items > maxItems {
			return nil, &Error{"message", "items", ErrTooMany}
		}
		ps = append(ps, p)
		next, b = following, b[n:]
	}
	if len(b) != 0 {
		return nil, &Error{"message", "payloads", ErrTrailing}
	}
	return ps, critical
}

// parseBody reads the body of a payload of type t, without the generic header. The result aliases b.
func parseBody(t PayloadType, b []byte) (Body, error) {
	switch t {
	case PayloadSA:
		return body(parseSA(b))
	case PayloadKE:
		return body(parseKE(b))
	case PayloadIDi, PayloadIDr:
		return body(parseID(t, b))
	case PayloadCERT:
		return body(parseCert(b))
	case PayloadCERTREQ:
		return body(parseCertReq(b))
	case PayloadAUTH:
		return body(parseAuth(b))
	case PayloadNonce:
		return body(parseNonce(b))
	case PayloadNotify:
		return body(parseNotify(b))
	case PayloadDelete:
		return body(parseDelete(b))
	case PayloadVendor:
		return VendorID{b}, nil
	case PayloadTSi, PayloadTSr:
		return body(parseTS(t, b))
	case PayloadCP:
		return body(parseCP(b))
	case PayloadEAP:
		return body(parseEAP(b))
	}
	return Unknown{b}, nil
}

// body turns the result of a parser into an interface, and a failure into a nil one.
func body[T Body](v T, err error) (Body, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// fits says whether b is the kind of body that type t has.
func (t PayloadType) fits(b Body) bool {
	switch b.(type) {
	case SA:
		return t == PayloadSA
	case KE:
		return t == PayloadKE
	case ID:
		return t == PayloadIDi || t == PayloadIDr
	case Cert:
		return t == PayloadCERT
	case CertReq:
		return t == PayloadCERTREQ
	case Auth:
		return t == PayloadAUTH
	case Nonce:
		return t == PayloadNonce
	case Notify:
		return t == PayloadNotify
	case Delete:
		return t == PayloadDelete
	case VendorID:
		return t == PayloadVendor
	case TS:
		return t == PayloadTSi || t == PayloadTSr
	case Encrypted:
		return t == PayloadSK || t == PayloadSKF
	case CP:
		return t == PayloadCP
	case EAP:
		return t == PayloadEAP
	case Unknown:
		return t != NoPayload && (t < PayloadSA || t > PayloadEAP) && t != PayloadSKF
	}
	return false
}

// FirstType is the type that the Next Payload field before ps holds.
func FirstType(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return NoPayload
	}
	return ps[0].Type
}

// AppendPayloads appends the chain ps with its generic headers. What was parsed can be appended; of what was composed
// from lists of unknown length [CheckPayloads] tells whether the octets can hold it.
func AppendPayloads(dst []byte, ps []Payload) []byte {
	for i, p := range ps {
		next := FirstType(ps[i+1:])
		flags := p.Reserved & 0x7f
		if p.Critical {
			flags |= 0x80
		}
		start := len(dst)
		dst = append(dst, 0, flags, 0, 0)
		switch b := p.Body.(type) {
		case nil:
		case Encrypted:
			next = b.First
			if p.Type == PayloadSKF {
				dst = b.appendFragment(dst)
			}
			dst = b.appendTo(dst)
		default:
			dst = b.appendTo(dst)
		}
		dst[start] = byte(next)
		binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	}
	return dst
}

// CheckPayloads says whether the chain ps can be encoded: every count and length has room in its field, every body
// belongs to its type.
func CheckPayloads(ps []Payload) error {
	for _, p := range ps {
		if !p.Type.fits(p.Body) {
			return &Error{p.Type.String(), "body", ErrType}
		}
		if err := p.Body.check(); err != nil {
			return err
		}
		if n := genericLen + len(p.Body.appendTo(nil)); n > 0xffff-4 { // 4: an SKF has its fragment numbers besides
			return &Error{p.Type.String(), "payload length", ErrLength}
		}
	}
	return nil
}

func clonePayloads(ps []Payload) []Payload {
	if ps == nil {
		return nil
	}
	out := make([]Payload, len(ps))
	for i, p := range ps {
		if p.Body != nil {
			p.Body = p.Body.clone()
		}
		out[i] = p
	}
	return out
}
