package trust

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// oldRecord is what the columns of trust.md §5 stand for. The two middle ones come with CGA and DNS evidence, which a
// store may hold already.
func oldRecord(k identity.PublicKey, column identity.Assurance) Record {
	r := Record{
		Addr: host, Key: k.Fingerprint(), Public: k, Assurance: column, FirstSeen: t0, LastSeen: t0, Sessions: 1, Sticky: true,
		Evidence: []Evidence{{Seen, t0}},
	}
	if column >= identity.Continuity {
		r.Sessions = 2
		r.note(Again, t0)
	}
	if column == identity.Verified {
		r.note(Compared, t0)
	}
	return r
}

// trust.md §5, the decision table: the old record's level against what vouches for the new key. R: refused, the old record
// untouched. P: replaced, with a notice; the number is the new key's level.
func TestDecisionTable(t *testing.T) {
	columns := []identity.Assurance{identity.FirstUse, identity.Continuity, identity.Address, identity.DNS, identity.Verified}
	k1, k2 := signerOf(t, 1), signerOf(t, 2)
	q := Query{Addr: host, Key: k2.Public}
	for _, row := range []struct {
		vouchedBy string
		mode      Mode
		want      []string
		vouch     func(t *testing.T, b *Book, old identity.Assurance)
		ask       func(Query) Query
	}{
		{vouchedBy: "nothing", want: []string{"R", "R", "R", "R", "R"}},
		{
			vouchedBy: "hand-over by the old key", want: []string{"P30", "P30", "P30", "P30", "P60"},
			vouch: func(t *testing.T, b *Book, _ identity.Assurance) { handOver(t, b, k1, k2, identity.Continuity) },
		},
		{
			vouchedBy: "PAD or PKIX rule", want: []string{"P60", "P60", "P60", "P60", "P60"},
			ask: func(q Query) Query { q.Named = true; return q },
		},
		{
			vouchedBy: "user comparison", want: []string{"P60", "P60", "P60", "P60", "P60"},
			vouch: func(t *testing.T, b *Book, _ identity.Assurance) {
				b.Judge(t0, q) // refused; then the user compares what is offered
				must(t)(b.Verify(t0, host, "", k2.Public.Fingerprint()))
			},
		},
		{vouchedBy: "mode off", mode: Off, want: []string{"P20", "P20", "P20", "P20", "R"}},
		{vouchedBy: "nothing, mode strict", mode: Strict, want: []string{"R", "R", "R", "R", "R"}},
		{vouchedBy: "nothing, mode ask", mode: Ask, want: []string{"R", "R", "R", "R", "R"}},
	} {
		for i, column := range columns {
			t.Run(fmt.Sprintf("BTNS-TRUST-30 old %v, new vouched by %s", column, row.vouchedBy), func(t *testing.T) {
				b := New(Config{Mode: row.mode}, []Record{oldRecord(k1.Public, column)})
				q := q
				if row.vouch != nil {
					row.vouch(t, b, column)
				}
				if row.ask != nil {
					q = row.ask(q)
				}
				before := b.List()
				got := "R"
				v := b.Judge(t0, q)
				_, err := b.Carried(t0, q)
				if (v.Refuse == nil) != (err == nil) {
					t.Fatalf("judged %v, then %v", v.Refuse, err)
				}
				if err == nil {
					got = fmt.Sprintf("P%d", v.Assurance)
					told := b.Events()
					if row.vouchedBy != "user comparison" && len(of[Replaced](told))+len(of[Succeeded](told)) == 0 {
						t.Errorf("replaced without a notice: %+v", told)
					}
				} else if after := b.List(); fmt.Sprint(after) != fmt.Sprint(before) || !b.Sticky(t0, host, "") {
					t.Errorf("the old record was touched: %+v", after)
				}
				if got != row.want[i] {
					t.Errorf("%s, want %s", got, row.want[i])
				}
				if k2rs := b.Lookup(t0, host, ""); err == nil && k2rs[0].Key != k2.Public.Fingerprint() && k2rs[len(k2rs)-1].Key != k2.Public.Fingerprint() {
					t.Errorf("not recorded: %+v", k2rs)
				}
			})
		}
	}
}

func of[E Event](all []Event) (out []E) {
	for _, e := range all {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

func TestRefusals(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	b := New(Config{}, nil)
	carry(t, b, Query{Addr: host, Key: k1})
	t.Run("BTNS-TRUST-31 the alarm comes every time until it is settled, names both keys and since when", func(t *testing.T) {
		for i := range 3 {
			e := refused(t, b, Query{Addr: host, Key: k2})
			if e.Want != k1.Fingerprint() || e.Got != k2.Fingerprint() || !e.Since.Equal(t0) || e.Addr != host {
				t.Fatalf("%d: %+v", i, e)
			}
		}
	})
	t.Run("BTNS-TRUST-32 a refused key never counts as seen", func(t *testing.T) {
		if v := b.Judge(t0, Query{Addr: home, Key: k2}); v.Assurance != identity.FirstUse {
			t.Fatal(v)
		}
		strict := New(Config{Mode: Strict}, b.List())
		strict.Judge(t0, Query{Addr: home, Key: k2})
		if v := strict.Judge(t0, Query{Addr: home, Key: k2}); v.Refuse == nil {
			t.Fatal("refused keys are unknown keys")
		}
	})
	t.Run("BTNS-TRUST-33 the same refusal is told once a minute, and counted always", func(t *testing.T) {
		b := New(Config{}, b.List())
		q := Query{Addr: host, Key: k2}
		for i, want := range []bool{false, true, true} {
			if v := b.Judge(t0.Add(time.Duration(i)*20*time.Second), q); v.Quiet != want {
				t.Errorf("%d: quiet %v", i, v.Quiet)
			}
		}
		if v := b.Judge(t0.Add(61*time.Second), q); v.Quiet {
			t.Error("a minute later it is told again")
		}
		if r := b.Refused(host, ""); len(r) != 1 || r[0].Count != 4 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("BTNS-TRUST-34 of two keys that race for a place the second is refused", func(t *testing.T) {
		b := New(Config{}, nil)
		for _, k := range []identity.PublicKey{k1, k2} {
			if v := b.Judge(t0, Query{Addr: host, Key: k}); v.Refuse != nil {
				t.Fatal(v.Refuse)
			}
		}
		carry(t, b, Query{Addr: host, Key: k2})
		var e *KeyChangedError
		if _, err := b.Carried(t0, Query{Addr: host, Key: k1}); !errors.As(err, &e) || e.Want != k2.Fingerprint() {
			t.Fatal(err)
		}
	})
}

// A key that takes the place of another by a rule, or in mode off, takes over that its address must be protected.
func TestReplacedStaysSticky(t *testing.T) {
	for name, q := range map[string]Query{
		"rule": {Addr: host, Key: key(t, 2), Inbound: true, Named: true}, "mode off": {Addr: host, Key: key(t, 2), Inbound: true},
	} {
		b := New(Config{Mode: Off}, nil)
		carry(t, b, Query{Addr: host, Key: key(t, 1)})
		carry(t, b, q)
		if !b.Sticky(t0, host, "") {
			t.Errorf("%s: in clear", name)
		}
	}
}

// BTNS-TRUST-10: in mode ask a key waits for the operator's word; without one it is as in strict.
func TestAskWaits(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	b := New(Config{Mode: Ask}, nil)
	q := Query{Addr: host, Key: k1}
	b.Judge(t0, q)
	w := b.Waiting()
	if len(w) != 1 || w[0].Place != At(host, "") || w[0].Key != k1 {
		t.Fatalf("%+v", w)
	}
	must(t)(b.Accept(t0, host, "", k1.Fingerprint()))
	if len(b.Waiting()) != 0 {
		t.Fatal("still waiting")
	}
	judge(t, b, q, identity.FirstUse)
	carry(t, b, q)
	judge(t, b, q, identity.Continuity)
	judge(t, b, Query{Addr: home, Key: k1}, identity.FirstUse) // a known key at another address need not be asked about
	b.Judge(t0, Query{Addr: host, Key: k2})
	if len(b.Waiting()) != 0 {
		t.Fatal("a changed key is an alarm, not a question")
	}
	b.SetMode(Strict)
	if b.Judge(t0, Query{Addr: home, Key: k2}); len(b.Waiting()) != 0 {
		t.Fatal("in strict nobody is asked")
	}
	must(t)(b.VerifyKey(t0, k2.Fingerprint(), identity.PublicKey{}))
	judge(t, b, Query{Addr: home, Key: k2}, identity.Verified) // strict: known or verified keys
}
