package policy

import (
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// What an entry says in each direction, and who says it (RFC 4301 §4.4.1, BTNS-CORE-25).
func TestWords(t *testing.T) {
	with := func(e Entry, f Fallback, in Word) Entry {
		e.Fallback, e.Inbound, e.Source = f, in, "btns.toml:7"
		return e
	}
	p := compose(t, []Entry{
		entry(t, "monitoring", "any4", hostR, Bypass),
		entry(t, "no telnet", "any4", "any4 tcp/23", Discard),
		with(entry(t, "strict", "any4", hostQ, Protect), Require, ""),
		with(entry(t, "strict out only", "any4", hostC, Protect), Require, WordAccept),
		with(entry(t, "strict in only", "any4", hostA, Protect), Prefer, WordRequire),
		with(entry(t, "waits", "any4", sgB, Protect), Never, ""),
		with(entry(t, "tries", "any4", "any4", Protect), Prefer, ""),
	}, nil)
	for number, tc := range []struct {
		remote, name string
		port         uint16
		out, in      Word
	}{
		{hostR, "monitoring", 23, WordClear, WordClear},
		{hostQ, "no telnet", 23, WordDiscard, WordDiscard},
		{hostQ, "strict", 22, WordRequire, WordRequire},
		{hostC, "strict out only", 22, WordRequire, WordAccept},
		{hostA, "strict in only", 22, WordPrefer, WordRequire},
		{sgB, "waits", 22, WordAccept, WordAccept},
		{"198.18.0.1", "tries", 22, WordPrefer, WordPrefer},
		{"2001:db8::1", "no entry matches", 22, WordDiscard, WordDiscard},
	} {
		f := selector.Flow{Proto: selector.TCP, Local: addr(sgA), Remote: addr(tc.remote), LocalPort: 40000, RemotePort: tc.port}
		if !f.Remote.Is4() {
			f.Local, number = addr("2001:db8::2"), -1
		}
		out, in := p.Test(f, Out), p.Test(f, In)
		if out.Name != tc.name || out.Word != tc.out || in.Word != tc.in || in.Entry != out.Entry || out.Number != number+1 {
			t.Errorf("%s:%d: %s (%d), %s out, %s in", tc.remote, tc.port, out.Name, out.Number, out.Word, in.Word)
		}
		if clear := in.Word != WordRequire && in.Word != WordDiscard; p.InboundClear(f) != clear {
			t.Errorf("%s:%d: clear text comes in: %v, and the word is %s", tc.remote, tc.port, !clear, in.Word)
		}
		if d := p.Outbound(f); d.Entry != out.Entry {
			t.Errorf("%s:%d: %s decides, not %s", tc.remote, tc.port, d.Name, out.Name)
		}
	}
	if Out.String() != "out" || In.String() != "in" {
		t.Error("directions")
	}
}

// An entry is shadowed when earlier ones have all of its traffic, together too; and never when some is left.
func TestShadowed(t *testing.T) {
	through := entry(t, "", "any4", "any4", Protect)
	through.BtnsFallthrough = true
	for _, tc := range []struct {
		name string
		spd  []Entry
		want string // the entries that hide the last one; empty: it is reached
	}{
		{"by one", []Entry{entry(t, "a", "any4", "203.0.0.0/16", Protect), entry(t, "z", hostA, "203.0.1.0/24", Discard)}, "a"},
		{"by two halves", []Entry{
			entry(t, "a", "any4", "203.0.113.0-203.0.113.99", Bypass), entry(t, "b", "any4", "203.0.113.100-203.0.113.255", Discard),
			entry(t, "z", hostA, "203.0.113.0/24 tcp/22", Protect),
		}, "a b"},
		{"by two port ranges", []Entry{
			entry(t, "a", "any4", "any4 tcp/1-99", Bypass), entry(t, "b", "any4", "any4 tcp/100-65535", Bypass), entry(t, "z", "any4", "any4 tcp/22-200", Discard),
		}, "a b"},
		{"one address is left", []Entry{entry(t, "a", "any4", "203.0.113.0-203.0.113.254", Bypass), entry(t, "z", "any4", "203.0.113.0/24", Discard)}, ""},
		{"another protocol is left", []Entry{entry(t, "a", "any4", "any4 tcp", Bypass), entry(t, "z", "any4", "any4", Discard)}, ""},
		{"another local port is left", []Entry{entry(t, "a", "any4 tcp/22", "any4 tcp", Bypass), entry(t, "z", "any4 tcp", hostC+" tcp", Discard)}, ""},
		{"a fallthrough passes some on", []Entry{through, btns(entry(t, "z", "any4", hostC, Protect))}, ""},
		{"the other family", []Entry{entry(t, "a", "any4", "any4", Bypass), entry(t, "z", "any6", "any6", Discard)}, ""},
	} {
		var got []string
		for _, s := range compose(t, tc.spd, nil).Shadowed() {
			if s.Name != "z" {
				t.Errorf("%s: %q is shadowed", tc.name, s.Name)
			}
			for _, e := range s.By {
				got = append(got, e.Name)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: hidden by %q", tc.name, got)
		}
	}
	late := entry(t, "late", "any4", hostC, Discard)
	late.Source = "btns.toml:12"
	if w := compose(t, []Entry{entry(t, "a", "any4", "any4", Bypass), late}, nil).Warnings(); len(w) != 1 || !strings.Contains(w[0], "(btns.toml:12)") {
		t.Errorf("the place is not named: %q", w)
	}
}

func TestRefusedEntries(t *testing.T) {
	for name, edit := range map[string]func(*Entry){
		"only clear text comes in": func(e *Entry) { e.Inbound = WordClear },
		"no such word":             func(e *Entry) { e.Inbound = "maybe" },
		"unknown PFP":              func(e *Entry) { e.PFP = PFPAll + 1 },
		"DSCP 64":                  func(e *Entry) { e.Marks = protect.Marks{SetDSCP: true, DSCP: 64} },
		"a DSCP that is not set":   func(e *Entry) { e.Marks.DSCP = 10 },
	} {
		e := entry(t, "e", "any4", "any4", Protect)
		if edit(&e); e.Inbound == "" && e.PFP == 0 && e.Marks == (protect.Marks{}) {
			t.Fatal(name)
		}
		if _, err := New([]Entry{e}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, e := range map[string]Entry{
		"inbound of a bypass": {Inbound: WordAccept}, "PFP of a bypass": {PFP: PFPAll}, "marks of a bypass": {Marks: protect.Marks{ClearECN: true}},
	} {
		e.Name, e.Action, e.Local, e.Remote = "e", Bypass, selector.Any(), selector.Any()
		if _, err := New([]Entry{e}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
