//go:build linux

package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
)

const (
	// frameAt is where a frame's first packet begins in the stitcher's buffer.
	frameAt = headroom + vnetLen
	// maxUDPSegments is the kernel's UDP_MAX_SEGMENTS: it refuses frames of more.
	maxUDPSegments = 128
)

// stitcher opens packets so that the payload of one lies behind that of the one before, and hands the kernel one frame
// for as many as would have been one frame on the other side. The header of the packet being opened covers the end of
// the frame meanwhile; what stood there is kept aside.
type stitcher struct {
	p   *Plane
	i   *inbound
	buf []byte
	end int // of the frame; its first packet is at frameAt
	n   int // packets in the frame
	group
	wlen int
	fn   func(uintptr) bool
	bad  bool // the kernel refused the frame
}

// group is what packets of one frame have in common.
type group struct {
	sa       *sa
	nat      [2]flow.Addrs // checksums of packets behind the first change so
	ip, head int           // length of the IP header, and with that of TCP or UDP
	wire     int           // how much of head is inside ESP
	proto    byte
	size     int // payload of all but the last
	next     uint32
	shut     bool // takes no more
	verified bool // checksum of the first
}

func newStitcher(p *Plane, i *inbound) *stitcher {
	x := &stitcher{p: p, i: i, buf: make([]byte, frameAt+2*frameLen+tailroom)}
	x.fn = x.try
	return x
}

// packet opens one ESP packet that arrived under s.
func (x *stitcher) packet(s *sa, b []byte) {
	if x.n > 0 && !x.shut && x.sa == s {
		x.follow(s, b)
		return
	}
	x.flush()
	x.first(s, b)
}

// unseal opens b to x.buf[at:], which is where the payload of ESP goes, and counts.
func (x *stitcher) unseal(s *sa, at int, b []byte) (n int, next byte, ok bool) {
	n, next, err := s.pair.Opener().Open(x.buf[at:], b)
	if err != nil {
		x.i.drop(s, flow.OpenReason(err), flowKey{})
		return 0, 0, false
	}
	x.i.authentic(s, n)
	return n, next, true
}

// first opens a packet that begins a frame.
func (x *stitcher) first(s *sa, b []byte) {
	at := frameAt + s.pair.HeadRoom()
	if n, next, ok := x.unseal(s, at, b); ok {
		x.deliver(s, at+n, next)
	}
}

// deliver makes the packet a frame whose ESP payload ends at x.buf[end].
func (x *stitcher) deliver(s *sa, end int, next byte) {
	i := x.i
	p, f, info, why := s.pair.Deliver(x.buf[frameAt:end], next, flow.Outer{Local: i.how.local, Remote: i.from.Addr(), TOS: i.how.tos})
	if why == flow.NoReason {
		why = i.table.Opened(&f)
	}
	if why != flow.NoReason {
		i.drop(s, why, f)
		return
	}
	flow.ClampMSS(p, &info, int(s.mtu.Load()), false)
	x.begin(s, p, addresses(s.pair, f))
}

// addresses are those that the peer computed checksums over and those of this host, when a NAT is between (RFC 3948
// §3.1.2).
func addresses(pair *flow.Pair, f flowKey) (a [2]flow.Addrs) {
	local, remote := pair.Saw()
	if pair.Mode != protect.Transport || !local.IsValid() && !remote.IsValid() {
		return a
	}
	is := flow.Addrs{Src: f.Remote, Dst: f.Local}
	was := is
	if remote.IsValid() {
		was.Src = remote
	}
	if local.IsValid() {
		was.Dst = local
	}
	return [2]flow.Addrs{was, is}
}

// begin makes p, which is at frameAt, the first packet of a frame, and sends it at once when no other can join it.
func (x *stitcher) begin(s *sa, p []byte, nat [2]flow.Addrs) {
	x.end, x.n = frameAt+len(p), 1
	g := group{sa: s, nat: nat}
	ok := g.layout(p)
	x.group = g
	if !ok || g.proto == protoUDP && !x.p.uso {
		x.flush()
		return
	}
	x.size = len(p) - x.head
	if x.proto == protoTCP {
		x.next = be.Uint32(p[x.ip+4:]) + uint32(x.size)
		x.shut = p[x.ip+13]&tcpPSH != 0
	}
	if x.shut {
		x.flush()
	}
}

// layout reads the headers of a packet; ok says that others may follow it in a frame.
func (g *group) layout(p []byte) (ok bool) {
	switch {
	case p[0] == 0x45 && len(p) >= 28:
		if be.Uint16(p[6:])&0x3fff != 0 {
			return false
		}
		g.ip, g.proto = 20, p[9]
	case p[0]>>4 == 6 && len(p) >= 48:
		g.ip, g.proto = 40, p[6]
	default:
		return false
	}
	n := upperHead(p, g.ip, g.proto)
	if n == 0 {
		return false
	}
	g.head = g.ip + n
	if g.wire = g.head; g.sa.pair.Mode == protect.Transport {
		g.wire = n
	}
	u := p[g.ip:]
	if g.proto == protoTCP {
		return len(u) > n && u[13]&^tcpPSH == tcpACK
	}
	return len(u) > n && int(be.Uint16(u[4:])) == len(u) && be.Uint16(u[6:]) != 0
}

// follow opens a packet behind the frame and joins it, or begins the next frame with it.
func (x *stitcher) follow(s *sa, b []byte) {
	at := x.end - x.wire
	var save [headroom]byte
	covered := save[:copy(save[:x.wire], x.buf[at:x.end])]
	n, next, ok := x.unseal(s, at, b)
	if !ok {
		copy(x.buf[at:], covered)
		return
	}
	q := x.buf[at : at+n]
	repaired := x.nat[0] != x.nat[1] && next == x.proto
	if repaired { // in transport mode q begins with the TCP or UDP header
		flow.RepairChecksum(q, next, x.nat[0], x.nat[1])
	}
	if pl := x.joins(q, next); pl > 0 && x.firstOK(q, covered) {
		if x.proto == protoTCP {
			x.next += uint32(pl)
			if q[13+x.wire-(x.head-x.ip)]&tcpPSH != 0 {
				x.buf[frameAt+x.ip+13] |= tcpPSH
				x.shut = true
			}
		}
		x.shut = x.shut || pl < x.size
		copy(x.buf[at:], covered)
		x.end += pl
		x.n++
		if x.shut || x.end-frameAt+x.size > frameLen-1 || x.proto == protoUDP && x.n == maxUDPSegments {
			x.flush()
		}
		return
	}
	x.restart(s, q, next, covered, repaired)
}

// restart sends the frame and begins another with q, which covers its end.
func (x *stitcher) restart(s *sa, q []byte, next byte, covered []byte, repaired bool) {
	if repaired { // Deliver does it again
		flow.RepairChecksum(q, next, x.nat[1], x.nat[0])
	}
	spare := x.buf[len(x.buf)-frameLen-tailroom:] // the frame ends before it
	n := copy(spare, q)
	copy(x.buf[x.end-x.wire:], covered)
	x.flush()
	at := frameAt + s.pair.HeadRoom()
	copy(x.buf[at:], spare[:n])
	x.deliver(s, at+n, next)
}

// joins is the payload length of q, when q continues the frame, and 0 if not. In transport mode q has no IP header.
func (x *stitcher) joins(q []byte, next byte) int {
	first := x.buf[frameAt : frameAt+x.head]
	if x.wire == x.head { // tunnel
		if len(q) < x.head || q[0] != first[0] || (next == esp.NextIPv4) != (q[0]>>4 == 4) || next != esp.NextIPv4 && next != esp.NextIPv6 {
			return 0
		}
		if q = trim(q); len(q) < x.head || !sameIP(q, first, x.ip) {
			return 0
		}
	} else if next != x.proto {
		return 0
	}
	u, h := q[x.wire-(x.head-x.ip):], first[x.ip:]
	n := len(u) - len(h)
	if n <= 0 || n > x.size || string(u[:4]) != string(h[:4]) {
		return 0
	}
	if x.proto == protoTCP {
		if be.Uint32(u[4:]) != x.next || string(u[8:13]) != string(h[8:13]) || u[13]&^tcpPSH != tcpACK ||
			string(u[14:16]) != string(h[14:16]) || string(u[18:len(h)]) != string(h[18:]) {
			return 0
		}
	} else if int(be.Uint16(u[4:])) != len(u) || be.Uint16(u[6:]) == 0 {
		return 0
	}
	s := pseudoOf(first, x.ip, x.proto, len(u))
	if fold(sum(u, s)) != 0xffff {
		return 0
	}
	return n
}

// trim cuts an IP packet to its length; nil when it has not that much.
func trim(q []byte) []byte {
	n := int(be.Uint16(q[2:]))
	if q[0]>>4 == 6 {
		n = 40 + int(be.Uint16(q[4:]))
	}
	if n > len(q) {
		return nil
	}
	return q[:n]
}

// sameIP compares the IP headers of two packets of a tunnel: all but length, identification and checksum. Both had the
// same outer header, so a congestion mark that was met changed both or neither.
func sameIP(q, h []byte, ip int) bool {
	if ip == 20 {
		return q[0] == 0x45 && string(q[12:20]) == string(h[12:20]) && q[1] == h[1] && string(q[6:10]) == string(h[6:10]) &&
			fold(sum(q[:20], 0)) == 0xffff
	}
	return string(q[:4]) == string(h[:4]) && string(q[6:40]) == string(h[6:40])
}

func pseudoOf(ip []byte, n int, proto byte, l int) uint64 {
	t := [4]byte{0, proto, byte(l >> 8), byte(l)}
	s := sum(t[:], 0)
	if n == 20 {
		return sum(ip[12:20], s)
	}
	return sum(ip[8:40], s)
}

// firstOK checks the sum of the frame's first packet, once, when a second is about to join it: a lone packet is left for
// the kernel to check. q covers the end of the frame, which is in covered.
func (x *stitcher) firstOK(q, covered []byte) bool {
	if x.verified {
		return true
	}
	var h [headroom]byte
	own := h[:copy(h[:len(covered)], q)]
	copy(q, covered)
	u := x.buf[frameAt+x.ip : x.end]
	x.verified = fold(sum(u, pseudoOf(x.buf[frameAt:], x.ip, x.proto, len(u)))) == 0xffff
	copy(q, own)
	return x.verified
}

// flush hands the frame to the kernel.
func (x *stitcher) flush() {
	if x.n == 0 {
		return
	}
	var v vnet
	if x.n > 1 {
		v = x.finish(x.buf[frameAt:x.end])
	}
	v.put(x.buf[headroom:])
	x.wlen, x.bad = vnetLen+x.end-frameAt, false
	_ = x.p.dev.write(x.fn)
	if x.bad {
		x.i.drop(x.sa, flow.SendFailed, flowKey{})
	}
	x.n = 0
}

// finish completes the headers of a frame of several packets.
func (x *stitcher) finish(p []byte) vnet {
	n := len(p) - x.ip
	v := vnet{flags: needsSum, gso: gsoUDP, head: x.head, size: x.size, sumStart: x.ip, sumOff: upperSum(x.proto)}
	if x.ip == 20 {
		be.PutUint16(p[2:], uint16(len(p)))
		sumIPv4(p[:20])
	} else {
		be.PutUint16(p[4:], uint16(n))
	}
	switch {
	case x.proto == protoUDP:
		be.PutUint16(p[x.ip+4:], uint16(n))
	case x.ip == 20:
		v.gso = gsoTCP4
	default:
		v.gso = gsoTCP6
	}
	be.PutUint16(p[x.ip+v.sumOff:], fold(pseudoOf(p, x.ip, x.proto, n)))
	return v
}

func (x *stitcher) try(fd uintptr) bool {
	for {
		_, _, e := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&x.buf[headroom])), uintptr(x.wlen))
		switch e {
		case 0:
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			x.bad = true
			return true
		}
	}
}
