package wire

import "encoding/binary"

// Message is a message as it travels, or, with the Payloads of its SK payload in the place of that, as it was meant.
type Message struct {
	Header
	Payloads []Payload
}

// ParseMessage reads a whole datagram, without the non-ESP marker. When the header could be read it is in the result even
// if an error comes back; see [UnsupportedCriticalError] for the one error that leaves the payloads usable too.
func ParseMessage(b []byte) (Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	m := Message{Header: h}
	switch {
	case h.Major() != 2:
		return m, &Error{"message", "version", ErrVersion}
	case uint64(h.Length) < uint64(len(b)):
		return m, &Error{"message", "length", ErrTrailing}
	case uint64(h.Length) > uint64(len(b)):
		return m, &Error{"message", "length", ErrTruncated}
	case h.SPIi == 0: // RFC 7296 §3.1
		return m, &Error{"message", "SPIi", ErrZeroSPI}
	}
	m.Payloads, err = parseChain(h.NextPayload, b[HeaderLen:], false)
	return m, err
}

// Append appends the message; Next Payload and Length are those of the payloads, not those of the header.
func (m Message) Append(dst []byte) []byte {
	start := len(dst)
	m.NextPayload = FirstType(m.Payloads)
	dst = AppendPayloads(m.Header.Append(dst), m.Payloads)
	binary.BigEndian.PutUint32(dst[start+24:], uint32(len(dst)-start))
	return dst
}

// Clone returns a copy that shares no memory with m.
func (m Message) Clone() Message {
	m.Payloads = clonePayloads(m.Payloads)
	return m
}

// First returns the first payload of type t.
func (m Message) First(t PayloadType) (Payload, bool) {
	for _, p := range m.Payloads {
		if p.Type == t {
			return p, true
		}
	}
	return Payload{}, false
}

// All returns the payloads of type t in their order.
func (m Message) All(t PayloadType) []Payload {
	var ps []Payload
	for _, p := range m.Payloads {
		if p.Type == t {
			ps = append(ps, p)
		}
	}
	return ps
}

// Notify returns the first Notify payload of type t.
func (m Message) Notify(t NotifyType) (Notify, bool) {
	for _, p := range m.Payloads {
		if n, ok := p.Body.(Notify); ok && n.Type == t {
			return n, true
		}
	}
	return Notify{}, false
}

// Find returns the body of the first payload of type t: Find[KE](m, PayloadKE).
func Find[T Body](m Message, t PayloadType) (T, bool) {
	p, _ := m.First(t)
	b, ok := p.Body.(T)
	return b, ok
}
