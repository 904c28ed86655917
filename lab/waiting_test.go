//go:build lab

package lab

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// once sends one datagram, which nobody repeats, and says whether it arrives.
func once(t *testing.T, from, to *netlab.Host, addr string, port int) bool {
	t.Helper()
	var in net.PacketConn
	if err := to.Inside(func() (err error) { in, err = net.ListenPacket("udp", fmt.Sprint(":", port)); return err }); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out net.Conn
	err := from.Inside(func() (err error) { out, err = net.Dial("udp", net.JoinHostPort(addr, fmt.Sprint(port))); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte(page)); err != nil {
		t.Errorf("the first datagram to %s is refused: %v", addr, err)
	}
	buf := make([]byte, 100)
	_ = in.SetReadDeadline(time.Now().Add(15 * time.Second))
	n, _, err := in.ReadFrom(buf)
	return err == nil && string(buf[:n]) == page
}

// Where protection is required, the first packet to a host of which nothing is known waits for its SA, and arrives
// protected; so it does when a reload has just begun to require it (RFC 4301 §5.1).
func TestFirstPacketWaits(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	wire := l.Switch("s", a, b, c)
	a.Addr("eth0", netlab.A4+"/24", netlab.A6+"/64")
	b.Addr("eth0", netlab.B4+"/24", netlab.B6+"/64")
	c.Addr("eth0", "192.0.2.3/24")
	da := a.Btns("# nothing\n")
	b.Btns("")
	c.Btns("")
	all := wire.Capture("a", "")
	l.WriteFile("a.toml", "[default]\nfallback = \"require\"\n")
	da.Run("reload")
	for i, to := range []struct {
		host *netlab.Host
		addr string
	}{{b, netlab.B4}, {b, netlab.B6}, {c, "192.0.2.3"}} {
		if !once(t, a, to.host, to.addr, 7000+i) {
			t.Errorf("the first datagram to %s does not arrive", to.addr)
		}
	}
	all.Stop()
	if p := all.Packets("src host " + netlab.A4 + " or src host " + netlab.A6); len(p) == 0 {
		t.Error("nothing was captured")
	}
	if p := all.Packets("udp portrange 7000-7002"); len(p) > 0 {
		t.Errorf("%d packets on the link are in clear:\n%s", len(p), strings.Join(p[:min(len(p), 10)], "\n"))
	}
}
