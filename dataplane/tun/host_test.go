//go:build linux

package tun

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// snapshot is what a plane could have changed on a node.
func (n *node) snapshot() string {
	return n.sh("ip rule; ip -6 rule; ip route show table all | grep -v btns0; ip -6 route show table all | grep -v btns0 | sed 's/ expires .*//'; " +
		"ip -br link; nft list ruleset; sysctl net.ipv4.conf.all.src_valid_mark; tc qdisc show; tc filter show dev eth0 egress; ip xfrm policy; ip xfrm state")
}

func (n *node) fine() {
	n.t.Helper()
	if p := n.plane.Info().Problems; len(p) > 0 {
		n.t.Errorf("%s: problems: %q", n.name, p)
	}
}

// Strict reverse-path filters on both ends and no neighbour known: what is routed to the device is still accepted from
// the wire, and ARP is answered (design: TUN plane).
func TestStrictReversePath(t *testing.T) {
	t.Parallel()
	for _, mode := range [][]pairOption{nil, {raw}, {tunnel}} {
		a, b := twoNodes(t)
		for _, n := range []*node{a, b} {
			n.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.default.rp_filter=1")
			n.open(Config{})
		}
		protectBoth(a, b, gcm128, mode...)
		for _, n := range []*node{a, b} {
			n.sh("ip neigh flush all")
		}
		for _, addr := range []string{b4, b6} {
			a.mustPing(addr)
			transfer(t, a, b, addr, 1<<20)
		}
		a.sh("ip neigh flush all")
		b.mustPing(a4)
		a.fine()
	}
}

// A rule for the real interface holds for what came out of ESP (BTNS-CORE-24), and what it lets pass is let pass.
func TestInterfaceFilter(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string][]pairOption{"transport": nil, "tunnel": {tunnel}} {
		t.Run("BTNS-CORE-24 what comes out of ESP passes the filters of the interface, "+name+" mode", func(t *testing.T) {
			a, b := twoNodes(t)
			a.open(Config{})
			b.open(Config{})
			a.fine()
			protectBoth(a, b, gcm128, mode...)
			b.sh(`nft 'table inet host { chain in { type filter hook input priority 0; policy drop;
				iif lo accept
				udp dport { 500, 4500 } accept
				icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
				iifname "eth0" tcp dport 7000 accept
				iifname "eth0" tcp dport 7002 counter drop
				iifname "eth0" icmp type echo-request accept
				}
				}'`)
			for _, addr := range []string{b4, b6} {
				transfer(t, a, b, addr, 1<<20)
			}
			a.mustPing(b4)
			l := b.listen("tcp", b4+":7002")
			a.in(func() {
				if c, err := dialer.Dial("tcp", l.Addr().String()); err == nil {
					t.Errorf("connected through a drop rule: %v", c.LocalAddr())
				}
			})
			if out := b.sh("nft list table inet host"); strings.Contains(out, "packets 0 ") {
				t.Errorf("the rule for eth0 did not see the packets:\n%s", out)
			}
		})
	}
}

// Clear text is dropped both ways once a prefix is protected, except in the two seconds of an upgrade; the other host is
// told apart from third ones.
func TestClearText(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	a.mustPing(b4)
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Protect})
	if a.ping(b4) == nil {
		t.Error("ping to a protected host without an SA was answered")
	}
	if b.ping(a4) == nil {
		t.Error("clear ping from a protected host was answered")
	}
	if _, err := a.try("ping -c 1 -W 1 -I eth0 " + b4); err == nil {
		t.Error("a program bound to the interface spoke in clear")
	}
	a.await("Dropped", func(e dataplane.Event) bool {
		d, ok := e.(dataplane.Dropped)
		return ok && d.Reason == flow.NoSA && d.Remote == netip.MustParseAddr(b4) && d.Count > 0
	})
	a.mustPing(b6) // another address
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Closed}, dataplane.SetPrefix{Prefix: single(b6), State: flow.Protect})
	if a.ping(b4) == nil || a.ping(b6) == nil || b.ping(a6) == nil {
		t.Error("closed, and answered")
	}
	// Upgrade: what b sends in clear still comes in, what a sends is protected.
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Upgrade})
	a.apply(dataplane.AddSA{Spec: pairOf(1, gcm128, a4, b4), Use: true})
	b.open(Config{})
	b.apply(dataplane.AddSA{Spec: pairOf(1, gcm128, b4, a4)})
	b.mustPing(a4)
	b.until("protected answer to a clear ping", func() bool { // counted after it is delivered
		c := b.plane.Counters(nil)
		return len(c) == 1 && c[0].PacketsIn > 0 && c[0].PacketsOut == 0
	})
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Clear}, dataplane.SetPrefix{Prefix: single(b6), State: flow.Clear}, dataplane.RemoveSA{ID: 1})
	a.mustPing(b4)
	a.mustPing(b6)
}

// Networks may lie within one another, in any order and state; the host within is what its own prefix says.
func TestNestedNetworks(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	set := func(prefix string, s flow.State) {
		t.Helper()
		a.apply(dataplane.SetPrefix{Prefix: netip.MustParsePrefix(prefix), State: s})
	}
	set("192.0.2.0/25", flow.Closed)
	set("192.0.2.0/24", flow.Protect)
	set("192.0.0.0/16", flow.Closed)
	set("192.0.2.0/26", flow.Hold)
	set("2001:db8::/32", flow.Closed)
	set("2001:db8::/64", flow.Upgrade)
	if a.ping(b4) == nil || b.ping(a4) == nil || b.ping(a6) == nil {
		t.Error("closed network reached")
	}
	set("192.0.2.2/32", flow.Upgrade)
	a.apply(dataplane.AddSA{Spec: pairOf(1, gcm128, a4, b4), Use: true})
	b.open(Config{})
	b.apply(dataplane.AddSA{Spec: pairOf(1, gcm128, b4, a4)})
	b.mustPing(a4)
	set("192.0.0.0/16", flow.Clear)
	set("192.0.2.2/32", flow.Clear)
	if a.ping(b4) == nil || b.ping(a4) == nil {
		t.Error("network within the one that was forgotten is open")
	}
	for _, p := range []string{"192.0.2.0/24", "192.0.2.0/25", "192.0.2.0/26", "2001:db8::/32", "2001:db8::/64"} {
		set(p, flow.Clear)
	}
	b.in(func() { _ = b.plane.Close() })
	a.mustPing(b4)
	b.mustPing(a6)
}

// A held packet leaves when there is an SA, and asks for it once.
func TestHold(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	a.open(Config{})
	b.open(Config{})
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Hold})
	l := b.packet(b4 + ":7001")
	c, err := a.dial("udp", b4+":7001")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(c, "datagram %d", i); err != nil {
			t.Fatal(err)
		}
	}
	a.await("Acquire", func(e dataplane.Event) bool {
		q, ok := e.(dataplane.Acquire)
		return ok && q.Held && q.Flow.Remote == netip.MustParseAddr(b4) && q.Flow.Proto == 17 && q.Flow.RemotePort == 7001
	})
	a.until("three held", func() bool {
		a.plane.held.mu.Lock()
		defer a.plane.held.mu.Unlock()
		q := a.plane.held.by[single(b4)]
		return q != nil && len(q.frames) == 3
	})
	b.protect(pairOf(1, gcm128, b4, a4))
	a.apply(dataplane.AddSA{Spec: pairOf(1, gcm128, a4, b4)}, dataplane.UseSA{ID: 1}, dataplane.SetPrefix{Prefix: single(b4), State: flow.Protect})
	buf := make([]byte, 100)
	for i := range 3 {
		_ = l.SetReadDeadline(time.Now().Add(2 * time.Second))
		if n, _, err := l.ReadFrom(buf); err != nil || string(buf[:n]) != fmt.Sprintf("datagram %d", i) {
			t.Fatalf("%d: %q, %v", i, buf[:n], err)
		}
	}
}

// The device's MTU is that of the way out, even where the address that the way is asked for is the host's own.
func TestDeviceMTU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, route string
		path        int
	}{
		{"without a default route the least interface counts", "", 1400},
		{"the default route counts", "ip route add default via 198.51.100.9", 9000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := twoNodes(t)
			a.sh("ip link set eth0 mtu 1400")
			join(a, "eth1", b, "eth1")
			a.sh("ip link set eth1 mtu 9000")
			a.addr("eth1", "198.51.100.1/24")
			if c.route != "" {
				a.sh("ip addr del " + a4 + "/24 dev eth0; " + c.route)
			}
			a.open(Config{})
			if got, want := a.plane.Info().MTU, innerMTU(c.path); got != want {
				t.Errorf("MTU %d, want %d", got, want)
			}
		})
	}
}

// What has been returned to the host is asked about again with its next packet, not after the half minute for which the
// kernel keeps the larval state of the last acquire; and not more than once a second.
func TestReturnedPrefixIsAskedAbout(t *testing.T) {
	t.Parallel()
	a, _ := twoNodes(t)
	a.open(Config{})
	acquires := func() (n int) {
		for _, e := range a.seen() {
			if q, ok := e.(dataplane.Acquire); ok && q.Flow.Remote == netip.MustParseAddr(b4) {
				n++
			}
		}
		return n
	}
	began := time.Now()
	for round := 1; round <= 3; round++ {
		a.until(fmt.Sprintf("acquire %d", round), func() bool {
			a.mustPing(b4)
			if acquires() < round { // one that came too soon after the last is lost, and another return renews it
				a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Upgrade})
				a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Clear})
			}
			return acquires() >= round
		})
	}
	if n, s := acquires(), time.Since(began).Seconds(); n > 1+int(s) {
		t.Errorf("%d acquires in %.1f s", n, s)
	}
}

// Close leaves the host as it was, and so does Cleanup after a plane was killed; until then protected hosts stay closed.
func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	a, b := twoNodes(t)
	before := a.snapshot()
	a.open(Config{})
	a.apply(dataplane.SetPrefix{Prefix: single(b4), State: flow.Protect}, dataplane.SetPrefix{Prefix: single(b6), State: flow.Hold},
		dataplane.SetPrefix{Prefix: netip.MustParsePrefix("198.51.100.0/24"), State: flow.Upgrade})
	if a.snapshot() == before {
		t.Error("nothing changed on the host")
	}
	a.in(func() {
		if err := a.plane.Close(); err != nil {
			t.Error(err)
		}
	})
	if after := a.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter Close:\n%s", before, after)
	}
	b.mustPing(a4)

	kill := a.victim(t)
	if a.ping(b4) == nil {
		t.Error("protected host reached in clear")
	}
	kill()
	if a.ping(b4) == nil || b.ping(a4) == nil || a.ping("-I eth0 "+b4) == nil {
		t.Error("a dead plane left protected hosts open")
	}
	a.open(Config{Device: "btns0"})
	if a.ping(b4) == nil || b.ping(a4) == nil {
		t.Error("the next plane has opened what the dead one left closed, before it was told anything")
	}
	a.apply()
	a.mustPing(b4)
	a.in(func() { _ = a.plane.Close() })
	if after := a.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter Open and Close:\n%s", before, after)
	}
	a.victim(t)()
	a.victim(t)()
	a.in(func() {
		if err := Cleanup(Config{}); err != nil {
			t.Error(err)
		}
	})
	if after := a.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter Cleanup:\n%s", before, after)
	}
}

// victim is another process with a plane, to be killed.
func (n *node) victim(t *testing.T) (kill func()) {
	t.Helper()
	c := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), int(n.ns)), os.Args[0], "-test.run=^TestVictim$")
	c.Env = append(os.Environ(), "BTNS_TEST_VICTIM="+b4)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("victim: %q, %v", line, err)
	}
	return func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// TestVictim is the process of victim.
func TestVictim(t *testing.T) {
	addr := os.Getenv("BTNS_TEST_VICTIM")
	if addr == "" {
		t.Skip("left out: runs as a process of other tests")
	}
	p, err := Open(Config{}, func(dataplane.Event) {})
	if err == nil {
		err = p.Apply([]dataplane.Change{dataplane.SetPrefix{Prefix: single(addr), State: flow.Protect}})
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	select {}
}

// What is missing is named, with what to do.
func TestOpenErrors(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := newNode(t, "a")
	l := a.packet(":4500")
	a.in(func() {
		_, err := Open(Config{}, func(dataplane.Event) {})
		var e *OpenError
		if !errors.As(err, &e) || !errors.Is(err, ErrPortInUse) || !strings.Contains(e.Remedy, "4500") {
			t.Errorf("port in use: %v", err)
		}
	})
	_ = l.Close()
	a.sh("ip tuntap add btns0 mode tun")
	a.open(Config{})
	if d := a.plane.Info().Device; d != "btns1" {
		t.Errorf("device %q", d)
	}
}
