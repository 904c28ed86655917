package suite

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"testing"
)

var allKE = []KE{MODP2048, MODP3072, MODP4096, P256, P384, X25519, MLKEM768}

// private makes the secret with a given value, which is how the published vectors have it.
func private(t *testing.T, k KE, value []byte) *Private {
	t.Helper()
	p := &Private{ke: k}
	var err error
	switch k {
	case MODP2048, MODP3072, MODP4096:
		p.exp = value
		g := modpGroups[k]
		two := make([]byte, len(g.prime))
		two[len(two)-1] = 2
		p.public, err = g.power(two, value)
	default:
		var dh *ecdh.PrivateKey
		if dh, err = k.curve().NewPrivateKey(value); err == nil {
			p.dh, p.public = dh, dh.PublicKey().Bytes()
			if k != X25519 {
				p.public = p.public[1:]
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// RFC 5903 §8, RFC 7748 §6.1 and MODP examples; the primes of RFC 3526 come with them.
func TestKeyExchangeVectors(t *testing.T) {
	type vector struct {
		Method KE
		Name   string
		Prime  octs
		PrivI  octs `json:"priv_i"`
		PrivR  octs `json:"priv_r"`
		PubI   octs `json:"pub_i"`
		PubR   octs `json:"pub_r"`
		Shared octs
	}
	for _, v := range load[vector](t, "ike-key-exchange.json") {
		t.Run(v.Name, func(t *testing.T) {
			if !v.Method.Supported() {
				t.Skipf("%v is not one of ours", v.Method)
			}
			if v.Prime != nil {
				same(t, "prime", modpGroups[v.Method].prime, v.Prime)
			}
			i, r := private(t, v.Method, v.PrivI), private(t, v.Method, v.PrivR)
			if v.Name != "curve25519_2" { // that one is of RFC 7748 §5.2, whose u is no public value of r
				same(t, "KEi", i.Public(), v.PubI)
				same(t, "KEr", r.Public(), v.PubR)
			}
			for who, f := range map[string]func() ([]byte, error){
				"initiator": func() ([]byte, error) { return i.Shared(v.PubR) },
				"responder": func() ([]byte, error) { return r.Shared(v.PubI) },
			} {
				got, err := f()
				if err != nil {
					t.Fatal(err)
				}
				same(t, who, got, v.Shared)
			}
		})
	}
}

// RFC 3526: p and (p-1)/2 are prime, and 2 generates the subgroup of that order.
func TestMODPGroups(t *testing.T) {
	for k, g := range modpGroups {
		p := new(big.Int).SetBytes(g.prime)
		q := new(big.Int).Rsh(p, 1)
		if !p.ProbablyPrime(1) || !q.ProbablyPrime(1) {
			t.Errorf("%v: not a safe prime", k)
		}
		if new(big.Int).Exp(big.NewInt(2), q, p).Cmp(big.NewInt(1)) != 0 {
			t.Errorf("%v: 2 has not the order (p-1)/2", k)
		}
	}
}

func TestExchange(t *testing.T) {
	for _, k := range allKE {
		t.Run(k.String(), func(t *testing.T) {
			var rand counter
			p, err := k.Generate(&rand)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Public()) != k.InitiatorLen() || p.KE() != k {
				t.Errorf("%d octets for %v", len(p.Public()), p.KE())
			}
			public, shared, err := k.Respond(&rand, p.Public())
			if err != nil {
				t.Fatal(err)
			}
			if len(public) != k.ResponderLen() {
				t.Errorf("response of %d octets", len(public))
			}
			got, err := p.Shared(public)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "shared", got, shared)

			var again counter
			if p2, _ := k.Generate(&again); !bytes.Equal(p2.Public(), p.Public()) {
				t.Error("the same entropy makes another value")
			}
			p.Wipe()
			if _, err := p.Shared(public); err == nil {
				t.Error("a wiped secret still works")
			}
		})
	}
}

// RFC 7296 §3.4: the length of a KE payload is that of its method.
func TestPublicValueLength(t *testing.T) {
	var rand counter
	for _, k := range allKE {
		p, err := k.Generate(&rand)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, k.ResponderLen() - 1, k.ResponderLen() + 1} {
			if _, err := p.Shared(make([]byte, n)); !errors.Is(err, ErrPublicValue) {
				t.Errorf("%v: Shared of %d octets: %v", k, n, err)
			}
		}
		for _, n := range []int{0, k.InitiatorLen() - 1, k.InitiatorLen() + 1} {
			if _, _, err := k.Respond(&rand, make([]byte, n)); !errors.Is(err, ErrPublicValue) {
				t.Errorf("%v: Respond to %d octets: %v", k, n, err)
			}
		}
	}
}

// RFC 6989 §2.1: MODP values are from 2 to p-2.
func TestMODPRange(t *testing.T) {
	for _, k := range []KE{MODP2048, MODP3072, MODP4096} {
		prime := modpGroups[k].prime
		near := func(d int64) []byte {
			y := new(big.Int).Add(new(big.Int).SetBytes(prime), big.NewInt(d))
			return y.FillBytes(make([]byte, len(prime)))
		}
		small := func(n int64) []byte { return big.NewInt(n).FillBytes(make([]byte, len(prime))) }
		for _, c := range []struct {
			name string
			y    []byte
			ok   bool
		}{
			{"0", small(0), false},
			{"1", small(1), false},
			{"2", small(2), true},
			{"256", small(256), true},
			{"257", small(257), true},
			{"p-2", near(-2), true},
			{"p-1", near(-1), false},
			{"p", near(0), false},
			{"p+1", near(1), false},
			{"all ones", bytes.Repeat([]byte{255}, len(prime)), false},
		} {
			var rand counter
			_, shared, err := k.Respond(&rand, c.y)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrPublicValue) {
				t.Errorf("%v: %s: %v", k, c.name, err)
			}
			if err == nil && len(shared) != len(prime) { // RFC 7296 §2.14: padded to the length of the prime
				t.Errorf("%v: %s: secret of %d octets", k, c.name, len(shared))
			}
		}
	}
}

// RFC 8031 §2 and our rule on all-zero secrets; masked and non-canonical values are accepted.
func TestX25519Vectors(t *testing.T) {
	type vector struct {
		ID                      int
		Comment                 string
		Private, Public, Shared octs
		MustReject              bool `json:"must_reject"`
	}
	for _, v := range load[vector](t, "x25519.json") {
		got, err := private(t, X25519, v.Private).Shared(v.Public)
		if v.MustReject {
			if !errors.Is(err, ErrPublicValue) {
				t.Errorf("%d %s: %v", v.ID, v.Comment, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d %s: %v", v.ID, v.Comment, err)
		}
		same(t, fmt.Sprint(v.ID, v.Comment), got, v.Shared)
	}
}

// RFC 6989 §2.3: points that are not on the curve.
func TestP256Vectors(t *testing.T) {
	type vector struct {
		ID              int
		Comment         string
		KE              octs `json:"ke_payload_data"`
		Private, Shared octs
		Valid           bool
	}
	for _, v := range load[vector](t, "ecdh-p256.json") {
		got, err := private(t, P256, v.Private).Shared(v.KE)
		if !v.Valid {
			if !errors.Is(err, ErrPublicValue) {
				t.Errorf("%d %s: %v", v.ID, v.Comment, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d %s: %v", v.ID, v.Comment, err)
		}
		same(t, fmt.Sprint(v.ID, v.Comment), got, v.Shared)
	}
}

func TestMLKEMDecapsulation(t *testing.T) {
	type vector struct {
		ID                  int
		Seed, EK, C, Shared octs
		Valid               bool
	}
	for _, v := range load[vector](t, "mlkem768-decaps.json") {
		if len(v.Seed) != mlkem.SeedSize {
			continue
		}
		p, err := MLKEM768.Generate(bytes.NewReader(v.Seed))
		if err != nil {
			t.Fatal(err)
		}
		if v.EK != nil && v.Valid {
			same(t, fmt.Sprint(v.ID, " encapsulation key"), p.Public(), v.EK)
		}
		got, err := p.Shared(v.C)
		if (err == nil) != v.Valid || err != nil && !errors.Is(err, ErrPublicValue) {
			t.Errorf("%d: valid %v: %v", v.ID, v.Valid, err)
		}
		if v.Valid {
			same(t, fmt.Sprint(v.ID), got, v.Shared)
		}
	}
}

// FIPS 203 §7.2: the encapsulation key check.
func TestMLKEMEncapsulation(t *testing.T) {
	type vector struct {
		ID               int
		EK, M, C, Shared octs
		Valid            bool
	}
	for _, v := range load[vector](t, "mlkem768-encaps.json") {
		_, _, err := MLKEM768.Respond(nil, v.EK)
		if (err == nil) != v.Valid || err != nil && !errors.Is(err, ErrPublicValue) {
			t.Errorf("%d: valid %v: %v", v.ID, v.Valid, err)
		}
		if !v.Valid {
			continue
		}
		ek, err := mlkem.NewEncapsulationKey768(v.EK)
		if err != nil {
			t.Fatal(err)
		}
		shared, c, err := mlkemtest.Encapsulate768(ek, v.M)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprint(v.ID, " ciphertext"), c, v.C)
		same(t, fmt.Sprint(v.ID, " shared"), shared, v.Shared)
	}
}

func TestGenerateFails(t *testing.T) {
	for _, k := range allKE {
		if p, err := k.Generate(bytes.NewReader(make([]byte, 5))); !errors.Is(err, io.ErrUnexpectedEOF) || p != nil {
			t.Errorf("%v with too little entropy: %v", k, err)
		}
	}
	// Zero is no scalar: a source that is stuck must not make the loop endless.
	if _, err := P256.Generate(bytes.NewReader(make([]byte, 32*candidates))); !errors.Is(err, errScalar) {
		t.Errorf("all-zero entropy: %v", err)
	}
	for _, k := range []KE{NoKE, 2, 17, 35} {
		if _, err := k.Generate(nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", k, err)
		}
		if _, _, err := k.Respond(nil, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", k, err)
		}
	}
}

// A scalar that is not below the order of the curve is passed over, not reduced.
func TestScalarRejected(t *testing.T) {
	low := bytes.Repeat([]byte{7}, 32)
	p, err := P256.Generate(io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{255}, 32)), bytes.NewReader(low)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "public", p.Public(), private(t, P256, low).Public())
}

// Nothing that holds a key prints it, in whatever way it is printed.
func TestRedaction(t *testing.T) {
	key := bytes.Repeat([]byte{0xa5}, 32)
	p := private(t, X25519, key)
	modp := private(t, MODP2048, key)
	sk, err := Cipher{Encr: 28, KeyBits: 256}.New(append(key, key[:4]...), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{D: key, Ai: key, Ar: key, Ei: key, Er: key, Pi: key, Pr: key}
	for _, v := range []any{p, modp, sk, keys, &keys} {
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&b, verb+" ", v)
		}
		for _, bad := range []string{"a5a5", "A5A5", "165", "\xa5", "0xa5", `\xa5`} {
			if strings.Contains(b.String(), bad) {
				t.Errorf("%T prints %q: %s", v, bad, b.String())
			}
		}
	}
}
