//go:build linux

package tun

import (
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
)

const (
	headroom    = 128 // in front of a frame, for headers of segments
	tailroom    = 320 // behind it: the longest ESP trailer
	frameLen    = 1 << 16
	pathAge     = 60 * perSecond
	deviceBatch = 64 // frames read before what they gave is sent
)

// outbound takes frames from one queue of the device to the sockets. Its lock is held from the first frame of a batch
// until the last was sent, so that who has taken it knows that no packet is under way by an older table.
type outbound struct {
	p    *Plane
	dev  *port
	in   []byte
	n    int // octets read, with the vnet header
	err  unix.Errno
	fn   func(uintptr) bool
	mu   sync.Mutex
	send [kinds][2]*sender
	frag reassembly
	now  int64 // of the batch, in nanoseconds of the wall clock
}

func newOutbound(p *Plane, dev *port) *outbound {
	o := &outbound{p: p, dev: dev, in: make([]byte, headroom+vnetLen+frameLen+tailroom)}
	o.fn = o.try
	for k := range kinds {
		for fam := range 2 {
			if s := p.socks[k][fam]; s != nil && k != ikeSocket {
				o.send[k][fam] = newSender(s, p)
			}
		}
	}
	return o
}

func (o *outbound) try(fd uintptr) bool {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&o.in[headroom])), vnetLen+frameLen)
		switch e {
		case 0:
			o.n, o.err = int(n), 0
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default: // EIO while the device is down
			o.n, o.err = 0, e
			return true
		}
	}
}

func (o *outbound) run() {
	defer o.p.work.Done()
	for {
		if err := o.dev.read(o.fn); err != nil {
			return
		}
		if o.err != 0 {
			if !o.p.pause() {
				return
			}
			continue
		}
		if o.p.stopping.Load() {
			return
		}
		o.batch()
	}
}

func (o *outbound) batch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = time.Now().UnixNano()
	table := o.p.table.Load()
	for k := 0; ; {
		o.frame(table)
		if k++; k >= deviceBatch || !o.try(uintptr(o.dev.fd)) || o.err != 0 {
			break
		}
	}
	o.flush()
}

func (o *outbound) flush() {
	for k := range o.send {
		for _, s := range o.send[k] {
			if s != nil {
				s.flush()
			}
		}
	}
}

// frame deals with the frame that was read.
func (o *outbound) frame(table *flow.Table) {
	if o.n < vnetLen+1 {
		return
	}
	v := readVnet(o.in[headroom:])
	at := headroom + vnetLen
	o.packet(table, o.in[:headroom+o.n+tailroom], at, headroom+o.n, v, false)
}

// packet deals with the packet b[at:end], which may be many in one (v). b has room on either side of it. A whole packet
// has been put together from fragments.
func (o *outbound) packet(table *flow.Table, b []byte, at, end int, v vnet, whole bool) {
	p := b[at:end]
	f, info, err := flow.ParseFlow(p, true)
	if err != nil {
		o.p.drops.add(o.now, f.Remote, flow.Malformed, f)
		return
	}
	if info.Fragment && !whole {
		o.fragment(table, p, f)
		return
	}
	verdict := table.OutPacket(&f, p, &info)
	switch verdict.Action {
	case flow.Seal:
		x := sealing{o: o, sa: saOf(verdict.Pair), pair: verdict.Pair, b: b, at: at, end: end, v: v, info: info, whole: whole}
		x.run(f)
	case flow.Queue:
		if whole { // put together from pieces: no vnet header lies before it
			clear(b[at-vnetLen : at])
		}
		o.p.hold(table, f, heldFrame{b[at-vnetLen : end], whole}, o.now)
	default:
		o.refuse(f, p, verdict.Reason)
	}
}

// fragment puts what the kernel cut together again, and then deals with it as one packet.
func (o *outbound) fragment(table *flow.Table, p []byte, f flowKey) {
	a, ok := o.frag.add(p, o.now)
	switch {
	case !ok:
		o.p.drops.add(o.now, f.Remote, flow.Fragmented, f)
	case a != nil:
		at, end := a.packet()
		o.packet(table, a.buf, at, end, vnet{}, true)
		o.frag.done(a)
	}
}

// refuse drops a packet.
func (o *outbound) refuse(f flowKey, p []byte, why flow.Reason) {
	if why == flow.NoReason {
		why = flow.NoSA
	}
	o.p.drops.add(o.now, f.Remote, why, f)
	if why == flow.NoSA && o.p.asked.allow(f.Remote, o.now) {
		o.p.event(dataplane.Acquire{Flow: f})
	}
}

// sealing is one frame on its way into ESP.
type sealing struct {
	o       *outbound
	sa      *sa
	pair    *flow.Pair // as the table has it: the peer may have moved
	b       []byte
	at, end int
	v       vnet
	info    flow.PacketInfo
	whole   bool
	d       *dest
	send    *sender
	tos     byte
	from    int  // first protected octet of a packet, from its beginning
	next    byte // next header in ESP
}

func (x *sealing) run(f flowKey) {
	s, o := x.sa, x.o
	p := x.b[x.at:x.end]
	if x.d = s.to(o.p, x.pair); x.d == nil {
		o.refuse(f, p, flow.SendFailed)
		return
	}
	if x.send = o.send[x.d.socket.kind][family(x.d.remote.Addr())]; x.send == nil {
		o.refuse(f, p, flow.SendFailed)
		return
	}
	x.tos = s.pair.OuterTOS(x.info.TOS)
	payload, next, why := s.pair.Payload(p, &x.info)
	if why == flow.NoReason && s.pair.Mode == protect.Transport && x.info.V6 && x.info.HeaderLen != 40 {
		why = flow.Malformed // the sockets send no headers for routers
	}
	if why != flow.NoReason {
		o.refuse(f, p, why)
		return
	}
	x.next, x.from = next, x.info.TotalLen-len(payload)
	x.end = x.at + x.info.TotalLen
	if !x.fits(f, p) {
		return
	}
	var packets, octets int
	if x.v.gso == gsoNone {
		if x.v.flags&needsSum != 0 && !x.finishSum(p) {
			o.refuse(f, p, flow.Malformed)
			return
		}
		flow.ClampMSS(p, &x.info, int(s.mtu.Load()), false)
		packets, octets = 1, x.end-x.at-x.from
		if !x.seal(x.at+x.from, x.end) {
			packets = 0
		}
	} else {
		packets, octets = x.segments()
	}
	if packets > 0 {
		s.reached(o.p, s.pair.CountOut(uint64(packets), uint64(octets), o.now))
	}
}

// fits reports whether the packets of the frame may leave; if not it has told the sender how large they may be.
func (x *sealing) fits(f flowKey, p []byte) bool {
	size, mtu := len(p), int(x.sa.mtu.Load())
	if x.v.gso != gsoNone {
		size = x.info.UpperAt + upperHead(p, x.info.UpperAt, x.info.Upper) + x.v.size
	}
	least := 576
	if x.info.V6 {
		least = 1280 // RFC 8200 §5
	}
	if mtu = max(mtu, least); size <= mtu {
		return true
	}
	if x.o.now-x.d.asked.Load() > pathAge { // it may be wider again
		x.o.p.askPath(x.d, x.o.now)
	}
	if x.whole || !x.info.V6 && !x.info.DF { // may be fragmented: the outer packet is (RFC 4301 §8.1)
		return size+x.sa.pair.Sealer().Overhead() <= maxDatagram || x.tooLarge(f)
	}
	x.o.refuse(f, p, flow.TooBig)
	x.o.p.sayTooBig(p, mtu, x.o.now)
	return false
}

func (x *sealing) tooLarge(f flowKey) bool {
	x.o.p.drops.add(x.o.now, f.Remote, flow.TooBig, f)
	return false
}

// finishSum completes a checksum that the kernel left to the device.
func (x *sealing) finishSum(p []byte) bool {
	at := x.v.sumStart + x.v.sumOff
	if x.v.sumStart >= len(p) || at+2 > len(p) {
		return false
	}
	c := ^fold(sum(p[x.v.sumStart:], 0))
	if c == 0 && x.info.Upper == protoUDP {
		c = 0xffff
	}
	be.PutUint16(p[at:], c)
	return true
}

// upperHead is the length of the TCP or UDP header at p[at:], 0 when there is none.
func upperHead(p []byte, at int, proto byte) int {
	switch {
	case proto == protoUDP && at+8 <= len(p):
		return 8
	case proto == protoTCP && at+20 <= len(p):
		if n := int(p[at+12]>>4) * 4; n >= 20 && at+n <= len(p) {
			return n
		}
	}
	return 0
}

// seal puts one packet, of which b[from:end] is to be protected, into the send buffer. The trailer is written behind it
// and what stood there is put back: it may be the payload of the next segment.
func (x *sealing) seal(from, end int) bool {
	n := end - from
	sealer := x.sa.pair.Sealer()
	t := sealer.TrailerLen(n)
	var save [tailroom]byte
	copy(save[:t], x.b[end:end+t])
	m := sealer.PutTrailer(x.b[from:end+t], n, x.next)
	dst := x.send.space(m + sealer.Overhead())
	wrote, err := sealer.Seal(dst, x.b[from:from+m])
	copy(x.b[end:end+t], save[:t])
	if err != nil {
		x.sa.reached(x.o.p, x.sa.pair.Spend())
		return false
	}
	x.send.add(wrote, x.d, x.tos)
	return true
}

// segments cuts a frame into the packets that it stands for and seals each. The header of a segment is written over the
// end of the payload that has already gone.
func (x *sealing) segments() (packets, octets int) {
	p := x.b[x.at:x.end]
	l4, proto := x.info.UpperAt, x.info.Upper
	uh := upperHead(p, l4, proto)
	if uh == 0 || x.v.size == 0 {
		x.o.p.drops.add(x.o.now, netip.Addr{}, flow.Malformed, flowKey{})
		return 0, 0
	}
	head := l4 + uh
	var hdr [headroom]byte
	if head > len(hdr) {
		x.o.p.drops.add(x.o.now, netip.Addr{}, flow.Malformed, flowKey{})
		return 0, 0
	}
	h := hdr[:head]
	copy(h, p)
	c := cutter{h: h, l4: l4, proto: proto, sumAt: l4 + upperSum(proto), tunnel: x.from == 0}
	c.begin()
	for off := x.at + head; off < x.end; {
		e := min(off+x.v.size, x.end)
		c.segment(x.b[off:e], e == x.end)
		copy(x.b[off-head:off], h)
		if !x.seal(off-head+x.from, e) {
			break
		}
		packets++
		octets += e - off + head - x.from
		off = e
	}
	return packets, octets
}

// cutter makes the header of one segment after another.
type cutter struct {
	h         []byte
	l4, sumAt int
	proto     byte
	tunnel    bool // the IP header travels too
	id        uint16
	seq       uint32
	flags     byte
	fixed     uint64 // sum of the addresses
}

func (c *cutter) begin() {
	if c.h[0]>>4 == 4 {
		c.id = be.Uint16(c.h[4:])
		c.fixed = sum(c.h[12:20], 0)
	} else {
		c.fixed = sum(c.h[8:40], 0)
	}
	if c.proto == protoTCP {
		c.seq = be.Uint32(c.h[c.l4+4:])
		c.flags = c.h[c.l4+13]
	}
}

const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpECE = 0x40
	tcpCWR = 0x80
)

func (c *cutter) segment(payload []byte, last bool) {
	h, u := c.h, c.h[c.l4:]
	n := len(u) + len(payload)
	if c.tunnel {
		if h[0]>>4 == 4 {
			be.PutUint16(h[2:], uint16(c.l4+n))
			be.PutUint16(h[4:], c.id)
			c.id++
			sumIPv4(h[:c.l4])
		} else {
			be.PutUint16(h[4:], uint16(c.l4-40+n))
		}
	}
	if c.proto == protoTCP {
		be.PutUint32(u[4:], c.seq)
		c.seq += uint32(len(payload))
		u[13] = c.flags
		if !last {
			u[13] &^= tcpFIN | tcpPSH
		}
		c.flags &^= tcpCWR // of the first segment only (RFC 3168 §6.1.2)
	} else {
		be.PutUint16(u[4:], uint16(n))
	}
	h[c.sumAt], h[c.sumAt+1] = 0, 0
	t := [4]byte{0, c.proto, byte(n >> 8), byte(n)}
	s := ^fold(sum(payload, sum(u, sum(t[:], c.fixed))))
	if s == 0 && c.proto == protoUDP {
		s = 0xffff
	}
	be.PutUint16(h[c.sumAt:], s)
}
