package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/btns-ipsec/btns/protect"
)

// octets is hex in JSON.
type octets []byte

func (o *octets) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	*o = b
	return err
}

// vectorFile is a file of published vectors, which are not ours to copy. Without them the test is left out, but not in CI.
func vectorFile(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("BTNS_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	switch {
	case err == nil:
		return b
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	}
	t.Skipf("left out: the published vectors are not here (%v); BTNS_VECTORS names their directory", err)
	return nil
}

type packetVector struct {
	Name, Note    string
	Encr          protect.Encr
	Integ         protect.Integ
	ESN           bool
	Key, Salt, IV octets
	AAD, Packet   octets
	Plaintext     octets
	Seq           octets
	SeqHi         octets `json:"seq_hi"`
	SPI           octets
}

// draft-mcgrew-gcm-test-01 (ESN), RFC 7634 appendix A, and packets of Linux kernels: sealing gives the packet, opening the
// plaintext.
func TestPublishedPackets(t *testing.T) {
	var file struct{ Vectors []packetVector }
	if err := json.Unmarshal(vectorFile(t, "esp-packets.json"), &file); err != nil {
		t.Fatal(err)
	}
	done := map[protect.Encr]int{}
	for _, v := range file.Vectors {
		s := protect.Suite{Encr: v.Encr, KeyBits: uint16(8 * len(v.Key)), Integ: v.Integ, ESN: v.ESN}
		unchecked := v.Encr == protect.AESCBC // those packets have no HMAC key published
		if unchecked {
			s.Integ = protect.HMACSHA256
		}
		if s.Valid() != nil {
			t.Logf("left out: %s: not a transform of ours", v.Name)
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			done[v.Encr]++
			k := protect.Keys{Encr: append(bytes.Clone(v.Key), v.Salt...), Integ: make([]byte, s.Integ.KeyLen())}
			x, err := newTransform(s, joined(k))
			if err != nil {
				t.Fatal(err)
			}
			var high uint32
			if v.ESN {
				high = binary.BigEndian.Uint32(v.SeqHi)
			}
			z := sizesOf(s)
			got := make([]byte, HeaderLen+z.iv+len(v.Plaintext)+z.icv)
			copy(got, v.SPI)
			copy(got[4:], v.Seq)
			copy(got[HeaderLen:], v.IV)
			x.seal(got, v.Plaintext, high)
			if unchecked {
				got, v.Packet = got[:len(got)-z.icv], v.Packet[:len(got)-z.icv]
			}
			if !bytes.Equal(got, v.Packet) {
				t.Fatalf("sealed\n got %x\nwant %x", got, v.Packet)
			}
			if unchecked {
				return
			}
			plain := make([]byte, len(v.Plaintext))
			if err := x.open(plain, v.Packet, high); err != nil || !bytes.Equal(plain, v.Plaintext) {
				t.Fatalf("opened %x: %v", plain, err)
			}
		})
	}
	for _, e := range []protect.Encr{protect.AESGCM16, protect.ChaCha20Poly1305, protect.AESCBC} {
		if done[e] == 0 {
			t.Errorf("no vector of %v", e)
		}
	}
}

type exchange struct {
	ESPSuite struct {
		Encr    protect.Encr
		KeyBits uint16 `json:"key_bits"`
		Integ   protect.Integ
		ESN     int
	} `json:"esp_suite"`
	ChildSAs []struct {
		EncrI  octets `json:"encr_i"`
		EncrR  octets `json:"encr_r"`
		IntegI octets `json:"integ_i"`
		IntegR octets `json:"integ_r"`
	} `json:"child_sas"`
	Packets []struct {
		Kind  string
		UDP   octets
		Child *int   `json:"esp_child"`
		Dir   string `json:"esp_dir"`
		Seq   uint64 `json:"esp_seq"`
		Next  byte   `json:"esp_next_header"`
		Plain octets `json:"esp_plaintext"`
	}
}

// The ESP packets of recorded exchanges between real peers open, and seal again to the same octets.
func TestRecordedPackets(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "ikev2", "testdata", "exchanges", "*.json"))
	if len(files) == 0 {
		vectorFile(t, "README.md")
		base := os.Getenv("BTNS_VECTORS")
		if base == "" {
			base = filepath.Join("..", "..", "shared", "vectors")
		}
		files, _ = filepath.Glob(filepath.Join(base, "ikev2-exchanges", "*.json"))
	}
	suites := map[string]int{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var e exchange
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := protect.Suite{Encr: e.ESPSuite.Encr, KeyBits: e.ESPSuite.KeyBits, Integ: e.ESPSuite.Integ, ESN: e.ESPSuite.ESN == 1}
		if s.Encr == protect.ChaCha20Poly1305 {
			s.KeyBits = 256
		}
		openers := map[string]*Opener{}
		for i, p := range e.Packets {
			if p.Kind != "esp" || p.Child == nil || len(p.UDP) < HeaderLen {
				continue
			}
			c := e.ChildSAs[*p.Child]
			k := protect.Keys{Encr: c.EncrI, Integ: c.IntegI}
			if p.Dir == "from_r" {
				k = protect.Keys{Encr: c.EncrR, Integ: c.IntegR}
			}
			spi := binary.BigEndian.Uint32(p.UDP)
			id := fmt.Sprintf("%d %s %08x", *p.Child, p.Dir, spi)
			if openers[id] == nil {
				o, err := NewOpener(s, spi, k, 0)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				openers[id] = o
			}
			dst := make([]byte, len(p.UDP))
			n, next, err := openers[id].Open(dst, p.UDP)
			if err != nil || next != p.Next || !bytes.HasPrefix(p.Plain, dst[:n]) || openers[id].Highest() != p.Seq {
				t.Fatalf("%s: packet %d (%s): %d octets, next %d, %v", name, i, id, n, next, err)
			}
			x, _ := newTransform(s, joined(k))
			again := make([]byte, len(p.UDP))
			copy(again, p.UDP[:openers[id].HeadLen()])
			x.seal(again, p.Plain, uint32(p.Seq>>32))
			if !bytes.Equal(again, p.UDP) {
				t.Fatalf("%s: packet %d does not seal to the same octets", name, i)
			}
			suites[s.String()]++
		}
	}
	t.Log(suites)
	if len(suites) < 3 {
		t.Fatalf("packets of %d suites only", len(suites))
	}
}
