package wire

import "testing"

// RFC 7296 §3.3.
func TestSA(t *testing.T) {
	gcm := Transform{Type: TransformENCR, ID: 20, KeyBits: 256}
	prf := Transform{Type: TransformPRF, ID: 5}
	testBodies(t, []bodyCase{
		{
			name: "one proposal", typ: PayloadSA,
			in:   "00 00 001c 01 01 00 02  03 00 000c 01 00 0014 800e 0100  00 00 0008 02 00 0005",
			want: SA{[]Proposal{{Number: 1, Protocol: ProtoIKE, Transforms: []Transform{gcm, prf}}}},
		},
		{
			name: "two proposals with SPIs", typ: PayloadSA,
			in: "02 00 0014 01 03 04 01 c0ffee01  00 00 0008 05 00 0001" +
				"00 00 0014 02 02 04 01 c0ffee02  00 00 0008 03 00 000c",
			want: SA{[]Proposal{
				{Number: 1, Protocol: ProtoESP, SPI: []byte{0xc0, 0xff, 0xee, 1}, Transforms: []Transform{{Type: TransformSN, ID: 1}}},
				{Number: 2, Protocol: ProtoAH, SPI: []byte{0xc0, 0xff, 0xee, 2}, Transforms: []Transform{{Type: TransformINTEG, ID: 12}}},
			}},
		},
		{
			name: "IKE rekey has an SPI of 8", typ: PayloadSA,
			in: "00 00 0018 01 01 08 01 0102030405060708  00 00 0008 04 00 001f",
			want: SA{[]Proposal{{
				Number: 1, Protocol: ProtoIKE, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8},
				Transforms: []Transform{{Type: TransformKE, ID: 31}},
			}}},
		},
		{
			name: "reserved octets are kept", typ: PayloadSA,
			in: "00 aa 0010 01 01 00 01  00 bb 0008 02 cc 0005",
			want: SA{[]Proposal{{
				Number: 1, Reserved: 0xaa, Protocol: ProtoIKE,
				Transforms: []Transform{{Type: TransformPRF, ID: 5, Reserved: [2]byte{0xbb, 0xcc}}},
			}}},
		},
		{
			name: "unknown attributes are kept in octets", typ: PayloadSA,
			in: "00 00 001c 01 01 00 01  00 00 0014 01 00 0014 800e 0100  0011 0004 deadbeef",
			want: SA{[]Proposal{{
				Number: 1, Protocol: ProtoIKE,
				Transforms: []Transform{{Type: TransformENCR, ID: 20, Attrs: unhex(t, "800e 0100 0011 0004 deadbeef")}},
			}}},
		},
		{
			name: "a key length of 0 is no key length", typ: PayloadSA,
			in: "00 00 0014 01 01 00 01  00 00 000c 01 00 0014 800e 0000",
			want: SA{[]Proposal{{
				Number: 1, Protocol: ProtoIKE, Transforms: []Transform{{Type: TransformENCR, ID: 20, Attrs: unhex(t, "800e 0000")}},
			}}},
		},
		{
			name: "a key length in TLV form is not sensible", typ: PayloadSA,
			in: "00 00 0016 01 01 00 01  00 00 000e 01 00 0014 000e 0002 0100",
			want: SA{[]Proposal{{
				Number: 1, Protocol: ProtoIKE, Transforms: []Transform{{Type: TransformENCR, ID: 20, Attrs: unhex(t, "000e 0002 0100")}},
			}}},
		},
		{
			name: "no transform", typ: PayloadSA,
			in:   "00 00 0008 01 01 00 00",
			want: SA{[]Proposal{{Number: 1, Protocol: ProtoIKE}}},
		},
		{
			name: "an unknown protocol may have any SPI", typ: PayloadSA,
			in:   "00 00 000a 01 06 02 00 abcd",
			want: SA{[]Proposal{{Number: 1, Protocol: 6, SPI: []byte{0xab, 0xcd}}}},
		},
		{name: "no proposal", typ: PayloadSA, in: "", err: ErrTruncated},
		{name: "cut in the proposal", typ: PayloadSA, in: "00 00 0008 01 01 00", err: ErrTruncated},
		{name: "proposal length below its header", typ: PayloadSA, in: "00 00 0007 01 01 00 00", err: ErrLength},
		{name: "proposal length 0", typ: PayloadSA, in: "02 00 0000 01 01 00 00", err: ErrLength},
		{name: "proposal longer than the payload", typ: PayloadSA, in: "00 00 0009 01 01 00 00", err: ErrTruncated},
		{name: "octets after the last proposal", typ: PayloadSA, in: "00 00 0008 01 01 00 00 00", err: ErrMore},
		{name: "more announced, none there", typ: PayloadSA, in: "02 00 0008 01 01 00 00", err: ErrMore},
		{name: "impossible marker", typ: PayloadSA, in: "03 00 0008 01 01 00 00", err: ErrMore},
		{name: "number 0", typ: PayloadSA, in: "00 00 0008 00 01 00 00", err: ErrRange},
		{name: "protocol 0", typ: PayloadSA, in: "00 00 0008 01 00 00 00", err: ErrProtocol},
		{name: "IKE with an SPI of 4", typ: PayloadSA, in: "00 00 000c 01 01 04 00 00000000", err: ErrSPISize},
		{name: "ESP without SPI", typ: PayloadSA, in: "00 00 0008 01 03 00 00", err: ErrSPISize},
		{name: "SPI longer than the proposal", typ: PayloadSA, in: "00 00 0008 01 03 04 00", err: ErrTruncated},
		{name: "fewer transforms than counted", typ: PayloadSA, in: "00 00 0010 01 01 00 02  03 00 0008 02 00 0005", err: ErrTruncated},
		{name: "more transforms than counted", typ: PayloadSA, in: "00 00 0018 01 01 00 01  00 00 0008 02 00 0005  00 00 0008 02 00 0006", err: ErrTrailing},
		{name: "last transform says more", typ: PayloadSA, in: "00 00 0010 01 01 00 01  03 00 0008 02 00 0005", err: ErrMore},
		{name: "first transform says last", typ: PayloadSA, in: "00 00 0018 01 01 00 02  00 00 0008 02 00 0005  00 00 0008 02 00 0006", err: ErrMore},
		{name: "transform length below its header", typ: PayloadSA, in: "00 00 0010 01 01 00 01  00 00 0007 02 00 0005", err: ErrLength},
		{name: "transform longer than the proposal", typ: PayloadSA, in: "00 00 0010 01 01 00 01  00 00 0009 02 00 0005", err: ErrTruncated},
		{name: "second transform missing", typ: PayloadSA, in: "00 00 0018 01 01 00 02  03 00 0010 01 00 0014 800e 0100 800e 0100", err: ErrTruncated},
		{name: "attribute cut in its type", typ: PayloadSA, in: "00 00 0011 01 01 00 01  00 00 0009 01 00 0014 80", err: ErrTruncated},
		{name: "attribute cut in its value", typ: PayloadSA, in: "00 00 0014 01 01 00 01  00 00 000c 01 00 0014 000e 0001", err: ErrTruncated},
		{name: "SPI size past the proposal, into the next (free5gc #1073)", typ: PayloadSA, in: "02 00 0008 01 01 0a 00  00 00 000c 02 03 04 00 00000000", err: ErrTruncated},
	})
}

// What an octet cannot count is refused before it is sent.
func TestSACheck(t *testing.T) {
	many := make([]Transform, 256)
	for name, sa := range map[string]SA{
		"no proposal":        {},
		"256 proposals":      {make([]Proposal, 256)},
		"number 0":           {[]Proposal{{Protocol: ProtoIKE}}},
		"256 transforms":     {[]Proposal{{Number: 1, Protocol: ProtoIKE, Transforms: many}}},
		"SPI of 256":         {[]Proposal{{Number: 1, Protocol: 6, SPI: make([]byte, 256)}}},
		"attributes broken":  {[]Proposal{{Number: 1, Protocol: ProtoIKE, Transforms: []Transform{{Attrs: []byte{1}}}}}},
		"ESP with SPI of 8":  {[]Proposal{{Number: 1, Protocol: ProtoESP, SPI: make([]byte, 8)}}},
		"transform too long": {[]Proposal{{Number: 1, Protocol: ProtoIKE, Transforms: []Transform{{Attrs: make([]byte, 0x10000)}}}}},
	} {
		if err := CheckPayloads([]Payload{{Type: PayloadSA, Body: sa}}); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func FuzzSA(f *testing.F) {
	fuzzBody(f, PayloadSA,
		"02 00 0008 01 01 0a 00  00 00 000c 02 03 04 00 00000000", // free5gc #1073
		"00 00 0008 01 01 0a 00 00000000000000000000",             // the same, alone
		"00 00 0011 01 01 00 01  00 00 0009 01 00 0014 80",        // free5gc #940, #941
		"00 00 0014 01 01 00 01  00 00 000c 01 00 0014 000e ffff", // attribute length past the end
		"", // free5gc #989
		"00 00 0018 01 01 00 01  00 00 0010 01 00 0014 800e 0100 000e 0000",    // two attributes
		"02 00 0008 01 01 00 00 02 00 0008 02 01 00 00 00 00 0008 03 01 00 00", // proposals without transforms
		"00 00 0018 01 01 08 01 0102030405060708  00 00 0008 04 00 001f",       // rekey
		"00 ff 0010 01 01 00 01  00 ff 0008 02 ff 0005",                        // reserved octets
		"00 00 0000 00 00 00 00",                                                      // lengths of nothing
		"00 00 0010 01 01 00 02  03 00 0000 02 00 0005",                               // a transform that does not end
		"00 00 001c 01 01 00 02  03 00 000c 01 00 0014 800e 0100 00 00 0008 02000005") // ordinary
}
