package host

import (
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

func set(t *testing.T, texts ...string) (s selector.Set) {
	t.Helper()
	for _, text := range texts {
		x, err := selector.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, x)
	}
	return s
}

// stateIn is what the longest of prefixes with a in it says.
func stateIn(m map[netip.Prefix]flow.State, a netip.Addr) (s flow.State) {
	bits := -1
	for p, state := range m {
		if p.Contains(a) && p.Bits() > bits {
			s, bits = state, p.Bits()
		}
	}
	return s
}

// The ground of a policy, as it stands in a plane. Gateways and resolvers are spared whatever a rule says; what only a
// part of a rule's traffic is let pass for is not closed either.
func TestGroundOfAPolicy(t *testing.T) {
	any := selector.Any()
	entry := func(action policy.Action, remote selector.Set) policy.Entry {
		e := policy.Entry{Name: "rule", Source: "x:1", Action: action, Local: any, Remote: remote}
		if action == policy.Protect {
			e.Mode, e.Offer, e.Fallback = protect.Transport, policy.DefaultOffer(true), policy.Require
		}
		return e
	}
	prefer := entry(policy.Protect, set(t, "192.0.2.0/25"))
	prefer.Fallback, prefer.Waiting = policy.Prefer, policy.Pass
	named := entry(policy.Protect, set(t, "192.0.2.7"))
	named.Peer = "gw"
	half := entry(policy.Discard, set(t, "192.0.2.8"))
	half.Local = set(t, "203.0.113.1")
	resolver := netip.MustParseAddr("192.0.2.53")
	for _, tc := range []struct {
		name   string
		spd    []policy.Entry
		rest   policy.Fallback
		spared []netip.Addr
		want   map[string]flow.State
	}{
		{
			name: "nothing is required", rest: policy.Prefer,
			want: map[string]flow.State{"192.0.2.1": flow.Clear, "2001:db8::1": flow.Clear},
		},
		{
			name: "everything is", rest: policy.Require,
			want: map[string]flow.State{
				"192.0.2.1": flow.Hold, "2001:db8::1": flow.Hold, "64:ff9b::c000:201": flow.Hold,
				"127.0.0.1": flow.Clear, "224.0.0.1": flow.Clear, "fe80::1": flow.Clear, "ff02::1": flow.Clear, "::1": flow.Clear, "0.0.0.0": flow.Clear,
			},
		},
		{
			name: "a resolver cannot be locked out by default", rest: policy.Require, spared: []netip.Addr{resolver},
			want: map[string]flow.State{"192.0.2.53": flow.Clear, "192.0.2.52": flow.Hold, "192.0.2.54": flow.Hold},
		},
		{
			name: "nor by a rule", rest: policy.Prefer, spared: []netip.Addr{resolver}, spd: []policy.Entry{entry(policy.Discard, any)},
			want: map[string]flow.State{"192.0.2.53": flow.Clear, "192.0.2.52": flow.Closed, "2001:db8::1": flow.Closed},
		},
		{
			name: "the first entry that fits counts", rest: policy.Require, spd: []policy.Entry{prefer, entry(policy.Discard, set(t, "192.0.2.0/24"))},
			want: map[string]flow.State{"192.0.2.127": flow.Clear, "192.0.2.128": flow.Closed, "192.0.3.0": flow.Hold},
		},
		{
			name: "ranges", rest: policy.Prefer, spd: []policy.Entry{entry(policy.Discard, set(t, "192.0.2.3-192.0.2.9"))},
			want: map[string]flow.State{"192.0.2.2": flow.Clear, "192.0.2.3": flow.Closed, "192.0.2.9": flow.Closed, "192.0.2.10": flow.Clear},
		},
		{
			name: "what is for a peer is the peer's", rest: policy.Require, spd: []policy.Entry{named},
			want: map[string]flow.State{"192.0.2.7": flow.Clear, "192.0.2.6": flow.Hold},
		},
		{
			name: "what lets a part pass is not closed", rest: policy.Require, spd: []policy.Entry{entry(policy.Bypass, set(t, "192.0.2.7 tcp/22"))},
			want: map[string]flow.State{"192.0.2.7": flow.Clear, "192.0.2.6": flow.Hold},
		},
		{
			name: "what drops a part closes nothing", rest: policy.Prefer, spd: []policy.Entry{entry(policy.Discard, set(t, "192.0.2.7 tcp/22")), half},
			want: map[string]flow.State{"192.0.2.7": flow.Clear, "192.0.2.8": flow.Clear},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spd := append(append(policy.Untouchable(), tc.spd...), policy.Rest(policy.Unknown{Fallback: tc.rest})...)
			got := ground(spd, tc.spared)
			for text, want := range tc.want {
				if s := stateIn(got, netip.MustParseAddr(text)); s != want {
					t.Errorf("%s: %v, want %v", text, s, want)
				}
			}
			if len(got) > 400 {
				t.Errorf("%d prefixes", len(got))
			}
		})
	}
}

// A range is exactly its prefixes.
func TestPrefixesOfARange(t *testing.T) {
	for text, want := range map[string]int{
		"0.0.0.0/0": 1, "::/0": 1, "192.0.2.7": 1, "192.0.2.1-192.0.2.6": 4, "192.0.2.0-192.0.2.255": 1, "255.255.255.254-255.255.255.255": 1,
		"2001:db8::1-2001:db8::ffff": 16,
	} {
		s := set(t, text)[0]
		ps := prefixes(s.From, s.To)
		next := s.From
		for _, p := range ps {
			if p.Addr() != next || p != p.Masked() {
				t.Errorf("%s: %v", text, ps)
			}
			next = last(p).Next()
		}
		if len(ps) != want || last(ps[len(ps)-1]) != s.To {
			t.Errorf("%s: %v", text, ps)
		}
	}
}
