//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// rulesOf is a configuration with a port in clear, one that is discarded, and one that is protected or not spoken on.
func rulesOf(discard int) string {
	return fmt.Sprintf(`
[[policy]]
name = "to the web cache"
remote = ["any tcp/8080"]
action = "bypass"

[[policy]]
name = "the web cache"
local = ["any tcp/8080"]
action = "bypass"

[[policy]]
name = "nobody speaks this"
remote = ["any udp/%[1]d"]
action = "discard"

[[policy]]
name = "nobody speaks this to us"
local = ["any udp/%[1]d"]
action = "discard"

[[policy]]
name = "BGP"
remote = ["any tcp/179"]
action = "protect"
btns_ok = true
`, discard)
}

// Two protected hosts of which the SPD has one port pass in clear, both ways, and discards another: what is on the link
// is that port, IKE and ESP (RFC 4301 §4.4.1, §5.2, BTNS-CORE-23). A third host without btns is spoken to as ever, but on
// the port that must be protected and on the one that is discarded.
func TestRulesForSinglePorts(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	wire := l.Switch("s", a, b, c)
	a.Addr("eth0", netlab.A4+"/24", netlab.A6+"/64")
	b.Addr("eth0", netlab.B4+"/24", netlab.B6+"/64")
	c.Addr("eth0", "192.0.2.3/24")
	for _, h := range []*netlab.Host{a, b, c} {
		h.Serve(":8080", page)
		h.Serve(":80", page)
		h.Sysctl("net/ipv4/conf/eth0/rp_filter", "1")
	}
	c.Serve(":179", page)
	da, db := a.Btns(rulesOf(9997)), b.Btns(rulesOf(9999))
	for _, to := range []string{netlab.B4, netlab.B6} {
		da.Wait(to)
	}
	db.Wait(netlab.A4)
	a.Ping(netlab.B4, 25) // until clear text is no longer let in

	all := wire.Capture("a", "")
	for _, to := range []string{netlab.B4, "[" + netlab.B6 + "]"} {
		fetch(t, a, "http://"+to+":8080")
		fetch(t, a, "http://"+to)
	}
	fetch(t, b, "http://"+netlab.A4+":8080")
	fetch(t, b, "http://"+netlab.A4)
	fetch(t, c, "http://"+netlab.A4+":8080")
	fetch(t, a, "http://192.0.2.3")
	for port, arrives := range map[int]bool{9996: true, 9997: false, 9999: false} {
		if got := datagram(t, a, b, netlab.B4, port); got != arrives {
			t.Errorf("UDP port %d arrives at b: %v", port, got)
		}
		if got := datagram(t, a, c, "192.0.2.3", port); got != (port != 9997) {
			t.Errorf("UDP port %d arrives at c: %v", port, got)
		}
		if got := datagram(t, c, b, netlab.B4, port); got != (port != 9999) {
			t.Errorf("UDP port %d of c arrives at b: %v", port, got)
		}
	}
	if out, err := a.Try(10*time.Second, "curl", "-sS", "--max-time", "3", "--noproxy", "*", "http://192.0.2.3:179"); err == nil {
		t.Errorf("a host without btns is spoken to where protection is required: %s", out)
	}
	all.Stop()
	checkCleared(t, a, da)

	between := "host " + netlab.A4 + " and host " + netlab.B4 + " or host " + netlab.A6 + " and host " + netlab.B6
	for filter, want := range map[string]bool{
		"(" + between + ") and tcp port 8080":                                          true,
		"(" + between + ") and udp port 4500":                                          true,
		"(" + between + ") and not tcp port 8080 and not (" + netlab.Protected + ")":   false,
		"host " + netlab.A4 + " and host 192.0.2.3 and tcp port 80":                    true,
		"host 192.0.2.3 and (tcp port 179 or udp port 9997 and src " + netlab.A4 + ")": false,
		"icmp and not src host 192.0.2.3":                                              false, // which has no btns, and says so
	} {
		if p := all.Packets(filter); (len(p) > 0) != want {
			t.Errorf("%d packets on the link are %s:\n%s", len(p), filter, strings.Join(p[:min(len(p), 10)], "\n"))
		}
	}
}

// checkCleared has a send once more and looks at what its status counts as sent in clear, by the entries of rulesOf: what
// is bypassed and what goes to a host without btns, and nothing of what is protected or dropped.
func checkCleared(t *testing.T, a *netlab.Host, d *netlab.Btns) {
	t.Helper()
	cleared := func() map[string]uint64 {
		var s struct {
			ClearBy []struct {
				Entry, Source string
				OutBytes      uint64 `json:"out_bytes"`
			} `json:"clear_by"`
		}
		if err := json.Unmarshal([]byte(d.Run("status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		out := make(map[string]uint64)
		for _, c := range s.ClearBy {
			out[c.Entry] = c.OutBytes
			if built := c.Entry == "everything else" || c.Entry == "multicast and broadcast" || c.Entry == "link-local"; !built && !strings.Contains(c.Source, ".toml:") {
				t.Errorf("%q is said to stand in %q", c.Entry, c.Source)
			}
		}
		return out
	}
	before := cleared()
	for _, entry := range []string{"nobody speaks this", "BGP"} {
		if n := before[entry]; n > 0 {
			t.Errorf("%d octets by %q, which lets nothing pass in clear", n, entry)
		}
	}
	for entry, packets := range map[string]func(){
		"to the web cache": func() { fetch(t, a, "http://"+netlab.B4+":8080") },
		"everything else":  func() { fetch(t, a, "http://192.0.2.3") },
		"":                 func() { fetch(t, a, "http://"+netlab.B4); fetch(t, a, "http://["+netlab.B6+"]") },
	} {
		was := cleared()
		packets()
		is := cleared()
		for _, e := range []string{"to the web cache", "the web cache", "everything else"} {
			more := is[e] - was[e]
			if e == entry && (more < uint64(len("GET / HTTP/1.1")) || more > 4000) || e != entry && more > 0 {
				t.Errorf("%q has %d octets more after packets by %q", e, more, entry)
			}
		}
	}
}

// datagram sends UDP to a port of a host, and says whether it arrives.
func datagram(t *testing.T, from, to *netlab.Host, addr string, port int) bool {
	t.Helper()
	var in net.PacketConn
	if err := to.Inside(func() (err error) { in, err = net.ListenPacket("udp4", fmt.Sprint(":", port)); return err }); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out net.Conn
	if err := from.Inside(func() (err error) { out, err = net.Dial("udp4", fmt.Sprint(addr, ":", port)); return err }); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	buf := make([]byte, 100)
	for range 5 { // a host that discards says so to the sender's socket
		_, _ = out.Write([]byte(page))
		_ = in.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, _, err := in.ReadFrom(buf); err == nil {
			return string(buf[:n]) == page
		}
	}
	return false
}
