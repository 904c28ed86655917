package engine

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/planetest"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
)

// machine is a real host on an engine, with a plane in memory.
type machine struct {
	*Engine
	plane *planetest.Memory
	store *memoryStore
	keys  *memoryKeys
	got   chan []byte
}

func newMachine(t *testing.T, n *planetest.Network, addr netip.Addr) *machine {
	t.Helper()
	key, err := identity.NewEd25519(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Default()
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Config{Signer: key, Policy: p, IKE: ikev2.Defaults(), Encap: true}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{store: &memoryStore{}, keys: &memoryKeys{}, got: make(chan []byte, 100)}
	m.Engine, err = Start(Config{
		Host: h, Store: m.store, Keys: m.keys, Signer: key, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Open: func(sink func(dataplane.Event)) (dataplane.Plane, error) {
			m.plane = n.Join(planetest.Config{Addrs: []netip.Addr{addr}, Event: sink, Deliver: func(pkt []byte) { m.got <- pkt }})
			return m.plane, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// udp is an IPv4 packet with an empty UDP datagram and no checksums, which nobody here looks at.
func udp(from, to netip.Addr) []byte {
	b := make([]byte, 28)
	b[0], b[3], b[8], b[9] = 0x45, 28, 64, 17
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	b[21], b[23], b[25] = 9, 9, 8
	return b
}

// Two machines without any configuration: protected on demand, a leap of faith recorded on both sides once traffic went
// both ways (BTNS-TRUST-16), and a good-bye at the end.
func TestTwoMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := planetest.NewNetwork()
		a, b := newMachine(t, n, local), newMachine(t, n, remote)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		v, err := a.Wait(ctx, remote, "")
		if err != nil || v.State != host.StateProtected || v.Key != b.PublicKey().Fingerprint() || v.Assurance != identity.FirstUse {
			t.Fatalf("%+v, %v", v, err)
		}
		seen := len(n.Log())
		a.plane.FromApp(udp(local, remote))
		<-b.got
		b.plane.FromApp(udp(remote, local))
		<-a.got
		for _, w := range n.Log()[seen:] {
			if w.Kind == planetest.Clear {
				t.Error("a packet in clear after Wait")
			}
		}
		time.Sleep(5 * time.Second) // of the bubble: counters are read now and then
		synctest.Wait()
		for _, m := range []*machine{a, b} {
			ps, err := m.Peers(ctx)
			if err != nil || len(ps) != 1 || len(ps[0].Children) != 1 || ps[0].Children[0].Counters.PacketsIn != 1 {
				t.Errorf("peers: %+v, %v", ps, err)
			}
			if rs, err := m.Records(ctx); err != nil || len(rs) != 1 || len(m.store.written()) == 0 {
				t.Errorf("records: %+v, %v", rs, err)
			}
		}
		if got, err := a.Wait(ctx, netip.MustParseAddr("192.0.2.99"), ""); err != nil || got.State == host.StateProtected || got.Why == "" {
			t.Errorf("nobody there: %+v, %v", got, err)
		}
		began := time.Now()
		if err := a.Close(); err != nil || time.Since(began) > time.Second {
			t.Errorf("close: %v after %v", err, time.Since(began))
		}
		synctest.Wait()
		if v, _, err := b.Status(t.Context()); err != nil || v.Protected != 0 || v.Children != 0 {
			t.Errorf("b after a has left: %+v, %v", v, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}
