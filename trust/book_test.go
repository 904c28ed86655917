package trust

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/btns-ipsec/btns/identity"
)

// Whatever happens and in whatever order: the store follows the book, a book made of the store is the same book, a
// recorded key that we went to is displaced by an operator or by age only, and verified records do not go by themselves.
func TestBookInAnyOrder(t *testing.T) {
	keys := []identity.PublicKey{key(t, 1), key(t, 2), key(t, 3), {}}
	addrs := []netip.Addr{host, home, netip.MustParseAddr("2001:db8::1")}
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		cfg := Config{Max: rapid.IntRange(1, 6).Draw(t, "max")}
		b, s := New(cfg, nil), store{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "hours")) * time.Hour)
			flag := func(n string) bool { return rapid.Bool().Draw(t, n) }
			q := Query{
				Addr: rapid.SampledFrom(addrs).Draw(t, "addr"), Key: rapid.SampledFrom(keys).Draw(t, "key"),
				Inbound: flag("inbound"), NAT: flag("nat"), OldGone: flag("gone"),
			}
			held := pins(b, now, q.Addr)
			byOperator := false
			var ch []Change
			var err error
			switch rapid.IntRange(0, 7).Draw(t, "op") {
			default:
				v := b.Judge(now, q)
				ch, err = b.Carried(now, q)
				if v.Refuse != nil && (err == nil && !q.Key.IsZero()) {
					t.Fatalf("refused, then recorded: %v", v.Refuse)
				}
			case 0:
				ch, byOperator = b.Forget(q.Addr), true
			case 1:
				byOperator = true
				ch, _ = b.Accept(now, q.Addr, "", q.Key.Fingerprint())
			case 2:
				byOperator = true // trust.md §5: what an operator compared takes the place of what is recorded
				ch, _ = b.Verify(now, q.Addr, "", q.Key.Fingerprint())
			case 3:
				ch = b.Suspend(q.Key.Fingerprint())
			case 4:
				ch = b.Expire(now)
			}
			s.apply(ch)
			if !byOperator {
				for k := range held {
					if !pins(b, now, q.Addr)[k] {
						t.Fatalf("%v was displaced at %v", k, q.Addr)
					}
				}
			}
			check(t, b, s, cfg)
		}
	})
}

func pins(b *Book, now time.Time, a netip.Addr) map[identity.Fingerprint]bool {
	out := map[identity.Fingerprint]bool{}
	for _, r := range b.Lookup(now, a, "") {
		if !r.Inbound || r.Verified() {
			out[r.Key] = true
		}
	}
	return out
}

func check(t *rapid.T, b *Book, s store, cfg Config) {
	list := b.List()
	if len(list) != b.Len() || len(list) != len(s) || len(list) > cfg.Max {
		t.Fatalf("%d listed, %d counted, %d stored of %d", len(list), b.Len(), len(s), cfg.Max)
	}
	for _, r := range list {
		if !reflect.DeepEqual(s[r.ID()], r) {
			t.Fatalf("stored %+v\n  held %+v", s[r.ID()], r)
		}
	}
	if again := New(cfg, list).List(); !reflect.DeepEqual(again, list) && len(list) > 0 {
		t.Fatalf("made anew: %+v\n%+v", again, list)
	}
	n := 0
	for _, rs := range b.keys {
		n += len(rs)
	}
	if n != b.Len() {
		t.Fatalf("%d by key, %d by place", n, b.Len())
	}
}
