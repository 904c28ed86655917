//go:build linux

package tun

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// icmpReplies bounds the too-big messages to 100 a second.
type icmpReplies struct {
	second int64
	n      int
}

func (r *icmpReplies) allow(now int64) bool {
	if s := now / perSecond; s != r.second {
		r.second, r.n = s, 0
	}
	r.n++
	return r.n <= 100
}

// sayTooBig tells the sender of p, on this host or behind it, how large its packets may be (RFC 1191 §4, RFC 4443 §3.2).
// The message comes from where p was to go.
func (p *Plane) sayTooBig(pkt []byte, mtu int, now int64) {
	if !p.replies.allow(now) {
		return
	}
	var buf [vnetLen + 1280]byte
	var to netip.Addr
	if pkt[0]>>4 == 4 {
		to = netip.AddrFrom4([4]byte(pkt[16:20]))
	} else {
		to = netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	m := flow.PacketTooBig(buf[vnetLen:], pkt, to, mtu)
	if m == nil {
		return
	}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.dev.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(vnetLen+len(m)))
}
