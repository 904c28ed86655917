package suite

import (
	"crypto/hmac"
	"slices"
)

// SignedOctets is what the AUTH of one side covers (RFC 7296 §2.15): init is that side's IKE_SA_INIT message as the
// other one got it, nonce the data of the other side's nonce, skp and id that side's own SK_p and ID payload body.
// intAuth is nil without IKE_INTERMEDIATE; else see [IntAuthOctets].
func SignedOctets(p PRF, skp, init, nonce, id, intAuth []byte) []byte {
	return slices.Concat(init, nonce, p.Sum(skp, id), intAuth)
}

// IntAuth continues the chain over the IKE_INTERMEDIATE messages of one side (RFC 9242 §3.3.2): skp is that side's SK_p
// before the exchange, prev the value so far, nil at the start. a is the message from the IKE header through the
// generic header of SK, as if it had not come in fragments and with lengths that count no IV, padding and ICV; plain is
// the inner payloads without padding.
func IntAuth(p PRF, skp, prev, a, plain []byte) []byte {
	return p.Sum(skp, prev, a, plain)
}

// IntAuthOctets is IntAuth of [SignedOctets]: both chains and the message ID of the first IKE_AUTH request.
func IntAuthOctets(initiator, responder []byte, messageID uint32) []byte {
	return append(slices.Concat(initiator, responder),
		byte(messageID>>24), byte(messageID>>16), byte(messageID>>8), byte(messageID))
}

// keyPad is 17 octets without a NUL (RFC 7296 §2.15).
const keyPad = "Key Pad for IKEv2"

// SharedKeyMAC is the AUTH data of method 2. With the SK_p of the side that proves itself as secret it is that of
// method 13, NULL (RFC 7619 §2.1).
func SharedKeyMAC(p PRF, secret, octets []byte) []byte {
	return p.Sum(p.Sum(secret, []byte(keyPad)), octets)
}

// VerifySharedKeyMAC checks the AUTH data of method 2 or 13 in constant time.
func VerifySharedKeyMAC(p PRF, secret, octets, data []byte) error {
	if !p.Supported() || !hmac.Equal(SharedKeyMAC(p, secret, octets), data) {
		return ErrSignature
	}
	return nil
}
