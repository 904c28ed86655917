// Package suite is the cryptography of IKEv2: key exchange methods, pseudorandom functions, the key schedule, the
// protection of SK payloads, and the proofs in AUTH payloads (RFC 7296 §2.13 to §2.18, §3.14; RFC 5282, 7427, 9242, 9370).
//
// It computes on octets and knows no message, no state and no policy: which transforms are acceptable is decided by who
// negotiates. Entropy is an argument. Values that hold keys never print.
package suite
