//go:build linux

package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// slotLen is one slot of a receiver: the largest datagram, or as many as GRO joins. Slots are touched only as far as
// datagrams reach.
const slotLen = 1 << 16

// receiver takes datagrams from a socket in vectors.
type receiver struct {
	s     *socket
	buf   []byte
	msgs  []mmsghdr
	iov   []unix.Iovec
	ctl   [][controlLen]byte
	names [][unix.SizeofSockaddrInet6]byte
	got   int
	err   unix.Errno
	fn    func(uintptr) bool
	icmp  *closedPorts // of the IKE socket
}

func newReceiver(s *socket, vector int) *receiver {
	r := &receiver{
		s: s, buf: make([]byte, vector*slotLen), msgs: make([]mmsghdr, vector), iov: make([]unix.Iovec, vector),
		ctl: make([][controlLen]byte, vector), names: make([][unix.SizeofSockaddrInet6]byte, vector), got: vector,
	}
	for i := range r.msgs {
		r.iov[i].Base = &r.buf[i*slotLen]
		r.iov[i].SetLen(slotLen)
		h := &r.msgs[i].hdr
		h.Iov = &r.iov[i]
		h.SetIovlen(1)
		h.Control = &r.ctl[i][0]
		h.Name = &r.names[i][0]
	}
	r.fn = r.try
	return r
}

// recv waits for datagrams; got is how many there are.
func (r *receiver) recv() error {
	for i := range r.msgs[:r.got] { // the kernel wrote to those that were used
		r.msgs[i].hdr.SetControllen(controlLen)
		r.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet6
	}
	r.got = 0
	if err := r.s.read(r.fn); err != nil {
		return err
	}
	if r.err != 0 {
		return r.err
	}
	return nil
}

func (r *receiver) try(fd uintptr) bool {
	for tries := 0; ; tries++ {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(len(r.msgs)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			r.got, r.err = int(n), 0
			return true
		case e == unix.EAGAIN:
			if r.icmp != nil { // an error wakes too, and whoever sends may have taken it from the socket
				r.icmp.drain(int(fd))
			}
			return false
		case tries < 16: // what an ICMP error left on the socket is read once
		default:
			r.err = e
			return true
		}
	}
}

// msg is datagram i and what is known of its arrival; of a raw IPv4 socket without the header.
func (r *receiver) msg(i int) ([]byte, arrival) {
	m := &r.msgs[i]
	b := r.buf[i*slotLen : i*slotLen+int(m.n)]
	a := readControl(r.ctl[i][:min(int(m.hdr.Controllen), controlLen)])
	if r.s.kind == rawSocket && !r.s.v6 {
		if len(b) < 20 || int(b[0]&15)*4 > len(b) {
			return nil, a
		}
		a.tos = b[1]
		b = b[int(b[0]&15)*4:]
	}
	if a.segment == 0 {
		a.segment = len(b)
	}
	return b, a
}
