//go:build bench

package bench

import (
	"testing"
	"time"
)

// Memory that a peer costs the daemon, as the system sees it: the growth of its resident set, per peer (performance.md
// §7). Ten thousand peers with an IKE SA and a child pair each; first idle, then after a packet each way on every SA.
func TestPeers(t *testing.T) {
	const peers = 10000
	began := time.Now()
	s := newLoad(t, peers, 64, false)
	before := residentKiB(t, s.daemon.PID())
	d := s.handshakes()
	t.Logf("%d peers after %v, of them %.1f s of handshakes; %d failed", d.Done, time.Since(began).Round(time.Second/10), d.Seconds, d.Failed)
	perPeer := func(what string, must float64) {
		now := residentKiB(t, s.daemon.PID())
		t.Logf("daemon: %d KiB without peers, %d KiB with them", before, now)
		atMost(t, "memory of "+what, float64(now-before)/float64(d.Done), "KiB", must)
	}
	perPeer("a peer, at once", 0)
	time.Sleep(settled)
	perPeer("an idle peer", 1.2)
	s.commands(peers)
	e := s.echo()
	t.Logf("%d echo requests, %d replies", e.Sent, e.Echoed)
	if e.Echoed < e.Sent*9/10 {
		t.Errorf("of %d echo requests %d were answered", e.Sent, e.Echoed)
	}
	s.commands(peers)
	time.Sleep(settled)
	perPeer("an active peer", 3.5)
}

// settled is long enough for two collections that the Go runtime makes by itself while nothing happens, and for its giving
// back to the system what it does not need.
const settled = 5 * time.Minute

// commands says how long the commands of an operator take with so many peers.
func (s *load) commands(peers int) {
	s.t.Helper()
	for _, args := range [][]string{{"status"}, {"peers", "--json"}} {
		began := time.Now()
		out := s.daemon.Run(args...)
		s.t.Logf("btns %-14v %v, %d octets", args, time.Since(began).Round(time.Millisecond), len(out))
	}
	if got := len(s.daemon.Peers()); got < peers*99/100 {
		s.t.Errorf("btns peers shows %d, want %d", got, peers)
	}
}
