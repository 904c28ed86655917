package netlab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Host is one machine of the network: a namespace with an interface or two.
type Host struct {
	Name string
	lab  *Lab
	ns   string
}

// Host adds a host without links. Duplicate address detection is off: its second would be every test's.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := &Host{Name: name, lab: l, ns: l.id + "-" + name}
	if _, err := command(10*time.Second, "ip", "netns", "add", h.ns); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := deleteNamespace(h.ns); err != nil {
			l.t.Error(err)
		}
	})
	h.IP("link", "set", "dev", "lo", "up")
	for _, c := range []string{"default", "all"} {
		h.Sysctl("net/ipv4/conf/"+c+"/rp_filter", "0")
		h.Sysctl("net/ipv6/conf/"+c+"/accept_dad", "0")
	}
	h.Sysctl("net/ipv6/conf/default/accept_ra", "0")
	return h
}

// Namespace is the name of the host's network namespace.
func (h *Host) Namespace() string { return h.ns }

// T is the test that the host belongs to.
func (h *Host) T() testing.TB { return h.lab.t }

// Lab is the network that the host belongs to.
func (h *Host) Lab() *Lab { return h.lab }

// Try runs a command on the host and returns what it printed, on both outputs.
func (h *Host) Try(timeout time.Duration, args ...string) (string, error) {
	return command(timeout, "ip", append([]string{"netns", "exec", h.ns}, args...)...)
}

// Run runs a command on the host that has to succeed within ten seconds, and returns what it printed.
func (h *Host) Run(args ...string) string {
	h.lab.t.Helper()
	return h.RunFor(10*time.Second, args...)
}

// RunFor is Run with another deadline.
func (h *Host) RunFor(timeout time.Duration, args ...string) string {
	h.lab.t.Helper()
	out, err := h.Try(timeout, args...)
	if err != nil {
		h.lab.t.Fatalf("on %s: %v", h.Name, err)
	}
	return out
}

// IP runs iproute2 on the host.
func (h *Host) IP(args ...string) string {
	h.lab.t.Helper()
	out, err := command(10*time.Second, "ip", append([]string{"-n", h.ns}, args...)...)
	if err != nil {
		h.lab.t.Fatalf("on %s: %v", h.Name, err)
	}
	return out
}

// Sysctl sets a kernel variable of the host, named by its path below /proc/sys.
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	h.Run("sh", "-c", `echo "$1" >"/proc/sys/$2"`, "sh", value, name)
}

// NFT loads nftables rules.
func (h *Host) NFT(rules string) {
	h.lab.t.Helper()
	h.Run("nft", rules)
}

// RTT is the mean time of n echo requests.
func (h *Host) RTT(to string, n int) time.Duration {
	h.lab.t.Helper()
	out := h.RunFor(time.Duration(n)*100*time.Millisecond+10*time.Second, "ping", "-n", "-q", "-i0.1", fmt.Sprint("-c", n), "-W1", to)
	_, times, _ := strings.Cut(out, "min/avg/max/mdev = ")
	var low, mean float64
	if _, err := fmt.Sscanf(times, "%f/%f/", &low, &mean); err != nil {
		h.lab.t.Fatalf("ping on %s says:\n%s", h.Name, out)
	}
	return time.Duration(mean * float64(time.Millisecond))
}

// Ping sends n echo requests, ten a second, and returns how many came back.
func (h *Host) Ping(to string, n int, args ...string) int {
	h.lab.t.Helper()
	timeout := time.Duration(n)*100*time.Millisecond + 10*time.Second
	out, _ := h.Try(timeout, append(append([]string{"ping", "-n", "-q", "-i0.1", fmt.Sprint("-c", n), "-W1"}, args...), to)...)
	for line := range strings.Lines(out) {
		var sent, back int
		if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &back); err == nil {
			return back
		}
	}
	h.lab.t.Fatalf("ping on %s says:\n%s", h.Name, out)
	return 0
}
