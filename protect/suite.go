package protect

import (
	"errors"
	"fmt"
	"log/slog"
)

// Mode says what an SA carries (RFC 4301 §4.1).
type Mode uint8

const (
	Transport Mode = iota + 1 // the payload of the outer packet
	Tunnel                    // a whole inner packet
)

func (m Mode) String() string {
	switch m {
	case Transport:
		return "transport"
	case Tunnel:
		return "tunnel"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// Encr is an encryption transform, numbered as in IKEv2 (RFC 7296 §3.3.2, transform type 1).
type Encr uint16

const (
	AESCBC           Encr = 12 // RFC 3602; needs an Integ
	AESGCM16         Encr = 20 // RFC 4106, RFC 5282
	ChaCha20Poly1305 Encr = 28 // RFC 7634
)

// AEAD reports whether the transform authenticates by itself.
func (e Encr) AEAD() bool { return e == AESGCM16 || e == ChaCha20Poly1305 }

// SaltLen is the length in octets of the salt that follows the key in keying material.
func (e Encr) SaltLen() int {
	if e.AEAD() {
		return 4
	}
	return 0
}

func (e Encr) String() string {
	switch e {
	case AESCBC:
		return "AES-CBC"
	case AESGCM16:
		return "AES-GCM"
	case ChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	}
	return fmt.Sprintf("encr(%d)", uint16(e))
}

// Integ is an integrity transform, numbered as in IKEv2 (transform type 3). Zero is none, as AEAD ciphers have it.
type Integ uint16

const (
	NoInteg    Integ = 0
	HMACSHA256 Integ = 12 // HMAC-SHA2-256-128 (RFC 4868)
	HMACSHA384 Integ = 13 // HMAC-SHA2-384-192
	HMACSHA512 Integ = 14 // HMAC-SHA2-512-256
)

// KeyLen is the length of the key in octets; the ICV is half as long (RFC 4868 §2.3).
func (i Integ) KeyLen() int {
	switch i {
	case HMACSHA256:
		return 32
	case HMACSHA384:
		return 48
	case HMACSHA512:
		return 64
	}
	return 0
}

// ICVLen is the length of the truncated check value in octets.
func (i Integ) ICVLen() int { return i.KeyLen() / 2 }

func (i Integ) String() string {
	switch i {
	case NoInteg:
		return "none"
	case HMACSHA256:
		return "HMAC-SHA2-256"
	case HMACSHA384:
		return "HMAC-SHA2-384"
	case HMACSHA512:
		return "HMAC-SHA2-512"
	}
	return fmt.Sprintf("integ(%d)", uint16(i))
}

// Suite is the transforms of one ESP SA. The zero value protects nothing and is not valid.
type Suite struct {
	Encr    Encr
	KeyBits uint16 // 128, 192 or 256; 256 for ChaCha20-Poly1305 although it is not on the wire there
	Integ   Integ  // NoInteg exactly when Encr is AEAD
	ESN     bool   // 64-bit sequence numbers (RFC 4303 §2.2.1)
}

var errSuite = errors.New("protect: not a suite")

// Valid reports why a suite cannot be used, or nil.
func (s Suite) Valid() error {
	switch s.Encr {
	case AESCBC, AESGCM16:
		if s.KeyBits != 128 && s.KeyBits != 192 && s.KeyBits != 256 {
			return fmt.Errorf("%w: %v with a key of %d bits", errSuite, s.Encr, s.KeyBits)
		}
	case ChaCha20Poly1305:
		if s.KeyBits != 256 {
			return fmt.Errorf("%w: %v with a key of %d bits", errSuite, s.Encr, s.KeyBits)
		}
	default:
		return fmt.Errorf("%w: %v", errSuite, s.Encr)
	}
	if s.Encr.AEAD() != (s.Integ == NoInteg) || s.Integ != NoInteg && s.Integ.KeyLen() == 0 {
		return fmt.Errorf("%w: %v with integrity %v", errSuite, s.Encr, s.Integ)
	}
	return nil
}

// EncrLen is the octets of encryption keying material for one direction: key, then salt.
func (s Suite) EncrLen() int { return int(s.KeyBits)/8 + s.Encr.SaltLen() }

// KeyLen is all keying material for one direction, in octets (RFC 7296 §2.17).
func (s Suite) KeyLen() int { return s.EncrLen() + s.Integ.KeyLen() }

func (s Suite) String() string {
	t := s.Encr.String()
	if s.Encr != ChaCha20Poly1305 {
		t += fmt.Sprintf("-%d", s.KeyBits)
	}
	if s.Integ != NoInteg {
		t += "+" + s.Integ.String()
	}
	if s.ESN {
		t += " ESN"
	}
	return t
}

// Keys is the keying material of one direction. It never prints.
type Keys struct {
	Encr  []byte // key followed by salt
	Integ []byte
}

func (Keys) String() string               { return "keys(redacted)" }
func (Keys) GoString() string             { return "protect.Keys{redacted}" }
func (Keys) LogValue() slog.Value         { return slog.StringValue("redacted") }
func (k Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }
