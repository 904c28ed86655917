package wire

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// name is the name that a payload has in the recordings.
func name(p Payload) string {
	switch b := p.Body.(type) {
	case KE:
		return fmt.Sprintf("KE(%d)", b.Method)
	case Auth:
		return fmt.Sprintf("AUTH(%d)", b.Method)
	case Notify:
		return fmt.Sprintf("N(%d)", uint16(b.Type))
	}
	return p.Type.String()
}

// Every recorded message, and what its SK payload held, is read as what it is and encodes to the same octets from the
// fields alone, after the input is gone.
func TestRecordedExchanges(t *testing.T) {
	messages, chains := 0, 0
	for _, r := range exchanges(t) {
		t.Run(r.Name, func(t *testing.T) {
			for _, p := range r.Packets {
				if p.Kind != "ike" {
					continue
				}
				messages++
				m := reencode(t, p.ike())
				if m.Exchange != p.Exchange || m.MessageID != p.MessageID || m.Response() != p.Response || m.Initiator() != p.Initiator {
					t.Errorf("packet %d: header %+v", p.N, m.Header)
				}
				ps := m.Payloads
				if last := ps[len(ps)-1]; p.SKPlaintext != nil {
					checkEncrypted(t, p, last)
					inner, whole := p.inner()
					if !whole {
						continue
					}
					chains++
					ps = reencodeChain(t, p.First, inner)
				}
				if p.Payloads != nil { // absent in repeated messages
					checkNames(t, p, ps)
				}
			}
		})
	}
	if messages < 190 || chains < 150 {
		t.Errorf("only %d messages and %d inner chains", messages, chains)
	}
}

func checkEncrypted(t *testing.T, p recordedPacket, last Payload) {
	t.Helper()
	e, ok := last.Body.(Encrypted)
	if !ok {
		t.Fatalf("packet %d: last payload is %v", p.N, last.Type)
	}
	switch {
	case p.Fragment == nil && (last.Type != PayloadSK || e.Total != 0):
		t.Errorf("packet %d: %v %d/%d", p.N, last.Type, e.Number, e.Total)
	case p.Fragment != nil && (last.Type != PayloadSKF || e.Number != p.Fragment[0] || e.Total != p.Fragment[1]):
		t.Errorf("packet %d: %v %d/%d, want %v", p.N, last.Type, e.Number, e.Total, p.Fragment)
	case p.Fragment == nil && p.First != 0 && e.First != p.First:
		t.Errorf("packet %d: first inner payload %v, want %v", p.N, e.First, p.First)
	case e.Number > 1 && e.First != NoPayload: // RFC 7383 §2.5
		t.Errorf("packet %d: fragment %d names %v", p.N, e.Number, e.First)
	}
}

func checkNames(t *testing.T, p recordedPacket, ps []Payload) {
	t.Helper()
	var names []string
	for _, q := range ps {
		names = append(names, name(q))
	}
	if !slices.Equal(names, p.Payloads) {
		t.Errorf("packet %d: payloads %v, want %v", p.N, names, p.Payloads)
	}
}

// reencode reads in, overwrites it, and demands the same octets from what was read.
func reencode(t *testing.T, in []byte) Message {
	t.Helper()
	b := bytes.Clone(in)
	m, err := ParseMessage(b)
	if err != nil {
		t.Fatalf("%v: %x", err, in)
	}
	if err := CheckPayloads(m.Payloads); err != nil {
		t.Errorf("parsed but not to be encoded: %v", err)
	}
	m = m.Clone()
	clear(b)
	if got := m.Append([]byte("before"))[6:]; !bytes.Equal(got, in) {
		t.Fatalf("encodes to\n%x, was\n%x", got, in)
	}
	return m
}

func reencodeChain(t *testing.T, first PayloadType, in []byte) []Payload {
	t.Helper()
	b := bytes.Clone(in)
	ps, err := ParsePayloads(first, b)
	if err != nil {
		t.Fatalf("%v: %x", err, in)
	}
	ps = Message{Payloads: ps}.Clone().Payloads
	clear(b)
	if got := AppendPayloads(nil, ps); !bytes.Equal(got, in) || FirstType(ps) != first {
		t.Fatalf("encodes to\n%x, was\n%x", got, in)
	}
	return ps
}

// A recorded message cut anywhere is malformed, whether or not its length field was made to fit.
func TestCutAnywhere(t *testing.T) {
	for _, r := range exchanges(t) {
		for _, p := range r.Packets {
			if p.Kind != "ike" {
				continue
			}
			in := p.ike()
			for n := range in {
				b := bytes.Clone(in[:n])
				if _, err := ParseMessage(b); err == nil {
					t.Fatalf("%s packet %d cut to %d octets passes", r.Name, p.N, n)
				}
				if n < HeaderLen {
					continue
				}
				b[24], b[25], b[26], b[27] = 0, 0, byte(n>>8), byte(n)
				if _, err := ParseMessage(b); err == nil {
					t.Fatalf("%s packet %d cut to %d octets, length adjusted, passes", r.Name, p.N, n)
				}
			}
			if inner, ok := p.inner(); ok {
				for n := range inner {
					if _, err := ParsePayloads(p.First, inner[:n:n]); err == nil {
						t.Fatalf("%s packet %d: inner chain cut to %d octets passes", r.Name, p.N, n)
					}
				}
			}
		}
	}
}

// Captures of Openswan and of a redirecting gateway.
func TestParseOnly(t *testing.T) {
	all, ok := captured(t, "parse-only.json")
	if !ok {
		t.Skip("left out: the captures are not here")
	}
	for _, d := range all {
		reencode(t, bytes.TrimPrefix(d.UDP, []byte{0, 0, 0, 0}))
	}
}

// Datagrams that broke other parsers are refused, or read and encoded to the same octets.
func TestHostileDatagrams(t *testing.T) {
	all, ok := captured(t, "hostile-datagrams.json")
	if !ok {
		t.Skip("left out: the captures are not here")
	}
	for _, d := range all {
		for _, in := range [][]byte{d.UDP, bytes.TrimPrefix(d.UDP, []byte{0, 0, 0, 0})} {
			if _, err := ParseMessage(in); err == nil {
				reencode(t, in)
			}
		}
	}
}

const head = "1111111111111111 0000000000000000"

// RFC 7296 §3.1, §3.2, §2.5, §3.14.
func TestMessage(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		err  error
	}{
		{"no payload", head + "00 20 25 08 00000001 0000001c", nil},
		{"minor version, all flags, reserved bits", head + "2b 2f 25 ff 00000001 00000020  00 7f 0004", nil},
		{"unknown payload is skipped", head + "36 20 25 08 00000001 00000021  00 00 0005 aa", nil},
		{"critical bit on a known payload is ignored", head + "2b 20 25 08 00000001 00000020  00 80 0004", nil},
		{"SK names the first inner payload", head + "2e 20 25 08 00000001 00000020  2a 00 0004", nil},
		{"SPIr in a first request's answer", "1111111111111111 2222222222222222 00 20 22 20 00000000 0000001c", nil},
		{"short", head + "00 20 25 08 00000001 000000", ErrTruncated},
		{"empty", "", ErrTruncated},
		{"one octet", "ff", ErrTruncated},
		{"IKEv1", head + "00 10 02 00 00000001 0000001c", ErrVersion},
		{"version 3", head + "00 30 25 08 00000001 0000001c", ErrVersion},
		{"zero SPIi", "0000000000000000 0000000000000000 00 20 22 08 00000000 0000001c", ErrZeroSPI},
		{"length below the datagram's", head + "00 20 25 08 00000001 0000001c 00", ErrTrailing},
		{"length above the datagram's", head + "00 20 25 08 00000001 ffffffff", ErrTruncated},
		{"payload announced, none there (free5gc #968)", head + "21 20 22 08 00000000 0000001c", ErrTruncated},
		{"payload not announced", head + "00 20 25 08 00000001 00000020  00 00 0004", ErrTrailing},
		{"payload after the last", head + "2b 20 25 08 00000001 00000024  00 00 0004 00 00 0004", ErrTrailing},
		{"payload length 0", head + "2b 20 25 08 00000001 00000020  2b 00 0000", ErrLength},
		{"payload length 3", head + "2b 20 25 08 00000001 00000020  2b 00 0003", ErrLength},
		{"payload past the end", head + "2b 20 25 08 00000001 00000020  00 00 0005", ErrTruncated},
		{"cut in a generic header", head + "2b 20 25 08 00000001 0000001f  00 00 00", ErrTruncated},
		{"payload after SK", head + "2e 20 25 08 00000001 00000024  2b 00 0004 00 00 0004", ErrTrailing},
		{"no proposal (free5gc #989)", head + "21 20 22 08 00000000 00000020  00 00 0004", ErrTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := unhex(t, c.in)
			m, err := ParseMessage(in)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil {
				reencode(t, in)
			}
			// Whoever answers a message that cannot be read needs its header (RFC 7296 §2.5).
			if h, herr := ParseHeader(in); herr == nil && m.Header != h {
				t.Errorf("header %+v, want %+v", m.Header, h)
			}
		})
	}
}

// RFC 7296 §2.5: only a type that is not known can be unsupported, and it is reported beside the rest.
func TestUnsupportedCritical(t *testing.T) {
	in := unhex(t, head+"36 20 25 08 00000001 00000029  37 80 0005 aa  2e 80 0004  2a 00 0004")
	m, err := ParseMessage(in)
	var critical *UnsupportedCriticalError
	if !errors.As(err, &critical) || critical.Type != 54 {
		t.Fatalf("%v", err)
	}
	if e, ok := Find[Encrypted](m, PayloadSK); !ok || e.First != PayloadDelete {
		t.Errorf("the protected payload is lost: %+v", m)
	}
	if got := m.Append(nil); !bytes.Equal(got, in) {
		t.Errorf("encodes to %x", got)
	}
	if _, err := ParsePayloads(200, unhex(t, "00 80 0004")); !errors.As(err, &critical) || critical.Type != 200 {
		t.Errorf("inside SK: %v", err)
	}
	// What is malformed is malformed first.
	if _, err := ParsePayloads(200, unhex(t, "28 80 0004 00 00 0004")); !errors.Is(err, ErrLength) {
		t.Errorf("with a broken nonce: %v", err)
	}
}

// RFC 7296 §3.14.
func TestEncryptedInsideEncrypted(t *testing.T) {
	for _, typ := range []PayloadType{PayloadSK, PayloadSKF} {
		if _, err := ParsePayloads(typ, unhex(t, "00 00 0008 00010001")); !errors.Is(err, ErrNested) {
			t.Errorf("%v: %v", typ, err)
		}
	}
	if ps, err := ParsePayloads(NoPayload, nil); err != nil || ps != nil {
		t.Errorf("nothing inside: %v %v", ps, err)
	}
}

func TestFind(t *testing.T) {
	m := Message{Payloads: []Payload{
		{Type: PayloadNotify, Body: Notify{Type: InitialContact}},
		{Type: PayloadNotify, Body: Notify{Type: Cookie, Data: []byte{1}}},
		{Type: PayloadNotify, Body: Notify{Type: Cookie, Data: []byte{2}}},
		{Type: PayloadKE, Body: KE{Method: 31}},
	}}
	if n, ok := m.Notify(Cookie); !ok || n.Data[0] != 1 {
		t.Errorf("cookie %v %v", n, ok)
	}
	if _, ok := m.Notify(RekeySA); ok {
		t.Error("found a notify that is not there")
	}
	if ps := m.All(PayloadNotify); len(ps) != 3 {
		t.Errorf("%d notifies", len(ps))
	}
	if p, ok := m.First(PayloadKE); !ok || p.Type != PayloadKE {
		t.Errorf("KE %v", p)
	}
	if ke, ok := Find[KE](m, PayloadKE); !ok || ke.Method != 31 {
		t.Errorf("KE %v %v", ke, ok)
	}
	if _, ok := Find[Nonce](m, PayloadNonce); ok {
		t.Error("found a nonce that is not there")
	}
}

// A datagram costs memory in proportion to its size, whatever it claims to hold.
func TestMemoryBound(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name  string
		first PayloadType
		part  string // repeated to fill 64 KiB
		count bool   // part is a whole payload; else the inside of one
	}{
		{"tiny unknown payloads", 54, "36 00 0004", true},
		{"tiny notifies", PayloadNotify, "29 00 0008 00 00 4000", true},
		{"tiny proposals", PayloadSA, "02 00 0008 01 01 00 00", false},
		{"transforms", PayloadSA, "02 00 0800 01 01 00 ff" + strings.Repeat("03 00 0008 01 00 0014", 254) + "00 00 0008 01 00 0014", false},
		{"attributes", PayloadCP, "7000 0000", false},
		{"SPIs", PayloadDelete, "c0ffee01", false},
		{"selectors", PayloadTSi, "2c 00 0404 ff 000000" + strings.Repeat("63 00 0004", 255), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			part := unhex(t, c.part)
			b := bytes.Repeat(part, 0xfff0/len(part))
			if !c.count {
				body := map[PayloadType]string{PayloadCP: "01 000000", PayloadDelete: "03 04 3fc0"}[c.first]
				b = append(unhex(t, body), b[:min(len(b), 0xff00)]...)
				b = append([]byte{0, 0, byte((len(b) + 4) >> 8), byte(len(b) + 4)}, b...)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ParsePayloads(c.first, b)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("passes")
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > limit {
				t.Errorf("%d octets cost %d", len(b), n)
			}
			t.Logf("%d octets cost %d: %v", len(b), after.TotalAlloc-before.TotalAlloc, err)
		})
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		NoProposalChosen.String():                "NO_PROPOSAL_CHOSEN",
		NotifyType(4711).String():                "notify 4711",
		IKESAInit.String():                       "IKE_SA_INIT",
		ExchangeType(99).String():                "exchange 99",
		PayloadTSi.String():                      "TSi",
		PayloadType(54).String():                 "payload 54",
		ProtoESP.String():                        "ESP",
		Protocol(9).String():                     "protocol 9",
		(&Error{"N", "SPI", ErrSPISize}).Error(): "wire: N: SPI: wrong SPI size",
		(&UnsupportedCriticalError{54}).Error():  "wire: unknown critical payload 54",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if !TSUnacceptable.IsError() || InitialContact.IsError() {
		t.Error("errors are below 16384")
	}
}

// The first message of a stranger is read before anything is known about it.
func BenchmarkParseMessage(b *testing.B) {
	in := exchanges(b)[0].Packets[0].ike()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMessage(in); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzMessage: no panic; what is read encodes to the same octets, as long as the input is there or was cloned.
func FuzzMessage(f *testing.F) {
	for _, r := range exchanges(f) {
		for _, p := range r.Packets {
			if p.Kind == "ike" {
				f.Add(p.ike())
			}
		}
	}
	for _, name := range []string{"parse-only.json", "hostile-datagrams.json"} {
		all, _ := captured(f, name)
		for _, d := range all {
			f.Add([]byte(d.UDP))
			f.Add(bytes.TrimPrefix(d.UDP, []byte{0, 0, 0, 0}))
		}
	}
	for _, s := range []string{
		head + "21 20 22 08 00000000 0000001c", // free5gc #968
		head + "21 20 22 08 00000000 00000032  00 00 0016 00 00 0008 01 01 0a 00" + strings.Repeat("00", 10), // free5gc #1073
		head + "21 20 22 08 00000000 00000031  00 00 0015 00 00 0011 01 01 00 01 00 00 0009 01 00 0014 80",
		head + "21 20 22 08 00000000 00000020  00 00 0004", // free5gc #989
		// free5gc #997: an SK payload of one block whose pad length is nonsense; it must get through to the cipher
		"1111111111111111 2222222222222222 2e 20 23 08 00000001 00000050  23 00 0034" + strings.Repeat("ff", 48),
		"00", // free5gc #942: less than a non-ESP marker
		head + "36 20 25 08 00000001 00000029  37 80 0005 aa  2e 80 0004  2a 00 0004",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		in := bytes.Clone(fuzzed)
		m, err := ParseMessage(in)
		var critical *UnsupportedCriticalError
		if err != nil && !errors.As(err, &critical) {
			if len(m.Payloads) != 0 {
				t.Fatalf("payloads and %v", err)
			}
			return
		}
		checkEncodes(t, in, m.Clone().Append, m.Append)
	})
}

// FuzzPayloads is FuzzMessage for what an SK payload held.
func FuzzPayloads(f *testing.F) {
	for _, r := range exchanges(f) {
		for _, p := range r.Packets {
			if b, ok := p.inner(); ok {
				f.Add(uint8(p.First), b)
			}
		}
	}
	f.Add(uint8(PayloadSK), unhex(f, "00 00 0004"))
	f.Add(uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, first uint8, fuzzed []byte) {
		in := bytes.Clone(fuzzed)
		ps, err := ParsePayloads(PayloadType(first), in)
		var critical *UnsupportedCriticalError
		if err != nil && !errors.As(err, &critical) {
			if ps != nil {
				t.Fatalf("payloads and %v", err)
			}
			return
		}
		c := clonePayloads(ps)
		checkEncodes(t, in,
			func(dst []byte) []byte { return AppendPayloads(dst, c) },
			func(dst []byte) []byte { return AppendPayloads(dst, ps) })
	})
}

// checkEncodes demands in from what was read, and from its clone when in is overwritten.
func checkEncodes(t *testing.T, in []byte, clone, alias func([]byte) []byte) {
	t.Helper()
	want := bytes.Clone(in)
	if got := alias(nil); !bytes.Equal(got, want) {
		t.Fatalf("encodes to\n%x, was\n%x", got, want)
	}
	clear(in)
	if got := clone(nil); !bytes.Equal(got, want) {
		t.Fatalf("cloned it encodes to\n%x, was\n%x", got, want)
	}
}
