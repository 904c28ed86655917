package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// The built-in policy leaves alone what a network needs, and prefers protection for the rest.
func TestDefault(t *testing.T) {
	p, err := Default()
	if err != nil || len(p.Warnings()) != 0 {
		t.Fatalf("%v, %q", err, p.Warnings())
	}
	flow := func(proto uint8, local string, lp uint16, remote string, rp uint16) selector.Flow {
		return selector.Flow{Proto: proto, LocalPort: lp, RemotePort: rp, Local: addr(local), Remote: addr(remote)}
	}
	for _, tc := range []struct {
		f    selector.Flow
		want string
	}{
		{flow(6, hostA, 40000, hostC, 22), "everything else"},
		{flow(17, "2001:db8::1", 40000, "2001:db8::2", 53), "everything else"},
		{flow(58, "2001:db8::1", 128<<8, "2001:db8::2", 128<<8), "everything else"},
		{flow(58, "2001:db8::1", 135<<8, "2001:db8::2", 135<<8), "neighbour discovery"},
		{flow(6, "127.0.0.1", 1, "127.0.0.1", 2), "loopback"},
		{flow(6, "fe80::1%eth0", 1, "fe80::2%eth0", 2), "link-local"},
		{flow(17, "0.0.0.0", 68, "255.255.255.255", 67), "multicast and broadcast"},
		{flow(17, hostA, 68, sgA, 67), "DHCP client"},
		{flow(17, "2001:db8::1", 546, "2001:db8::2", 547), "DHCPv6 client"},
		{flow(17, "2001:db8::1", 5353, "ff02::fb", 5353), "multicast and broadcast"},
		{flow(17, hostA, 4500, hostC, 31337), "IKE"},
		{flow(17, hostA, 40000, hostC, 500), "everything else"},
	} {
		d := p.Outbound(tc.f)
		if d.Name != tc.want || (d.Action == Protect) != (tc.want == "everything else") || !p.InboundClear(tc.f) {
			t.Errorf("%+v: %s", tc.f, d.Name)
		}
	}
	d := p.Outbound(flow(6, hostA, 40000, hostC, 22))
	if d.Fallback != Prefer || d.Waiting != Pass || !d.BtnsOK || d.NullOK || d.Mode != protect.Transport {
		t.Errorf("%+v", d.Entry)
	}

	// A child for everything between two hosts is granted whole, although DHCP and IKE between them are bypassed.
	ref := PeerRef{Entry: p.Entry("anyone"), LocalAddr: addr(hostA), RemoteAddr: addr(hostC)}
	l, r := d.Propose(flow(6, hostA, 40000, hostC, 22))
	g, err := p.AuthorizeChild(ref, l, r, protect.Transport, nil)
	if err != nil || g.Local.String() != hostA+"/32" || g.Remote.String() != hostC+"/32" {
		t.Errorf("%v to %v, %v", g.Local, g.Remote, err)
	}
	for name, tc := range map[string]struct {
		local, remote string
		mode          protect.Mode
		held          selector.Set
	}{
		"IKE itself":                      {hostA + " udp/500", hostC, protect.Transport, nil},
		"tunnel mode":                     {hostA, hostC, protect.Tunnel, nil},
		"another address (CORE-66)":       {hostA, hostQ, protect.Transport, nil},
		"local address of another host":   {hostQ, hostC, protect.Transport, nil},
		"held by a named peer's live SAs": {hostA, hostC, protect.Transport, set(t, hostC)},
		"other family":                    {"2001:db8::1", hostC, protect.Transport, nil},
	} {
		if g, err := p.AuthorizeChild(ref, set(t, tc.local), set(t, tc.remote), tc.mode, tc.held); err == nil {
			t.Errorf("%s: granted %v to %v", name, g.Local, g.Remote)
		}
	}
	if _, err := p.AuthorizeChild(ref, nil, nil, protect.Transport, nil); err == nil {
		t.Error("no selectors")
	}
	// BTNS-CORE-67: a range shrinks to the one address.
	if g, err := p.AuthorizeChild(ref, set(t, hostA), set(t, "203.0.113.0/24"), protect.Transport, nil); err != nil || g.Remote.String() != hostC+"/32" {
		t.Errorf("%v, %v", g.Remote, err)
	}
	if _, err := p.FindPAD(Asserted{Method: NullAuth}); !errors.Is(err, ErrNoNull) {
		t.Errorf("%v", err)
	}
}

func TestFindPAD(t *testing.T) {
	k1, k2, k3 := key(t, 1), key(t, 2), key(t, 3)
	p := compose(t, nil, []PADEntry{
		{Name: "anyone", Kind: AnyKey},
		{Name: "anonymous", Kind: Null},
		{Name: "pinned", Kind: ByKey, Fingerprints: []identity.Fingerprint{k1.Fingerprint()}},
		{Name: "silent", Kind: ByKey, Keys: []identity.PublicKey{k2}, Addr: addr(hostC)},
		{Name: "named", Kind: ByID, ID: id(t, "q.example"), Fingerprints: []identity.Fingerprint{k3.Fingerprint()}},
		{Name: "psk", Kind: ByID, ID: id(t, "p.example"), PSK: []byte("secret")},
	})
	for _, tc := range []struct {
		name string
		a    Asserted
		want string
		err  error
	}{
		{"specific key before the wildcard (CORE-05)", Asserted{Method: Signature, Key: k1}, "pinned", nil},
		{"another key", Asserted{ID: identity.Null(), Method: Signature, Key: k3}, "anyone", nil},
		{"no key, address known", Asserted{Method: Signature, Addr: addr(hostC)}, "silent", nil},
		{"no key, address unknown", Asserted{Method: Signature, Addr: addr(hostQ)}, "", ErrNoKey},
		{"named with its key", Asserted{ID: id(t, "Q.example"), Method: Signature, Key: k3}, "named", nil},
		{"named with another key (CORE-07)", Asserted{ID: id(t, "q.example"), Method: Signature, Key: k1}, "", ErrWrongKey},
		{"named without a key", Asserted{ID: id(t, "q.example"), Method: Signature}, "", ErrNoKey},
		{"named with a shared secret", Asserted{ID: id(t, "q.example"), Method: SharedKey}, "", ErrMethod},
		{"shared secret", Asserted{ID: id(t, "p.example"), Method: SharedKey}, "psk", nil},
		{"shared secret expected, key shown", Asserted{ID: id(t, "p.example"), Method: Signature, Key: k1}, "", ErrMethod},
		{"unknown with a shared secret (CORE-10)", Asserted{ID: id(t, "x.example"), Method: SharedKey}, "", ErrNoEntry},
		{"NULL under a known name (NULL-05)", Asserted{ID: id(t, "q.example"), Method: NullAuth}, "anonymous", nil},
	} {
		e, err := p.FindPAD(tc.a)
		if !errors.Is(err, tc.err) || tc.err == nil && (err != nil || e.Name != tc.want) {
			t.Errorf("%s: %v, %v", tc.name, e, err)
		}
	}
	for _, s := range []string{fmt.Sprint(p.Entry("psk")), fmt.Sprintf("%#v", *p.Entry("psk")), fmt.Sprintf("%#v", p.PAD())} {
		if strings.Contains(s, "secret") || strings.Contains(s, "115, 101") || strings.Contains(s, "0x73") {
			t.Errorf("the shared secret shows in %s", s)
		}
	}
	if !p.AcceptsUnknown() || p.Entry("nobody") != nil {
		t.Error("entries by name")
	}
}

// BTNS-NULL-07, 08, 12; BTNS-CORE-15; assurance.
func TestFlags(t *testing.T) {
	open := entry(t, "null", hostA+" tcp/80", "any4", Protect)
	open.NullOK, open.BtnsFallthrough = true, true
	good := btns(entry(t, "known well", hostA+" tcp/22", "any4", Protect))
	good.MinAssurance = identity.Continuity
	own := entry(t, "of pinned", hostA+" tcp/25", "any4", Protect)
	own.Peer = "pinned"
	any := btns(entry(t, "btns", hostA, "any4", Protect))
	p := compose(t, []Entry{open, good, own, any}, []PADEntry{
		{Name: "anyone", Kind: AnyKey},
		{Name: "anonymous", Kind: Null},
		{Name: "pinned", Kind: ByKey, Keys: []identity.PublicKey{key(t, 1)}},
		{Name: "by name", Kind: ByKey, Keys: []identity.PublicKey{key(t, 2)}, Search: ByName},
	})
	for _, tc := range []struct {
		peer, port string
		assurance  identity.Assurance
		want       string
	}{
		{"anonymous", " tcp/80", identity.Encrypted, "null"},
		{"anonymous", " tcp/81", identity.Encrypted, ""},
		{"anyone", " tcp/80", identity.FirstUse, "btns"},
		{"anyone", " tcp/22", identity.FirstUse, ""},
		{"anyone", " tcp/22", identity.Continuity, "known well"},
		{"anyone", " tcp/25", identity.Verified, ""},
		{"pinned", " tcp/25", identity.FirstUse, "of pinned"},
		{"pinned", " tcp/26", identity.FirstUse, "btns"},
		{"by name", " tcp/26", identity.Verified, ""},
	} {
		ref := PeerRef{Entry: p.Entry(tc.peer), Assurance: tc.assurance, LocalAddr: addr(hostA), RemoteAddr: addr(hostC)}
		g, err := p.AuthorizeChild(ref, set(t, hostA+tc.port), set(t, hostC), protect.Tunnel, nil)
		if tc.want == "" && err == nil || tc.want != "" && (err != nil || g.Entry.Name != tc.want) {
			t.Errorf("%s%s at %v: %v, %v", tc.peer, tc.port, tc.assurance, g.Entry, err)
		}
	}
}

func TestRefusedPolicies(t *testing.T) {
	null := entry(t, "e", "any4", "any4", Bypass)
	null.NullOK = true
	pass := entry(t, "e", "any4", "any4", Protect)
	pass.Waiting = Pass
	weak := entry(t, "e", "any4", "any4", Protect)
	weak.Offer = []protect.Suite{{Encr: protect.AESCBC, KeyBits: 128}}
	mute := entry(t, "e", "any4", "any4", Protect)
	mute.Offer = nil
	lost := entry(t, "e", "any4", "any4", Protect)
	lost.Peer = "nobody"
	for name, tc := range map[string]struct {
		spd []Entry
		pad []PADEntry
	}{
		"two wildcards (CORE-05)":         {pad: []PADEntry{{Name: "a", Kind: AnyKey}, {Name: "b", Kind: AnyKey}}},
		"two NULL entries":                {pad: []PADEntry{{Name: "a", Kind: Null}, {Name: "b", Kind: Null}}},
		"one name twice":                  {pad: []PADEntry{{Name: "a", Kind: Null}, {Name: "a", Kind: AnyKey}}},
		"no kind":                         {pad: []PADEntry{{Name: "a"}}},
		"no name":                         {pad: []PADEntry{{Kind: AnyKey}}},
		"ID without credential":           {pad: []PADEntry{{Name: "a", Kind: ByID, ID: id(t, "q.example")}}},
		"key entry without key":           {pad: []PADEntry{{Name: "a", Kind: ByKey}}},
		"wildcard with key":               {pad: []PADEntry{{Name: "a", Kind: AnyKey, Keys: []identity.PublicKey{key(t, 1)}}}},
		"constraint of nothing":           {pad: []PADEntry{{Name: "a", Kind: AnyKey, Constraint: selector.Set{{}}}}},
		"null_ok on a bypass (CORE-20)":   {spd: []Entry{null}},
		"pass while it must be protected": {spd: []Entry{pass}},
		"suite without integrity":         {spd: []Entry{weak}},
		"no algorithms":                   {spd: []Entry{mute}},
		"entry of a peer that is not":     {spd: []Entry{lost}},
		"no selectors":                    {spd: []Entry{{Name: "e", Action: Discard}}},
		"no action":                       {spd: []Entry{{Name: "e", Local: set(t, "any4"), Remote: set(t, "any4")}}},
	} {
		if p, err := New(tc.spd, tc.pad); err == nil || p != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWarnings(t *testing.T) {
	p := compose(t, []Entry{
		btns(entry(t, "weak", "any4", "203.0.113.0/24", Protect)),
		entry(t, "strong", "any4", "203.0.0.0/16", Protect),
		entry(t, "shadowed", hostA, "203.0.1.0/24", Discard),
	}, []PADEntry{
		{Name: "any", Kind: AnyKey, Constraint: set(t, "any4")},
		{Name: "q", Kind: ByID, ID: id(t, "q.example"), PSK: []byte("x"), Constraint: set(t, hostQ)},
	})
	for _, want := range []string{`"weak", open to`, `"shadowed" is never reached`, "any (any key) may ask for addresses of q (id)"} {
		if !strings.Contains(strings.Join(p.Warnings(), "\n"), want) {
			t.Errorf("no %q in %q", want, p.Warnings())
		}
	}
	if len(p.Warnings()) != 3 {
		t.Errorf("%q", p.Warnings())
	}
}

func TestPropose(t *testing.T) {
	f := selector.Flow{Proto: 6, LocalPort: 40000, RemotePort: 22, Local: addr(hostA), Remote: addr(hostC)}
	e := entry(t, "e", "192.0.2.0/24", "any4", Protect)
	for _, tc := range []struct {
		mode   protect.Mode
		pfp    PFP
		local  string
		remote string
	}{
		{protect.Transport, 0, hostA + "/32 tcp/40000, " + hostA + "/32", hostC + "/32 tcp/22, " + hostC + "/32"},
		{protect.Transport, PFPAll, hostA + "/32 tcp/40000", hostC + "/32 tcp/22"},
		{protect.Tunnel, 0, hostA + "/32 tcp/40000, 192.0.2.0/24", hostC + "/32 tcp/22, 0.0.0.0/0"},
		{protect.Tunnel, PFPRemoteAddr, hostA + "/32 tcp/40000, 192.0.2.0/24", hostC + "/32 tcp/22, " + hostC + "/32"},
		{protect.Tunnel, PFPLocalAddr, hostA + "/32 tcp/40000, " + hostA + "/32", hostC + "/32 tcp/22, 0.0.0.0/0"},
		{protect.Transport, PFPProto, hostA + "/32 tcp/40000, " + hostA + "/32 tcp", hostC + "/32 tcp/22, " + hostC + "/32 tcp"},
		{protect.Transport, PFPRemotePort, hostA + "/32 tcp/40000, " + hostA + "/32", hostC + "/32 tcp/22, " + hostC + "/32 tcp/22"},
		{protect.Tunnel, PFPLocalPort, hostA + "/32 tcp/40000, 192.0.2.0/24 tcp/40000", hostC + "/32 tcp/22, 0.0.0.0/0"},
	} {
		e.Mode, e.PFP = tc.mode, tc.pfp
		if l, r := (Decision{&e}).Propose(f); l.String() != tc.local || r.String() != tc.remote {
			t.Errorf("%v, PFP %05b: %v to %v", tc.mode, tc.pfp, l, r)
		}
	}
}

// Whatever the SPD, the PAD and the request: an unnamed peer is granted no packet that it did not ask for, that belongs
// to a named peer's constraint, or that the SPD gives to others first; and the packet passes the inbound check.
func TestGrantsAreNeverTooMuch(t *testing.T) {
	addrs := rapid.Custom(func(t *rapid.T) selector.Selector {
		a, b := rapid.IntRange(0, 7).Draw(t, "a"), rapid.IntRange(0, 7).Draw(t, "b")
		at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
		s := selector.Selector{From: at(min(a, b)), To: at(max(a, b)), Ports: selector.AnyPort, Proto: rapid.SampledFrom([]uint8{0, 0, 6, 17}).Draw(t, "proto")}
		if rapid.Bool().Draw(t, "ports") {
			s.Ports = selector.PortRange{From: 22, To: uint16(22 + rapid.IntRange(0, 2).Draw(t, "n"))}
		}
		return s
	})
	sets := rapid.SliceOfN(addrs, 1, 3)
	named := id(t, "q.example")
	rapid.Check(t, func(t *rapid.T) {
		var spd []Entry
		for i := range rapid.IntRange(1, 5).Draw(t, "entries") {
			e := Entry{Name: fmt.Sprint(i), Local: sets.Draw(t, "l"), Remote: sets.Draw(t, "r"), Action: rapid.SampledFrom([]Action{Bypass, Discard, Protect, Protect}).Draw(t, "action")}
			if e.Action == Protect {
				e.Offer, e.BtnsOK, e.BtnsFallthrough = DefaultOffer(true), rapid.Bool().Draw(t, "btns"), rapid.Bool().Draw(t, "through")
			}
			spd = append(spd, e)
		}
		owned := selector.Set(sets.Draw(t, "owned"))
		p, err := New(spd, []PADEntry{
			{Name: "q", Kind: ByID, ID: named, PSK: []byte("x"), Constraint: owned},
			{Name: "any", Kind: AnyKey, Constraint: selector.Any()},
		})
		if err != nil {
			t.Fatal(err)
		}
		ref := PeerRef{Entry: p.Entry("any"), LocalAddr: netip.AddrFrom4([4]byte{10}), RemoteAddr: netip.AddrFrom4([4]byte{10})}
		local, remote := selector.Set(sets.Draw(t, "asked l")), selector.Set(sets.Draw(t, "asked r"))
		g, err := p.AuthorizeChild(ref, local, remote, protect.Tunnel, nil)
		if err != nil {
			return
		}
		for range 64 {
			f := selector.Flow{
				Proto: rapid.SampledFrom([]uint8{6, 17, 1}).Draw(t, "p"), LocalPort: uint16(rapid.IntRange(21, 25).Draw(t, "lp")),
				RemotePort: uint16(rapid.IntRange(21, 25).Draw(t, "rp")),
				Local:      netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 8).Draw(t, "la"))}),
				Remote:     netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 8).Draw(t, "ra"))}),
			}
			if !selector.Match(g.Local, g.Remote, f) {
				continue
			}
			d := p.Outbound(f)
			for d.Action == Protect && !d.BtnsOK && d.BtnsFallthrough {
				d = next(p, d, f)
			}
			switch {
			case !selector.Match(local, remote, f):
				t.Fatalf("%+v was not asked for", f)
			case owned.ContainsRemote(f):
				t.Fatalf("%+v belongs to q", f)
			case d.Action == Protect && !d.BtnsOK:
				t.Fatalf("%+v is for better known peers by %s", f, d.Name)
			case p.InboundProtected(f, ref) != (d.Action != Discard):
				t.Fatalf("%+v inbound under %s", f, d.Name)
			}
		}
	})
}

func next(p *Policy, d Decision, f selector.Flow) Decision {
	past := false
	for i := range p.spd {
		e := &p.spd[i]
		if past && selector.Match(e.Local, e.Remote, f) {
			return Decision{e}
		}
		past = past || e == d.Entry
	}
	return Decision{noEntry}
}
