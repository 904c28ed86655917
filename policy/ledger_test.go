package policy

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// padOf is a PAD with an entry of every kind, in the least helpful order.
func padOf(t testing.TB) *Policy {
	open := btns(entry(t, "open", "any4", "any4", Protect))
	open.NullOK = true
	return compose(t, []Entry{open}, []PADEntry{
		{Name: "any", Kind: AnyKey, Constraint: selector.Any()},
		{Name: "null", Kind: Null, Constraint: selector.Any()},
		{Name: "print", Kind: ByKey, Fingerprints: []identity.Fingerprint{key(t, 1).Fingerprint()}, Constraint: set(t, "203.0.113.32-203.0.113.47")},
		{Name: "exact", Kind: ByKey, Keys: []identity.PublicKey{key(t, 2)}, Constraint: set(t, "203.0.113.48-203.0.113.63", "2001:db8:1::/48")},
		{Name: "named", Kind: ByID, ID: id(t, "q.example"), Keys: []identity.PublicKey{key(t, 3)}, Constraint: set(t, hostQ, "2001:db8:2::/48")},
		{Name: "secret", Kind: ByID, ID: id(t, "p.example"), PSK: []byte("x"), Constraint: set(t, hostR)},
		{Name: "staff", Kind: ByID, IDs: IDRange{Domain: ".staff.example"}, Anchors: []string{"staff CA"}, Constraint: set(t, bNet)},
	})
}

func sign(k identity.PublicKey) Asserted {
	return Asserted{ID: identity.Null(), Method: Signature, Key: k}
}

func found(t *testing.T, p *Policy, a Asserted, want string, wantErr error) *PADEntry {
	t.Helper()
	e, err := p.FindPAD(a)
	if !errors.Is(err, wantErr) || wantErr == nil && (err != nil || e.Name != want) {
		t.Errorf("%+v: %v, %v", a, e, err)
	}
	return e
}

// What core.md §2 demands of the PAD.
func TestLedgerOfPAD(t *testing.T) {
	p := padOf(t)
	t.Run("BTNS-CORE-01 a peer may be nothing but a key", func(t *testing.T) {
		e := found(t, p, sign(key(t, 2)), "exact", nil)
		if pr := e.Proof(sign(key(t, 2))); !slices.Equal(pr.Keys, []identity.PublicKey{key(t, 2)}) || !pr.ID.IsZero() {
			t.Errorf("%+v", pr.Keys)
		}
	})
	t.Run("BTNS-CORE-03 by key, by fingerprint, by any key", func(t *testing.T) {
		for n, want := range map[byte]string{1: "print", 2: "exact", 77: "any"} {
			found(t, p, sign(key(t, n)), want, nil)
		}
	})
	t.Run("BTNS-CORE-04 BTNS-CORE-05 non-BTNS entries first, the wildcard last, one of it", func(t *testing.T) {
		var kinds []Kind
		for _, e := range p.PAD() {
			kinds = append(kinds, e.Kind)
		}
		if !slices.IsSorted(kinds) || kinds[len(kinds)-1] != AnyKey {
			t.Errorf("%v", kinds)
		}
		if _, err := New(nil, []PADEntry{{Name: "a", Kind: AnyKey}, {Name: "b", Kind: AnyKey}}); err == nil {
			t.Error("two wildcards")
		}
	})
	t.Run("BTNS-CORE-06 by ID, then by key", func(t *testing.T) {
		a := sign(key(t, 3))
		found(t, p, a, "any", nil) // its key alone is nobody's
		a.ID = id(t, "q.example")
		found(t, p, a, "named", nil)
	})
	t.Run("BTNS-CORE-07 who asserts a name and cannot prove it is no BTNS peer", func(t *testing.T) {
		for name, err := range map[string]error{"q.example": ErrWrongKey, "p.example": ErrMethod, "x.staff.example": ErrNoChain} {
			a := sign(key(t, 2))
			a.ID = id(t, name)
			found(t, p, a, "", err)
		}
	})
	t.Run("BTNS-CORE-09 no entry, no IKE SA", func(t *testing.T) {
		found(t, compose(t, nil, nil), sign(key(t, 2)), "", ErrNoUnknown)
	})
	t.Run("BTNS-CORE-10 only signatures make a BTNS peer", func(t *testing.T) {
		found(t, p, Asserted{ID: id(t, "x.example"), Method: SharedKey}, "", ErrNoEntry)
	})
	t.Run("BTNS-CORE-40 the ID of a BTNS peer has no effect after coercion", func(t *testing.T) {
		for _, name := range []string{"a.example", "203.0.113.17", "user@b.example"} {
			a := sign(key(t, 2))
			a.ID = id(t, name)
			found(t, p, a, "exact", nil)
		}
	})
	t.Run("BTNS-NULL-03 BTNS-NULL-05 NULL is refused where an identity is wanted, and its ID is not looked at", func(t *testing.T) {
		a := Asserted{ID: id(t, "q.example"), Method: NullAuth}
		if e := found(t, p, a, "null", nil); !e.Proof(a).Null || !e.Proof(a).ID.IsZero() {
			t.Error("the ID of a NULL peer counts")
		}
		found(t, compose(t, nil, []PADEntry{Anyone()}), a, "", ErrNoNull)
	})
	t.Run("BTNS-NULL-12 accepting one of them does not accept the other", func(t *testing.T) {
		found(t, compose(t, nil, []PADEntry{Anonymous()}), sign(key(t, 2)), "", ErrNoUnknown)
	})
}

// asking is children that peers of a PAD ask for.
type asking struct {
	*testing.T
	p *Policy
}

func (a asking) ask(peer, remote string, held ...string) (Grant, error) {
	ref := PeerRef{Entry: a.p.Entry(peer), Assurance: identity.FirstUse, LocalAddr: addr(sgA), RemoteAddr: addr(hostC)}
	local := hostA
	if strings.Contains(remote, ":") {
		local = "2001:db8::1"
	}
	return a.p.AuthorizeChild(ref, set(a, local), set(a, remote), protect.Tunnel, set(a, held...))
}

func (a asking) refused(peer, remote string, held ...string) {
	a.Helper()
	if g, err := a.ask(peer, remote, held...); err == nil {
		a.Errorf("%s is granted %v", peer, g.Remote)
	}
}

func (a asking) granted(peer, remote, want string) {
	a.Helper()
	if g, err := a.ask(peer, remote); err != nil || g.Remote.String() != want {
		a.Errorf("%s, %s: %v, %v", peer, remote, g.Remote, err)
	}
}

// What core.md §2 demands for every child SA.
func TestLedgerOfConstraints(t *testing.T) {
	p := padOf(t)
	t.Run("BTNS-CORE-11 BTNS-CORE-12 an address of another entry is never granted", func(t *testing.T) {
		for _, peer := range []string{"any", "null"} {
			for _, remote := range []string{hostQ, hostR, "198.51.100.9", "203.0.113.40", "203.0.113.50"} {
				asking{t, p}.refused(peer, remote)
			}
			asking{t, p}.granted(peer, "203.0.113.16/28", "203.0.113.16/32, 203.0.113.19-203.0.113.31")
		}
		asking{t, p}.refused("exact", hostQ)
		asking{t, p}.granted("exact", "203.0.113.32/27", "203.0.113.48/28")
	})
	t.Run("BTNS-CORE-13 each child is judged anew", func(t *testing.T) {
		for range 2 {
			asking{t, p}.granted("any", hostC, hostC+"/32")
			asking{t, p}.refused("any", hostQ)
		}
	})
	t.Run("BTNS-CORE-16 constraints in both families", func(t *testing.T) {
		six := btns(entry(t, "open6", "any6", "any6", Protect))
		p := compose(t, []Entry{six}, p.PAD())
		asking{t, p}.granted("exact", "2001:db8:1::5", "2001:db8:1::5/128")
		asking{t, p}.refused("exact", "2001:db8:2::5")
		asking{t, p}.refused("any", "2001:db8:2::5")
		asking{t, p}.granted("any", "2001:db8:3::5", "2001:db8:3::5/128")
	})
	t.Run("BTNS-CORE-15 by name, the SPD is searched for entries of that peer only", func(t *testing.T) {
		own := entry(t, "own", "any4", "any4", Protect)
		own.Peer = "exact"
		pad := slices.Clone(p.PAD())
		for i := range pad {
			if pad[i].Name == "exact" {
				pad[i].Search = ByName
			}
		}
		g, err := asking{t, compose(t, []Entry{btns(entry(t, "open", "any4", "any4", Protect)), own}, pad)}.ask("exact", "203.0.113.50")
		if err != nil || g.Entry.Name != "own" {
			t.Errorf("%v, %v", g.Entry, err)
		}
	})
}

// What core.md §3 and §8 demand for every child SA.
func TestLedgerOfChildren(t *testing.T) {
	p := padOf(t)
	t.Run("BTNS-CORE-20 BTNS-CORE-21 BTNS-NULL-07 entries without a flag are nobody's without a name", func(t *testing.T) {
		p := compose(t, []Entry{entry(t, "named only", "any4", "any4", Protect)}, p.PAD())
		for _, peer := range []string{"any", "null", "exact", "print"} {
			asking{t, p}.refused(peer, "203.0.113.50")
		}
		asking{t, p}.granted("named", hostQ, hostQ+"/32")
	})
	t.Run("BTNS-NULL-08 BTNS-NULL-12 each flag opens to its own kind", func(t *testing.T) {
		null := entry(t, "null", "any4", "any4", Protect)
		null.NullOK = true
		for name, tc := range map[string]struct {
			e       Entry
			in, out string
		}{"btns_ok": {btns(entry(t, "btns", "any4", "any4", Protect)), "any", "null"}, "null_ok": {null, "null", "any"}} {
			p := compose(t, []Entry{tc.e}, p.PAD())
			asking{t, p}.granted(tc.in, hostC, hostC+"/32")
			asking{t, p}.refused(tc.out, hostC)
			if t.Failed() {
				t.Error(name)
			}
		}
	})
	t.Run("BTNS-NULL-08 BTNS-NULL-09 BTNS-NULL-14 a NULL peer gets nothing that others hold", func(t *testing.T) {
		asking{t, p}.refused("null", hostC, hostC)
		asking{t, p}.refused("any", hostC, hostC)
		if g, err := (asking{t, p}).ask("named", hostQ, hostQ); err != nil {
			t.Errorf("a named peer is kept from its own: %v, %v", g, err)
		}
	})
	t.Run("BTNS-CORE-22 BTNS-CORE-23 a stronger rule is not weakened by a later one", func(t *testing.T) {
		well := btns(entry(t, "well known", "any4", "203.0.113.0/28", Protect))
		well.MinAssurance = identity.Verified
		p := compose(t, []Entry{well, btns(entry(t, "open", "any4", "any4", Protect))}, p.PAD())
		asking{t, p}.refused("any", hostC)
		asking{t, p}.granted("any", "203.0.113.14-203.0.113.16", "203.0.113.16/32")
		ref := PeerRef{Entry: p.Entry("any"), Assurance: identity.FirstUse}
		f := selector.Flow{Proto: 6, Local: addr(hostA), Remote: addr(hostC)}
		if p.InboundProtected(f, ref) {
			t.Error("inbound it is")
		}
		if ref.Assurance = identity.Verified; !p.InboundProtected(f, ref) {
			t.Error("the better known peer is kept out")
		}
	})
	t.Run("BTNS-CORE-25 an entry falls back to clear text only when it says so", func(t *testing.T) {
		e := btns(entry(t, "e", "any4", "any4", Protect))
		f := selector.Flow{Proto: 6, Local: addr(hostA), Remote: addr(hostC)}
		if w := compose(t, []Entry{e}, nil).Test(f, Out).Word; w != WordRequire {
			t.Errorf("it says %s", w)
		}
	})
	t.Run("BTNS-CORE-65 an open entry before a stronger one is a warning", func(t *testing.T) {
		p := compose(t, []Entry{btns(entry(t, "open", "any4", "any4", Protect)), entry(t, "strong", "any4", hostQ, Protect)}, nil)
		if !strings.Contains(fmt.Sprint(p.Warnings()), `"open", open to unauthenticated peers, takes traffic of the stronger "strong"`) {
			t.Errorf("%q", p.Warnings())
		}
	})
	t.Run("BTNS-CORE-66 BTNS-CORE-67 an unnamed peer speaks for the address that it is seen at", func(t *testing.T) {
		p := compose(t, []Entry{btns(entry(t, "open", "any4", "any4", Protect))}, []PADEntry{Anyone()})
		asking{t, p}.granted("anyone", "203.0.113.0/24", hostC+"/32")
		asking{t, p}.refused("anyone", "10.0.0.1")
	})
}

// An SA serves several entries that want the same, and the entry that has the packet that asks comes first (RFC 7296 §2.9).
func TestEntriesShareAnSA(t *testing.T) {
	bgp := btns(entry(t, "BGP", "any4", "any4 tcp/179", Protect))
	open := btns(entry(t, "open", "any4", "any4", Protect))
	other := bgp
	other.Marks = protect.Marks{SetDSCP: true, DSCP: 48}
	flowEach := bgp
	flowEach.PFP = PFPAll
	for _, tc := range []struct {
		name          string
		first         Entry
		remote        []string
		entry, ported string // granted by, and whether port 179 is in it
	}{
		{"all between two hosts", bgp, []string{hostC}, "open", "yes"},
		{"the port first", bgp, []string{hostC + " tcp/179", hostC}, "BGP", "yes"},
		{"it wants other marks", other, []string{hostC}, "open", "no"},
		{"it wants an SA for each flow", flowEach, []string{hostC}, "open", "no"},
	} {
		p := compose(t, []Entry{tc.first, open}, []PADEntry{Anyone()})
		ref := PeerRef{Entry: p.Entry("anyone"), LocalAddr: addr(hostA), RemoteAddr: addr(hostC)}
		g, err := p.AuthorizeChild(ref, set(t, hostA), set(t, tc.remote...), protect.Tunnel, nil)
		f := selector.Flow{Proto: selector.TCP, Local: addr(hostA), Remote: addr(hostC), LocalPort: 40000, RemotePort: 179}
		if err != nil || g.Entry.Name != tc.entry || selector.Match(g.Local, g.Remote, f) != (tc.ported == "yes") {
			t.Errorf("%s: %v by %v, %v", tc.name, g.Remote, g.Entry, err)
		}
	}
}

func TestIDRanges(t *testing.T) {
	type rdn []struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	dn := func(values ...string) string {
		var seq []asn1.RawValue
		for i, v := range values {
			set, err := asn1.MarshalWithParams(rdn{{asn1.ObjectIdentifier{2, 5, 4, 10 + i}, v}}, "set")
			if err != nil {
				t.Fatal(err)
			}
			seq = append(seq, asn1.RawValue{FullBytes: set})
		}
		b, err := asn1.Marshal(seq)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	name := func(s string) identity.ID { return identity.ID{Type: identity.IDDN, Data: s} }
	for _, tc := range []struct {
		r    IDRange
		id   identity.ID
		want bool
	}{
		{IDRange{Domain: ".example"}, id(t, "a.Example"), true},
		{IDRange{Domain: ".example"}, id(t, "a.b.example"), true},
		{IDRange{Domain: ".example"}, id(t, "badexample"), false},
		{IDRange{Domain: ".example"}, identity.ID{Type: identity.IDFQDN, Data: ".example"}, false},
		{IDRange{Domain: ".example"}, id(t, "user@a.example"), false},
		{IDRange{Domain: "@a.example"}, id(t, "user@a.example"), true},
		{IDRange{Domain: "@a.example"}, id(t, "user@b.a.example"), false},
		{IDRange{Domain: "@a.example"}, identity.ID{Type: identity.IDFQDN, Data: "x@a.example"}, false},
		{IDRange{Prefix: netip.MustParsePrefix("192.0.2.0/24")}, id(t, "192.0.2.9"), true},
		{IDRange{Prefix: netip.MustParsePrefix("192.0.2.0/24")}, id(t, "192.0.3.9"), false},
		{IDRange{Prefix: netip.MustParsePrefix("2001:db8::/32")}, id(t, "2001:db8::9"), true},
		{IDRange{Prefix: netip.MustParsePrefix("192.0.2.0/24")}, identity.ID{Type: identity.IDv4, Data: "short"}, false},
		{IDRange{Subtree: dn("Org")}, name(dn("Org", "Unit")), true},
		{IDRange{Subtree: dn("Org")}, name(dn("Org")), true},
		{IDRange{Subtree: dn("Org")}, name(dn("Organisation", "Unit")), false},
		{IDRange{Subtree: dn("Org", "Unit")}, name(dn("Org")), false},
		{IDRange{Subtree: dn("Org")}, name(dn("Org") + "x"), false},
		{IDRange{Subtree: dn("Org")}, identity.Null(), false},
		{IDRange{}, id(t, "a.example"), false},
	} {
		if tc.r.Matches(tc.id) != tc.want {
			t.Errorf("%+v, %v: %v", tc.r, tc.id, !tc.want)
		}
	}
	for _, bad := range []IDRange{{}, {Domain: "example"}, {Domain: "."}, {Domain: ".a", Prefix: netip.MustParsePrefix("192.0.2.0/24")}, {Subtree: "x"}, {Prefix: netip.PrefixFrom(addr("192.0.2.1"), 24)}} {
		if _, err := New(nil, []PADEntry{{Name: "e", Kind: ByID, IDs: bad, PSK: []byte("x")}}); err == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
	if _, err := New(nil, []PADEntry{{Name: "e", Kind: AnyKey, IDs: IDRange{Domain: ".example"}}}); err == nil {
		t.Error("a wildcard with IDs")
	}
}

// Who is found by an ID under a trust anchor has that ID proven by certificates, or by a key that the entry names.
func TestProof(t *testing.T) {
	p := compose(t, nil, []PADEntry{
		{Name: "staff", Kind: ByID, IDs: IDRange{Domain: ".staff.example"}, Anchors: []string{"staff CA"}, Keys: []identity.PublicKey{key(t, 1)}, PSK: []byte("hush")},
		Anyone(), Anonymous(),
	})
	a := Asserted{ID: id(t, "x.staff.example"), Method: Signature, Key: key(t, 9), Chain: true}
	if pr := found(t, p, a, "staff", nil).Proof(a); len(pr.Anchors) != 1 || pr.Anchors[0] != "staff CA" || pr.ID != a.ID || pr.Keys != nil {
		t.Errorf("%v", pr)
	}
	a.Key = key(t, 1)
	if pr := p.Entry("staff").Proof(a); len(pr.Keys) != 1 || pr.Anchors != nil {
		t.Errorf("%v", pr)
	}
	a.Key, a.Chain = key(t, 9), false
	found(t, p, a, "", ErrWrongKey)
	a.Key = identity.PublicKey{}
	if pr := found(t, p, a, "staff", nil).Proof(a); len(pr.Keys) != 1 {
		t.Errorf("%v", pr)
	}
	a.Method = SharedKey
	pr := found(t, p, a, "staff", nil).Proof(a)
	if string(pr.PSK) != "hush" || pr.Keys != nil {
		t.Error("no shared secret")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, pr); strings.Contains(s, "hush") || strings.Contains(s, "104") {
			t.Errorf("%s shows the secret: %s", verb, s)
		}
	}
	b := Asserted{ID: id(t, "elsewhere.example"), Method: Signature, Key: key(t, 9), Chain: true}
	if pr := found(t, p, b, "anyone", nil).Proof(b); len(pr.Keys) != 1 || pr.Anchors != nil || !pr.ID.IsZero() {
		t.Errorf("%v", pr)
	}
}

// An entry that says Here keeps its peers to the address that they speak from, whatever else they ask for or may have.
func TestHere(t *testing.T) {
	spd := []Entry{{Name: "all", Action: Protect, Local: selector.Any(), Remote: selector.Any(), Offer: DefaultOffer(true)}}
	for _, c := range []struct {
		name  string
		entry PADEntry
		held  selector.Set
		want  string // empty: refused
	}{
		{"without it", PADEntry{}, nil, "any"},
		{"without it, and others have it", PADEntry{}, set(t, "192.0.2.7/32"), "any"},
		{"with it", PADEntry{Here: true}, nil, "192.0.2.7/32"},
		{"with it, and others have it", PADEntry{Here: true}, set(t, "192.0.2.7/32"), ""},
		{"within a constraint", PADEntry{Here: true, Constraint: set(t, "192.0.2.0/24")}, nil, "192.0.2.7/32"},
		{"within a constraint, and others have it", PADEntry{Here: true, Constraint: set(t, "192.0.2.0/24")}, set(t, "192.0.2.7/32"), "192.0.2.7/32"},
		{"outside its constraint", PADEntry{Here: true, Constraint: set(t, "198.51.100.0/24")}, nil, ""},
	} {
		c.entry.Name, c.entry.Kind, c.entry.IDs, c.entry.Anchors = "staff", ByID, IDRange{Domain: ".staff.example"}, []string{"ca"}
		p := compose(t, spd, []PADEntry{c.entry})
		ref := PeerRef{Entry: p.Entry("staff"), Assurance: identity.Verified, LocalAddr: addr("192.0.2.1"), RemoteAddr: addr("192.0.2.7")}
		g, err := p.AuthorizeChild(ref, selector.Any(), selector.Any(), protect.Transport, c.held)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %v", c.name, g.Remote)
		case c.want == "any" && (err != nil || !g.Remote.Covers(selector.Any())):
			t.Errorf("%s: %v, %v", c.name, g.Remote, err)
		case c.want == "192.0.2.7/32" && (err != nil || g.Remote.String() != c.want):
			t.Errorf("%s: %v, %v", c.name, g.Remote, err)
		}
	}
}

// Entries are shown with what they are about.
func TestIDText(t *testing.T) {
	dn, err := identity.ParseName("O=Example, C=DE")
	if err != nil {
		t.Fatal(err)
	}
	for want, e := range map[string]PADEntry{
		"fqdn:gw.example": {ID: id(t, "gw.example")}, "*.example": {IDs: IDRange{Domain: ".example"}}, "*@example": {IDs: IDRange{Domain: "@example"}},
		"192.0.2.0/24": {IDs: IDRange{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}, "*,O=Example,C=DE": {IDs: IDRange{Subtree: dn}}, "": {Kind: AnyKey},
	} {
		if got := e.IDText(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if !(IDRange{Subtree: dn}).Matches(id(t, "CN=x, OU=y, o=example, C=DE")) || (IDRange{Subtree: dn}).Matches(id(t, "CN=x, O=Example")) {
		t.Error("a subtree")
	}
}
