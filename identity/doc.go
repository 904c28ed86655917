// Package identity is the vocabulary of who a peer is: its key, the names of that key, and how well the key is known.
//
// The identity of a BTNS peer is its public key and nothing else (RFC 5386 §2): names and addresses are observations
// about it. A key has one canonical form (BTNS-CORE-33), hence one fingerprint, however it travelled: as a raw public
// key (RFC 7670), a raw RSA key (RFC 7296 §3.6), inside a self-signed certificate, or configured by hand.
package identity
