package host

import (
	"testing"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// After a change of our own key, what is under the present one follows what is under the former one with the same peer, and with
// no other that has the same address: two hosts behind a NAT.
func TestTwinsAfterChangeOfOwnKey(t *testing.T) {
	w := newWorld(t)
	a := w.box("a", addrA)
	former, present := key(t, "before").Public, a.cfg.Signer.Public
	a.h.cfg.Rotation = Rotation{Former: former, Turned: w.now}
	k1, k2, k3 := key(t, "one"), key(t, "two"), key(t, "three")
	q := trust.Query{Addr: addrB, Key: k1.Public}
	for range 2 {
		if _, err := a.h.book.Carried(w.now, q); err != nil {
			t.Fatal(err)
		}
	}
	q.Level = identity.Continuity
	binding := identity.Binding{1}
	data, err := trust.Announce(nil, binding, k1.Public, []trust.Upcoming{{Signer: k2, From: w.now}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := trust.ParseAnnouncement(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.h.book.Succeed(w.now, q, binding, list); err != nil {
		t.Fatal(err)
	}
	with := func(who ikev2.Peer, own identity.PublicKey) *session {
		return &session{who: who, talk: &talk{own: own}}
	}
	signed := func(k identity.Signer) ikev2.Peer { return ikev2.Peer{Key: k.Public, Method: ikev2.Signature} }
	shared := func(id string) ikev2.Peer { return ikev2.Peer{Method: ikev2.SharedKey, ID: fqdn(id)} }
	for name, c := range map[string]struct {
		before, after ikev2.Peer
		want          bool
	}{
		"the same key":                   {signed(k1), signed(k1), true},
		"its successor":                  {signed(k1), signed(k2), true},
		"the key that it came from":      {signed(k2), signed(k1), true},
		"another key":                    {signed(k1), signed(k3), false},
		"a key, and none":                {signed(k1), ikev2.Peer{Method: ikev2.Null}, false},
		"the same key in another method": {signed(k1), ikev2.Peer{Key: k1.Public, Method: ikev2.SharedKey}, false},
		"a secret of the same":           {shared("x.example"), shared("x.example"), true},
		"a secret of another":            {shared("x.example"), shared("y.example"), false},
	} {
		for _, turned := range []bool{false, true} {
			old, new := with(c.before, former), with(c.after, present)
			old.handle, new.handle = 1, 2
			list := []*session{old, new}
			if turned {
				list = []*session{new, old}
			}
			got := a.h.twins(&peer{sessions: list})
			if (len(got) == 1) != c.want || c.want && (got[0].redundant != old || got[0].survivor != new || !got[0].ours) {
				t.Errorf("%s, turned %v: %+v", name, turned, got)
			}
		}
	}
	old, new := with(signed(k1), former), with(signed(k3), former)
	old.handle, new.handle, new.replaces = 1, 2, 1
	if got := a.h.twins(&peer{sessions: []*session{old, new}}); len(got) != 1 || got[0].redundant != old {
		t.Errorf("what was begun in its place: %+v", got)
	}
}
