//go:build bench

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a UDP socket of all local addresses: every datagram says its own.
type socket struct {
	fd   int
	port uint16
	buf  [1 << 12]byte
	ctl  [128]byte
}

// buffers of a socket hold the answers to all handshakes in flight.
const buffers = 16 << 20

func openSocket(port uint16) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, {unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffers}, {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffers},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)}); err != nil {
		return nil, errors.Join(fmt.Errorf("UDP port %d: %w", port, err), unix.Close(fd))
	}
	return &socket{fd: fd, port: port}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// send is as reliable as a network: what cannot be sent is lost.
func (s *socket) send(from netip.Addr, to netip.AddrPort, b []byte) {
	var control [64]byte
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	(*unix.Inet4Pktinfo)(unsafe.Pointer(&control[unix.CmsgLen(0)])).Spec_dst = from.As4()
	_ = unix.Sendmsg(s.fd, b, control[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)], &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, 0)
}

// each calls f for every datagram that waits. f does not keep the octets.
func (s *socket) each(f func(local, remote netip.AddrPort, b []byte)) error {
	for {
		n, ctl, _, from, err := unix.Recvmsg(s.fd, s.buf[:], s.ctl[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return nil
		case errors.Is(err, unix.ECONNREFUSED):
			continue
		case err != nil:
			return err
		}
		peer, ok := from.(*unix.SockaddrInet4)
		if !ok || ctl < unix.CmsgLen(unix.SizeofInet4Pktinfo) {
			continue
		}
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&s.ctl[unix.CmsgLen(0)]))
		local := netip.AddrPortFrom(netip.AddrFrom4(info.Addr), s.port)
		f(local, netip.AddrPortFrom(netip.AddrFrom4(peer.Addr), uint16(peer.Port)), s.buf[:n])
	}
}
