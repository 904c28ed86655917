package tun

import (
	"net/netip"
	"time"
)

const (
	maxReassemblies = 16
	reassemblyTime  = int64(5 * time.Second)
	fragmentUnit    = 8
)

// reassembly puts datagrams together that the kernel cut for the device: transport mode carries whole ones only
// (RFC 4303 §3.3.4). It is bounded, and any overlap ends a datagram (RFC 5722).
type reassembly struct {
	by   map[fragmentKey]*assembling
	free []*assembling
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    byte
}

// assembling is a datagram of which some fragments are there.
type assembling struct {
	buf   []byte // as the outbound path wants it: room, IP header, payload, room
	head  int    // length of the IP header; 0 until the first fragment
	have  [frameLen / fragmentUnit / 64]uint64
	got   int // octets of payload
	total int // octets of payload; -1 until the last fragment
	since int64
}

// fragment is one fragment, read.
type fragment struct {
	key     fragmentKey
	head    []byte // IP header, as the whole packet is to have it
	payload []byte
	offset  int
	more    bool
}

// readFragment reads a fragment; IPv6 ones only where the fragment header follows the first header.
func readFragment(p []byte) (f fragment, ok bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		n, total := int(p[0]&15)*4, int(be.Uint16(p[2:]))
		if n < 20 || total < n || total > len(p) {
			return f, false
		}
		word := be.Uint16(p[6:])
		f.key = fragmentKey{netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), uint32(be.Uint16(p[4:])), p[9]}
		f.head, f.payload, f.offset, f.more = p[:n], p[n:total], int(word&0x1fff)*fragmentUnit, word&0x2000 != 0
	case len(p) >= 48 && p[0]>>4 == 6 && p[6] == 44:
		total := 40 + int(be.Uint16(p[4:]))
		if total < 48 || total > len(p) {
			return f, false
		}
		word := be.Uint16(p[42:])
		f.key = fragmentKey{netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), be.Uint32(p[44:]), p[40]}
		f.head, f.payload, f.offset, f.more = p[:40], p[48:total], int(word&^7), word&1 != 0
	default:
		return f, false
	}
	n := len(f.payload)
	return f, n > 0 && (!f.more || n%fragmentUnit == 0) && f.offset+n <= frameLen-1
}

// add takes a fragment, and returns the datagram when it is whole; the caller gives it back with done.
func (r *reassembly) add(p []byte, now int64) (a *assembling, ok bool) {
	f, ok := readFragment(p)
	if !ok {
		return nil, false
	}
	if a = r.by[f.key]; a == nil {
		if a = r.begin(f.key, now); a == nil {
			return nil, false
		}
	}
	if !a.put(f) {
		delete(r.by, f.key)
		r.done(a)
		return nil, false
	}
	if a.head == 0 || a.total != a.got {
		return nil, true
	}
	delete(r.by, f.key)
	if !a.finish(f.key.proto) {
		r.done(a)
		return nil, false
	}
	return a, true
}

func (r *reassembly) begin(key fragmentKey, now int64) *assembling {
	if r.by == nil {
		r.by = make(map[fragmentKey]*assembling)
	}
	for k, a := range r.by {
		if now-a.since > reassemblyTime {
			delete(r.by, k)
			r.done(a)
		}
	}
	if len(r.by) >= maxReassemblies {
		return nil
	}
	var a *assembling
	if n := len(r.free); n > 0 {
		a, r.free = r.free[n-1], r.free[:n-1]
	} else {
		a = &assembling{buf: make([]byte, payloadAt+frameLen+tailroom)}
	}
	a.head, a.got, a.total, a.since = 0, 0, -1, now
	clear(a.have[:])
	r.by[key] = a
	return a
}

func (r *reassembly) done(a *assembling) {
	if len(r.free) < 2 {
		r.free = append(r.free, a)
	}
}

// payloadAt leaves room for the longest IP header and for what the outbound path puts in front.
const payloadAt = headroom + vnetLen + 60

func (a *assembling) put(f fragment) bool {
	end := f.offset + len(f.payload)
	if !f.more {
		if a.total >= 0 {
			return false
		}
		a.total = end
	}
	if a.total >= 0 && end > a.total {
		return false
	}
	for u := f.offset / fragmentUnit; u < (end+fragmentUnit-1)/fragmentUnit; u++ {
		if a.have[u/64]&(1<<(u%64)) != 0 {
			return false
		}
		a.have[u/64] |= 1 << (u % 64)
	}
	copy(a.buf[payloadAt+f.offset:], f.payload)
	a.got += len(f.payload)
	if f.offset == 0 {
		a.head = len(f.head)
		copy(a.buf[payloadAt-a.head:], f.head)
	}
	return true
}

// finish makes the headers those of a whole packet.
func (a *assembling) finish(proto byte) bool {
	h := a.buf[payloadAt-a.head : payloadAt]
	if h[0]>>4 == 4 {
		if a.head+a.total > frameLen-1 {
			return false
		}
		be.PutUint16(h[2:], uint16(a.head+a.total))
		h[6], h[7] = 0, 0
		sumIPv4(h)
		return true
	}
	h[6] = proto
	be.PutUint16(h[4:], uint16(a.total))
	return true
}

// packet is where the whole packet lies in buf.
func (a *assembling) packet() (at, end int) { return payloadAt - a.head, payloadAt + a.total }
