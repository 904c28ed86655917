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

// Packets leave in clear and are told of, once per destination, with their ports; what is exempt is not (design: TUN
// plane, level-use acquires).
func TestListen(t *testing.T) {
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
	defer ns.Close()
	run(t, "ip link set lo up; ip tuntap add sink0 mode tun; ip link set sink0 up; ip addr add 192.0.2.1/24 dev sink0; "+
		"ip -6 addr add 2001:db8::1/64 dev sink0 nodad; ip xfrm policy add dir out dst 203.0.113.0/24 action allow")
	before := run(t, "ip xfrm policy")
	const bit = 1 << 28
	flows := make(chan selector.Flow, 100)
	w, err := Listen(Config{Exempt: bit}, func(f selector.Flow) { flows <- f })
	if err != nil {
		t.Fatal(err)
	}
	send := func(network, to string, mark int) {
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
	send("udp4", "192.0.2.9:5000", bit) // ours
	send("udp4", "127.0.0.1:5000", 0)
	send("udp4", "192.0.2.7:5000", 0)
	send("udp4", "192.0.2.7:5000", 0)
	send("udp6", "[2001:db8::7]:5001", 0)
	for _, want := range []struct {
		local, remote string
		port          uint16
	}{{"192.0.2.1", "192.0.2.7", 5000}, {"2001:db8::1", "2001:db8::7", 5001}} {
		for {
			var f selector.Flow
			select {
			case f = <-flows:
			case <-time.After(3 * time.Second):
				t.Fatalf("no acquire for %s", want.remote)
			}
			if f.Proto != selector.UDP {
				continue // the system's own
			}
			if f.Local != netip.MustParseAddr(want.local) || f.Remote != netip.MustParseAddr(want.remote) || f.RemotePort != want.port || f.LocalPort == 0 {
				t.Errorf("acquire for %+v, want %+v", f, want)
			}
			break
		}
	}
	if out := run(t, "ip -s link show sink0"); !strings.Contains(out, "TX") {
		t.Error(out)
	}
	w.conn.Close() // as if killed: nothing is removed
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
	_ = w.from.SetReadDeadline(time.Unix(1, 0))
	w.work.Wait()
	_ = w.from.Close()
}
