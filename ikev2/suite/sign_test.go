package suite

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btns-ipsec/btns/identity"
)

func signer(t testing.TB, key crypto.Signer) identity.Signer {
	t.Helper()
	public, err := identity.FromCrypto(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return identity.Signer{Public: public, Private: key}
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// signers makes one key of each kind.
func signers(t testing.TB) map[string]identity.Signer {
	t.Helper()
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	r, err3 := rsaKey()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[string]identity.Signer{
		"Ed25519": signer(t, ed25519.NewKeyFromSeed(make([]byte, 32))),
		"P-256":   signer(t, p256), "P-384": signer(t, p384), "RSA": signer(t, r),
	}
}

var signed = []byte("what the AUTH payload covers")

// RFC 7427 §4, RFC 8420 §2, RFC 4754: which method and which identifier, for which key and peer.
func TestSign(t *testing.T) {
	const (
		ed    = "07300506032b6570"
		ec256 = "0c300a06082a8648ce3d040302"
		ec384 = "0c300a06082a8648ce3d040303"
		ec512 = "0c300a06082a8648ce3d040304"
		pss   = "43304106092a864886f70d01010a3034a00f300d060960864801650304020%s0500a11c301a06092a864886f70d010108" +
			"300d060960864801650304020%s0500a2030201%s"
	)
	keys := signers(t)
	for _, c := range []struct {
		key    string
		peer   []Hash
		method uint8 // 0: cannot
		prefix string
	}{
		{"Ed25519", []Hash{SHA256, Identity}, 14, ed},
		{"Ed25519", []Hash{SHA256, SHA384, SHA512}, 0, ""},
		{"Ed25519", nil, 0, ""},
		{"P-256", Hashes(), 14, ec256},
		{"P-256", []Hash{SHA512, SHA384}, 14, ec384},
		{"P-256", []Hash{SHA512}, 14, ec512},
		{"P-256", []Hash{SHA1, Identity}, 0, ""},
		{"P-256", nil, 9, ""},
		{"P-384", Hashes(), 14, ec384},
		{"P-384", []Hash{SHA256}, 14, ec256},
		{"P-384", nil, 10, ""},
		{"RSA", Hashes(), 14, fmt.Sprintf(pss, "1", "1", "20")},
		{"RSA", []Hash{SHA384}, 14, fmt.Sprintf(pss, "2", "2", "30")},
		{"RSA", []Hash{SHA512}, 14, fmt.Sprintf(pss, "3", "3", "40")},
		{"RSA", []Hash{SHA1}, 0, ""}, // RFC 8247 §3.2
		{"RSA", nil, 1, ""},
	} {
		t.Run(fmt.Sprint(c.key, c.peer), func(t *testing.T) {
			k := keys[c.key]
			method, data, err := Sign(rand.Reader, k, c.peer, signed)
			if c.method == 0 {
				if !errors.Is(err, ErrUnsupportedAlgorithm) {
					t.Errorf("method %d, %v", method, err)
				}
				return
			}
			if err != nil || method != c.method {
				t.Fatalf("method %d, %v", method, err)
			}
			prefix := unhex(c.prefix)
			same(t, "identifier", data[:len(prefix)], prefix)
			if err := Verify(k.Public, c.peer, method, data, signed); err != nil {
				t.Error(err)
			}
			checkForgeries(t, k.Public, c.peer, method, data, prefix)
		})
	}
}

// checkForgeries changes one thing at a time in AUTH data that verify.
func checkForgeries(t *testing.T, key identity.PublicKey, hashes []Hash, method uint8, data, prefix []byte) {
	t.Helper()
	last := bytes.Clone(data)
	last[len(last)-1] ^= 1
	for name, bad := range map[string][]byte{
		"changed": last, "cut": data[:len(data)-1], "longer": append(bytes.Clone(data), 0), "no signature": prefix,
	} {
		if err := Verify(key, hashes, method, bad, signed); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Verify(key, hashes, method, data, signed[1:]); !errors.Is(err, ErrSignature) {
		t.Errorf("other octets: %v", err)
	}
	if err := Verify(identity.PublicKey{}, hashes, method, data, signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
		t.Errorf("no key: %v", err)
	}
	for other, k := range signers(t) {
		if k.Public == key {
			continue
		}
		if err := Verify(k.Public, hashes, method, data, signed); err == nil {
			t.Errorf("verifies by %s", other)
		}
	}
	// RFC 7427 §4: with hashes announced on both sides there is method 14 and nothing else.
	swapped := []Hash(nil)
	if len(hashes) == 0 {
		swapped = Hashes()
	}
	if err := Verify(key, swapped, method, data, signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
		t.Errorf("method %d with hashes %v: %v", method, swapped, err)
	}
}

// RFC 7427 §4: the hash is one that we announced.
func TestVerifyAnnounced(t *testing.T) {
	for name, k := range signers(t) {
		for _, h := range Hashes() {
			method, data, err := Sign(rand.Reader, k, []Hash{h}, signed)
			if err != nil {
				continue
			}
			others := slices.DeleteFunc(Hashes(), func(o Hash) bool { return o == h })
			if err := Verify(k.Public, others, method, data, signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
				t.Errorf("%s with %v: %v", name, h, err)
			}
		}
	}
}

// Peers that sign PKCS#1 v1.5 by method 14, as strongSwan does unless told otherwise, and by method 1 with any SHA-2.
func TestVerifyPKCS1(t *testing.T) {
	k := signers(t)["RSA"]
	for _, h := range []Hash{SHA256, SHA384, SHA512} {
		sig, err := k.Private.Sign(rand.Reader, h.digest(signed), h.crypto())
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(k.Public, nil, 1, sig, signed); err != nil {
			t.Errorf("method 1 with %v: %v", h, err)
		}
		full, err := algorithm{family: famPKCS1, hash: h}.appendDER([]byte{0})
		if err != nil {
			t.Fatal(err)
		}
		full[0] = byte(len(full) - 1)
		short := slices.Concat([]byte{13, 0x30, 11}, full[3:14]) // without the NULL
		for _, prefix := range [][]byte{full, short} {
			if err := Verify(k.Public, Hashes(), 14, append(bytes.Clone(prefix), sig...), signed); err != nil {
				t.Errorf("%x: %v", prefix, err)
			}
		}
	}
	// RFC 8247 §3.2: not with SHA-1, the default of method 1 in RFC 7296 §3.8.
	sha1 := crypto.SHA1.New()
	sha1.Write(signed)
	sig, err := k.Private.Sign(rand.Reader, sha1.Sum(nil), crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(k.Public, nil, 1, sig, signed); !errors.Is(err, ErrSignature) {
		t.Errorf("method 1 with SHA-1: %v", err)
	}
	id := unhex("0f300d06092a864886f70d0101050500")
	if err := Verify(k.Public, []Hash{SHA1, SHA256}, 14, append(id, sig...), signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
		t.Errorf("method 14 with SHA-1: %v", err)
	}
}

// RFC 7296 §3.8 and the registry: methods that are not signatures of ours.
func TestVerifyMethods(t *testing.T) {
	k := signers(t)["P-256"]
	for method := range uint8(255) {
		for _, hashes := range [][]Hash{nil, Hashes()} {
			if err := Verify(k.Public, hashes, method, make([]byte, 64), signed); err == nil {
				t.Errorf("method %d verifies zeros", method)
			}
		}
	}
	for _, data := range [][]byte{nil, {0}, {255}, {1, 0x30}, {2, 0x30, 0}, []byte("\x07\x30\x05\x06\x03\x2b\x65")} {
		if err := Verify(k.Public, Hashes(), 14, data, signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
			t.Errorf("%x: %v", data, err)
		}
	}
}

// RFC 4754 §8.1: raw and DER form of one signature.
func TestECDSAVector(t *testing.T) {
	type vector struct {
		Method9  octs `json:"auth_data_method_9"`
		Method14 octs `json:"auth_data_method_14"`
		Message  octs
		X        octs `json:"public_x"`
		Y        octs `json:"public_y"`
		DER      octs `json:"signature_der"`
	}
	for _, v := range load[vector](t, "ecdsa-rfc4754.json") {
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, v.X, v.Y))
		if err != nil {
			t.Fatal(err)
		}
		key, err := identity.FromCrypto(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(key, nil, 9, v.Method9, v.Message); err != nil {
			t.Errorf("method 9: %v", err)
		}
		if err := Verify(key, Hashes(), 14, v.Method14, v.Message); err != nil {
			t.Errorf("method 14: %v", err)
		}
		raw, err := rawECDSA(v.DER, 32)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "raw", raw, v.Method9)
		for _, bad := range [][]byte{nil, v.DER[:40], append(bytes.Clone(v.DER), 0), unhex("3006020101020101ff"), unhex("30060201ff020101")} {
			if _, err := rawECDSA(bad, 32); err == nil {
				t.Errorf("%x taken for a signature", bad)
			}
		}
	}
}

// RFC 7670 §A.1: raw keys, as CERT payloads carry them.
func TestRawPublicKeys(t *testing.T) {
	type vector struct{ SPKI octs }
	n := 0
	for _, v := range load[vector](t, "raw-public-key-rfc7670.json") {
		if len(v.SPKI) == 0 {
			continue
		}
		key, err := identity.ParsePublicKey(v.SPKI)
		if err != nil {
			continue // a prefix, or a key that is too short for us
		}
		n++
		for _, hashes := range [][]Hash{Hashes(), nil} {
			if _, _, err := choose(key.Crypto(), hashes); err != nil {
				t.Errorf("%x: %v", v.SPKI, err)
			}
		}
	}
	if n == 0 {
		t.Error("no key at all")
	}
}

// Wycheproof on signatures, wrapped as method 14 has them.
func TestSignatureVectors(t *testing.T) {
	type vector struct {
		ID                       int
		Comment                  string
		Message, Signature, SPKI octs
		Valid                    bool
	}
	for file, a := range map[string]algorithm{
		"ed25519.json":                {family: famEd25519, hash: Identity},
		"ecdsa_secp256r1_sha256.json": {family: famECDSA, hash: SHA256},
		"ecdsa_secp384r1_sha384.json": {family: famECDSA, hash: SHA384},
	} {
		t.Run(file, func(t *testing.T) {
			prefix, err := a.appendDER([]byte{0})
			if err != nil {
				t.Fatal(err)
			}
			prefix[0] = byte(len(prefix) - 1)
			for _, v := range load[vector](t, file) {
				key, err := identity.ParsePublicKey(v.SPKI)
				if err != nil {
					t.Fatal(v.ID, err)
				}
				err = Verify(key, Hashes(), 14, append(bytes.Clone(prefix), v.Signature...), v.Message)
				if v.Valid && err != nil || !v.Valid && !errors.Is(err, ErrSignature) {
					t.Errorf("%d %s: valid %v: %v", v.ID, v.Comment, v.Valid, err)
				}
			}
		})
	}
}

// A signer that fails, or is not there, is an error and no panic.
func TestSignFails(t *testing.T) {
	keys := signers(t)
	broken := errors.New("token unplugged")
	for name, k := range keys {
		if _, _, err := Sign(rand.Reader, identity.Signer{Public: k.Public}, Hashes(), signed); err == nil {
			t.Errorf("%s without a private key", name)
		}
		k.Private = failing{k.Private, broken}
		if _, _, err := Sign(rand.Reader, k, Hashes(), signed); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Sign(nil, keys["RSA"], Hashes(), signed); err == nil {
		t.Error("RSASSA-PSS without entropy")
	}
	if _, _, err := Sign(nil, identity.Signer{}, Hashes(), signed); !errors.Is(err, ErrUnsupportedAlgorithm) {
		t.Errorf("no key: %v", err)
	}
	// Without entropy ECDSA is deterministic: simulations repeat.
	_, one, err1 := Sign(nil, keys["P-256"], Hashes(), signed)
	_, two, err2 := Sign(nil, keys["P-256"], Hashes(), signed)
	if errors.Join(err1, err2) != nil || !bytes.Equal(one, two) {
		t.Errorf("ECDSA without entropy: %v, %v", err1, err2)
	}
}

type failing struct {
	crypto.Signer
	err error
}

func (f failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, f.err }

// RFC 7427 appendix A and RFC 8420: what of it we write, and read.
func TestAlgorithmIdentifiers(t *testing.T) {
	type vector struct {
		ID   octs `json:"algorithm_identifier"`
		Name string
	}
	for _, v := range load[vector](t, "signature-algorithm-identifiers.json") {
		a, err := parseAlgorithm(v.ID)
		refused := strings.Contains(v.Name, "SHA1") || strings.Contains(v.Name, "sha1") ||
			strings.Contains(v.Name, "SHA-1,") || v.Name == "Ed448"
		if refused {
			if !errors.Is(err, ErrUnsupportedAlgorithm) {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		again, err := a.appendDER(nil)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		same(t, v.Name, again, v.ID)
	}
}

func TestParseAlgorithm(t *testing.T) {
	const (
		sha256  = "300d06096086480165030402010500"
		sha256n = "300b0609608648016503040201" // without the NULL
		sha384  = "300d06096086480165030402020500"
		mgf     = "06092a864886f70d010108"
		oid     = "06092a864886f70d01010a"
	)
	pss := algorithm{family: famPSS, hash: SHA256, salt: 32}
	for _, c := range []struct {
		name, in string
		want     algorithm // zero: refused
	}{
		{"as RFC 7427 §A.4.3 prints it, with trailerField", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)),
			"a203020120", "a303020101")), pss},
		{"hashes without NULL", seq(oid, seq(tag("a0", sha256n), tag("a1", seq(mgf, sha256n)), "a203020120")), pss},
		{
			"default salt", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)))),
			algorithm{family: famPSS, hash: SHA256, salt: 20},
		},
		{
			"salt of the largest size", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a204020200de")),
			algorithm{family: famPSS, hash: SHA256, salt: 222},
		},
		{"salt 0", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a203020100")), algorithm{}},
		{"salt -1", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a2030201ff")), algorithm{}},
		{"huge salt", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a20a02087fffffffffffffff")), algorithm{}},
		{"trailerField 2", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a203020120", "a303020102")), algorithm{}},
		{"no parameters", seq(oid), algorithm{}},
		{"NULL parameters", seq(oid, "0500"), algorithm{}},
		{"empty parameters are SHA-1", seq(oid, "3000"), algorithm{}},
		{"default hash", seq(oid, seq(tag("a1", seq(mgf, sha256)), "a203020120")), algorithm{}},
		{"default MGF", seq(oid, seq(tag("a0", sha256), "a203020120")), algorithm{}},
		{"MGF of another hash", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha384)), "a203020120")), algorithm{}},
		{"unknown field", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a203020120", "a403020101")), algorithm{}},
		{"parameters twice", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256))), "0500"), algorithm{}},
		{"something behind the hash", seq(oid, seq(tag("a0", sha256, "0500"), tag("a1", seq(mgf, sha256)))), algorithm{}},
		{"something behind the salt", seq(oid, seq(tag("a0", sha256), tag("a1", seq(mgf, sha256)), "a2050201200500")), algorithm{}},
		{"ECDSA", "300a06082a8648ce3d040302", algorithm{family: famECDSA, hash: SHA256}},
		{"ECDSA with NULL", "300c06082a8648ce3d0403020500", algorithm{}},
		{"Ed25519 with NULL", "300706032b65700500", algorithm{}},
		{"Ed25519ph is no OID of its own", "300506032b6572", algorithm{}},
		{"RSA with NULL", "300d06092a864886f70d01010b0500", algorithm{family: famPKCS1, hash: SHA256}},
		{"RSA without NULL", "300b06092a864886f70d01010b", algorithm{family: famPKCS1, hash: SHA256}},
		{"RSA with two NULLs", "300f06092a864886f70d01010b05000500", algorithm{}},
		{"RSA with a NULL of one octet", "300e06092a864886f70d01010b050100", algorithm{}},
		{"rsaEncryption alone", "300d06092a864886f70d0101010500", algorithm{}},
		{"octet behind", "300506032b657000", algorithm{}},
		{"cut", "300506032b65", algorithm{}},
		{"length not minimal", "30810506032b6570", algorithm{}},
		{"indefinite length", "308006032b65700000", algorithm{}},
		{"nothing", "", algorithm{}},
	} {
		a, err := parseAlgorithm(unhex(c.in))
		if a != c.want || (err == nil) != (c.want != algorithm{}) || err != nil && !errors.Is(err, ErrUnsupportedAlgorithm) {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
}

// seq and tag write DER with lengths below 128.
func seq(parts ...string) string { return tag("30", parts...) }

func tag(t string, parts ...string) string {
	body := strings.Join(parts, "")
	return fmt.Sprintf("%s%02x%s", t, len(body)/2, body)
}

// FuzzParseAlgorithm: no panic, and what is understood survives a round trip.
func FuzzParseAlgorithm(f *testing.F) {
	f.Add(unhex("300506032b6570"))
	f.Add(unhex("300d06092a864886f70d01010b0500"))
	f.Add(unhex("304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108" +
		"300d06096086480165030402010500a203020120"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAlgorithm(b)
		if err != nil {
			return
		}
		der, err := a.appendDER(nil)
		if err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
		if again, err := parseAlgorithm(der); err != nil || again != a {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}
