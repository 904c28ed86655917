package wire

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// RFC 7296 §3.4 to §3.9, §3.12.
func TestPlainBodies(t *testing.T) {
	nonce := strings.Repeat("5a", 16)
	longest := strings.Repeat("5a", 256)
	testBodies(t, []bodyCase{
		{name: "x", typ: PayloadKE, in: "001f 0000 0102", want: KE{Method: 31, Data: []byte{1, 2}}},
		{name: "reserved octets are kept", typ: PayloadKE, in: "001f abcd", want: KE{Method: 31, Reserved: 0xabcd}},
		{name: "cut in the header", typ: PayloadKE, in: "001f 00", err: ErrTruncated},

		{name: "FQDN", typ: PayloadIDi, in: "02 000000 612e74", want: ID{Type: IDFQDN, Data: []byte("a.t")}},
		{name: "reserved octets are kept", typ: PayloadIDr, in: "0b 010203 00", want: ID{Type: IDKeyID, Reserved: [3]byte{1, 2, 3}, Data: []byte{0}}},
		{name: "IPv4", typ: PayloadIDi, in: "01 000000 c0000201", want: ID{Type: IDIPv4Addr, Data: []byte{192, 0, 2, 1}}},
		{name: "NULL (RFC 7619 §2.2)", typ: PayloadIDr, in: "0d 000000", want: ID{Type: IDNull}},
		{name: "NULL with data", typ: PayloadIDr, in: "0d 000000 00", err: ErrLength},
		{name: "IPv4 of 5 octets", typ: PayloadIDi, in: "01 000000 c000020101", err: ErrLength},
		{name: "IPv6 of 4 octets", typ: PayloadIDi, in: "05 000000 c0000201", err: ErrLength},
		{name: "cut in the header", typ: PayloadIDi, in: "02 0000", err: ErrTruncated},

		{name: "raw key", typ: PayloadCERT, in: "0f 302a", want: Cert{CertRawKey, []byte{0x30, 0x2a}}},
		{name: "empty", typ: PayloadCERT, in: "", err: ErrTruncated},
		{name: "no authorities", typ: PayloadCERTREQ, in: "0f", want: CertReq{Encoding: CertRawKey}},
		{name: "odd authorities are a hint like others", typ: PayloadCERTREQ, in: "04 010203", want: CertReq{CertX509, []byte{1, 2, 3}}},
		{name: "empty", typ: PayloadCERTREQ, in: "", err: ErrTruncated},

		{name: "signature", typ: PayloadAUTH, in: "0e 000000 0501", want: Auth{Method: AuthSignature, Data: []byte{5, 1}}},
		{name: "reserved octets are kept", typ: PayloadAUTH, in: "0d 010203", want: Auth{Method: AuthNull, Reserved: [3]byte{1, 2, 3}}},
		{name: "cut in the header", typ: PayloadAUTH, in: "02 0000", err: ErrTruncated},

		{name: "shortest", typ: PayloadNonce, in: nonce, want: Nonce{unhex(t, nonce)}},
		{name: "longest", typ: PayloadNonce, in: longest, want: Nonce{unhex(t, longest)}},
		{name: "15 octets", typ: PayloadNonce, in: nonce[2:], err: ErrLength},
		{name: "257 octets", typ: PayloadNonce, in: longest + "5a", err: ErrLength},

		{name: "any octets", typ: PayloadVendor, in: "4f70656e", want: VendorID{[]byte("Open")}},
		{name: "none", typ: PayloadVendor, in: "", want: VendorID{}},
		{name: "any octets", typ: 54, in: "0102", want: Unknown{[]byte{1, 2}}},
		{name: "an IKEv1 payload", typ: 1, in: "00", want: Unknown{[]byte{0}}},
	})
}

// RFC 7296 §2.15: AUTH covers type and reserved octets as received.
func TestIDBody(t *testing.T) {
	in := "02 0a0b0c 612e74"
	b, err := parseID(PayloadIDi, unhex(t, in))
	if err != nil {
		t.Fatal(err)
	}
	if got := b.AppendBody(nil); string(got) != string(unhex(t, in)) {
		t.Errorf("%x", got)
	}
}

// RFC 7296 §3.10.
func TestNotify(t *testing.T) {
	testBodies(t, []bodyCase{
		{name: "no SPI", typ: PayloadNotify, in: "00 00 000e", want: Notify{Type: NoProposalChosen}},
		{name: "protocol without SPI", typ: PayloadNotify, in: "01 00 4022", want: Notify{Protocol: ProtoIKE, Type: ChildlessIKEv2Supported}},
		{
			name: "SPI and data", typ: PayloadNotify, in: "03 04 4009 c0ffee01 55",
			want: Notify{Protocol: ProtoESP, Type: RekeySA, SPI: []byte{0xc0, 0xff, 0xee, 1}, Data: []byte{0x55}},
		},
		{name: "data", typ: PayloadNotify, in: "00 00 0011 0013", want: Notify{Type: InvalidKEPayload, Data: []byte{0, 0x13}}},
		{name: "unknown protocol with SPI", typ: PayloadNotify, in: "05 01 4009 aa", want: Notify{Protocol: 5, Type: RekeySA, SPI: []byte{0xaa}}},
		{name: "cut in the header", typ: PayloadNotify, in: "03 04 40", err: ErrTruncated},
		{name: "cut in the SPI", typ: PayloadNotify, in: "03 04 4009 c0ffee", err: ErrTruncated},
		{name: "ESP with an SPI of 8", typ: PayloadNotify, in: "03 08 4009 0000000000000000", err: ErrSPISize},
		{name: "IKE with an SPI of 4", typ: PayloadNotify, in: "01 04 4009 00000000", err: ErrSPISize},
		{name: "SPI of no protocol", typ: PayloadNotify, in: "00 04 4009 00000000", err: ErrSPISize},
	})
	if spi, ok := (Notify{SPI: []byte{0xc0, 0xff, 0xee, 1}}).SPI32(); !ok || spi != 0xc0ffee01 {
		t.Errorf("SPI32: %x %v", spi, ok)
	}
	if _, ok := (Notify{}).SPI32(); ok {
		t.Error("SPI32 of no SPI")
	}
}

// RFC 7296 §3.11.
func TestDelete(t *testing.T) {
	testBodies(t, []bodyCase{
		{name: "the IKE SA", typ: PayloadDelete, in: "01 00 0000", want: Delete{Protocol: ProtoIKE}},
		{name: "two children", typ: PayloadDelete, in: "03 04 0002 c0ffee01 c0ffee02", want: Delete{ProtoESP, []uint32{0xc0ffee01, 0xc0ffee02}}},
		{name: "no child", typ: PayloadDelete, in: "02 04 0000", want: Delete{Protocol: ProtoAH}},
		{name: "cut in the header", typ: PayloadDelete, in: "01 00 00", err: ErrTruncated},
		{name: "IKE with an SPI", typ: PayloadDelete, in: "01 08 0001 0000000000000000", err: ErrSPISize},
		{name: "IKE with a count", typ: PayloadDelete, in: "01 00 0001", err: ErrCount},
		{name: "ESP with an SPI of 8", typ: PayloadDelete, in: "03 08 0001 0000000000000000", err: ErrSPISize},
		{name: "ESP with SPIs of nothing", typ: PayloadDelete, in: "03 00 ffff", err: ErrSPISize},
		{name: "fewer SPIs than counted", typ: PayloadDelete, in: "03 04 ffff c0ffee01", err: ErrTruncated},
		{name: "more SPIs than counted", typ: PayloadDelete, in: "03 04 0001 c0ffee01 00", err: ErrTrailing},
		{name: "no protocol", typ: PayloadDelete, in: "00 00 0000", err: ErrProtocol},
		{name: "unknown protocol", typ: PayloadDelete, in: "04 04 0000", err: ErrProtocol},
	})
}

// RFC 7296 §3.13; OPAQUE: RFC 4301 §4.4.1.1; start after end selects nothing.
func TestTS(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("2001:db8::1")
	opaque := TrafficSelector{Type: TSIPv4Range, Proto: 17, StartPort: 0xffff, Start: v4, End: v4}
	testBodies(t, []bodyCase{
		{
			name: "IPv4 and IPv6", typ: PayloadTSi,
			in: "02 000000  07 00 0010 0000 ffff c0000200 c00002ff" +
				"08 06 0028 0016 0016 20010db8000000000000000000000001 20010db8000000000000000000000001",
			want: TS{Selectors: []TrafficSelector{
				{Type: TSIPv4Range, EndPort: 0xffff, Start: v4, End: netip.MustParseAddr("192.0.2.255")},
				{Type: TSIPv6Range, Proto: 6, StartPort: 22, EndPort: 22, Start: v6, End: v6},
			}},
		},
		{name: "OPAQUE", typ: PayloadTSr, in: "01 000000  07 11 0010 ffff 0000 c0000200 c0000200", want: TS{Selectors: []TrafficSelector{opaque}}},
		{
			name: "reserved octets and unknown types are kept", typ: PayloadTSr, in: "02 010203  0a 00 0006 abcd  63 07 0004",
			want: TS{[3]byte{1, 2, 3}, []TrafficSelector{{Type: TSSecLabel, Raw: []byte{0xab, 0xcd}}, {Type: 99, Proto: 7}}},
		},
		{
			name: "an IPv4-mapped IPv6 address stays what it is", typ: PayloadTSi,
			in: "01 000000  08 00 0028 0000 ffff 00000000000000000000ffffc0000201 00000000000000000000ffffc0000201",
			want: TS{Selectors: []TrafficSelector{{
				Type: TSIPv6Range, EndPort: 0xffff, Start: netip.MustParseAddr("::ffff:192.0.2.1"), End: netip.MustParseAddr("::ffff:192.0.2.1"),
			}}},
		},
		{name: "cut in the header", typ: PayloadTSi, in: "01 0000", err: ErrTruncated},
		{name: "none (RFC 7296 §2.9)", typ: PayloadTSi, in: "00 000000", err: ErrCount},
		{name: "fewer than counted", typ: PayloadTSi, in: "02 000000  07 00 0010 0000 ffff c0000200 c00002ff", err: ErrTruncated},
		{name: "many counted, none there", typ: PayloadTSi, in: "ff 000000", err: ErrTruncated},
		{name: "more than counted", typ: PayloadTSi, in: "01 000000  63 00 0004 63 00 0004", err: ErrTrailing},
		{name: "IPv4 with the length of IPv6", typ: PayloadTSi, in: "01 000000  07 00 0028 0000 ffff c0000200 c00002ff", err: ErrLength},
		{name: "IPv6 with the length of IPv4", typ: PayloadTSi, in: "01 000000  08 00 0010 0000 ffff c0000200 c00002ff", err: ErrLength},
		{name: "selector length 0", typ: PayloadTSi, in: "01 000000  63 00 0000", err: ErrLength},
		{name: "cut in the selector", typ: PayloadTSi, in: "01 000000  07 00 0010 0000 ffff c0000200 c00002", err: ErrTruncated},
		{name: "addresses out of order", typ: PayloadTSi, in: "01 000000  07 00 0010 0000 ffff c0000201 c0000200", err: ErrRange},
		{name: "ports out of order", typ: PayloadTSi, in: "01 000000  07 11 0010 0002 0001 c0000200 c0000200", err: ErrRange},
		{name: "nearly OPAQUE", typ: PayloadTSi, in: "01 000000  07 11 0010 ffff 0001 c0000200 c0000200", err: ErrRange},
	})
}

// RFC 7296 §3.15.1 says how long the values are.
func TestCP(t *testing.T) {
	testBodies(t, []bodyCase{
		{
			name: "request", typ: PayloadCP, in: "01 000000  0001 0000  0003 0004 08080808",
			want: CP{Type: CPRequest, Attrs: []CPAttr{{Type: InternalIP4Address}, {Type: InternalIP4DNS, Value: []byte{8, 8, 8, 8}}}},
		},
		{
			name: "reserved bits are kept", typ: PayloadCP, in: "02 010203  8007 0001 61",
			want: CP{CPReply, [3]byte{1, 2, 3}, []CPAttr{{Type: ApplicationVersion, R: true, Value: []byte("a")}}},
		},
		{name: "unknown attribute", typ: PayloadCP, in: "04 000000  7fff 0001 00", want: CP{Type: CPAck, Attrs: []CPAttr{{Type: 0x7fff, Value: []byte{0}}}}},
		{name: "no attribute", typ: PayloadCP, in: "03 000000", want: CP{Type: CPSet}},
		{name: "cut in the header", typ: PayloadCP, in: "01 0000", err: ErrTruncated},
		{name: "cut in the attribute", typ: PayloadCP, in: "01 000000  0001 00", err: ErrTruncated},
		{name: "cut in the value", typ: PayloadCP, in: "01 000000  0001 0004 0a0000", err: ErrTruncated},
		{name: "IPv4 address of one octet (free5gc #984)", typ: PayloadCP, in: "01 000000  0001 0001 0a", err: ErrLength},
		{name: "IPv6 address without prefix length", typ: PayloadCP, in: "01 000000  0008 0010 20010db8000000000000000000000001", err: ErrLength},
		{name: "IPv4 subnet without mask", typ: PayloadCP, in: "02 000000  000d 0004 0a000000", err: ErrLength},
		{name: "half an attribute number", typ: PayloadCP, in: "01 000000  000e 0003 000100", err: ErrLength},
		{name: "IPv6 DNS with a prefix length", typ: PayloadCP, in: "02 000000  000a 0011 20010db800000000000000000000000140", err: ErrLength},
	})
}

// RFC 7296 §3.16.
func TestEAP(t *testing.T) {
	testBodies(t, []bodyCase{
		{name: "identity request", typ: PayloadEAP, in: "01 07 0005 01", want: EAP{Code: 1, Identifier: 7, Data: []byte{1}}},
		{name: "success", typ: PayloadEAP, in: "03 07 0004", want: EAP{Code: 3, Identifier: 7}},
		{name: "cut in the header", typ: PayloadEAP, in: "01 07 00", err: ErrTruncated},
		{name: "response without type (free5gc #938)", typ: PayloadEAP, in: "02 07 0004", err: ErrLength},
		{name: "success with data", typ: PayloadEAP, in: "03 07 0005 01", err: ErrLength},
		{name: "longer than it says", typ: PayloadEAP, in: "01 07 0005 01 00", err: ErrLength},
		{name: "shorter than it says", typ: PayloadEAP, in: "01 07 0006 01", err: ErrLength},
	})
}

// RFC 7296 §3.14, RFC 7383 §2.5.
func TestEncrypted(t *testing.T) {
	testBodies(t, []bodyCase{
		{name: "any octets", typ: PayloadSK, in: "0102", want: Encrypted{Data: []byte{1, 2}}},
		{name: "fragment", typ: PayloadSKF, in: "0002 0003 aabb", want: Encrypted{Number: 2, Total: 3, Data: []byte{0xaa, 0xbb}}},
		{name: "cut in the numbers", typ: PayloadSKF, in: "0001 00", err: ErrTruncated},
		{name: "fragment 0", typ: PayloadSKF, in: "0000 0001", err: ErrRange},
		{name: "fragment above the total", typ: PayloadSKF, in: "0002 0001", err: ErrRange},
	})
}

// The writer is told what would not arrive as it was meant.
func TestCheckPayloads(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("2001:db8::1")
	sel := TrafficSelector{Type: TSIPv4Range, EndPort: 0xffff, Start: v4, End: v4}
	selectors := make([]TrafficSelector, 256)
	for i := range selectors {
		selectors[i] = sel
	}
	ts := func(s ...TrafficSelector) Payload { return Payload{Type: PayloadTSi, Body: TS{Selectors: s}} }
	for _, c := range []struct {
		name string
		p    Payload
		err  error
	}{
		{"255 selectors", ts(selectors[:255]...), nil},
		{"256 selectors", ts(selectors...), ErrCount},
		{"no selector", ts(), ErrCount},
		{"family against type", ts(TrafficSelector{Type: TSIPv4Range, Start: v6, End: v6}), ErrLength},
		{"mixed families", ts(TrafficSelector{Type: TSIPv6Range, Start: v4, End: v6}), ErrLength},
		{"no addresses", ts(TrafficSelector{Type: TSIPv4Range}), ErrLength},
		{"order", ts(TrafficSelector{Type: TSIPv4Range, StartPort: 2, EndPort: 1, Start: v4, End: v4}), ErrRange},
		{"short nonce", Payload{Type: PayloadNonce, Body: Nonce{}}, ErrLength},
		{"body of another type", Payload{Type: PayloadSA, Body: KE{}}, ErrType},
		{"no body", Payload{Type: PayloadSA}, ErrType},
		{"unknown body of a known type", Payload{Type: PayloadSKF, Body: Unknown{}}, ErrType},
		{"64 KiB", Payload{Type: PayloadKE, Body: KE{Data: make([]byte, 0x10000)}}, ErrLength},
		{"SPI against protocol", Payload{Type: PayloadNotify, Body: Notify{Protocol: ProtoESP, SPI: make([]byte, 3)}}, ErrSPISize},
		{"SPI of 256", Payload{Type: PayloadNotify, Body: Notify{Protocol: 9, SPI: make([]byte, 256)}}, ErrSPISize},
		{"IKE SA and children", Payload{Type: PayloadDelete, Body: Delete{ProtoIKE, []uint32{1}}}, ErrCount},
		{"delete of nothing", Payload{Type: PayloadDelete, Body: Delete{}}, ErrProtocol},
		{"delete of too many", Payload{Type: PayloadDelete, Body: Delete{ProtoESP, make([]uint32, maxItems+1)}}, ErrTooMany},
		{"NULL with data", Payload{Type: PayloadIDi, Body: ID{Type: IDNull, Data: []byte{1}}}, ErrLength},
		{"address of 3", Payload{Type: PayloadCP, Body: CP{Attrs: []CPAttr{{Type: InternalIP4Address, Value: make([]byte, 3)}}}}, ErrLength},
		{"attributes", Payload{Type: PayloadCP, Body: CP{Attrs: make([]CPAttr, maxItems+1)}}, ErrTooMany},
		{"success with data", Payload{Type: PayloadEAP, Body: EAP{Code: 3, Data: []byte{1}}}, ErrLength},
	} {
		if err := CheckPayloads([]Payload{c.p}); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

func FuzzKE(f *testing.F)      { fuzzBody(f, PayloadKE, "001f 0000", "001f", "") }
func FuzzIDi(f *testing.F)     { fuzzBody(f, PayloadIDi, "0d 000000", "01 000000 c0000201", "") }
func FuzzIDr(f *testing.F)     { fuzzBody(f, PayloadIDr, "0d 000000", "02 ffffff 61", "") }
func FuzzCert(f *testing.F)    { fuzzBody(f, PayloadCERT, "0f 302a300506032b6570", "") }
func FuzzCertReq(f *testing.F) { fuzzBody(f, PayloadCERTREQ, "0f", "04 00", "") }
func FuzzAuth(f *testing.F)    { fuzzBody(f, PayloadAUTH, "0d 000000", "0e") }
func FuzzNonce(f *testing.F)   { fuzzBody(f, PayloadNonce, "", "00") }

func FuzzNotify(f *testing.F) {
	fuzzBody(f, PayloadNotify, "03 04 4009 c0ffee01", "00 ff 4009", "03 ff 4009")
}

func FuzzDelete(f *testing.F) {
	fuzzBody(f, PayloadDelete, "03 04 ffff c0ffee01", "03 00 ffff", "01 00 0000")
}

func FuzzVendor(f *testing.F) { fuzzBody(f, PayloadVendor, "") }

func FuzzTSi(f *testing.F) {
	fuzzBody(f, PayloadTSi, "ff 000000", "01 000000  63 00 0000", "02 010203  0a 00 0006 abcd  63 07 0004")
}

func FuzzTSr(f *testing.F) {
	fuzzBody(f, PayloadTSr, "01 000000  08 00 0028 0000 ffff", "01 000000  07 11 0010 ffff 0000 c0000200 c0000200")
}

func FuzzSK(f *testing.F)      { fuzzBody(f, PayloadSK, "") }
func FuzzSKF(f *testing.F)     { fuzzBody(f, PayloadSKF, "0001 0001", "0000 0000", "ffff 0001") }
func FuzzUnknown(f *testing.F) { fuzzBody(f, 54, "00") }

func FuzzCP(f *testing.F) {
	fuzzBody(f, PayloadCP, "01 000000  0001 0001 0a", "02 000000  8007 0001 61", "01 000000  0001 ffff") // first: free5gc #984
}

func FuzzEAP(f *testing.F) {
	fuzzBody(f, PayloadEAP, "02 07 0004", "01 07 0005 01", "03 07 0004", "02 07 000c fe 0028af 00000003") // first: free5gc #938
}
