package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

// Every cipher, PRF and key exchange method, alone (RFC 7296 §3.3, RFC 8247).
func TestAllTransforms(t *testing.T) {
	var all []suite.IKE
	for _, c := range []suite.Cipher{
		{Encr: protect.AESGCM16, KeyBits: 128},
		{Encr: protect.AESGCM16, KeyBits: 256},
		{Encr: protect.ChaCha20Poly1305, KeyBits: 256},
		{Encr: protect.AESCBC, KeyBits: 128, Integ: protect.HMACSHA256},
		{Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA384},
		{Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA512},
	} {
		all = append(all, suite.IKE{Cipher: c, PRF: suite.PRFSHA256, KE: suite.X25519})
	}
	gcm := suite.Cipher{Encr: protect.AESGCM16, KeyBits: 128}
	for _, prf := range []suite.PRF{suite.PRFSHA384, suite.PRFSHA512} {
		all = append(all, suite.IKE{Cipher: gcm, PRF: prf, KE: suite.X25519})
	}
	for _, ke := range []suite.KE{suite.P256, suite.P384, suite.MODP2048, suite.MODP3072, suite.MODP4096} {
		all = append(all, suite.IKE{Cipher: gcm, PRF: suite.PRFSHA256, KE: ke})
	}
	for _, ke := range []suite.KE{suite.X25519, suite.P256} {
		all = append(all, suite.IKE{Cipher: all[3].Cipher, PRF: suite.PRFSHA512, KE: ke, AddKE: []suite.KE{suite.MLKEM768}})
	}
	for i, s := range all {
		mine := []Proposal{ProposalOf(s)}
		p := newPair(t, uint64(i), Config{IKE: mine}, Config{IKE: append(DefaultProposals(true), mine...)})
		offer := []protect.Suite{{Encr: s.Encr, KeyBits: s.KeyBits, Integ: s.Integ}}
		p.a.offer, p.b.offer = offer, append(offer, offer...)
		a, _ := p.connect()
		if got := p.a.up[a].Suite; got != s.String() {
			t.Errorf("%v became %s", s, got)
		}
		if got := p.a.one(t).Suite; got != offer[0] {
			t.Errorf("%v became %v", offer[0], got)
		}
		p.step(p.a, RekeySA{a})
		p.step(p.a, RekeyChild{p.a.one(t).Child})
		p.run(time.Minute)
		p.settled(s.String())
		p.log = nil
	}
}

// The default is hybrid, in two round trips and IKE_INTERMEDIATE (RFC 9242, RFC 9370), and both sides take the same of it.
func TestHybridDefault(t *testing.T) {
	p := newPair(t, 30, Config{}, Config{})
	a, _ := p.connect()
	if s := p.a.up[a].Suite; !strings.HasPrefix(s, "X25519+ML-KEM-768 ") {
		t.Error(s)
	}
	// An old peer gets what it can, from the second proposal.
	p = newPair(t, 31, Config{}, plain())
	a, _ = p.connect()
	if s := p.a.up[a].Suite; !strings.HasPrefix(s, "X25519 AES-GCM-128 ") {
		t.Error(s)
	}
	p = newPair(t, 32, plain(), Config{})
	p.connect()
}

// Two key exchanges that both go by IKE_INTERMEDIATE; one of the types chosen as NONE (RFC 9370 §2.2.1).
func TestSeveralIntermediates(t *testing.T) {
	offer := DefaultProposals(true)[:1]
	offer[0].AddKE = [][]suite.KE{{suite.MLKEM768}, {suite.P384, suite.NoKE}, {suite.MODP2048}}
	p := newPair(t, 33, Config{IKE: offer}, Config{IKE: offer})
	a, b := p.connect()
	if s := p.a.up[a].Suite; !strings.HasPrefix(s, "X25519+ML-KEM-768+P-384+MODP-2048 ") {
		t.Error(s)
	}
	p.step(p.a, RekeySA{a})
	p.run(time.Minute)
	p.step(p.b, RekeySA{b})
	p.run(time.Minute)
	p.settled("three additional key exchanges")
	theirs := DefaultProposals(true)[:1]
	theirs[0].AddKE = [][]suite.KE{{suite.MLKEM768}, {suite.NoKE}, {suite.MODP2048}}
	p = newPair(t, 34, Config{IKE: offer}, Config{IKE: theirs})
	a, _ = p.connect()
	if s := p.a.up[a].Suite; !strings.HasPrefix(s, "X25519+ML-KEM-768+MODP-2048 ") {
		t.Error(s)
	}
}

// RFC 7296 §1.2: another method is asked for, and the whole offer goes out again with it.
func TestInvalidKE(t *testing.T) {
	theirs := plain()
	theirs.IKE[0].KE = []suite.KE{suite.MODP2048}
	p := newPair(t, 35, plain(), theirs)
	var requests [][]byte
	p.carry = func(from *node, s Send) []Send {
		if from == p.a && wire.ExchangeType(s.Data[18]) == wire.IKESAInit {
			requests = append(requests, s.Data)
		}
		return []Send{s}
	}
	a, _ := p.connect()
	if s := p.a.up[a].Suite; !strings.HasPrefix(s, "MODP-2048 ") {
		t.Error(s)
	}
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	m1, _ := wire.ParseMessage(requests[0])
	m2, _ := wire.ParseMessage(requests[1])
	sa := func(m wire.Message) []byte {
		x, _ := m.First(wire.PayloadSA)
		return wire.AppendPayloads(nil, []wire.Payload{x})
	}
	n1, _ := wire.Find[wire.Nonce](m1, wire.PayloadNonce)
	n2, _ := wire.Find[wire.Nonce](m2, wire.PayloadNonce)
	if m1.SPIi != m2.SPIi || !bytes.Equal(sa(m1), sa(m2)) || !bytes.Equal(n1.Data, n2.Data) {
		t.Error("SPIi, SA and Ni have to stay")
	}
}

// RFC 7296 §2.6: with cookies always, nothing is stored before the right one is shown; the retry is the same request.
func TestCookie(t *testing.T) {
	cfg := plain()
	cfg.CookieAbove = -1
	cfg.IKE[0].KE = []suite.KE{suite.P256} // and INVALID_KE_PAYLOAD besides (RFC 7296 §2.6.1)
	p := newPair(t, 36, plain(), cfg)
	first := true
	p.carry = func(from *node, s Send) []Send {
		if from == p.b && first {
			first = false
			if m, _ := wire.ParseMessage(s.Data); !hasNotify(&m, wire.Cookie) || m.SPIr != 0 || len(m.Payloads) != 1 {
				t.Errorf("%+v", m)
			}
			if len(p.b.bySPI) != 0 || len(p.b.sessions) != 0 {
				t.Error("state without a cookie")
			}
		}
		return []Send{s}
	}
	p.connect()
	if p.b.Stats().Counts[CookieSent] != 1 || p.b.Stats().Counts[OtherKE] != 1 || p.sent != 8 {
		t.Errorf("%d datagrams, %v", p.sent, p.b.Stats().Counts)
	}
	// A forged one is as good as none.
	cfg.IKE = nil
	p = newPair(t, 37, plain(), cfg)
	p.carry = func(from *node, s Send) []Send {
		m, _ := wire.ParseMessage(s.Data)
		if c, ok := m.Notify(wire.Cookie); ok && from == p.a {
			c.Data[3] ^= 1
			s.Data = m.Append(nil)
		}
		return []Send{s}
	}
	p.step(p.a, p.initiation(p.a))
	p.run(time.Minute)
	if c := p.b.Stats().Counts; c[BadCookie] == 0 || len(p.b.bySPI) != 0 || len(p.b.up) != 0 {
		t.Errorf("%v", c)
	}
}

// Cookies live for one to two minutes (RFC 7296 §2.6).
func TestCookieAge(t *testing.T) {
	e := New(Config{}, chacha(1, 0))
	ni, at := make([]byte, 32), ap(addrA, 500)
	minute := instant(time.Minute)
	old := e.newCookie(ni, at, 7)
	for _, c := range []struct {
		now  instant
		good bool
	}{{minute - 1, true}, {minute + 1, true}, {minute + minute/2, true}, {2*minute + 1, false}, {10 * minute, false}} {
		e.now = c.now
		e.newCookie(ni, at, 7)
		if e.cookieGood(old, ni, at, 7) != c.good {
			t.Errorf("after %v", time.Duration(c.now))
		}
	}
	fresh := e.newCookie(ni, at, 7)
	if !e.cookieGood(fresh, ni, at, 7) || e.cookieGood(fresh, ni, at, 8) || e.cookieGood(fresh, ni, ap(addrB, 500), 7) || e.cookieGood(nil, ni, at, 7) {
		t.Error("a cookie is for one SPI and one address")
	}
}

// RFC 6023: an IKE SA without a child, which comes later.
func TestChildless(t *testing.T) {
	p := newPair(t, 38, plain(), plain())
	i := p.initiation(p.a)
	i.Child = nil
	p.step(p.a, i)
	p.run(time.Second)
	if len(p.a.up) != 1 || len(p.b.up) != 1 || len(p.a.children)+len(p.b.children) != 0 || count[JudgeChild](p.b) != 0 {
		t.Fatal("not childless")
	}
	p.step(p.a, CreateChild{i.SA, *p.request(p.a)})
	p.run(time.Second)
	p.settled("child of a childless IKE SA")
}

// RFC 7296 §1.2: a child that is refused in IKE_AUTH leaves a working IKE SA.
func TestChildRefusedInAuth(t *testing.T) {
	p := newPair(t, 39, plain(), plain())
	p.b.judgeChild = func(_ JudgeChild, v ChildJudged) ChildJudged { v.Refuse = errors.New("no"); return v }
	i := p.initiation(p.a)
	p.step(p.a, i)
	p.run(time.Second)
	if f, ok := last[ChildFailed](p.a); !ok || f.Child != i.Child.ID || len(p.a.up) != 1 || len(p.b.up) != 1 {
		t.Fatalf("%+v", f)
	}
	p.b.judgeChild = nil
	p.step(p.a, CreateChild{i.SA, *p.request(p.a)})
	p.run(time.Second)
	p.settled("child in the second try")
}

// RFC 7383: IKE_AUTH with certificates of any size, over a wire that loses, doubles and reorders.
func TestFragmentation(t *testing.T) {
	for seed := range uint64(40) {
		cfg := plain()
		cfg.FragmentSize = 300 + int(seed)*7
		p := newPair(t, seed, cfg, plain())
		for _, n := range []*node{p.a, p.b} {
			der, err := identity.SelfSigned(n.signer, p.now, chacha(seed, 9))
			if err != nil {
				t.Fatal(err)
			}
			n.local.Certificate = der
		}
		p.loss, p.dup, p.wobble = 0.05, 0.1, 20*time.Millisecond
		most := 0
		p.carry = func(_ *node, s Send) []Send {
			if x := wire.ExchangeType(s.Data[18]); x == wire.IKEAuth {
				most = max(most, len(s.Data)+28)
			}
			return []Send{s}
		}
		p.step(p.a, p.initiation(p.a))
		p.run(3 * time.Minute)
		if len(p.a.down) == 0 {
			p.settled(fmt.Sprint("fragments ", seed))
		}
		if p.a.Stats().SAs == 1 && most > 1280 {
			t.Errorf("a datagram of %d octets", most)
		}
		p.log = p.log[:0]
	}
}

// All ways of authenticating, in all combinations: each direction chooses for itself (RFC 7296 §2.15, RFC 7619 §2).
func TestAuthMethods(t *testing.T) {
	ecdsa, err := identity.NewECDSA(chacha(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	ed, _ := identity.NewEd25519(chacha(1, 2))
	psk := []byte("correct horse battery staple")
	cert, err := identity.SelfSigned(ecdsa, time.Unix(1e9, 0), chacha(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	type show struct {
		name  string
		local Local
		want  Remote
	}
	id := identity.ID{Type: identity.IDFQDN, Data: "host.example"}
	ways := []show{
		{"bare Ed25519", Local{Method: Signature, Key: ed, SendKey: true}, Remote{AnyKey: true}},
		{"configured Ed25519, not sent", Local{Method: Signature, Key: ed, ID: id}, Remote{Keys: []identity.PublicKey{ecdsa.Public, ed.Public}, ID: id}},
		{"ECDSA certificate", Local{Method: Signature, Key: ecdsa, Certificate: cert}, Remote{AnyKey: true}},
		{"ECDSA key and certificate", Local{Method: Signature, Key: ecdsa, SendKey: true, Certificate: cert}, Remote{Keys: []identity.PublicKey{ecdsa.Public}}},
		{"PSK", Local{Method: SharedKey, PSK: psk, ID: id}, Remote{PSK: psk, ID: id}},
		{"NULL", Local{Method: Null}, Remote{AnyNull: true}},
	}
	for i, x := range ways {
		for j, y := range ways {
			p := newPair(t, uint64(50+10*i+j), plain(), plain())
			p.a.local, p.b.remote = x.local, x.want
			p.b.local, p.a.remote = y.local, y.want
			a, b := p.connect()
			ka, kb := x.local.Key.Public, y.local.Key.Public
			if p.b.up[b].Peer.Key != ka || p.a.up[a].Peer.Key != kb || p.b.up[b].Peer.Method != x.local.Method {
				t.Errorf("%s and %s: %+v %+v", x.name, y.name, p.a.up[a].Peer, p.b.up[b].Peer)
			}
			// With what must be shown said beforehand nobody is asked.
			p = newPair(t, uint64(150+10*i+j), plain(), plain())
			p.a.local, p.b.remote, p.b.local = x.local, x.want, y.local
			init := p.initiation(p.a)
			init.Expect = y.want
			p.step(p.a, init)
			p.run(time.Second)
			if len(p.a.up) != 1 || count[FindCredential](p.a) != 0 {
				t.Errorf("%s and %s with Expect", x.name, y.name)
			}
		}
	}
}

// What does not prove itself is turned away with AUTHENTICATION_FAILED and leaves no SA (RFC 7296 §2.21.2, BTNS-CORE-07 to
// -09, BTNS-NULL-03, CORE-T14).
func TestAuthRefused(t *testing.T) {
	ed, _ := identity.NewEd25519(chacha(2, 1))
	other, _ := identity.NewEd25519(chacha(2, 2))
	certOther, _ := identity.SelfSigned(other, time.Unix(1e9, 0), chacha(2, 3))
	forged := identity.Signer{Public: ed.Public, Private: other.Private}
	for _, c := range []struct {
		name  string
		local Local
		want  Remote
	}{
		{"signature by another key", Local{Method: Signature, Key: forged, SendKey: true}, Remote{AnyKey: true}},
		{"no key sent, none configured", Local{Method: Signature, Key: ed}, Remote{AnyKey: true}},
		{"another key than configured", Local{Method: Signature, Key: ed, SendKey: true}, Remote{Keys: []identity.PublicKey{other.Public}}},
		{"another key than configured, not sent", Local{Method: Signature, Key: ed}, Remote{Keys: []identity.PublicKey{other.Public}}},
		{"bare key and certificate differ", Local{Method: Signature, Key: ed, SendKey: true, Certificate: certOther}, Remote{AnyKey: true}},
		{"wrong PSK", Local{Method: SharedKey, PSK: []byte("x")}, Remote{PSK: []byte("y")}},
		{"PSK where a key is wanted", Local{Method: SharedKey, PSK: []byte("x")}, Remote{AnyKey: true}},
		{"NULL where a key is wanted", Local{Method: Null}, Remote{AnyKey: true}},
		{"key where NULL is wanted", Local{Method: Signature, Key: ed, SendKey: true}, Remote{AnyNull: true}},
		{"wrong identity", Local{Method: Signature, Key: ed, SendKey: true}, Remote{AnyKey: true, ID: identity.AddrID(addrA)}},
		{"nothing accepted", Local{Method: Null}, Remote{}},
	} {
		p := newPair(t, 70, plain(), plain())
		p.a.local, p.b.remote = c.local, c.want
		p.step(p.a, p.initiation(p.a))
		p.run(time.Second)
		var refused *RefusedError
		if len(p.a.down) != 1 || !errors.As(p.a.down[0].Err, &refused) || refused.Notify != uint16(wire.AuthenticationFailed) || !refused.Authenticated {
			t.Errorf("%s: initiator: %+v", c.name, p.a.down)
		}
		if count[SAUp](p.a)+count[SAUp](p.b) != 0 || p.b.Stats().Counts[BadAuth] != 1 {
			t.Errorf("%s: responder: %+v", c.name, p.b.down)
		}
		if asked := count[FindCredential](p.b); len(p.b.down) != asked || asked == 1 && (p.b.down[0].WasUp || p.b.down[0].Err == nil) {
			t.Errorf("%s: whoever was asked hears of the end: %+v", c.name, p.b.down)
		}
		// The same as responder: the initiator refuses, and says so.
		p = newPair(t, 71, plain(), plain())
		p.b.local, p.a.remote = c.local, c.want
		p.step(p.a, p.initiation(p.a))
		p.run(time.Minute)
		if len(p.a.down) != 1 || p.a.down[0].WasUp || p.a.down[0].Err == nil || count[SAUp](p.a) != 0 {
			t.Errorf("%s: initiator refuses: %+v", c.name, p.a.down)
		}
		if len(p.b.up) != 0 || len(p.b.children) != 0 {
			t.Errorf("%s: the refused responder keeps the SA", c.name)
		}
		p.run(time.Hour)
		if len(p.a.bySPI)+len(p.b.bySPI) != 0 {
			t.Errorf("%s: state is left", c.name)
		}
		p.log = nil
	}
	for _, side := range []string{"a", "b"} { // the judge of peers
		p := newPair(t, 72, plain(), plain())
		no := errors.New("changed key")
		n := p.a
		if side == "b" {
			n = p.b
		}
		n.judgePeer = func(JudgePeer) error { return no }
		p.step(p.a, p.initiation(p.a))
		p.run(time.Minute)
		if len(n.down) != 1 || !errors.Is(n.down[0].Err, no) || len(p.a.up)+len(p.b.up) != 0 {
			t.Errorf("%s: %+v", side, n.down)
		}
	}
}

// RFC 7427 §4: without SIGNATURE_HASH_ALGORITHMS of both sides the older methods are used; Ed25519 has none.
func TestOldSignatures(t *testing.T) {
	ecdsa, _ := identity.NewECDSA(chacha(3, 1))
	h := &handshake{}
	e := New(Config{}, chacha(3, 2))
	s := &sa{suite: &suite.IKE{PRF: suite.PRFSHA256}}
	_, job := e.authPayload(s, h, &Local{Method: Signature, Key: ecdsa}, []byte("octets"))
	job.Run()
	if job.err != nil || job.method != uint8(wire.AuthECDSA256) {
		t.Errorf("method %d, %v", job.method, job.err)
	}
	v := &verify{keys: []identity.PublicKey{ecdsa.Public}, method: job.method, data: job.data, octets: []byte("octets")}
	if v.Run(); v.err != nil {
		t.Error(v.err)
	}
	v.hashes = suite.Hashes()
	if v.Run(); v.err == nil {
		t.Error("method 9 although both sides announced hashes")
	}
}
