//go:build linux

package tun

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sendVector  = 64
	sendBuffer  = 4 << 16
	maxSegments = 64
	maxDatagram = 65507
)

// outcome hears of packets that the system did not take.
type outcome interface {
	unsent(d *dest, packets int, err unix.Errno)
	tooBig(d *dest, size int)
}

// sender gathers packets to the same place, of equal size, into messages that the kernel or the card cuts
// (UDP_SEGMENT), and messages into one system call. Packets lie back to back in buf.
type sender struct {
	s      *socket
	out    outcome
	buf    []byte
	pos    int
	msgs   []mmsghdr
	iov    []unix.Iovec
	ctl    [][controlLen]byte
	ends   []message
	n      int  // messages begun
	closed bool // the last message takes no more
	whole  bool // the system does not cut: one packet a message
	done   int
	fn     func(uintptr) bool
}

// message is what is known of a message being gathered.
type message struct {
	d          *dest
	start, end int
	stride     int
	count      int
	tos        byte
}

func newSender(s *socket, out outcome) *sender {
	x := &sender{
		s: s, out: out, buf: make([]byte, sendBuffer), msgs: make([]mmsghdr, sendVector), iov: make([]unix.Iovec, sendVector),
		ctl: make([][controlLen]byte, sendVector), ends: make([]message, sendVector), whole: s.kind != encapSocket,
	}
	for i := range x.msgs {
		x.msgs[i].hdr.Iov = &x.iov[i]
		x.msgs[i].hdr.SetIovlen(1)
	}
	x.fn = x.try
	return x
}

// space is where the next packet, of at most n octets, is to be written.
func (x *sender) space(n int) []byte {
	if x.pos+n > len(x.buf) {
		x.flush()
	}
	return x.buf[x.pos:]
}

// add takes the packet of n octets that was written to space.
func (x *sender) add(n int, d *dest, tos byte) {
	m := &x.ends[max(x.n-1, 0)]
	if x.n == 0 || x.closed || x.whole || m.d != d || m.tos != tos || n > m.stride || m.count == maxSegments || x.pos+n-m.start > maxDatagram {
		if x.n == sendVector {
			at := x.pos
			x.flush()
			copy(x.buf, x.buf[at:at+n])
		}
		m = &x.ends[x.n]
		*m = message{d: d, start: x.pos, end: x.pos, stride: n, tos: tos}
		x.n++
		x.closed = false
	}
	m.count++
	x.closed = n < m.stride
	x.pos += n
	m.end = x.pos
}

// flush sends what was gathered.
func (x *sender) flush() {
	if x.n == 0 {
		return
	}
	for i := range x.ends[:x.n] {
		x.prepare(i)
	}
	x.done = 0
	_ = x.s.write(x.fn) // of a closed socket: nobody is left to hear of it
	x.n, x.pos, x.closed = 0, 0, false
}

// prepare completes the header of message i.
func (x *sender) prepare(i int) {
	m, h, c := &x.ends[i], &x.msgs[i].hdr, x.ctl[i][:]
	x.iov[i].Base = &x.buf[m.start]
	x.iov[i].SetLen(m.end - m.start)
	h.Name, h.Namelen = &m.d.name[0], m.d.nameLen
	at := 0
	if m.count > 1 {
		binary.NativeEndian.PutUint16(putControl(c, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2), uint16(m.stride))
		at = cmsgInt
	}
	at += copy(c[at:], m.d.info[:m.d.infoLen])
	if m.tos != 0 {
		level, typ := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
		if x.s.v6 {
			level, typ = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		binary.NativeEndian.PutUint32(putControl(c[at:], level, typ, 4), uint32(m.tos))
		at += cmsgInt
	}
	h.Control = nil
	if at > 0 {
		h.Control = &c[0]
	}
	h.SetControllen(at)
}

func (x *sender) try(fd uintptr) bool {
	for tries := 0; x.done < x.n; {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&x.msgs[x.done])), uintptr(x.n-x.done), 0, 0, 0)
		switch {
		case e == 0:
			x.done += int(r)
			tries = 0
		case e == unix.EAGAIN:
			return false
		case (e == unix.EINTR || e == unix.ECONNREFUSED) && tries < 4: // an ICMP error about an earlier packet
			tries++
		default:
			x.refused(fd, x.done, e)
			x.done++
			tries = 0
		}
	}
	return true
}

// refused deals with message i, which the system did not take. One that it would not cut goes packet by packet.
func (x *sender) refused(fd uintptr, i int, e unix.Errno) {
	m := &x.ends[i]
	switch e {
	case unix.EMSGSIZE, unix.EINVAL, unix.EIO:
		if e == unix.EIO { // the interface cannot do checksums, hence not cut either
			x.whole = true
		}
		if e == unix.EMSGSIZE || m.count > 1 {
			x.out.tooBig(m.d, m.stride)
		}
		if m.count > 1 {
			x.singly(fd, i)
			return
		}
	}
	x.out.unsent(m.d, m.count, e)
}

// singly sends the packets of message i one by one; those that exceed the path leave in fragments.
func (x *sender) singly(fd uintptr, i int) {
	m, h := x.ends[i], &x.msgs[i].hdr
	if m.count > 1 { // without the UDP_SEGMENT message, which leads
		n := int(h.Controllen) - cmsgInt
		h.Control = nil
		if n > 0 {
			h.Control = &x.ctl[i][cmsgInt]
		}
		h.SetControllen(n)
	}
	for at := m.start; at < m.end; at += m.stride {
		x.iov[i].Base = &x.buf[at]
		x.iov[i].SetLen(min(m.stride, m.end-at))
		if _, _, e := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(h)), 0); e != 0 {
			x.out.unsent(m.d, 1, e)
		}
	}
}

// sendOne sends one datagram, waiting for room. It may be called beside a sender of the same socket.
func (s *socket) sendOne(d *dest, b []byte) error {
	m := oneMessage{d: d, b: b}
	m.iov.Base = unsafe.SliceData(b)
	m.iov.SetLen(len(b))
	m.hdr.Iov = &m.iov
	m.hdr.SetIovlen(1)
	m.hdr.Name, m.hdr.Namelen = &d.name[0], d.nameLen
	if d.infoLen > 0 {
		m.hdr.Control = &d.info[0]
	}
	m.hdr.SetControllen(d.infoLen)
	if err := s.rc.Write(m.try); err != nil {
		return err
	}
	if m.err != 0 {
		return m.err
	}
	return nil
}

type oneMessage struct {
	d   *dest
	b   []byte
	hdr unix.Msghdr
	iov unix.Iovec
	err unix.Errno
}

func (m *oneMessage) try(fd uintptr) bool {
	_, _, m.err = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m.hdr)), 0)
	return m.err != unix.EAGAIN
}
