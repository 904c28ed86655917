package netlab

import (
	"encoding/binary"
	"net"
)

// HalfOpen leaves one half-open IKE SA at a responder: an IKE_SA_INIT request (AES-GCM-128, PRF-HMAC-SHA2-256, X25519)
// after which nothing follows. It is what makes the case "cookie" ask the next initiator for a cookie.
func (h *Host) HalfOpen(responder string) {
	t := h.lab.t
	t.Helper()
	err := h.Inside(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(responder, "500"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(saInit())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// saInit is written by hand, without our codec: it stays what it is when the codec errs.
func saInit() []byte {
	transforms := []byte{
		3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128, // ENCR AES-GCM-16, 128 bits
		3, 0, 0, 8, 2, 0, 0, 5, // PRF HMAC-SHA2-256
		0, 0, 0, 8, 4, 0, 0, 31, // KE Curve25519
	}
	proposal := append([]byte{0, 0, 0, byte(8 + len(transforms)), 1, 1, 0, 3}, transforms...)
	key := append([]byte{0, 31, 0, 0, 9}, make([]byte, 31)...) // X25519's base point is as good as any
	nonce := make([]byte, 32)
	body := payload(34, proposal)
	body = append(body, payload(40, key)...)
	body = append(body, payload(0, nonce)...)
	const headerLen = 28
	message := make([]byte, headerLen+len(body))
	copy(message, "half-opn")
	message[16], message[17], message[18], message[19] = 33, 0x20, 34, 0x08
	binary.BigEndian.PutUint32(message[24:], uint32(len(message)))
	copy(message[headerLen:], body)
	return message
}

func payload(next byte, body []byte) []byte {
	return append([]byte{next, 0, 0, byte(4 + len(body))}, body...)
}
