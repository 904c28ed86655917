// Package wire is the codec of IKEv2 messages: octets to structs and back (RFC 7296 §3, RFC 7383 §2.5).
//
// Parsing is strict and bounded, allocates little, and aliases its input: what it returns is valid as long as the input
// is. Encoding appends. A message that parses re-encodes to the same octets, reserved fields included, because AUTH covers
// them (RFC 7296 §2.15). The package knows no cryptography and keeps no state.
package wire
