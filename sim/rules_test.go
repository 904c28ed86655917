package sim

import (
	"testing"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// port is everything about one UDP port of one end.
func port(number uint16) selector.Set {
	s := selector.Any()
	for i := range s {
		s[i].Proto, s[i].Ports = selector.UDP, selector.PortRange{From: number, To: number}
	}
	return s
}

// spd puts entries between the built-in ones.
func spd(t *testing.T, entries ...policy.Entry) func(*host.Config) {
	all := append(policy.Untouchable(), entries...)
	p, err := policy.New(append(all, policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Pass})...), []policy.PADEntry{policy.Anyone()})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *host.Config) { c.Policy = p }
}

// Between two protected hosts one port passes in clear, another is discarded, and all else is protected (RFC 4301 §4.4.1,
// BTNS-CORE-23).
func TestRulesBetweenProtectedHosts(t *testing.T) {
	w := New(t, 11)
	rules := spd(
		t,
		policy.Entry{Name: "to 8080", Action: policy.Bypass, Local: selector.Any(), Remote: port(8080)},
		policy.Entry{Name: "from 8080", Action: policy.Bypass, Local: port(8080), Remote: selector.Any()},
		policy.Entry{Name: "9999", Action: policy.Discard, Local: port(9999), Remote: selector.Any()},
	)
	a, b := w.Host("a", rules), w.Host("b", rules)
	w.After(0, func() { a.Send(b) })
	w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
	chatter(w, 5*time.Second, a, b)
	for _, c := range []struct {
		name             string
		lport, rport     uint16
		clear, protected int
	}{
		{"bypassed", 40000, 8080, 1, 0},
		{"bypassed the other way", 8080, 40000, 1, 0},
		{"protected", 40000, 8081, 0, 1},
		{"discarded by the receiver", 40000, 9999, 0, 0},
		{"discarded by the sender", 9999, 40000, 0, 0},
	} {
		before := *b.tally(a.Addr)
		a.SendUDP(b, c.lport, c.rport)
		w.Run(time.Second)
		after := *b.tally(a.Addr)
		if after.Clear-before.Clear != c.clear || after.Protected-before.Protected != c.protected {
			w.Fail("%s: %+v, then %+v", c.name, before, after)
		}
	}
	w.CheckWorks(a, b)
	w.CheckOnePair(a, b)
}

// What policy requires to be protected never goes in clear, not even the first packet to an unknown host; the rest does
// (BTNS-CORE-25).
func TestRequiredPort(t *testing.T) {
	w := New(t, 12)
	bgp := func(name string, local, remote selector.Set) policy.Entry {
		return policy.Entry{
			Name: name, Action: policy.Protect, Local: local, Remote: remote, BtnsOK: true,
			Offer: policy.DefaultOffer(true), Lifetime: policy.DefaultLifetime(),
		}
	}
	rules := spd(t, bgp("to", selector.Any(), port(179)), bgp("from", port(179), selector.Any()))
	a, b := w.Host("a", rules), w.Host("b")
	deaf := w.Host("deaf")
	deaf.Kill()
	for range 20 {
		a.SendUDP(deaf, 40000, 179)
		a.SendUDP(b, 40000, 179)
		w.Run(500 * time.Millisecond)
	}
	if got := *b.tally(a.Addr); got.Clear != 0 || got.Protected == 0 {
		w.Fail("b received %+v", got)
	}
	// Other traffic of these hosts gets an SA of its own.
	before := b.tally(a.Addr).Protected
	for range 5 {
		a.Send(b)
		w.Run(2 * time.Second)
	}
	if a.Pairs(b) < 2 || b.tally(a.Addr).Protected == before {
		w.Fail("%d SA pairs, and no other traffic arrives protected", a.Pairs(b))
	}
	if got := deaf.tally(a.Addr).Clear; got != 0 {
		w.Fail("%d packets in clear to a host that cannot protect them", got)
	}
}
