//go:build linux

package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// socketBuffer is what TCP with four streams does not overflow (performance.md §6).
const socketBuffer = 32 << 20 // the kernel doubles and counts overhead: about 16 MiB of packets

// kind is what a socket is for.
type kind uint8

const (
	ikeSocket   kind = iota // UDP 500
	encapSocket             // UDP 4500: IKE behind a marker, and ESP
	rawSocket               // IP protocol 50
	kinds
)

// socket is one of the plane's: of one kind and family, for all local addresses.
type socket struct {
	*port
	kind   kind
	v6     bool
	number uint16 // local port, 0 when raw
}

func (s *socket) String() string {
	fam := "IPv4"
	if s.v6 {
		fam = "IPv6"
	}
	if s.kind == rawSocket {
		return fam + " protocol 50"
	}
	return fmt.Sprintf("%s UDP port %d", fam, s.number)
}

// openSocket opens and binds one socket. The mark sends its packets past the plane's own routes.
func openSocket(k kind, v6 bool, number uint16, mark uint32) (*socket, error) {
	s := &socket{kind: k, v6: v6, number: number}
	family, typ, proto := unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP
	if v6 {
		family = unix.AF_INET6
	}
	if k == rawSocket {
		typ, proto = unix.SOCK_RAW, unix.IPPROTO_ESP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, s.failed(err)
	}
	if err = s.prepare(fd, mark); err == nil {
		err = unix.Bind(fd, s.any())
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, s.failed(err)
	}
	if s.port, err = newPort(fd, s.String()); err != nil {
		return nil, s.failed(err)
	}
	return s, nil
}

func (s *socket) any() unix.Sockaddr {
	if s.v6 {
		return &unix.SockaddrInet6{Port: int(s.number)}
	}
	return &unix.SockaddrInet4{Port: int(s.number)}
}

func (s *socket) failed(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return &OpenError{"open " + s.String(), ErrPermission, "run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE", err}
	case errors.Is(err, unix.EADDRINUSE):
		return &OpenError{
			"open " + s.String(), ErrPortInUse,
			fmt.Sprintf("stop the IKE daemon that has it (ss -lunp 'sport = :%d' names it)", s.number), err,
		}
	}
	return fmt.Errorf("tun: open %s: %w", s, err)
}

// prepare sets what every packet of the socket needs.
func (s *socket) prepare(fd int, mark uint32) error {
	type option struct{ level, name, value int }
	opts := []option{{unix.SOL_SOCKET, unix.SO_MARK, int(mark)}}
	if s.v6 {
		opts = append(opts,
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			// Whole if it fits the path, in fragments if it does not: a path that shrinks is slow, not dead.
			option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT})
		if s.kind != rawSocket { // a raw socket sees one family anyway
			opts = append(opts, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
		}
	} else {
		opts = append(opts,
			option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			option{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
			option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT})
	}
	if s.kind == ikeSocket { // what ICMP says, apart from what arrives: see closedPorts
		if s.v6 {
			opts = append(opts, option{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1})
		} else {
			opts = append(opts, option{unix.IPPROTO_IP, unix.IP_RECVERR, 1})
		}
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	if s.kind == encapSocket { // a kernel without it delivers the packets one by one
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	for _, o := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, socketBuffer/2)
	}
	return nil
}

// sockets holds one of each kind and family; IPv6 ones are nil on a host without it.
type sockets [kinds][2]*socket

func family(a netip.Addr) int {
	if a.Is4() || a.Is4In6() {
		return 0
	}
	return 1
}

func openSockets(c Config) (all sockets, err error) {
	for k := range kinds {
		number := [kinds]uint16{c.Port, c.EncapPort, 0}[k]
		for fam := range 2 {
			s, err := openSocket(k, fam == 1, number, c.outer())
			if fam == 1 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
				continue
			}
			if err != nil {
				all.close()
				return all, err
			}
			all[k][fam] = s
		}
	}
	return all, nil
}

func (all *sockets) each(f func(*socket)) {
	for _, both := range all {
		for _, s := range both {
			if s != nil {
				f(s)
			}
		}
	}
}

func (all *sockets) close() { all.each(func(s *socket) { s.port.close() }) }
