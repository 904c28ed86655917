//go:build linux

package tun

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linkFacts is what the plane wants to know of an interface. Netlink would answer with two kilobytes for each.
type linkFacts struct {
	name     string
	mtu      int
	loopback bool
	mac      [6]byte
	ethernet bool // mac is there
}

// interfaceRequest is struct ifreq.
type interfaceRequest struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func (r *interfaceRequest) do(fd int, request uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r))); e != 0 {
		return e
	}
	return nil
}

// factsOf asks by any socket of the network namespace.
func factsOf(fd, index int) (f linkFacts, err error) {
	var r interfaceRequest
	nativeOrder.PutUint32(r.data[:], uint32(index))
	if err = r.do(fd, unix.SIOCGIFNAME); err != nil {
		return f, fmt.Errorf("tun: interface %d: %w", index, err)
	}
	f.name = unix.ByteSliceToString(r.name[:])
	if err = r.do(fd, unix.SIOCGIFMTU); err != nil {
		return f, fmt.Errorf("tun: %s: MTU: %w", f.name, err)
	}
	f.mtu = int(nativeOrder.Uint32(r.data[:]))
	if err = r.do(fd, unix.SIOCGIFFLAGS); err != nil {
		return f, fmt.Errorf("tun: %s: flags: %w", f.name, err)
	}
	f.loopback = nativeOrder.Uint16(r.data[:])&unix.IFF_LOOPBACK != 0
	if err = r.do(fd, unix.SIOCGIFHWADDR); err != nil {
		return f, fmt.Errorf("tun: %s: hardware address: %w", f.name, err)
	}
	f.ethernet = nativeOrder.Uint16(r.data[:]) == unix.ARPHRD_ETHER
	copy(f.mac[:], r.data[2:])
	return f, nil
}
