package policy

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// The networks of RFC 5386 §3, with addresses: A behind the gateway SG-A, B-net behind SG-B, and hosts C, D, Q, R.
const (
	hostA = "192.0.2.10"
	sgA   = "192.0.2.1"
	bNet  = "198.51.100.0/24"
	sgB   = "198.51.100.1"
	hostC = "203.0.113.3"
	hostQ = "203.0.113.17"
	hostR = "203.0.113.18"
)

func set(t testing.TB, texts ...string) (s selector.Set) {
	t.Helper()
	for _, x := range texts {
		sel, err := selector.Parse(x)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, sel)
	}
	return s
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func key(t testing.TB, n byte) identity.PublicKey {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Public
}

func id(t testing.TB, s string) identity.ID {
	t.Helper()
	i, err := identity.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func entry(t testing.TB, name, local, remote string, a Action) Entry {
	t.Helper()
	e := Entry{Name: name, Local: set(t, local), Remote: set(t, remote), Action: a}
	if a == Protect {
		e.Offer, e.Mode = DefaultOffer(true), protect.Tunnel
	}
	return e
}

func btns(e Entry) Entry {
	e.BtnsOK = true
	return e
}

func compose(t testing.TB, spd []Entry, pad []PADEntry) *Policy {
	t.Helper()
	p, err := New(spd, pad)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const keyB, keyQ, keyC, keyRogue = 2, 17, 3, 66

func policyOfSGA(t testing.TB, withBTNS bool) *Policy {
	spd := []Entry{
		entry(t, "SPD 1", hostA, hostR, Bypass), entry(t, "SPD 2", hostA, hostQ, Protect), entry(t, "SPD 3", hostA, bNet, Protect),
	}
	pad := []PADEntry{ // the wildcard first: the order that the administrator typed does not matter (BTNS-CORE-04)
		{Name: "PAD 1", Kind: ByID, ID: id(t, "b.example"), Keys: []identity.PublicKey{key(t, keyB)}, Constraint: set(t, bNet)},
		{Name: "PAD 2", Kind: ByID, ID: id(t, "q.example"), Keys: []identity.PublicKey{key(t, keyQ)}, Constraint: set(t, hostQ)},
	}
	if withBTNS {
		spd = append(spd, btns(entry(t, "SPD 4", hostA, "any4", Protect)))
		pad = append([]PADEntry{{Name: "PAD 3", Kind: AnyKey, Constraint: selector.Any()}}, pad...)
	}
	return compose(t, spd, pad)
}

// request is a peer that opens IKE and asks for one child.
type request struct {
	name   string
	id     string
	method Method
	key    byte
	from   string
	ts     []string // on the peer's side
	local  string

	pad, spd  string // expected; empty: refused at this step
	remote    string // granted
	granted   string // on the local side; empty: local
	assurance identity.Assurance
}

func (r request) run(t *testing.T, p *Policy, mode protect.Mode) {
	t.Helper()
	a := Asserted{ID: id(t, r.id), Method: r.method, Addr: addr(r.from)}
	if r.key != 0 {
		a.Key = key(t, r.key)
	}
	e, err := p.FindPAD(a)
	if r.pad == "" {
		var reject *RejectError
		if !errors.As(err, &reject) {
			t.Fatalf("%s: let in by %v, %v", r.name, e, err)
		}
		return
	}
	if err != nil || e.Name != r.pad {
		t.Fatalf("%s: PAD %v, %v", r.name, e, err)
	}
	ref := PeerRef{Entry: e, Assurance: r.assurance, LocalAddr: addr(sgA), RemoteAddr: addr(r.from)}
	g, err := p.AuthorizeChild(ref, set(t, r.local), set(t, r.ts...), mode, nil)
	if r.spd == "" {
		var child *ChildError
		if !errors.As(err, &child) {
			t.Fatalf("%s: granted %v to %v by %q", r.name, g.Local, g.Remote, g.Entry.Name)
		}
		return
	}
	if r.granted == "" {
		r.granted = r.local
	}
	if err != nil || g.Entry.Name != r.spd || g.Remote.String() != r.remote || g.Local.String() != set(t, r.granted).String() {
		t.Fatalf("%s: %v to %v by %v, %v", r.name, g.Local, g.Remote, g.Entry, err)
	}
}

func TestScenarioOfSGA(t *testing.T) {
	p := policyOfSGA(t, true)
	for _, r := range []request{
		{
			name: "CORE-T01 Q with its ID", id: "q.example", method: Signature, key: keyQ, from: hostQ,
			ts: []string{hostQ}, local: hostA, pad: "PAD 2", spd: "SPD 2", remote: hostQ + "/32",
		},
		{
			name: "CORE-T02 SG-B with B's ID", id: "b.example", method: Signature, key: keyB, from: sgB,
			ts: []string{"any4"}, local: hostA, pad: "PAD 1", spd: "SPD 3", remote: bNet,
		},
		{
			name: "CORE-T04 C with a bare key", id: "c.example", method: Signature, key: keyC, from: hostC,
			ts: []string{hostC}, local: hostA, pad: "PAD 3", spd: "SPD 4", remote: hostC + "/32",
		},
		{name: "CORE-T05 rogue asserts Q's ID", id: "q.example", method: Signature, key: keyRogue, from: hostC},
		{
			name: "CORE-T06 rogue asks for Q's address", id: "x.example", method: Signature, key: keyRogue, from: hostC,
			ts: []string{hostQ}, local: hostA, pad: "PAD 3",
		},
		{
			name: "CORE-T07 rogue asks for an address in B-net", id: "x.example", method: Signature, key: keyRogue, from: hostC,
			ts: []string{"198.51.100.77"}, local: hostA, pad: "PAD 3",
		},
		{
			name: "CORE-T08 rogue asks for a range with C, Q and R in it", id: "x.example", method: Signature, key: keyRogue,
			from: hostC, ts: []string{"203.0.113.0/24"}, local: hostA, pad: "PAD 3", spd: "SPD 4",
			remote: "203.0.113.0-203.0.113.16, 203.0.113.19-203.0.113.255",
		},
		{
			name: "CORE-T08 rogue asks for all of B-net and more", id: "x.example", method: Signature, key: keyRogue,
			from: hostC, ts: []string{"198.51.100.0/23"}, local: hostA, pad: "PAD 3", spd: "SPD 4", remote: "198.51.101.0/24",
		},
		{
			name: "CORE-T09 rogue asks for C's address", id: "x.example", method: Signature, key: keyRogue, from: hostC,
			ts: []string{hostC}, local: hostA, pad: "PAD 3", spd: "SPD 4", remote: hostC + "/32",
		},
		{name: "CORE-T11 C with a shared secret", id: "c.example", method: SharedKey, from: hostC},
		{name: "CORE-T11 Q with a shared secret, where a key is configured", id: "q.example", method: SharedKey, from: hostQ},
		{name: "BTNS-NULL-03 without authentication", id: "q.example", method: NullAuth, from: hostQ},
	} {
		t.Run(r.name, func(t *testing.T) { r.run(t, p, protect.Tunnel) })
	}
	t.Run("CORE-T12 no PAD 3", func(t *testing.T) {
		request{id: "c.example", method: Signature, key: keyC, from: hostC}.run(t, policyOfSGA(t, false), protect.Tunnel)
	})
	// CORE-T03, CORE-T10: R in clear; and the second pass runs for every child, so a child asked for later is judged as
	// the first one was.
	if d := p.Outbound(selector.Flow{Proto: 6, Local: addr(hostA), Remote: addr(hostR)}); d.Name != "SPD 1" || d.Action != Bypass {
		t.Errorf("CORE-T03: %v", d.Name)
	}
	ref := PeerRef{Entry: p.Entry("PAD 3"), LocalAddr: addr(sgA), RemoteAddr: addr(hostC)}
	for i, ok := range []bool{true, false, true} {
		ts := set(t, hostC)
		if !ok {
			ts = set(t, hostQ)
		}
		if _, err := p.AuthorizeChild(ref, set(t, hostA), ts, protect.Tunnel, nil); (err == nil) != ok {
			t.Errorf("CORE-T10, child %d: %v", i, err)
		}
	}
}

func TestScenarioOfQ(t *testing.T) {
	nfs := entry(t, "SPD 2", hostQ+" tcp/2049", "any4", Protect)
	nfs.Mode = protect.Transport
	p := compose(t, []Entry{entry(t, "SPD 1", hostQ, hostA, Protect), btns(nfs)}, []PADEntry{
		{Name: "PAD 1", Kind: ByID, ID: id(t, "a.example"), Keys: []identity.PublicKey{key(t, 9)}, Constraint: set(t, hostA)},
		{Name: "PAD 2", Kind: AnyKey, Constraint: set(t, "any4")},
	})
	for _, tc := range []struct {
		name, from, ts, local string
		wantLocal, wantRemote string // empty: refused
	}{
		{"CORE-T20 C asks for 2049", hostC, hostC + " tcp", hostQ + " tcp/2049", hostQ + "/32 tcp/2049", hostC + "/32 tcp"},
		{"CORE-T21 C asks for all ports", hostC, hostC, hostQ, hostQ + "/32 tcp/2049", hostC + "/32 tcp"},
		{"CORE-T22 SG-B for a host in B-net", "198.51.100.77", "198.51.100.77", hostQ + " tcp/2049", hostQ + "/32 tcp/2049", "198.51.100.77/32 tcp"},
		{"CORE-T23 a BTNS peer with A's address", hostA, hostA, hostQ + " tcp/2049", "", ""},
		{"CORE-T24 Q:22", hostC, hostC, hostQ + " tcp/22", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := p.FindPAD(Asserted{ID: identity.Null(), Method: Signature, Key: key(t, keyC), Addr: addr(tc.from)})
			if err != nil || e.Name != "PAD 2" {
				t.Fatalf("%v, %v", e, err)
			}
			ref := PeerRef{Entry: e, LocalAddr: addr(hostQ), RemoteAddr: addr(tc.from)}
			g, err := p.AuthorizeChild(ref, set(t, tc.local), set(t, tc.ts), protect.Transport, nil)
			if tc.wantLocal == "" {
				if err == nil {
					t.Fatalf("granted %v to %v", g.Local, g.Remote)
				}
				return
			}
			if err != nil || g.Entry.Name != "SPD 2" || g.Local.String() != tc.wantLocal || g.Remote.String() != tc.wantRemote {
				t.Fatalf("%v to %v, %v", g.Local, g.Remote, err)
			}
		})
	}
}

func TestScenarioOfC(t *testing.T) {
	nfs := entry(t, "SPD 1", hostC, "any4 tcp/2049", Protect)
	nfs.Mode = protect.Transport
	p := compose(t, []Entry{btns(nfs), entry(t, "SPD 2", hostC, "any4", Bypass)}, []PADEntry{{Name: "PAD 1", Kind: AnyKey, Constraint: set(t, "any4")}})
	flow := func(to string, port uint16) selector.Flow {
		return selector.Flow{Proto: selector.TCP, LocalPort: 40000, RemotePort: port, Local: addr(hostC), Remote: addr(to)}
	}
	if d := p.Outbound(flow(hostQ, 2049)); d.Name != "SPD 1" || d.Fallback != Require {
		t.Errorf("CORE-T30: %v", d.Name)
	}
	if _, err := p.FindPAD(Asserted{ID: id(t, "whatever.example"), Method: Signature, Key: key(t, keyQ)}); err != nil {
		t.Errorf("CORE-T30: any ID is fine: %v", err)
	}
	for _, f := range []selector.Flow{flow(hostA, 80), flow(hostQ, 80)} {
		if d := p.Outbound(f); d.Action != Bypass || !p.InboundClear(f) {
			t.Errorf("CORE-T31: %v", d.Name)
		}
	}
	if p.InboundClear(flow(hostQ, 2049)) {
		t.Error("CORE-T33: clear packet from Q:2049 let in")
	}
	ref := PeerRef{Entry: p.Entry("PAD 1"), LocalAddr: addr(hostC), RemoteAddr: addr(hostQ)}
	if g, err := p.AuthorizeChild(ref, set(t, hostC+" tcp/22"), set(t, hostQ+" tcp/1024-2000"), protect.Transport, nil); err == nil {
		t.Errorf("CORE-T32: granted %v to %v", g.Local, g.Remote)
	}
	g, err := p.AuthorizeChild(ref, set(t, hostC), set(t, hostQ), protect.Transport, nil)
	if err != nil || g.Remote.String() != hostQ+"/32 tcp/2049" || g.Local.String() != hostC+"/32 tcp" {
		t.Errorf("CORE-T32: %v to %v, %v", g.Local, g.Remote, err)
	}
}

// CORE-T34, BTNS-CORE-22, BTNS-CORE-23: a rule is never weakened by a later one, unless it says so itself.
func TestNoFallingThrough(t *testing.T) {
	for _, through := range []bool{false, true} {
		strict := entry(t, "SPD 1", "any4", "any4", Protect)
		strict.BtnsFallthrough = through
		p := compose(t, []Entry{strict, btns(entry(t, "SPD 2", "any4", "any4", Protect))}, []PADEntry{
			{Name: "named", Kind: ByID, ID: id(t, "q.example"), Keys: []identity.PublicKey{key(t, keyQ)}},
			{Name: "any", Kind: AnyKey},
		})
		f := selector.Flow{Proto: 6, Local: addr(hostA), Remote: addr(hostC)}
		for name, want := range map[string]string{"named": "SPD 1", "any": map[bool]string{true: "SPD 2"}[through]} {
			ref := PeerRef{Entry: p.Entry(name), LocalAddr: addr(hostA), RemoteAddr: addr(hostC)}
			g, err := p.AuthorizeChild(ref, set(t, hostA), set(t, hostC), protect.Tunnel, nil)
			if want == "" && err == nil || want != "" && (err != nil || g.Entry.Name != want) {
				t.Errorf("fallthrough %v, %s: %v, %v", through, name, g.Entry, err)
			}
			if got := p.InboundProtected(f, ref); got != (want != "") {
				t.Errorf("fallthrough %v, %s: inbound %v", through, name, got)
			}
		}
		if len(p.Warnings()) != 1 {
			t.Errorf("%q", p.Warnings())
		}
	}
}
