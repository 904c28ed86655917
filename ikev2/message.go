package ikev2

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// message is an authentic message of an IKE SA, opened and whole.
type message struct {
	wire.Message
	path
	ike   []byte // the IKE header, as it came
	first wire.PayloadType
	flags byte   // of the SK payload: critical bit and reserved ones
	plain []byte // inner payloads
	hash  [8]byte
}

const (
	headerLen  = 28
	genericLen = 4
	skfLen     = 4 // fragment number and total
)

// sealed is where the SK or SKF payload of a message stands.
type sealed struct {
	typ   wire.PayloadType
	first wire.PayloadType
	flags byte
	head  int // octets before the body: IKE header, payloads in clear, generic header, and for SKF numbers
	at    int // of the generic header
	num   uint16
	total uint16
}

var errNotSealed = errors.New("ikev2: no SK payload")

// locate finds the SK or SKF payload, which is the last one (RFC 7296 §3.14).
func locate(b []byte) (s sealed, err error) {
	next, at := wire.PayloadType(b[16]), headerLen
	for next != wire.NoPayload {
		if len(b)-at < genericLen {
			return s, errNotSealed
		}
		n := int(binary.BigEndian.Uint16(b[at+2:]))
		if n < genericLen || n > len(b)-at {
			return s, errNotSealed
		}
		if next != wire.PayloadSK && next != wire.PayloadSKF {
			next, at = wire.PayloadType(b[at]), at+n
			continue
		}
		if at+n != len(b) {
			return s, errNotSealed
		}
		s = sealed{typ: next, first: wire.PayloadType(b[at]), flags: b[at+1], at: at, head: at + genericLen}
		if next == wire.PayloadSKF {
			if n < genericLen+skfLen {
				return s, errNotSealed
			}
			s.num, s.total = binary.BigEndian.Uint16(b[at+4:]), binary.BigEndian.Uint16(b[at+6:])
			s.head += skfLen
		}
		return s, nil
	}
	return s, errNotSealed
}

// hashOf recognises a repeated request, which is the same octets (RFC 7296 §2.1).
func hashOf(b []byte) (h [8]byte) {
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

// collected is the fragments of one message so far (RFC 7383 §2.6).
type collected struct {
	id    uint32
	total uint16
	got   uint16
	size  int
	until instant
	parts [][]byte
	m     message // what comes with fragment 1
}

const (
	maxFragments   = 64
	maxReassembled = 64 << 10
	fragmentWait   = 5e9 // nanoseconds: pieces of one transmission, and of one retransmission
)

// collect takes an authentic fragment and returns the whole message with its last one.
func (e *Endpoint) collect(s *sa, m *message, sk sealed, piece []byte) *message {
	if s.parts == nil {
		s.parts = new(pieces)
	}
	c := &s.parts[b2i(m.Response())]
	if *c != nil && ((*c).id != m.MessageID || sk.total > (*c).total) { // the sender lowered its size: start over
		*c = nil
	}
	if *c == nil {
		*c = &collected{id: m.MessageID, total: sk.total, parts: make([][]byte, sk.total), until: e.now.add(fragmentWait)}
	}
	p := *c
	if sk.total < p.total || p.parts[sk.num-1] != nil {
		e.count(BadFragment)
		return nil
	}
	if p.size += len(piece); p.size > maxReassembled {
		e.count(BadFragment)
		*c = nil
		return nil
	}
	p.parts[sk.num-1] = append(make([]byte, 0, max(len(piece), 1)), piece...)
	p.got++
	if sk.num == 1 {
		p.m = *m
		p.m.plain = nil
	}
	if p.got < p.total {
		return nil
	}
	whole := p.m
	whole.path = m.path
	whole.plain = make([]byte, 0, p.size)
	for _, b := range p.parts {
		whole.plain = append(whole.plain, b...)
	}
	*c = nil
	return &whole
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// header of a message that we send.
func (s *sa) header(exchange wire.ExchangeType, id uint32, response bool) wire.Header {
	h := wire.Header{SPIi: s.spii, SPIr: s.spir, Version: wire.Version2, Exchange: exchange, MessageID: id}
	if s.initiator {
		h.Flags |= wire.FlagInitiator
	}
	if response {
		h.Flags |= wire.FlagResponse
	}
	return h
}

// room is how many octets of a UDP payload fit in a datagram of the size for fragments.
func (e *Endpoint) room(to path) int {
	n := e.cfg.FragmentSize - 20 - 8
	if a := to.remote.Addr().Unmap(); !a.Is4() {
		n -= 20
	}
	if to.local.Port() != portIKE { // the non-ESP marker
		n -= 4
	}
	return n
}

// seal protects ps in one SK payload, or in SKF payloads when that is too long and the peer takes them.
func (e *Endpoint) seal(s *sa, h wire.Header, to path, ps []wire.Payload) ([][]byte, error) {
	plain := wire.AppendPayloads(nil, ps)
	first := wire.FirstType(ps)
	size := headerLen + genericLen + len(plain) + s.out.Overhead(len(plain))
	if !s.fragments || size <= e.room(to) {
		b, err := e.sealOne(s, h, first, nil, plain)
		return [][]byte{b}, err
	}
	piece := s.out.MaxPlain(e.room(to) - headerLen - genericLen - skfLen)
	if piece <= 0 {
		return nil, errors.New("ikev2: no room for a fragment")
	}
	total := (len(plain) + piece - 1) / piece
	if total > 0xffff {
		return nil, errors.New("ikev2: message too long")
	}
	var out [][]byte
	for i := range total {
		num := binary.BigEndian.AppendUint16(nil, uint16(i+1))
		num = binary.BigEndian.AppendUint16(num, uint16(total))
		part := plain[i*piece : min((i+1)*piece, len(plain))]
		b, err := e.sealOne(s, h, first, num, part)
		if err != nil {
			return nil, err
		}
		out, first = append(out, b), wire.NoPayload // RFC 7383 §2.5.3: named in the first fragment only
	}
	return out, nil
}

// sealOne writes one datagram; num is fragment number and total, or nil.
func (e *Endpoint) sealOne(s *sa, h wire.Header, first wire.PayloadType, num, plain []byte) ([]byte, error) {
	body := genericLen + len(num) + len(plain) + s.out.Overhead(len(plain))
	h.NextPayload = wire.PayloadSK
	if num != nil {
		h.NextPayload = wire.PayloadSKF
	}
	h.Length = uint32(headerLen + body)
	b := h.Append(make([]byte, 0, headerLen+body))
	b = append(b, byte(first), 0, byte(body>>8), byte(body))
	b = append(b, num...)
	return s.out.Seal(b, b, plain, e.rand)
}

// intAuthHead is A of RFC 9242 §3.3.2: the message through the generic header of SK, as if it had not come in fragments
// and with lengths that count the inner payloads alone.
func intAuthHead(h wire.Header, first wire.PayloadType, flags byte, plain int) []byte {
	h.NextPayload = wire.PayloadSK
	h.Length = uint32(headerLen + genericLen + plain)
	b := h.Append(nil)
	return append(b, byte(first), flags, byte((genericLen+plain)>>8), byte(genericLen+plain))
}

// intAuth continues the chain of RFC 9242 with a message that came.
func (m *message) intAuth(p suite.PRF, skp, prev []byte) []byte {
	return suite.IntAuth(p, skp, prev, intAuthHead(m.Header, m.first, m.flags, len(m.plain)), m.plain)
}
