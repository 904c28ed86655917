package host

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

func (b *box) comparing(o *box) CompareView { return b.h.Comparing(b.w.now, o.addr) }

// ready fails unless both see a string; it returns them.
func ready(t *testing.T, a, b *box) (x, y CompareView) {
	t.Helper()
	x, y = a.comparing(b), b.comparing(a)
	if x.State != CompareReady || y.State != CompareReady || x.String.Words == "" || y.String.Words == "" {
		t.Fatalf("%+v\n%+v\n%s", x, y, a.story())
	}
	return x, y
}

// tellPeer has b say something in its session with o that its host would not say.
func (b *box) tellPeer(o *box, data []byte) {
	b.w.t.Helper()
	b.h.ike(b.w.now, ikev2.Tell{SA: b.h.peers[o.addr].session().handle, Kind: ikev2.ShortString, Data: data})
	b.take(b.h.take())
	b.w.settle()
}

func nonceOf(n byte) (b [32]byte) { return [32]byte(bytes.Repeat([]byte{n}, 32)) }

// evidenceOf is what b's record of o rests on.
func (b *box) evidenceOf(o *box) (kinds []trust.EvidenceKind) {
	for _, r := range b.store {
		if r.Key == o.key() && r.Addr.IsValid() {
			for _, e := range r.Evidence {
				kinds = append(kinds, e.Kind)
			}
		}
	}
	return kinds
}

// trust.md §7: what two honest hosts show, in whatever order their people begin.
func TestCompareShortStrings(t *testing.T) {
	for name, begin := range map[string]func(w *world, a, b *box){
		"one after the other":                func(_ *world, a, b *box) { a.do(Compare{b.addr}); b.do(Compare{a.addr}) },
		"the other after the one":            func(_ *world, a, b *box) { b.do(Compare{a.addr}); a.do(Compare{b.addr}) },
		"both at the same moment":            func(w *world, a, b *box) { a.step(Compare{b.addr}); b.step(Compare{a.addr}); w.settle() },
		"again, since the first was in vain": func(_ *world, a, b *box) { a.do(Compare{b.addr}); a.do(Compare{b.addr}); b.do(Compare{a.addr}) },
	} {
		t.Run("BTNS-TRUST-53 two hosts show the same string: "+name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.meet()
			begin(w, a, b)
			x, y := ready(t, a, b)
			if x.String != y.String || x.Key != b.key() || y.Key != a.key() {
				t.Fatalf("%+v\n%+v", x, y)
			}
			a.do(Compared{addrB, x.String.Words, true})
			b.do(Compared{addrA, y.String.Words, true})
			for from, to := range map[*box]*box{a: b, b: a} {
				if v := from.h.Peers(w.now)[0]; v.Assurance != identity.Verified || v.State != StateProtected {
					t.Errorf("%+v", v)
				}
				if kinds := from.evidenceOf(to); kinds[len(kinds)-1] != trust.ShortString {
					t.Errorf("%v", kinds)
				}
				if from.comparing(to).State != CompareNone {
					t.Errorf("%+v", from.comparing(to))
				}
			}
		})
	}
	t.Run("BTNS-TRUST-53 in the second of two sessions, too", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		b.h.renew(w.now, b.h.peers[addrA].session())
		b.take(b.h.take())
		w.settle()
		a.step(Compare{addrB})
		b.step(Compare{addrA})
		w.pass(time.Minute)
		if x, y := ready(t, a, b); x.String != y.String {
			t.Fatalf("%+v\n%+v", x, y)
		}
	})
	t.Run("before anything is recorded", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.box("a", addrA), w.box("b", addrB)
		a.acquire(addrB)
		a.do(Compare{addrB})
		b.do(Compare{addrA})
		x, _ := ready(t, a, b)
		a.do(Compared{addrB, x.String.Words, true})
		w.talk(a, b)
		if v := a.h.Peers(w.now)[0]; v.Assurance != identity.Verified || len(a.store) != 1 {
			t.Fatalf("%+v, %v", v, a.store)
		}
		w.again2(a, b, identity.Verified)
	})
}

// again2 makes another session, in which b is known to a that well.
func (w *world) again2(a, b *box, level identity.Assurance) {
	w.t.Helper()
	a.do(Down{b.addr})
	a.acquire(b.addr)
	w.talk(a, b)
	if v := a.h.Peers(w.now)[0]; v.Assurance != level {
		w.t.Fatalf("%+v", v)
	}
}

// With somebody in the middle there are two sessions, and two strings. His best is to take part honestly in both.
func TestCompareWithManInTheMiddle(t *testing.T) {
	t.Run("BTNS-TRUST-53 the strings differ, and saying so is an alarm", func(t *testing.T) {
		left, right := newWorld(t), newWorld(t)
		a, toA := left.box("a", addrA), left.box("evil", addrB)   // where a meets b, it meets the man
		b, toB := right.box("b", addrB), right.box("evil", addrA) // and so does b
		left.t, right.t = t, t
		a.acquire(addrB)
		left.talk(a, toA)
		b.acquire(addrA)
		right.talk(b, toB)
		a.do(Compare{addrB})
		toA.do(Compare{addrA})
		b.do(Compare{addrA})
		toB.do(Compare{addrB})
		x, _ := ready(t, a, toA)
		y, _ := ready(t, b, toB)
		if x.String.Words == y.String.Words || x.String.Digits == y.String.Digits {
			t.Fatalf("%+v\n%+v", x, y)
		}
		a.reports = nil
		a.do(Compared{addrB, x.String.Words, false})
		if len(a.reports) != 2 || a.reports[0].Level != Alarm || a.reports[0].Reason != StringsDiffer {
			t.Fatal(a.story())
		}
		if v := a.h.Peers(left.now)[0]; v.Assurance != identity.FirstUse {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("BTNS-TRUST-53 he cannot choose his number after he has seen ours", func(t *testing.T) {
		w := newWorld(t)
		a, evil := w.meet()
		binding := evil.h.peers[addrA].session().talk.binding
		_, commit := identity.CompareShortString(binding, nonceOf(1))
		a.do(Compare{addrB})
		own := a.h.compares[addrB].commit
		for n := byte(1); bytes.Compare(commit, own) >= 0; n++ { // he leads
			_, commit = identity.CompareShortString(binding, nonceOf(n))
		}
		evil.tellPeer(a, commit)
		if a.h.compares[addrB].second == nil {
			t.Fatal("a does not follow")
		}
		evil.tellPeer(a, append([]byte{1, 3}, make([]byte, 32)...)) // another number than the one committed to
		v := a.comparing(evil)
		if v.State != CompareFailed || v.Reason != CompareBroken || a.reports[len(a.reports)-1].Level != Alarm {
			t.Fatalf("%+v\n%s", v, a.story())
		}
	})
	t.Run("BTNS-TRUST-53 for each action of a user he has one guess", func(t *testing.T) {
		w := newWorld(t)
		a, evil := w.meet()
		binding := evil.h.peers[addrA].session().talk.binding
		_, first := identity.CompareShortString(binding, nonceOf(1))
		_, second := identity.CompareShortString(binding, nonceOf(2))
		count := func() int { return evil.h.peers[addrA].session().talk.heard }
		evil.tellPeer(a, first) // nobody at a wants that
		evil.tellPeer(a, second)
		if a.comparing(evil).State != CompareNone || count() != 0 {
			t.Fatalf("%d answers to what nobody wanted", count())
		}
		a.do(Compare{addrB}) // answers the last one
		if count() != 1 {
			t.Fatalf("%d answers", count())
		}
		evil.tellPeer(a, first) // with the answer in hand he would rather begin anew
		if v := a.comparing(evil); v.State != CompareFailed || v.Reason != CompareTwice || count() != 1 {
			t.Fatalf("%+v, %d answers", v, count())
		}
		evil.tellPeer(a, first)
		evil.tellPeer(a, second)
		if count() != 1 {
			t.Fatalf("%d answers", count())
		}
	})
}

// What goes wrong with a comparison, or cannot be begun.
func TestCompareFails(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Compare{addrB})
		if a.comparing(b).State != CompareWaiting || b.count(KeyCompared) != 1 {
			t.Fatal(b.story())
		}
		w.pass(comparePatience)
		if v := a.comparing(b); v.State != CompareFailed || v.Reason != CompareAlone {
			t.Fatalf("%+v", v)
		}
		b.do(Compare{addrA}) // too late for that one
		if v := b.comparing(a); v.State != CompareWaiting {
			t.Fatalf("%+v", v)
		}
		w.pass(answerPatience + comparePatience)
		if len(a.h.compares)+len(b.h.compares) > 1 {
			t.Fatal("kept for ever")
		}
	})
	t.Run("the session ends", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Compare{addrB})
		b.do(Down{addrA})
		if v := a.comparing(b); v.State != CompareFailed || v.Reason != CompareAlone {
			t.Fatalf("%+v", v)
		}
	})
	t.Run("without a session, or with who has none of this", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		b.h.peers[addrA].session().talk = nil
		for _, c := range []struct {
			at *box
			ev Event
		}{{a, Compare{addrC}}, {b, Compare{addrA}}, {a, Compared{addrB, "ARMY OAK", true}}, {a, Compared{addrC, "", true}}} {
			c.at.reports = nil
			c.at.do(c.ev)
			if len(c.at.reports) != 1 || c.at.reports[0].Reason != NotDone {
				t.Errorf("%+v: %s", c.ev, c.at.story())
			}
		}
	})
	t.Run("an answer about another string", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Compare{addrB})
		b.do(Compare{addrA})
		a.do(Compared{addrB, "ARMY OAK", true})
		if v := a.h.Peers(w.now)[0]; v.Assurance == identity.Verified {
			t.Fatal("verified")
		}
		a.want(addrB, StateProtected, flow.Protect)
	})
	t.Run("what does not belong to it", func(t *testing.T) {
		w := newWorld(t)
		a, b := w.meet()
		a.do(Compare{addrB})
		for _, data := range [][]byte{{1, 2}, append([]byte{1, 3}, make([]byte, 32)...), append([]byte{2, 2}, make([]byte, 32)...)} {
			b.tellPeer(a, data)
		}
		b.tellPeer(a, a.h.compares[addrB].commit) // what we have said ourselves
		if v := a.comparing(b); v.State != CompareWaiting {
			t.Fatalf("%+v", v)
		}
		b.do(Compare{addrA})
		if x, y := ready(t, a, b); x.String != y.String {
			t.Fatalf("%+v\n%+v", x, y)
		}
	})
}
