//go:build lab

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// Killed and started again, a daemon is back in business within ten seconds, in both directions; in between nothing goes
// to a remembered peer in clear, and at the end nothing of it is left on the host.
func TestCrashAndRestart(t *testing.T) {
	t.Parallel()
	a, b, wire := netlab.New(t).Pair()
	atFirst := b.Snapshot()
	da, db := a.Btns(""), b.Btns("")
	db.Wait(netlab.A4) // what b went to by itself, it remembers as required
	if n := b.Ping(netlab.A4, 5); n != 5 {
		t.Fatalf("%d of 5 pings came back", n)
	}
	netlab.Until(t, 10*time.Second, "b remembers a", func() error {
		return netlab.Contains(db.Run("trust", "list"), da.Name())
	})

	clear := wire.CaptureClear("b")
	b.Start("restless", "ping", "-n", "-q", "-i0.01", netlab.A4)
	db.Crash()
	if err := b.Reaches(netlab.A4); err == nil {
		t.Error("after a crash, b reaches its remembered peer, and nobody protects it")
	}
	db.Restart()
	netlab.Until(t, 10*time.Second, "traffic from a to b recovers", func() error { return a.Reaches(netlab.B4) })
	netlab.Until(t, 10*time.Second, "traffic from b to a recovers", func() error { return b.Reaches(netlab.A4) })
	clear.Stop()
	clear.NothingClear()

	db.Stop()
	if atEnd := b.Snapshot(); atEnd != atFirst {
		t.Errorf("b is not what it was. Before:\n%s\n\nAfter:\n%s", atFirst, atEnd)
	}
}

// A clean stop leaves nothing, and lets the other side go on in clear: "leaving" suspends what is remembered.
func TestCleanStop(t *testing.T) {
	t.Parallel()
	a, b, _ := netlab.New(t).Pair()
	firstA, firstB := a.Snapshot(), b.Snapshot()
	da, db := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	if n := a.Ping(netlab.B4, 5); n != 5 {
		t.Fatalf("%d of 5 pings came back", n)
	}
	db.Stop()
	netlab.Until(t, 10*time.Second, "a goes on in clear", func() error { return a.Reaches(netlab.B4) })
	da.Stop()
	if now := a.Snapshot(); now != firstA {
		t.Errorf("a is not what it was. Before:\n%s\n\nAfter:\n%s", firstA, now)
	}
	if now := b.Snapshot(); now != firstB {
		t.Errorf("b is not what it was. Before:\n%s\n\nAfter:\n%s", firstB, now)
	}
}

// Another key at a remembered address stops the traffic, on both ends; the message says how to accept it, and accepting
// it does.
func TestImpostor(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, _ := l.Pair()
	da, db := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	if n := a.Ping(netlab.B4, 5); n != 5 {
		t.Fatalf("%d of 5 pings came back", n)
	}
	netlab.Until(t, 10*time.Second, "a remembers b", func() error {
		return netlab.Contains(da.Run("trust", "list"), db.Name())
	})
	honest := db.Name()
	db.Crash()
	b.Run("nft", "flush", "ruleset") // what the impostor's own machine would not have

	impostor := b.Btns("", "--state", l.Path("impostor.state"))
	if impostor.Name() == honest {
		t.Fatal("the impostor has the same key")
	}
	netlab.Until(t, 45*time.Second, "a refuses the new key", func() error {
		_ = b.Reaches(netlab.A4) // its own attempt
		_ = a.Reaches(netlab.B4)
		out, err := da.Try("explain", netlab.B4)
		if err != nil {
			return err
		}
		return netlab.Contains(out, impostor.Name())
	})
	if err := a.Reaches(netlab.B4); err == nil {
		t.Error("a talks to the impostor")
	}
	explained := da.Run("explain", netlab.B4)
	for _, part := range []string{"btns trust accept " + netlab.B4, honest, impostor.Name()} {
		if !strings.Contains(explained, part) {
			t.Errorf("the explanation lacks %q:\n%s", part, explained)
		}
	}
	da.Run("trust", "accept", netlab.B4, impostor.Name())
	netlab.Until(t, 30*time.Second, "traffic flows after the new key was accepted", func() error { return a.Reaches(netlab.B4) })
}

// The default gateway is never locked out: when its key has changed, a host tells of it with an alarm, and goes on in
// clear (design.md: sticky without lock-out).
func TestGatewayWithAnotherKey(t *testing.T) {
	t.Parallel()
	l := netlab.New(t)
	a, b, _ := l.Pair()
	da, db := a.Btns(""), b.Btns("")
	a.IP("route", "add", "default", "via", netlab.B4) // the daemon follows
	da.Wait(netlab.B4)
	if n := a.Ping(netlab.B4, 5); n != 5 {
		t.Fatalf("%d of 5 pings came back", n)
	}
	netlab.Until(t, 10*time.Second, "a remembers its gateway", func() error {
		return netlab.Contains(da.Run("trust", "list"), db.Name())
	})
	netlab.Until(t, 15*time.Second, "a knows that it is the gateway", func() error {
		return netlab.Contains(da.Run("explain", netlab.B4), "it is a gateway")
	})
	db.Crash()
	b.Run("nft", "flush", "ruleset")

	again := b.Btns("", "--state", l.Path("another.state"))
	netlab.Until(t, 90*time.Second, "a tells of the new key", func() error {
		_ = b.Reaches(netlab.A4)
		_ = a.Reaches(netlab.B4)
		return netlab.Contains(da.Log(), "level=ERROR msg=\"peer key changed, refused\" peer="+netlab.B4+" name="+again.Name())
	})
	// The SAs with the old machine have to be found dead first.
	netlab.Until(t, 2*time.Minute, "a reaches its gateway", func() error { return a.Reaches(netlab.B4) })
	for _, p := range da.Peers() {
		if p.Addr == netlab.B4 && p.SAs != 0 {
			t.Errorf("a has SAs with it: %+v", p)
		}
	}
}
