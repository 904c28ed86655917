package ikev2

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// overheard is a message, decrypted, and who sent it.
type overheard struct {
	from *node
	m    wire.Message
}

// plaintext decrypts what was made under one of keys; IKE_SA_INIT is in clear.
func (p *pair) plaintext(keys map[*suite.SK]bool, s Send) wire.Message {
	p.t.Helper()
	m, err := wire.ParseMessage(s.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	if m.Exchange == wire.IKESAInit {
		return m
	}
	sk, err := locate(s.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	for k := range keys {
		plain, _, err := k.Open(nil, s.Data[:sk.head], s.Data[sk.head:])
		if err != nil {
			continue
		}
		if m.Payloads, err = wire.ParsePayloads(sk.first, plain); err != nil {
			p.t.Fatal(err)
		}
		return m
	}
	p.t.Fatal("nobody's keys open a message")
	return m
}

// listen notes all that is said from now on; change may put other payloads into the IKE_AUTH request of a. Keys are taken from
// both ends, since whoever answers a delete has wiped its own.
func (p *pair) listen(change func([]wire.Payload) []wire.Payload) *[]overheard {
	var heard []overheard
	keys := map[*suite.SK]bool{}
	p.carry = func(from *node, s Send) []Send {
		for _, n := range []*node{p.a, p.b} {
			for _, x := range n.bySPI {
				if x.out != nil {
					keys[x.out], keys[x.in] = true, true
				}
			}
		}
		m := p.plaintext(keys, s)
		if change != nil && from == p.a && m.Exchange == wire.IKEAuth {
			m.Payloads = change(m.Payloads)
			s = p.seal(p.a, p.a.bySPI[m.SPIi].session.handle, wire.IKEAuth, m.MessageID, false, m.Payloads...)
		}
		heard = append(heard, overheard{from, m})
		return []Send{s}
	}
	return &heard
}

// auth returns what n said in IKE_AUTH.
func auth(t *testing.T, heard []overheard, n *node) wire.Message {
	t.Helper()
	for _, o := range heard {
		if o.from == n && o.m.Exchange == wire.IKEAuth {
			return o.m
		}
	}
	t.Fatalf("%s sent no IKE_AUTH", n.name)
	return wire.Message{}
}

// certs are the CERT payloads of a message, by encoding.
func certs(m wire.Message) map[wire.CertEncoding][]byte {
	out := map[wire.CertEncoding][]byte{}
	for _, p := range m.All(wire.PayloadCERT) {
		c := p.Body.(wire.Cert)
		out[c.Encoding] = c.Data
	}
	return out
}

func without(ps []wire.Payload, t wire.PayloadType) (out []wire.Payload) {
	for _, p := range ps {
		if p.Type != t {
			out = append(out, p)
		}
	}
	return out
}

// meet lets a, which shows itself as local, begin with b, which wants want, and returns the error that ends the attempt at a.
func meet(t *testing.T, local Local, want Remote) error {
	t.Helper()
	p := newPair(t, 300, plain(), plain())
	p.a.local, p.b.remote = local, want
	p.step(p.a, p.initiation(p.a))
	p.run(time.Second)
	if len(p.a.down) == 0 && len(p.a.up) == 1 && len(p.b.up) == 1 {
		return nil
	}
	if len(p.a.down) != 1 || len(p.b.up) != 0 {
		t.Fatalf("neither up nor refused: %+v", p.a.down)
	}
	return p.a.down[0].Err
}

func refusedAuth(err error) bool {
	var r *RefusedError
	return errors.As(err, &r) && r.Authenticated && r.Notify == uint16(wire.AuthenticationFailed)
}

// RFC 5386 §1, §2: what a BTNS node says is plain IKEv2.
func TestLedgerOfWire(t *testing.T) {
	t.Run("BTNS-CORE-02 no exchange, payload or type of identity beyond those of IKEv2 is on the wire", func(t *testing.T) {
		p := newPair(t, 301, plain(), plain())
		heard := p.listen(nil)
		a, b := p.connect()
		for _, ev := range []Event{CreateChild{a, *p.request(p.a)}, RekeyChild{pick(p.a.children, 0)}, RekeySA{a}, CheckAlive{a}} {
			p.step(p.a, ev)
			p.run(time.Minute)
		}
		p.step(p.b, DeleteSA{SA: b})
		p.run(time.Minute)
		ids, exchanges := 0, map[wire.ExchangeType]bool{}
		for _, o := range *heard {
			exchanges[o.m.Exchange] = true
			if x := o.m.Exchange; x < wire.IKESAInit || x > wire.Informational {
				t.Errorf("exchange %v", x)
			}
			for _, pl := range o.m.Payloads {
				if pl.Type < wire.PayloadSA || pl.Type > wire.PayloadSK {
					t.Errorf("payload %v", pl.Type)
				}
				if id, ok := pl.Body.(wire.ID); ok {
					ids++
					if identity.IDType(id.Type) != identity.IDNull || len(id.Data) != 0 {
						t.Errorf("a peer that is nothing but its key asserts %+v", id)
					}
				}
			}
		}
		if ids != 2 || len(exchanges) != 4 {
			t.Errorf("%d identities, exchanges %v", ids, exchanges)
		}
	})
	t.Run("BTNS-CORE-35 encoding 15 is a SubjectPublicKeyInfo, and asked for without an authority", func(t *testing.T) {
		p := newPair(t, 302, plain(), plain())
		heard := p.listen(nil)
		p.connect()
		for _, n := range []*node{p.a, p.b} {
			if k, err := identity.ParsePublicKey(certs(auth(t, *heard, n))[15]); err != nil || k != n.signer.Public {
				t.Errorf("%s shows %v, %v", n.name, k, err)
			}
		}
		asked := false
		for _, pl := range auth(t, *heard, p.a).All(wire.PayloadCERTREQ) {
			if r := pl.Body.(wire.CertReq); r.Encoding == 15 {
				if asked = true; len(r.Authorities) != 0 {
					t.Errorf("authorities %x", r.Authorities)
				}
			}
		}
		if !asked {
			t.Error("raw keys are not asked for")
		}
	})
	t.Run("BTNS-CORE-37 raw keys sign by RFC 7427, and Ed25519 what is not hashed before", func(t *testing.T) {
		p := newPair(t, 303, plain(), plain())
		heard := p.listen(nil)
		p.connect()
		for i, o := range (*heard)[:2] {
			if n, ok := o.m.Notify(16431); !ok || !bytes.Contains(n.Data, []byte{0, 5}) {
				t.Errorf("message %d announces %x", i, n.Data)
			}
		}
		for _, n := range []*node{p.a, p.b} {
			a, _ := wire.Find[wire.Auth](auth(t, *heard, n), wire.PayloadAUTH)
			if a.Method != 14 || !bytes.HasPrefix(a.Data, []byte{7, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70}) {
				t.Errorf("%s: method %v, %x", n.name, a.Method, a.Data)
			}
		}
	})
}

// core.md §5: where the key of a peer comes from.
func TestLedgerOfKeys(t *testing.T) {
	ed, _ := identity.NewEd25519(chacha(4, 1))
	other, _ := identity.NewEd25519(chacha(4, 2))
	forged := identity.Signer{Public: ed.Public, Private: other.Private}
	cert, err := identity.SelfSigned(ed, time.Unix(1e9, 0), chacha(4, 3))
	certOther, err2 := identity.SelfSigned(other, time.Unix(1e9, 0), chacha(4, 4))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	t.Run("BTNS-CORE-08 the key in CERT verifies AUTH", func(t *testing.T) {
		if err := meet(t, Local{Method: Signature, Key: ed, SendKey: true}, Remote{AnyKey: true}); err != nil {
			t.Error(err)
		}
		if err := meet(t, Local{Method: Signature, Key: forged, SendKey: true}, Remote{AnyKey: true}); !refusedAuth(err) {
			t.Errorf("signed by another key: %v", err)
		}
	})
	t.Run("BTNS-CORE-30 the bare key is shown unasked", func(t *testing.T) {
		p := newPair(t, 310, plain(), plain())
		heard := p.listen(func(ps []wire.Payload) []wire.Payload { return without(ps, wire.PayloadCERTREQ) })
		asking := p.carry
		p.carry = func(from *node, s Send) []Send {
			if m, _ := wire.ParseMessage(s.Data); from == p.b && m.Exchange == wire.IKESAInit { // a will not verify b after this
				m.Payloads = without(m.Payloads, wire.PayloadCERTREQ)
				s.Data = m.Append(nil)
			}
			return asking(from, s)
		}
		p.step(p.a, p.initiation(p.a))
		p.run(time.Second)
		for _, o := range *heard {
			if len(o.m.All(wire.PayloadCERTREQ)) != 0 {
				t.Fatal("somebody asked")
			}
		}
		for _, n := range []*node{p.a, p.b} {
			if c := certs(auth(t, *heard, n))[wire.CertRawKey]; !bytes.Equal(c, n.signer.Public.SPKI()) {
				t.Errorf("%s shows %x", n.name, c)
			}
		}
	})
	t.Run("BTNS-CORE-31 a certificate of the same key may go beside it", func(t *testing.T) {
		local := Local{Method: Signature, Key: ed, SendKey: true, Certificate: cert}
		if ps := certPayloads(local, suite.Hashes()); len(ps) != 2 {
			t.Errorf("%d CERT payloads", len(ps))
		}
		if err := meet(t, local, Remote{AnyKey: true}); err != nil {
			t.Error(err)
		}
	})
	t.Run("BTNS-CORE-32 keys that differ are refused on the wire", func(t *testing.T) {
		if err := meet(t, Local{Method: Signature, Key: ed, Certificate: cert}, Remote{AnyKey: true}); err != nil {
			t.Errorf("a certificate alone: %v", err)
		}
		if err := meet(t, Local{Method: Signature, Key: ed, SendKey: true, Certificate: certOther}, Remote{AnyKey: true}); !refusedAuth(err) {
			t.Errorf("a certificate of another key: %v", err)
		}
	})
}

// RFC 7670 §3, RFC 4055 §1.2: RSA in its encodings, and what goes together.
func TestLedgerOfEncodings(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.FromCrypto(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signer := identity.Signer{Public: key, Private: private}
	x1, err1 := identity.SelfSigned(signer, time.Unix(1e9, 0), rand.Reader)
	ed, _ := identity.NewEd25519(chacha(5, 1))
	x2, err2 := identity.SelfSigned(ed, time.Unix(1e9, 0), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&private.PublicKey)
	raw, old, x509Cert := wire.Cert{Encoding: 15, Data: key.SPKI()}, wire.Cert{Encoding: 11, Data: pkcs1}, wire.Cert{Encoding: 4, Data: x1}
	rawOther, x509Other := wire.Cert{Encoding: 15, Data: ed.Public.SPKI()}, wire.Cert{Encoding: 4, Data: x2}
	for _, c := range []struct {
		name  string
		certs []wire.Cert
		err   error
	}{
		{"BTNS-CORE-32 encoding 15", []wire.Cert{raw}, nil},
		{"BTNS-CORE-32 BTNS-CORE-39 encoding 11", []wire.Cert{old}, nil},
		{"BTNS-CORE-32 encoding 4", []wire.Cert{x509Cert}, nil},
		{"BTNS-CORE-32 all of them agree", []wire.Cert{raw, old, x509Cert}, nil},
		{"BTNS-CORE-32 the first certificate counts, others are its chain", []wire.Cert{x509Cert, x509Other}, nil},
		{"BTNS-CORE-32 15 and 11 differ", []wire.Cert{rawOther, old}, errKeysDiffer},
		{"BTNS-CORE-32 15 and 4 differ", []wire.Cert{raw, x509Other}, errKeysDiffer},
		{"BTNS-CORE-32 11 and 4 differ", []wire.Cert{old, x509Other}, errKeysDiffer},
		{"BTNS-CORE-36 RSASSA-PSS without parameters in encoding 15", []wire.Cert{{Encoding: 15, Data: spkiOf(t, oidPSS, nil, pkcs1)}}, nil},
		{"BTNS-CORE-36 RSASSA-PSS with parameters in encoding 15", []wire.Cert{{Encoding: 15, Data: spkiOf(t, oidPSS, []byte{0x30, 0}, pkcs1)}}, nil},
		{"BTNS-CORE-36 RSASSA-PSS with NULL for parameters", []wire.Cert{{Encoding: 15, Data: spkiOf(t, oidPSS, []byte{5, 0}, pkcs1)}}, errCertKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m wire.Message
			for _, x := range c.certs {
				m.Payloads = append(m.Payloads, payload(wire.PayloadCERT, x))
			}
			if got, err := keyOf(&m); !errors.Is(err, c.err) || err == nil && got != key {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("BTNS-CORE-36 BTNS-CORE-39 a key that is not limited to PSS goes out as rsaEncryption with NULL, in encoding 15", func(t *testing.T) {
		ps := certPayloads(Local{Method: Signature, Key: signer, SendKey: true}, suite.Hashes())
		if c := ps[0].Body.(wire.Cert); len(ps) != 1 || c.Encoding != 15 || !bytes.Equal(c.Data, spkiOf(t, oidRSA, []byte{5, 0}, pkcs1)) {
			t.Errorf("%+v", ps)
		}
	})
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
)

// spkiOf is a SubjectPublicKeyInfo of any algorithm; params are DER.
func spkiOf(t *testing.T, oid asn1.ObjectIdentifier, params, key []byte) []byte {
	t.Helper()
	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params asn1.RawValue `asn1:"optional"`
	}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{algorithm{oid, asn1.RawValue{FullBytes: params}}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// core.md §6: what IDi and IDr of a BTNS node say.
func TestLedgerOfIDs(t *testing.T) {
	t.Run("BTNS-CORE-41 BTNS-CORE-42 ID_NULL says that the key is the identity, by default", func(t *testing.T) {
		p := newPair(t, 320, plain(), plain())
		p.a.local.ID, p.b.local.ID = identity.ID{}, identity.ID{} // nothing was said about it
		a, b := p.connect()
		ua, ub := p.a.up[a].Peer, p.b.up[b].Peer
		if ua.ID != identity.Null() || ub.ID != identity.Null() || ua.Key != p.b.signer.Public || ub.Key != p.a.signer.Public {
			t.Errorf("%+v\n%+v", ua, ub)
		}
	})
	t.Run("BTNS-CORE-42 ID_KEY_ID with the fingerprint is the alternative", func(t *testing.T) {
		p := newPair(t, 321, plain(), plain())
		f := p.a.signer.Public.Fingerprint()
		p.a.local.ID = identity.KeyID(f)
		heard := p.listen(nil)
		p.connect()
		if id, _ := wire.Find[wire.ID](auth(t, *heard, p.a), wire.PayloadIDi); id.Type != 11 || !bytes.Equal(id.Data, f[:]) {
			t.Errorf("%+v", id)
		}
	})
	t.Run("BTNS-CORE-44 a stranger is not named, and a name that is not ours is no error", func(t *testing.T) {
		p := newPair(t, 322, plain(), plain())
		heard := p.listen(nil)
		p.connect()
		if n := len(auth(t, *heard, p.a).All(wire.PayloadIDr)); n != 0 {
			t.Errorf("%d IDr to a stranger", n)
		}
		p = newPair(t, 323, plain(), plain())
		whoever := identity.ID{Type: identity.IDFQDN, Data: "whoever.example"}
		p.listen(func(ps []wire.Payload) []wire.Payload { return append(ps, idPayload(wire.PayloadIDr, whoever)) })
		p.connect()
		if f, _ := last[FindCredential](p.b); f.Wanted != whoever {
			t.Errorf("%+v", f)
		}
	})
	t.Run("BTNS-CORE-62 a rekeyed IKE SA needs no check of the key", func(t *testing.T) {
		p := newPair(t, 324, plain(), plain())
		a, _ := p.connect()
		asked := func() int { return count[JudgePeer](p.a) + count[JudgePeer](p.b) }
		before := asked()
		p.step(p.a, RekeySA{a})
		p.run(time.Second)
		if count[SARekeyed](p.b) != 1 || before != 2 || asked() != before {
			t.Errorf("asked %d times, then %d", before, asked())
		}
	})
}

// core.md §8: authentication without any.
func TestLedgerOfNull(t *testing.T) {
	t.Run("BTNS-NULL-01 method 13, and ID_NULL without data", func(t *testing.T) {
		p := newPair(t, 330, plain(), plain())
		p.a.local, p.b.local = Local{Method: Null}, Local{Method: Null}
		p.a.remote, p.b.remote = Remote{AnyNull: true}, Remote{AnyNull: true}
		heard := p.listen(nil)
		p.connect()
		for n, at := range map[*node]wire.PayloadType{p.a: wire.PayloadIDi, p.b: wire.PayloadIDr} {
			m := auth(t, *heard, n)
			id, _ := wire.Find[wire.ID](m, at)
			if a, ok := wire.Find[wire.Auth](m, wire.PayloadAUTH); !ok || a.Method != 13 || id.Type != 13 || len(id.Data) != 0 || len(certs(m)) != 0 {
				t.Errorf("%s: %+v %+v", n.name, id, a)
			}
		}
	})
	t.Run("BTNS-NULL-04 whoever asks for EAP is not answered with NULL", func(t *testing.T) {
		p := newPair(t, 331, plain(), plain())
		p.a.local, p.b.local, p.b.remote = Local{Method: Null}, Local{Method: Null}, Remote{AnyKey: true, AnyNull: true}
		// RFC 7296 §2.16: an initiator that leaves AUTH out asks for EAP.
		heard := p.listen(func(ps []wire.Payload) []wire.Payload { return without(ps, wire.PayloadAUTH) })
		p.step(p.a, p.initiation(p.a))
		p.run(time.Second)
		m := auth(t, *heard, p.b)
		if len(m.All(wire.PayloadAUTH)) != 0 || errorOf(&m) == 0 || len(p.b.up) != 0 {
			t.Errorf("answered %+v", m)
		}
	})
}
