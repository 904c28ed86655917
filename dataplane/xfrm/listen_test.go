//go:build linux

package xfrm

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/selector"
)

func run(t *testing.T, cmd string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", cmd).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

// rig is a namespace with a way out that leads nowhere.
func rig(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("left out: needs root for a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread goes with its namespace
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	run(t, "ip link set lo up; ip tuntap add sink0 mode tun; ip link set sink0 up; ip addr add 192.0.2.1/24 dev sink0; "+
		"ip -6 addr add 2001:db8::1/64 dev sink0 nodad; ip xfrm policy add dir out dst 203.0.113.0/24 action allow")
}

// send sends one packet with a mark.
func send(t *testing.T, network, to string, mark int) {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) })
		return err
	}}
	c, err := d.Dial(network, to)
	if err == nil {
		defer c.Close()
		_, err = c.Write([]byte("x"))
	}
	if err != nil {
		t.Fatalf("%s: %v", to, err)
	}
}

// next is the next flow with UDP; others are the system's own.
func next(t *testing.T, flows <-chan selector.Flow, to string) selector.Flow {
	t.Helper()
	for {
		select {
		case f := <-flows:
			if f.Proto == selector.UDP {
				return f
			}
		case <-time.After(3 * time.Second):
			t.Fatalf("no acquire for %s", to)
		}
	}
}

// kill ends a watcher as if its process had been killed: nothing is removed.
func kill(w *Watcher) {
	_ = w.from.SetReadDeadline(time.Unix(1, 0))
	w.work.Wait()
	w.shut()
}

// larval are the states without an SPI, which acquires make.
func larval(t *testing.T) int {
	t.Helper()
	return strings.Count(run(t, "ip xfrm state"), "spi 0x00000000")
}

// Packets leave in clear and are told of, once per destination, with their ports; what is exempt is not (design: TUN
// plane, level-use acquires).
func TestListen(t *testing.T) {
	rig(t)
	before := run(t, "ip xfrm policy")
	const bit = 1 << 28
	flows := make(chan selector.Flow, 100)
	w, err := Listen(Config{Exempt: bit}, func(f selector.Flow) { flows <- f })
	if err != nil {
		t.Fatal(err)
	}
	send(t, "udp4", "192.0.2.9:5000", bit) // ours
	send(t, "udp4", "127.0.0.1:5000", 0)
	send(t, "udp4", "192.0.2.7:5000", 0)
	send(t, "udp4", "192.0.2.7:5000", 0)
	send(t, "udp6", "[2001:db8::7]:5001", 0)
	for _, want := range []struct {
		local, remote string
		port          uint16
	}{{"192.0.2.1", "192.0.2.7", 5000}, {"2001:db8::1", "2001:db8::7", 5001}} {
		f := next(t, flows, want.remote)
		if f.Local != netip.MustParseAddr(want.local) || f.Remote != netip.MustParseAddr(want.remote) || f.RemotePort != want.port || f.LocalPort == 0 {
			t.Errorf("acquire for %+v, want %+v", f, want)
		}
	}
	if out := run(t, "ip -s link show sink0"); !strings.Contains(out, "TX") {
		t.Error(out)
	}
	kill(w)
	if run(t, "ip xfrm policy") == before {
		t.Error("no policies were installed")
	}
	w2, err := Listen(Config{Exempt: bit}, func(selector.Flow) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := w2.Close(); err != nil {
		t.Error(err)
	}
	if after := run(t, "ip xfrm policy"); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// The kernel keeps a larval state of every acquire, for half a minute unless it is removed: by Close, and by Cleanup for
// a process that was killed. Those of others stay.
func TestLarvalStates(t *testing.T) {
	rig(t)
	// Somebody else's: a policy and an acquire of another request ID. The kernel asks only while somebody listens.
	run(t, "ip xfrm policy add dir out dst 192.0.2.99/32 tmpl proto esp mode transport reqid 7 level use")
	cfg := Config{Exempt: 1 << 28}
	for _, tc := range []struct {
		name string
		end  func(*Watcher) error
	}{
		{"closed", (*Watcher).Close},
		{"killed and cleaned up", func(w *Watcher) error { kill(w); return Cleanup(cfg) }},
		{"killed between giving a state its SPI and deleting it", func(w *Watcher) error {
			kill(w)
			run(t, "ip xfrm state allocspi dst 192.0.2.7 src 192.0.2.1 proto esp mode transport reqid 1651797619 mark 0 mask 0x10000000 min 4096 max 4096")
			return Cleanup(cfg)
		}},
	} {
		flows := make(chan selector.Flow, 100)
		w, err := Listen(cfg, func(f selector.Flow) { flows <- f })
		if err != nil {
			t.Fatal(err)
		}
		send(t, "udp4", "192.0.2.99:5000", 0)
		send(t, "udp4", "192.0.2.7:5000", 0)
		next(t, flows, "192.0.2.7")
		send(t, "udp6", "[2001:db8::7]:5001", 0)
		next(t, flows, "2001:db8::7")
		if n := larval(t); n < 3 {
			t.Fatalf("%s: %d larval states; the test shows nothing", tc.name, n)
		}
		if err := tc.end(w); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if left := run(t, "ip xfrm state"); larval(t) != 1 || !strings.Contains(left, "dst 192.0.2.99") || strings.Contains(left, "reqid 1651797619") {
			t.Errorf("%s: states are\n%s", tc.name, left)
		}
	}
}

// After Renew the next packet raises an acquire at once, and only to the addresses named.
func TestRenew(t *testing.T) {
	rig(t)
	flows := make(chan selector.Flow, 100)
	w, err := Listen(Config{}, func(f selector.Flow) { flows <- f })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, tc := range []struct{ network, peer, other, prefix string }{
		{"udp4", "192.0.2.7:5000", "192.0.2.8:5000", "192.0.2.7/32"},
		{"udp6", "[2001:db8::7]:5000", "[2001:db8::8]:5000", "2001:db8::7/128"},
	} {
		for _, to := range []string{tc.peer, tc.other} {
			send(t, tc.network, to, 0)
			next(t, flows, to)
		}
		if err := w.Renew(netip.MustParsePrefix(tc.prefix)); err != nil {
			t.Fatal(err)
		}
		send(t, tc.network, tc.other, 0)
		send(t, tc.network, tc.peer, 0)
		if f := next(t, flows, tc.peer); !netip.MustParsePrefix(tc.prefix).Contains(f.Remote) {
			t.Errorf("an acquire for %v, want one for %v only", f.Remote, tc.prefix)
		}
	}
}
