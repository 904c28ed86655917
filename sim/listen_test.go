package sim

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/policy"
)

func listenOn(addrs ...string) func(*host.Config) {
	return func(c *host.Config) {
		for _, a := range addrs {
			c.Listen = append(c.Listen, netip.MustParseAddr(a))
		}
	}
}

// A host that speaks IKE on certain of its addresses is protected on those.
func TestListenHere(t *testing.T) {
	w := New(t, 1)
	a, b := w.Host("a", listenOn("203.0.113.1", "2001:db8::1")), w.Host("b", listenOn("203.0.113.2"))
	w.After(0, func() { a.Send(b) })
	w.RunUntil(time.Minute, "both protected", func() bool { return a.Protected(b) && b.Protected(a) })
	chatter(w, 10*time.Second, a, b)
	w.CheckWorks(a, b)
}

// On its other addresses a host neither answers IKE nor begins with it; the traffic goes on in clear.
func TestListenElsewhere(t *testing.T) {
	w := New(t, 1)
	a, b := w.Host("a"), w.Host("b", listenOn("203.0.113.99"))
	for range 10 {
		a.Send(b)
		b.Send(a)
		w.Run(time.Second)
	}
	if a.Protected(b) || b.Protected(a) {
		w.Fail("protected")
	}
	if got := b.host.Status(w.now).Drops["ike-address"]; got == 0 || got > 3 {
		w.Fail("%d IKE messages were refused, want 1 to 3 probes", got)
	}
	if n := strings.Count(w.Ladder(), "response"); n > 0 {
		w.Fail("%d answers", n)
	}
	if a.tally(b.Addr).Clear != 10 || b.tally(a.Addr).Clear != 10 {
		w.Fail("a has %+v of b, b has %+v of a", *a.tally(b.Addr), *b.tally(a.Addr))
	}
	if len(b.host.Peers(w.now)) != 0 {
		w.Fail("b keeps peers: %+v", b.host.Peers(w.now))
	}
}

// Where protection is required, traffic from an address without IKE stops, and it is said why.
func TestListenElsewhereAndRequire(t *testing.T) {
	w := New(t, 1)
	require := func(c *host.Config) {
		u := policy.Unknown{Fallback: policy.Require, Waiting: policy.Hold}
		p, err := policy.New(append(policy.Untouchable(), policy.Rest(u)...), []policy.PADEntry{policy.Anyone()})
		if err != nil {
			t.Fatal(err)
		}
		c.Policy = p
	}
	a, b := w.Host("a", require, listenOn("203.0.113.99")), w.Host("b")
	w.After(0, func() { a.Send(b) })
	w.Run(5 * time.Second)
	if s, _, _ := a.table.State(b.Addr); s != flow.Hold {
		w.Fail("the prefix of b is in state %v", s)
	}
	x := a.host.Explain(w.now, b.Addr, 0)
	if x.State != host.StateOutage || !strings.Contains(strings.Join(x.Story(), " "), "IKE is not spoken") || !strings.Contains(x.Hint, "listen") {
		w.Fail("explained as %+v", x)
	}
	if strings.Contains(w.Ladder(), "IKE_SA_INIT") {
		w.Fail("IKE was begun")
	}
}
