package wire

import "encoding/binary"

// Payload is one payload of a chain: its generic header (RFC 7296 §3.2) and its body.
type Payload struct {
	Type     PayloadType
	Critical bool
	Reserved uint8 // the seven bits beside the critical bit, as received; 0 to send
	Body     Body
}

// Body is what a payload holds: one of the structs of this package.
type Body interface {
	append(dst []byte) []byte
	clone() Body
}

// Message is a whole IKE message. When it is protected, its last payload is [Encrypted].
type Message struct {
	Header
	Payloads []Payload
}

// maxPayloads bounds the chain of one message. Real ones have about twenty.
const maxPayloads = 256

const genericLen = 4

// ParseMessage reads a datagram. It checks the header's version and length (RFC 7296 §3.1).
func ParseMessage(b []byte) (Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	switch {
	case h.Version>>4 != Version>>4:
		return Message{}, &Error{"header", "version", ErrValue}
	case uint64(h.Length) != uint64(len(b)):
		return Message{}, &Error{"header", "length", ErrLength}
	}
	ps, err := parseChain(h.NextPayload, b[HeaderLen:], true)
	return Message{h, ps}, err
}

// ParsePayloads reads the chain that an encrypted payload held, without padding.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, b, false)
}

func parseChain(next PayloadType, b []byte, outer bool) ([]Payload, error) {
	var ps []Payload
	for next != PayloadNone {
		if len(ps) == maxPayloads {
			return nil, &Error{"chain", "payloads", ErrTooMany}
		}
		if len(b) < genericLen {
			return nil, &Error{next.String(), "generic header", ErrTruncated}
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < genericLen {
			return nil, &Error{next.String(), "payload length", ErrLength}
		}
		if n > len(b) {
			return nil, &Error{next.String(), "payload length", ErrTruncated}
		}
		p := Payload{Type: next, Critical: b[1]&0x80 != 0, Reserved: b[1] & 0x7f}
		follows := PayloadType(b[0])
		var err error
		if p.Body, err = parseBody(next, follows, b[genericLen:n:n], p.Critical); err != nil {
			return nil, err
		}
		ps = append(ps, p)
		if b = b[n:]; next == PayloadSK || next == PayloadSKF {
			switch {
			case !outer:
				return nil, &Error{next.String(), "position", ErrNested}
			case len(b) != 0:
				return nil, &Error{next.String(), "position", ErrNotLast}
			}
			return ps, nil
		}
		next = follows
	}
	if len(b) != 0 {
		return nil, &Error{"chain", "end", ErrTrailing}
	}
	return ps, nil
}

func parseBody(t, follows PayloadType, b []byte, critical bool) (Body, error) {
	switch t {
	case PayloadSA:
		return parseSA(b)
	case PayloadKE:
		return parseKE(b)
	case PayloadIDi, PayloadIDr:
		return parseID(t, b)
	case PayloadCERT:
		return parseCert(b)
	case PayloadCERTREQ:
		return parseCertReq(b)
	case PayloadAUTH:
		return parseAuth(b)
	case PayloadNonce:
		return parseNonce(b)
	case PayloadNotify:
		return parseNotify(b)
	case PayloadDelete:
		return parseDelete(b)
	case PayloadVendor:
		return VendorID{b}, nil
	case PayloadTSi, PayloadTSr:
		return parseTS(t, b)
	case PayloadCP:
		return parseCP(b)
	case PayloadEAP:
		return parseEAP(b)
	case PayloadSK:
		return Encrypted{First: follows, Data: b}, nil
	case PayloadSKF:
		return parseSKF(follows, b)
	}
	if critical {
		return nil, &UnsupportedCriticalError{t}
	}
	return Unknown{b}, nil
}

// AppendPayloads appends a chain with its generic headers.
func AppendPayloads(dst []byte, ps []Payload) []byte {
	for i, p := range ps {
		next := PayloadNone
		if i+1 < len(ps) {
			next = ps[i+1].Type
		}
		if e, ok := p.Body.(Encrypted); ok {
			next = e.First
		}
		flags := p.Reserved & 0x7f
		if p.Critical {
			flags |= 0x80
		}
		at := len(dst)
		dst = append(dst, byte(next), flags, 0, 0)
		dst = p.Body.append(dst)
		binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	}
	return dst
}

// FirstType is the type that announces a chain.
func FirstType(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return PayloadNone
	}
	return ps[0].Type
}

// Append appends the message; NextPayload and Length are those of the payloads, not of m.Header.
func (m Message) Append(dst []byte) []byte {
	at := len(dst)
	m.NextPayload = FirstType(m.Payloads)
	dst = m.Header.Append(dst)
	dst = AppendPayloads(dst, m.Payloads)
	binary.BigEndian.PutUint32(dst[at+24:], uint32(len(dst)-at))
	return dst
}

// First returns the first payload of type t.
func (m Message) First(t PayloadType) (Payload, bool) { return First(m.Payloads, t) }

// Notify returns the first Notify of type t.
func (m Message) Notify(t NotifyType) (Notify, bool) { return FindNotify(m.Payloads, t) }

// All returns the payloads of type t, in order.
func (m Message) All(t PayloadType) []Payload {
	var out []Payload
	for _, p := range m.Payloads {
		if p.Type == t {
			out = append(out, p)
		}
	}
	return out
}

// First returns the first payload of type t in a chain.
func First(ps []Payload, t PayloadType) (Payload, bool) {
	for _, p := range ps {
		if p.Type == t {
			return p, true
		}
	}
	return Payload{}, false
}

// FindNotify returns the first Notify of type t in a chain.
func FindNotify(ps []Payload, t NotifyType) (Notify, bool) {
	for _, p := range ps {
		if n, ok := p.Body.(Notify); ok && n.Type == t {
			return n, true
		}
	}
	return Notify{}, false
}

// Clone returns a message that shares nothing with the input that it was read from.
func (m Message) Clone() Message {
	m.Payloads = ClonePayloads(m.Payloads)
	return m
}

// ClonePayloads is Clone for a chain.
func ClonePayloads(ps []Payload) []Payload {
	out := make([]Payload, len(ps))
	for i, p := range ps {
		p.Body = p.Body.clone()
		out[i] = p
	}
	return out
}
