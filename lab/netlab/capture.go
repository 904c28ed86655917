package netlab

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Protected matches what may be seen between two protected hosts: IKE, ESP, and what keeps a link alive (ARP, IGMP, neighbor
// and multicast listener discovery, frames of a bridge).
const Protected = "udp port 500 or udp port 4500 or esp or arp or igmp or " +
	"(icmp6 and ip6[40] >= 130 and ip6[40] <= 137) or (ip6 proto 0 and dst net ff02::/16) or stp"

// Capture is a running record of a link.
type Capture struct {
	p    *Process
	file string
}

var captures atomic.Int32

// Capture records what matches filter on an interface of the host; an empty filter is everything.
func (h *Host) Capture(dev, filter string) *Capture {
	h.lab.t.Helper()

	name := fmt.Sprintf("capture%d", captures.Add(1))
	c := &Capture{file: h.lab.Path(h.Name + "." + name + ".pcap")}
	args := []string{"tcpdump", "-n", "-U", "--immediate-mode", "-B", "8192", "-Z", "root", "-i", dev, "-w", c.file}
	if filter != "" {
		args = append(args, filter)
	}
	c.p = h.Start(name, args...)
	Until(h.lab.t, 10*time.Second, "capture on "+h.Name, func() error { return Contains(c.p.Log(), "listening on") })
	return c
}

// CaptureClear records what should not be there: everything that is not Protected.
func (h *Host) CaptureClear(dev string) *Capture {
	h.lab.t.Helper()
	return h.Capture(dev, "not ("+Protected+")")
}

// Stop ends the capture. It fails the test if the kernel has dropped packets: the record would prove nothing.
func (c *Capture) Stop() {
	t := c.p.host.lab.t
	t.Helper()
	c.p.Signal(syscall.SIGINT)
	c.p.Wait(10 * time.Second)
	for line := range strings.Lines(c.p.Log()) {
		var n int
		if _, err := fmt.Sscanf(line, "%d packets dropped by kernel", &n); err == nil && n > 0 {
			t.Errorf("the capture lost %d packets", n)
		}
	}
}

// Packets are those that match filter, one line each.
func (c *Capture) Packets(filter string) []string {
	c.p.host.lab.t.Helper()
	return c.read("-n", filter)
}

// Shows says whether a text stands in the clear in a captured packet.
func (c *Capture) Shows(text string) bool {
	c.p.host.lab.t.Helper()
	return strings.Contains(strings.Join(c.read("-nA", ""), ""), text)
}

func (c *Capture) read(options, filter string) []string {
	t := c.p.host.lab.t
	t.Helper()
	args := []string{options, "-Z", "root", "-r", c.file}
	if filter != "" {
		args = append(args, filter)
	}
	out, err := command(30*time.Second, "tcpdump", args...)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "reading from file") &&
			!strings.HasPrefix(line, "Warning:") {
			lines = append(lines, line)
		}
	}
	return lines
}

// NothingClear fails the test if a packet was captured that is neither IKE nor ESP.
func (c *Capture) NothingClear() {
	t := c.p.host.lab.t
	t.Helper()
	if p := c.Packets("not (" + Protected + ")"); len(p) > 0 {
		t.Errorf("%d packets in clear on the link, the first of them:\n%s", len(p), strings.Join(p[:min(len(p), 20)], "\n"))
	}
}
