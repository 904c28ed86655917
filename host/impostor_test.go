package host

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// usurp switches b off and puts a machine with another key at its address.
func (w *world) usurp(b *box) *box {
	w.t.Helper()
	b.kill()
	for i, o := range w.boxes {
		if o == b {
			w.boxes = append(w.boxes[:i:i], w.boxes[i+1:]...)
			break
		}
	}
	return w.box("x", b.addr)
}

// An impostor at a recorded address is refused whatever the policy about keys is, and lets nothing out in clear; a host that
// has never met either takes it for what it is, a new one.
func TestImpostorInEachMode(t *testing.T) {
	for _, mode := range []trust.Mode{trust.AcceptNew, trust.Ask, trust.Strict} {
		t.Run("BTNS-TRUST-30 "+mode.String()+" refuses another key at a recorded address", func(t *testing.T) {
			w := newWorld(t)
			a, b := w.box("a", addrA, func(c *Config) { c.Trust.Mode = mode }), w.box("b", addrB)
			fresh := w.box("fresh", addrC)
			a.acquire(addrB)
			if mode != trust.AcceptNew {
				a.do(Accept{Addr: addrB, Key: b.cfg.Signer.Public.Fingerprint()})
				w.pass(time.Minute) // a pause after what was refused
				a.acquire(addrB)
			}
			w.talk(a, b)
			a.want(addrB, StateProtected, flow.Protect)
			x := w.usurp(b)
			mark := len(a.order)
			a.boot()
			for range 10 {
				a.acquire(addrB)
				x.acquire(addrA)
				w.pass(20 * time.Second)
			}
			if a.state(addrB) == StateProtected || a.prefix(addrB) != flow.Hold || a.count(KeyChanged) == 0 || x.state(addrA) == StateProtected {
				t.Fatalf("%v, %v at a, %v at the impostor\n%s", a.state(addrB), a.prefix(addrB), x.state(addrA), a.story())
			}
			for _, s := range a.order[mark:] {
				if s != flow.Hold {
					t.Fatalf("the address was %v", s)
				}
			}
			fresh.acquire(addrB)
			w.talk(fresh, x)
			fresh.want(addrB, StateProtected, flow.Protect)
			v := fresh.h.Peers(w.now)[0]
			if v.Key != x.cfg.Signer.Public.Fingerprint() || v.Assurance != identity.FirstUse {
				t.Fatalf("%+v", v)
			}
		})
	}
}

// The addresses of a declared range go from one host to the next without an alarm, from the start, after a reload, and with
// what was recorded before.
func TestRecycledRange(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for name, c := range map[string]struct {
		before, after, reloaded []netip.Prefix
		refused                 bool
	}{
		"not declared":           {nil, nil, nil, true},
		"declared":               {ranges, ranges, nil, false},
		"declared at a restart":  {nil, ranges, nil, false},
		"declared by a reload":   {nil, nil, ranges, false},
		"declared for elsewhere": {nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil, true},
	} {
		t.Run("BTNS-TRUST-30 a range "+name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.box("a", addrA, func(cfg *Config) { cfg.Trust.Recycled = c.before }), w.box("b", addrB)
			a.acquire(addrB)
			w.talk(a, b)
			a.want(addrB, StateProtected, flow.Protect)
			x := w.usurp(b)
			a.cfg.Trust.Recycled = c.after
			a.boot()
			if c.reloaded != nil {
				a.do(Reload{Policy: a.cfg.Policy, Trust: a.cfg.Trust.Mode, Recycled: c.reloaded})
			}
			a.acquire(addrB)
			w.pass(time.Minute)
			a.acquire(addrB)
			w.pass(time.Minute)
			if got := a.count(KeyChanged) > 0; got != c.refused {
				t.Fatalf("refused: %v\n%s", got, a.story())
			}
			if !c.refused && (a.state(addrB) != StateProtected || a.h.Peers(w.now)[0].Key != x.cfg.Signer.Public.Fingerprint()) {
				t.Fatalf("%v\n%s", a.state(addrB), a.story())
			}
		})
	}
}
