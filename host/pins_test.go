package host

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// BTNS-TRUST-21, TRUST-T22: a wildcard entry of the PAD that is for a whole prefix gives nobody an address that is
// recorded for another key.
func TestPinsKeepTheWildcardAway(t *testing.T) {
	prefix := netip.MustParsePrefix("203.0.113.0/24")
	wide := policy.PADEntry{Name: "site", Kind: policy.AnyKey, Constraint: selector.Set{selector.Prefix(prefix)}}
	entries := append(policy.Untouchable(), policy.Rest(policy.Unknown{Fallback: policy.Prefer})...)
	for i := range entries {
		if entries[i].Action == policy.Protect {
			entries[i].Mode = protect.Tunnel
		}
	}
	p, err := policy.New(entries, []policy.PADEntry{wide})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	a := w.box("a", addrA, func(c *Config) { c.Policy = p })
	mine, other := key(t, "mine").Public, key(t, "other").Public
	for _, q := range []trust.Query{{Addr: addrC, Key: other}, {Addr: addrB, Key: other}} {
		if _, err := a.h.book.Carried(w.now, q); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(who ikev2.Peer, named bool, remote selector.Set) (selector.Set, error) {
		s := a.h.sessionOf(w.now, 5, ap(addrA, 500), ap(addrB, 500))
		s.pad, s.who, s.named = p.Entry("site"), who, named
		answer := ikev2.ChildJudged{}
		err := a.h.fillChild(w.now, &answer, ikev2.JudgeChild{
			SA: 5, Stage: ikev2.Answered, Mode: protect.Tunnel, Peer: who, LocalAddr: addrA, RemoteAddr: addrB,
			Local: selector.Set{selector.Host(addrA)}, Remote: remote,
		})
		return answer.Remote, err
	}
	whole, single := selector.Set{selector.Prefix(prefix)}, selector.Set{selector.Host(addrC)}
	for _, c := range []struct {
		name         string
		who          ikev2.Peer
		named        bool
		remote       selector.Set
		granted, has bool // anything; addrC
	}{
		{"another key, the prefix", ikev2.Peer{Key: mine, Method: ikev2.Signature}, false, whole, true, false},
		{"another key, the address", ikev2.Peer{Key: mine, Method: ikev2.Signature}, false, single, false, false},
		{"no key, the prefix", ikev2.Peer{Method: ikev2.Null}, false, whole, true, false},
		{"the recorded key, the prefix", ikev2.Peer{Key: other, Method: ikev2.Signature}, false, whole, true, true},
		{"the recorded key, the address", ikev2.Peer{Key: other, Method: ikev2.Signature}, false, single, true, true},
		{"a named peer: the rule wins", ikev2.Peer{Key: mine, Method: ikev2.Signature}, true, whole, true, true},
	} {
		t.Run("BTNS-TRUST-21 "+c.name, func(t *testing.T) {
			got, err := ask(c.who, c.named, c.remote)
			if (err == nil) != c.granted || got.ContainsAddr(addrC) != c.has {
				t.Errorf("%v, %v", got, err)
			}
			if c.granted && c.remote.ContainsAddr(addrB) && !got.ContainsAddr(addrB) {
				t.Errorf("the address that it speaks from is missing from %v", got)
			}
		})
	}
	for i := range uint32(maxPinned) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0xcb007100+100+2*i)
		if _, err := a.h.book.Carried(w.now, trust.Query{Addr: netip.AddrFrom4(b), Key: other}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ask(ikev2.Peer{Key: mine, Method: ikev2.Signature}, false, whole); err == nil {
		t.Errorf("granted %d pieces", len(got))
	}
	delete(a.h.sessions, 5)
}
