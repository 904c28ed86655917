package suite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/protect"
)

// NIST CAVS 17.3: the key schedule for the three PRFs (RFC 7296 §2.13 to §2.18).
func TestKeySchedule(t *testing.T) {
	type vector struct {
		Hash          string
		Count         int
		Ni, Nr        octs
		GIR           octs `json:"g_ir"`
		GIRNew        octs `json:"g_ir_new"`
		SPIi          octs `json:"spi_i"`
		SPIr          octs `json:"spi_r"`
		SKEYSEED      octs
		DKM           octs
		DKMChild      octs `json:"dkm_child"`
		DKMChildKE    octs `json:"dkm_child_ke"`
		SKEYSEEDRekey octs `json:"skeyseed_rekey"`
	}
	prfs := map[string]PRF{"SHA-256": PRFSHA256, "SHA-384": PRFSHA384, "SHA-512": PRFSHA512}
	done := map[PRF]int{}
	for _, v := range load[vector](t, "ikev2-kdf.json") {
		p, ok := prfs[v.Hash]
		if !ok {
			continue // SHA-1 is not one of ours
		}
		done[p]++
		name := fmt.Sprint(v.Hash, " ", v.Count)
		seed := SKEYSEED(p, v.Ni, v.Nr, v.GIR)
		same(t, name+" SKEYSEED", seed, v.SKEYSEED)
		// The keys of an IKE SA are a prefix of the DKM, whichever the cipher.
		ike := IKE{Cipher: Cipher{Encr: protect.AESCBC, KeyBits: 128, Integ: protect.HMACSHA256}, PRF: p, KE: X25519}
		k, err := DeriveKeys(ike, seed, v.Ni, v.Nr, binary.BigEndian.Uint64(v.SPIi), binary.BigEndian.Uint64(v.SPIr))
		if err != nil {
			t.Fatal(err)
		}
		all := bytes.Join([][]byte{k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr}, nil)
		if n := min(len(all), len(v.DKM)); n < p.Size() {
			t.Errorf("%s: only %d octets to compare", name, n)
		} else {
			same(t, name+" DKM", all[:n], v.DKM[:n])
		}
		child, err := p.Plus(k.D, append(bytes.Clone(v.Ni), v.Nr...), len(v.DKMChild))
		if err != nil {
			t.Fatal(err)
		}
		same(t, name+" child", child, v.DKMChild)
		s := protect.Suite{Encr: protect.AESGCM16, KeyBits: 128}
		for what, c := range map[string]struct{ shared, want []byte }{
			"child keys": {nil, v.DKMChild}, "child keys with KE": {v.GIRNew, v.DKMChildKE},
		} {
			i, r, err := ChildKeys(p, k.D, c.shared, v.Ni, v.Nr, nil, s)
			if err != nil {
				t.Fatal(err)
			}
			same(t, name+" "+what, append(i.Encr, r.Encr...), c.want[:2*s.KeyLen()])
		}
		same(t, name+" rekey", RekeySKEYSEED(p, k.D, v.GIRNew, v.Ni, v.Nr), v.SKEYSEEDRekey)
	}
	if len(done) != 3 {
		t.Errorf("vectors for %v only", done)
	}
}

// RFC 7296 §2.17: encryption, integrity, first for what the initiator sends, without alignment.
func TestChildKeyOrder(t *testing.T) {
	s := protect.Suite{Encr: protect.AESCBC, KeyBits: 192, Integ: protect.HMACSHA384}
	skd, ni, nr := []byte("d"), []byte("i"), []byte("r")
	all, err := PRFSHA256.Plus(skd, []byte("0ir12"), 2*(24+48))
	if err != nil {
		t.Fatal(err)
	}
	i, r, err := ChildKeys(PRFSHA256, skd, []byte("0"), ni, nr, [][]byte{[]byte("1"), []byte("2")}, s)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "KEYMAT", bytes.Join([][]byte{i.Encr, i.Integ, r.Encr, r.Integ}, nil), all)
	if len(i.Encr) != 24 || len(i.Integ) != 48 {
		t.Errorf("lengths %d, %d", len(i.Encr), len(i.Integ))
	}
	if _, _, err := ChildKeys(PRFSHA256, skd, nil, ni, nr, nil, protect.Suite{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no suite: %v", err)
	}
}

// RFC 7296 §2.13: the counter of prf+ is one octet.
func TestPlusLimits(t *testing.T) {
	for _, p := range []PRF{PRFSHA256, PRFSHA384, PRFSHA512} {
		for n, ok := range map[int]bool{0: true, 1: true, 255 * p.Size(): true, 255*p.Size() + 1: false, -1: false} {
			b, err := p.Plus([]byte("k"), []byte("s"), n)
			if (err == nil) != ok || ok && len(b) != n {
				t.Errorf("%v: %d octets: %d, %v", p, n, len(b), err)
			}
		}
	}
	if _, err := PRF(2).Plus(nil, nil, 1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("SHA-1: %v", err)
	}
	if PRF(2).Sum(nil, nil) != nil {
		t.Error("SHA-1 yields something")
	}
}

func TestIKEString(t *testing.T) {
	i := IKE{Cipher{protect.AESGCM16, 128, protect.NoInteg}, PRFSHA256, X25519, []KE{MLKEM768}}
	if got, want := i.String(), "X25519+ML-KEM-768 AES-GCM-128 PRF-HMAC-SHA2-256"; got != want || i.Valid() != nil {
		t.Errorf("%q, %v; want %q", got, i.Valid(), want)
	}
	for _, s := range []fmt.Stringer{PRF(9), KE(9), Hash(9), NoKE, SHA1, SHA256, SHA384, SHA512, Identity, MODP2048, P384} {
		if s.String() == "" {
			t.Errorf("%T without a name", s)
		}
	}
}

func TestIKEInvalid(t *testing.T) {
	good := IKE{Cipher{protect.AESGCM16, 128, protect.NoInteg}, PRFSHA256, X25519, []KE{MLKEM768}}
	for name, change := range map[string]func(*IKE){
		"AEAD with integrity":   func(i *IKE) { i.Integ = protect.HMACSHA256 },
		"CBC without integrity": func(i *IKE) { i.Encr = protect.AESCBC },
		"key of 64 bits":        func(i *IKE) { i.KeyBits = 64 },
		"unknown PRF":           func(i *IKE) { i.PRF = 2 },
		"no key exchange":       func(i *IKE) { i.KE = NoKE }, // RFC 7296 §1.3.2
		"unknown key exchange":  func(i *IKE) { i.KE = 35 },
		"unknown additional":    func(i *IKE) { i.AddKE = []KE{37} },
		"the same one twice":    func(i *IKE) { i.AddKE = []KE{MLKEM768, MLKEM768} }, // RFC 9370 §2.2.1
		"the first one again":   func(i *IKE) { i.AddKE = []KE{X25519} },
	} {
		i := good
		change(&i)
		if err := i.Valid(); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := DeriveKeys(i, nil, nil, nil, 1, 2); err == nil {
			t.Errorf("%s: keys all the same", name)
		}
	}
}

func TestWipe(t *testing.T) {
	k := Keys{D: []byte("secret"), Pr: []byte("secret")}
	k.Wipe()
	if strings.Trim(string(k.D)+string(k.Pr), "\x00") != "" {
		t.Error("keys are still there")
	}
}
