//go:build linux

package tun

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
)

// closedPorts reads what ICMP says about datagrams of the IKE socket, and tells of ports that nothing listens on. The
// kernel has compared no more than the ports of the datagram that is quoted: it is a hint that anybody can forge.
type closedPorts struct {
	p    *Plane
	said limiter
	data [64]byte  // the quoted datagram, of no interest
	oob  [512]byte // with IP_RECVERR there may be more than one control message
}

// maxErrors bounds one visit to the queue of errors; whoever fills it does not keep us here.
const maxErrors = 64

// drain empties the queue of errors of fd.
func (c *closedPorts) drain(fd int) {
	for range maxErrors {
		_, n, _, from, err := unix.Recvmsg(fd, c.data[:], c.oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		to := addrOf(from)
		if to.IsValid() && closesPort(c.oob[:n]) && c.said.allow(to, time.Now().UnixNano()) {
			c.p.event(dataplane.PortClosed{Remote: to})
		}
	}
}

func addrOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}

// What ICMP calls the unreachable of a port, and of what a filter rejects (RFC 792, RFC 1812 §5.2.7.1, RFC 4443 §3.1).
const (
	unreachable4, port4, netBarred4, hostBarred4, barred4 = 3, 3, 9, 10, 13
	unreachable6, barred6, port6, rejected6               = 1, 1, 4, 6
)

// closesPort reports whether control messages hold an ICMP message about a port that cannot be reached.
func closesPort(oob []byte) bool {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for _, m := range msgs {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if !v4 && !v6 || len(m.Data) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			continue
		}
		// struct sock_extended_err: errno of four octets, then origin, type and code.
		origin, typ, code := m.Data[4], m.Data[5], m.Data[6]
		switch {
		case origin == unix.SO_EE_ORIGIN_ICMP && typ == unreachable4:
			return code == port4 || code == netBarred4 || code == hostBarred4 || code == barred4
		case origin == unix.SO_EE_ORIGIN_ICMP6 && typ == unreachable6:
			return code == port6 || code == barred6 || code == rejected6
		}
	}
	return false
}
