package trust

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/btns-ipsec/btns/identity"
)

// Everything that can be done to a book, in any order: the store follows, a revoked key never comes in, what was verified
// at an address goes by an operator's hand, a hand-over or a rule only, and an export made into a book is the same book.
func TestEverythingInAnyOrder(t *testing.T) {
	signers := []identity.Signer{signerOf(t, 1), signerOf(t, 2), signerOf(t, 3), signerOf(t, 4)}
	lists := map[[2]int][]Announced{}
	for i, old := range signers {
		for j, next := range signers {
			lists[[2]int{i, j}] = list(t, binding, old, t0, next)
		}
	}
	addrs := []netip.Addr{host, home, netip.MustParseAddr("10.42.0.1"), netip.MustParseAddr("2001:db8::1")}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		cfg := Config{Max: rapid.IntRange(2, 12).Draw(t, "max"), Mode: Mode(rapid.IntRange(0, 3).Draw(t, "mode"))}
		b, s := New(cfg, nil), store{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "hours")) * time.Hour)
			i, j := rapid.IntRange(0, 3).Draw(t, "key"), rapid.IntRange(0, 3).Draw(t, "next")
			q := Query{
				Addr: rapid.SampledFrom(addrs).Draw(t, "addr"), Key: signers[i].Public, Inbound: rapid.Bool().Draw(t, "inbound"),
				NAT: rapid.Bool().Draw(t, "nat"), Level: identity.Continuity, Name: rapid.SampledFrom([]string{"", "a.example"}).Draw(t, "name"),
			}
			key := q.Key.Fingerprint()
			var ch []Change
			var err error
			op := rapid.IntRange(0, 12).Draw(t, "op")
			vouched := vouchedPlaces(b)
			switch op {
			default:
				v := b.Judge(now, q)
				ch, err = b.Carried(now, q)
				if refusesKey(v.Refuse) && err == nil {
					t.Fatalf("refused, then recorded: %v", v.Refuse)
				}
				var revoked *RevokedKeyError
				if b.revoked(key) != nil != errors.As(v.Refuse, &revoked) {
					t.Fatalf("revoked, and judged %+v", v)
				}
			case 1:
				ch, _ = b.Accept(now, q.Addr, "", key)
			case 2:
				ch, _ = b.AcceptBeside(now, q.Addr, "", key)
			case 3:
				ch, _ = b.Verify(now, q.Addr, "", key)
			case 4:
				ch, _ = b.VerifyKey(now, key, q.Key)
			case 5:
				ch, _ = b.Revoke(now, key)
			case 6:
				ch = b.ForgetKey(key)
			case 7:
				ch, _ = b.Succeed(now, q, binding, lists[[2]int{i, j}])
			case 8:
				ch = b.Expire(now)
			case 9:
				ch = b.SetRecycled(now, ranges[:j%2])
			case 10:
				ch = b.Forget(q.Addr)
			case 11:
				ch = b.Alive(now, q)
			}
			s.apply(ch)
			check(t, b, s, cfg)
			for p := range vouched {
				if byOperator := op >= 1 && op <= 6 || op == 10; !byOperator && !vouchedPlaces(b)[p] {
					t.Fatalf("nobody is verified at %+v any more", p)
				}
			}
		}
		entries, err := ParseKnown([]byte(Export(b.List())))
		if err != nil {
			t.Fatal(err)
		}
		again := New(Config{Max: 100}, nil)
		if _, _, err := again.Import(now, entries); err != nil || !reflect.DeepEqual(again.List(), b.List()) && b.Len() > 0 {
			t.Fatalf("%v\n%s\n%s", err, Export(b.List()), Export(again.List()))
		}
	})
}

func vouchedPlaces(b *Book) map[Place]bool {
	out := map[Place]bool{}
	for _, r := range b.List() {
		if r.Verified() {
			out[r.place()] = true
		}
	}
	return out
}
