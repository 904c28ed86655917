//go:build linux

package tun

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// needRoot skips what needs network namespaces.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("tests of the TUN plane need root")
		}
		t.Skip("left out: tests of the TUN plane need root for network namespaces")
	}
}

// node is a host of its own: a network namespace.
type node struct {
	t      testing.TB
	ns     netns.NsHandle
	name   string
	plane  *Plane
	mu     sync.Mutex
	events []dataplane.Event
}

func newNode(t testing.TB, name string) *node {
	t.Helper()
	n := &node{t: t, name: name}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.New()
		n.ns = ns
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.ns.Close() })
	n.sh("ip link set lo up")
	n.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
	return n
}

// in runs f in the node's namespace.
func (n *node) in(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(n.ns); err != nil {
			n.t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func (n *node) try(cmd string) (string, error) {
	c := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), int(n.ns)), "sh", "-c", cmd)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (n *node) sh(cmd string) string {
	n.t.Helper()
	out, err := n.try(cmd)
	if err != nil {
		n.t.Fatalf("%s: %s: %v: %s", n.name, cmd, err, out)
	}
	return out
}

// join puts a cable between two nodes.
func join(a *node, devA string, b *node, devB string) {
	a.t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: devA}, PeerName: devB, PeerNamespace: netlink.NsFd(int(b.ns))}
	var err error
	a.in(func() { err = netlink.LinkAdd(v) })
	if err != nil {
		a.t.Fatal(err)
	}
	a.sh("ip link set " + devA + " up")
	b.sh("ip link set " + devB + " up")
}

func (n *node) addr(dev string, addrs ...string) {
	n.t.Helper()
	for _, a := range addrs {
		n.sh("ip addr add " + a + " dev " + dev)
	}
}

func (n *node) open(cfg Config) {
	n.t.Helper()
	var err error
	n.in(func() {
		n.plane, err = Open(cfg, func(e dataplane.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
		})
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		n.in(func() {
			if err := n.plane.Close(); err != nil {
				n.t.Error(err)
			}
		})
	})
}

func (n *node) apply(changes ...dataplane.Change) {
	n.t.Helper()
	var err error
	n.in(func() { err = n.plane.Apply(changes) })
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) seen() []dataplane.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]dataplane.Event(nil), n.events...)
}

// await waits for an event that ok accepts.
func (n *node) await(what string, ok func(dataplane.Event) bool) {
	n.t.Helper()
	n.until(what, func() bool {
		for _, e := range n.seen() {
			if ok(e) {
				return true
			}
		}
		return false
	})
}

func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(6 * time.Second); !ok(); {
		if time.Now().After(end) {
			n.t.Fatalf("%s: no %s; events: %v", n.name, what, n.seen())
		}
		runtime.Gosched()
	}
}

func (n *node) drops(why flow.Reason) uint64 {
	n.plane.drops.mu.Lock()
	defer n.plane.drops.mu.Unlock()
	return n.plane.drops.total[why]
}

var (
	gcm128 = protect.Suite{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}
	chacha = protect.Suite{Encr: protect.ChaCha20Poly1305, KeyBits: 256}
	cbc    = protect.Suite{Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA512}
)

// keys are fixed for a direction.
func testKeys(s protect.Suite, seed string) protect.Keys {
	out := make([]byte, 0, 256)
	for i := byte(0); len(out) < s.KeyLen(); i++ {
		h := sha256.Sum256(append([]byte(seed), i))
		out = append(out, h[:]...)
	}
	return protect.Keys{Encr: out[:s.EncrLen()], Integ: out[s.EncrLen():s.KeyLen()]}
}

type pairOption func(*flow.Spec)

// pairOf is the child SA between a and b as a sees it; the other end swaps the arguments.
func pairOf(id flow.PairID, s protect.Suite, a, b string, options ...pairOption) flow.Spec {
	la, ra := netip.MustParseAddr(a), netip.MustParseAddr(b)
	spi := func(from, to netip.Addr) uint32 {
		h := sha256.Sum256(fmt.Appendf(nil, "%v %v %d", from, to, id))
		return binary.BigEndian.Uint32(h[:]) | 0x1000
	}
	spec := flow.Spec{
		ID: id, Suite: s, Mode: protect.Transport, SPIIn: spi(ra, la), SPIOut: spi(la, ra),
		KeysIn: testKeys(s, ra.String()+la.String()), KeysOut: testKeys(s, la.String()+ra.String()),
		Local: selector.Set{selector.Host(la)}, Remote: selector.Set{selector.Host(ra)},
		OuterLocal: netip.AddrPortFrom(la, 4500), OuterRemote: netip.AddrPortFrom(ra, 4500), Encap: true,
	}
	for _, o := range options {
		o(&spec)
	}
	return spec
}

func raw(s *flow.Spec) {
	s.Encap = false
	s.OuterLocal = netip.AddrPortFrom(s.OuterLocal.Addr(), 0)
	s.OuterRemote = netip.AddrPortFrom(s.OuterRemote.Addr(), 0)
}

func tunnel(s *flow.Spec) { s.Mode = protect.Tunnel }

// protected makes a pair from a to b at node n.
func (n *node) protect(spec flow.Spec) {
	n.t.Helper()
	changes := []dataplane.Change{dataplane.AddSA{Spec: spec, Use: true}}
	for _, s := range spec.Remote {
		if p, ok := s.Prefix(); ok {
			changes = append(changes, dataplane.SetPrefix{Prefix: p, State: flow.Protect})
		}
	}
	n.apply(changes...)
}

// Addresses of the usual two nodes.
const (
	a4, b4 = "192.0.2.1", "192.0.2.2"
	a6, b6 = "2001:db8::1", "2001:db8::2"
)

// pair of nodes with a cable and, if configured, planes.
func twoNodes(t testing.TB) (a, b *node) {
	t.Helper()
	needRoot(t)
	a, b = newNode(t, "a"), newNode(t, "b")
	join(a, "eth0", b, "eth0")
	a.addr("eth0", a4+"/24", a6+"/64")
	b.addr("eth0", b4+"/24", b6+"/64")
	return a, b
}

func protectBoth(a, b *node, s protect.Suite, options ...pairOption) {
	a.t.Helper()
	a.protect(pairOf(1, s, a4, b4, options...))
	b.protect(pairOf(1, s, b4, a4, options...))
	a.protect(pairOf(2, s, a6, b6, options...))
	b.protect(pairOf(2, s, b6, a6, options...))
}

func (n *node) listen(network, addr string) (l net.Listener) {
	n.t.Helper()
	var err error
	for end := time.Now().Add(5 * time.Second); l == nil; {
		n.in(func() { l, err = net.Listen(network, addr) })
		// Another test may be starting a process, which has the last listener until it is what it is to be.
		if err != nil && (!errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end)) {
			n.t.Fatal(err)
		}
	}
	n.t.Cleanup(func() { _ = l.Close() })
	return l
}

func (n *node) dial(network, addr string) (c net.Conn, err error) {
	n.in(func() { c, err = net.DialTimeout(network, addr, 5*time.Second) })
	return c, err
}

func (n *node) packet(addr string) (c net.PacketConn) {
	n.t.Helper()
	var err error
	for end := time.Now().Add(5 * time.Second); c == nil; {
		n.in(func() { c, err = net.ListenPacket("udp", addr) })
		if err != nil && (!errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end)) {
			n.t.Fatal(err)
		}
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ping sends one packet: with more, ping(8) waits for the rest only twice as long as the first took.
func (n *node) ping(addr string) error { return n.pinged("-W 1 " + addr) }

func (n *node) pinged(args string) error {
	if out, err := n.try("ping -c 1 " + args); err != nil {
		return fmt.Errorf("%s: ping %s: %w: %s", n.name, args, err, out)
	}
	return nil
}

func (n *node) mustPing(addr string) {
	n.t.Helper()
	if err := n.pinged("-W 5 " + addr); err != nil {
		n.t.Fatalf("%v; events: %+v", err, n.seen())
	}
}

// reach waits until addr answers: a link that has just come up may lose the first packets.
func (n *node) reach(addr string) {
	n.t.Helper()
	var err error
	for range 15 {
		if err = n.ping(addr); err == nil {
			return
		}
	}
	n.t.Fatal(err)
}

var dialer = net.Dialer{Timeout: 1500 * time.Millisecond}

func single(a string) netip.Prefix {
	x := netip.MustParseAddr(a)
	return netip.PrefixFrom(x, x.BitLen())
}
