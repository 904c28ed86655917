package suite

import (
	"bytes"
	"errors"
	"testing"
)

// BTNS-NULL-02: the vector of the specification.
func TestNullVector(t *testing.T) {
	t.Run("BTNS-NULL-02 AUTH data are made with SK_p of the side that sends them", func(t *testing.T) {
		octets := make([]byte, 64)
		for i := range octets {
			octets[i] = byte(i)
		}
		skp := octets[:32]
		data := SharedKeyMAC(PRFSHA256, skp, octets)
		same(t, "AUTH", data, unhex("ded85ad86950c04cbebd4a41986f9403df6409d5222f31c956e98ce4ca222642"))
		if err := VerifySharedKeyMAC(PRFSHA256, skp, octets, data); err != nil {
			t.Error(err)
		}
		for name, bad := range map[string][]byte{
			"nothing": nil, "cut": data[:31], "longer": append(bytes.Clone(data), 0), "zeros": make([]byte, 32),
		} {
			if err := VerifySharedKeyMAC(PRFSHA256, skp, octets, bad); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := VerifySharedKeyMAC(PRFSHA256, octets[1:33], octets, data); !errors.Is(err, ErrSignature) {
			t.Errorf("SK_p of the other side: %v", err)
		}
		if err := VerifySharedKeyMAC(2, skp, octets, nil); !errors.Is(err, ErrSignature) {
			t.Errorf("nothing under a PRF that we have not: %v", err)
		}
	})
}

// RFC 9242 §3.3.2: both chains, then the message ID of the first IKE_AUTH.
func TestIntAuthOctets(t *testing.T) {
	same(t, "IntAuth", IntAuthOctets([]byte("i"), []byte("r"), 0x01020304), []byte("ir\x01\x02\x03\x04"))
}
