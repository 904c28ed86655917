//go:build linux

package tun

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/dataplane/planetest"
	"github.com/btns-ipsec/btns/selector"
)

// The plane keeps to the contract, on a host of its own with real sockets and a real link.
func TestContract(t *testing.T) {
	needRoot(t)
	planetest.Run(t, func(t *testing.T) planetest.Harness { return newHarness(t) })
}

// harness is host a with a plane, and b as the network, of which every packet is made and looked at by hand.
type harness struct {
	t     *testing.T
	a, b  *node
	app   [2]int // raw sockets that send as the host
	net   [2]int // raw sockets that send as the peer
	seen  chan any
	asked int // events handed out
}

func newHarness(t *testing.T) *harness {
	a, b := twoNodes(t)
	h := &harness{t: t, a: a, b: b, seen: make(chan any, 1<<14)}
	for _, n := range []*node{a, b} { // nobody listens on the ports: that is not to be told
		n.sh(`nft 'table inet quiet { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; icmpv6 type destination-unreachable drop; }; }'`)
	}
	a.reach(b4) // neighbours are known
	a.reach(b6)
	a.in(func() {
		h.app = [2]int{h.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW), h.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)}
		h.collect(h.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP), h.delivered4)
		h.collect(h.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP), h.delivered6)
		h.collect(h.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), h.controlled4)
		h.collect(h.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6), h.controlled6)
	})
	b.in(func() {
		h.net = [2]int{h.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW), h.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)}
		h.collect(h.socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(hostToNet(unix.ETH_P_ALL))), h.wired)
	})
	a.open(Config{})
	// Frames of many packets would be looked at as one.
	a.plane.uso = false
	for _, o := range a.plane.outs {
		o.mu.Lock()
		for _, both := range o.send {
			for _, s := range both {
				if s != nil {
					s.whole = true
				}
			}
		}
		o.mu.Unlock()
	}
	h.Seen()
	return h
}

func (h *harness) socket(family, typ, proto int) int {
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		h.t.Fatal(err)
	}
	tv := unix.Timeval{Usec: 20000} // so that readers see the end
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return fd
}

// collect reads packets until the test ends.
func (h *harness) collect(fd int, take func([]byte, unix.Sockaddr)) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			select {
			case <-end:
				return
			default:
			}
			if err == nil {
				take(append([]byte(nil), b[:n]...), from)
			}
		}
	}()
	h.t.Cleanup(func() { close(end); <-done; _ = unix.Close(fd) })
}

type deliveredPacket []byte

func outerPort(udp []byte) bool {
	return len(udp) < 8 || be.Uint16(udp[2:]) == 4500 || be.Uint16(udp[2:]) == 500
}

func (h *harness) delivered4(b []byte, _ unix.Sockaddr) {
	if len(b) >= 28 && !outerPort(b[20:]) {
		h.seen <- deliveredPacket(b)
	}
}

// controlled4 and controlled6 take the types of ICMP that the contract is about.
func (h *harness) controlled4(b []byte, _ unix.Sockaddr) {
	if len(b) >= 28 && (b[20] >= 253 || b[20] == 12) {
		h.seen <- deliveredPacket(b)
	}
}

func (h *harness) controlled6(b []byte, from unix.Sockaddr) {
	if len(b) >= 8 && (b[0] == 200 || b[0] == 201 || b[0] == 4) {
		h.whole6(b, from, selector.ICMPv6)
	}
}

// delivered6 and whole6 make the header that the kernel took off.
func (h *harness) delivered6(b []byte, from unix.Sockaddr) {
	if !outerPort(b) {
		h.whole6(b, from, selector.UDP)
	}
}

func (h *harness) whole6(b []byte, from unix.Sockaddr, proto uint8) {
	if a, ok := from.(*unix.SockaddrInet6); ok {
		p := make([]byte, 40+len(b))
		flow.PutHeader(p, netip.AddrFrom16(a.Addr), netip.MustParseAddr(a6), proto, 0, 64, len(b))
		copy(p[40:], b)
		h.seen <- deliveredPacket(p)
	}
}

// wired looks at a packet that arrived at the peer.
func (h *harness) wired(b []byte, from unix.Sockaddr) {
	if a, ok := from.(*unix.SockaddrLinklayer); !ok || a.Pkttype != unix.PACKET_HOST {
		return
	}
	f, i, err := flow.ParseFlow(b, true)
	if err != nil || f.Proto == selector.ICMPv6 && f.LocalPort>>8 >= 130 && f.LocalPort>>8 <= 143 {
		return
	}
	w := planetest.Wired{Kind: planetest.Clear, From: netip.AddrPortFrom(f.Local, 0), To: netip.AddrPortFrom(f.Remote, 0), Data: b[:i.TotalLen]}
	outer := netip.AddrPortFrom(f.Local, f.LocalPort)
	switch u := b[i.UpperAt:i.TotalLen]; {
	case f.Proto == 50:
		w.Kind, w.TOS, w.Data = planetest.ESP, i.TOS, u
	case f.Proto != selector.UDP || f.LocalPort != 4500 && f.LocalPort != 500:
	case len(u) == 9:
		w = planetest.Wired{Kind: planetest.Keepalive, From: outer, To: netip.AddrPortFrom(f.Remote, f.RemotePort)}
	case f.LocalPort == 500 || binary.BigEndian.Uint32(u[8:]) == 0:
		w = planetest.Wired{Kind: planetest.IKE, From: outer, To: netip.AddrPortFrom(f.Remote, f.RemotePort), Data: u[12:]}
	default:
		w = planetest.Wired{Kind: planetest.ESP, From: outer, To: netip.AddrPortFrom(f.Remote, f.RemotePort), TOS: i.TOS, Data: u[8:]}
	}
	h.seen <- w
}

func (h *harness) Plane() dataplane.Plane { return inNode{h.a.plane, h.a} }

// inNode has changes made in the namespace of the plane.
type inNode struct {
	*Plane
	n *node
}

func (p inNode) Apply(c []dataplane.Change) (err error) {
	p.n.in(func() { err = p.Plane.Apply(c) })
	return err
}

func (h *harness) Ends(v6 bool) (local, remote netip.Addr) {
	if v6 {
		return netip.MustParseAddr(a6), netip.MustParseAddr(b6)
	}
	return netip.MustParseAddr(a4), netip.MustParseAddr(b4)
}

func (h *harness) FromApp(pkt []byte) { h.send(h.app, pkt) }

// send puts an IP packet on its way. One that the host's filter refuses is dropped.
func (h *harness) send(fds [2]int, pkt []byte) {
	if pkt[0]>>4 == 4 {
		_ = unix.Sendto(fds[0], pkt, 0, &unix.SockaddrInet4{Addr: [4]byte(pkt[16:20])})
		return
	}
	_ = unix.Sendto(fds[1], pkt, 0, &unix.SockaddrInet6{Addr: [16]byte(pkt[24:40])})
}

func (h *harness) FromNet(w planetest.Wired) {
	if w.Kind == planetest.Clear {
		h.send(h.net, w.Data)
		return
	}
	payload := w.Data
	switch {
	case w.Kind == planetest.Keepalive:
		payload = []byte{0xff}
	case w.Kind == planetest.IKE && w.To.Port() == 4500:
		payload = append(make([]byte, 4), payload...)
	}
	proto := uint8(50)
	if w.To.Port() != 0 {
		u := make([]byte, 8, 8+len(payload))
		be.PutUint16(u, w.From.Port())
		be.PutUint16(u[2:], w.To.Port())
		be.PutUint16(u[4:], uint16(8+len(payload)))
		payload, proto = append(u, payload...), selector.UDP
		be.PutUint16(payload[6:], flow.UpperChecksum(w.From.Addr(), w.To.Addr(), proto, payload))
	}
	p := make([]byte, 40+len(payload))
	n := flow.PutHeader(p, w.From.Addr(), w.To.Addr(), proto, w.TOS, 64, len(payload))
	h.send(h.net, append(p[:n], payload...))
}

// Seen waits until nothing has happened for a while in which this process was not kept waiting itself: on a busy machine
// the plane may be as late as its test.
func (h *harness) Seen() (s planetest.Seen) {
	const (
		beat  = 10 * time.Millisecond
		late  = 3 * time.Millisecond
		quiet = 4 // beats in time and without anything
	)
	t := time.NewTimer(beat)
	defer t.Stop()
	began, calm := time.Now(), 0
	for end := began.Add(10 * time.Second); calm < quiet && began.Before(end); {
		select {
		case x := <-h.seen:
			switch x := x.(type) {
			case planetest.Wired:
				s.Wire = append(s.Wire, x)
			case deliveredPacket:
				s.Delivered = append(s.Delivered, x)
			}
			calm = 0
		case <-t.C:
			if calm++; time.Since(began) > beat+late {
				calm = 0
			}
		}
		began = time.Now()
		t.Reset(beat)
	}
	all := h.a.seen()
	s.Events = all[h.asked:]
	h.asked = len(all)
	return s
}
