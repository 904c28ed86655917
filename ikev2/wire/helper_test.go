package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// octs is octets that JSON has as hex.
type octs []byte

func (o *octs) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// loadJSON reads a file that must be there.
func loadJSON(tb testing.TB, path string, into any) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
}

// datagram is one of the captures of other projects, which are not part of the repository.
type datagram struct {
	File string
	UDP  octs
}

// captured returns the datagrams of a third-party file, or none and false when it is not there.
func captured(tb testing.TB, name string) ([]datagram, bool) {
	tb.Helper()
	dir := os.Getenv("BTNS_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		tb.Logf("left out: no %s in %s", name, dir)
		return nil, false
	}
	var file struct{ Vectors []datagram }
	loadJSON(tb, path, &file)
	if len(file.Vectors) == 0 {
		tb.Fatalf("%s has no datagrams", path)
	}
	return file.Vectors, true
}

// recorded is a conversation of other implementations, with what their SK payloads held.
type recorded struct {
	Name    string
	Packets []recordedPacket
}

type recordedPacket struct {
	N           int
	Kind        string
	UDP         octs
	Exchange    ExchangeType
	MessageID   uint32 `json:"msg_id"`
	Response    bool
	Initiator   bool        `json:"from_original_initiator"`
	Payloads    []string    // "SA", "KE(31)", "N(16388)": in an SK payload those inside
	SKPlaintext octs        `json:"sk_plaintext"`
	First       PayloadType `json:"first_payload"`
	Fragment    []uint16
	Reassembled octs
}

// ike is the message without the non-ESP marker.
func (p recordedPacket) ike() []byte { return bytes.TrimPrefix(p.UDP, []byte{0, 0, 0, 0}) }

// inner is the chain inside, without padding and pad length; of fragments the chain that they make together.
func (p recordedPacket) inner() ([]byte, bool) {
	switch b := p.SKPlaintext; {
	case p.Reassembled != nil:
		return p.Reassembled, true
	case b == nil || p.Fragment != nil:
		return nil, false
	default:
		return b[:len(b)-1-int(b[len(b)-1])], true
	}
}

// exchanges reads the recordings, which lie beside the package that they are a test of.
func exchanges(tb testing.TB) []recorded {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "exchanges", "*.json"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no recorded exchanges: %v", err)
	}
	var all []recorded
	for _, path := range paths {
		var r recorded
		loadJSON(tb, path, &r)
		all = append(all, r)
	}
	return all
}

// bodies returns the payload bodies of a type in all recordings, as seeds.
func bodies(tb testing.TB, types ...PayloadType) [][]byte {
	tb.Helper()
	seen := map[string]bool{}
	var out [][]byte
	add := func(ps []Payload) {
		for _, p := range ps {
			for _, t := range types {
				b := AppendPayloads(nil, []Payload{p})[genericLen:]
				if p.Type == t && !seen[string(b)] {
					seen[string(b)] = true
					out = append(out, b)
				}
			}
		}
	}
	for _, r := range exchanges(tb) {
		for _, p := range r.Packets {
			if p.Kind != "ike" {
				continue
			}
			if m, err := ParseMessage(p.ike()); err == nil {
				add(m.Payloads)
			}
			if b, ok := p.inner(); ok {
				if ps, err := ParsePayloads(p.First, b); err == nil {
					add(ps)
				}
			}
		}
	}
	return out
}

// parseAny reads the body of any type, encrypted ones too.
func parseAny(t PayloadType, b []byte) (Body, error) {
	if t == PayloadSK || t == PayloadSKF {
		return parseEncrypted(t, NoPayload, b)
	}
	return parseBody(t, b)
}

// encodeAny is the inverse of parseAny.
func encodeAny(t PayloadType, b Body) []byte {
	return AppendPayloads(nil, []Payload{{Type: t, Body: b}})[genericLen:]
}

// roundTrip checks what holds for every body that was read: it encodes to the octets it came from, also after those are
// gone if it was cloned, and the writer's check has nothing against it.
func roundTrip(tb testing.TB, t PayloadType, in []byte, b Body) {
	tb.Helper()
	input := bytes.Clone(in)
	if err := CheckPayloads([]Payload{{Type: t, Body: b}}); err != nil && len(in) < 0xfff0 {
		tb.Errorf("%v: parsed but not to be encoded: %v", t, err)
	}
	c := b.clone()
	for i := range in {
		in[i] ^= 0xa5
	}
	if got := encodeAny(t, c); !bytes.Equal(got, input) {
		tb.Errorf("%v: encodes to\n%x, was\n%x", t, got, input)
	}
	copy(in, input)
	if got := encodeAny(t, b); !bytes.Equal(got, input) {
		tb.Errorf("%v: encodes to\n%x, was\n%x", t, got, input)
	}
}

// bodyCase is one body in hex and what it means, or why it means nothing.
type bodyCase struct {
	name string
	typ  PayloadType
	in   string
	want Body
	err  error
}

// testBodies reads every case, and those that mean something cut after every octet.
func testBodies(t *testing.T, cases []bodyCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.typ.String()+" "+c.name, func(t *testing.T) {
			in := unhex(t, c.in)
			got, err := parseAny(c.typ, in)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			var formal *Error
			if err != nil && (!errors.As(err, &formal) || formal.Payload == "" || formal.Field == "") {
				t.Fatalf("%#v does not say where", err)
			}
			if err != nil {
				return
			}
			// Printed, nil and empty slices are the same.
			if g, w := fmt.Sprintf("%T%+v", got, got), fmt.Sprintf("%T%+v", c.want, c.want); g != w {
				t.Fatalf("read as\n%s, want\n%s", g, w)
			}
			roundTrip(t, c.typ, in, got)
			if out := encodeAny(c.typ, c.want); !bytes.Equal(out, in) {
				t.Errorf("composed it is\n%x, want\n%x", out, in)
			}
			for n := range in {
				if cut, err := parseAny(c.typ, bytes.Clone(in[:n])); err == nil {
					roundTrip(t, c.typ, bytes.Clone(in[:n]), cut)
				}
			}
		})
	}
}

// fuzzBody fuzzes the parser of a type: no panic, and what parses survives a round trip.
func fuzzBody(f *testing.F, t PayloadType, more ...string) {
	for _, b := range bodies(f, t) {
		f.Add(b)
	}
	for _, s := range more {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(tb *testing.T, fuzzed []byte) {
		in := bytes.Clone(fuzzed)
		b, err := parseAny(t, in)
		if err != nil {
			if b != nil {
				tb.Fatalf("both %v and %v", b, err)
			}
			return
		}
		roundTrip(tb, t, in, b)
	})
}
