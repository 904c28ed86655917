// Package wire is the format of IKEv2 messages: octets to structs and back (RFC 7296 §3, RFC 7383 §2.5).
//
// [ParseMessage] reads the cleartext chain of a datagram, [ParsePayloads] the chain found inside an SK payload. Parsing is
// strict where the RFC calls a message malformed and lossless elsewhere: what must be ignored on receipt (reserved octets,
// flags, the minor version) is kept, so that a parsed message encodes to the octets it came from. Results alias the input;
// [Message.Clone] cuts them loose.
//
// The package knows no keys, no state and no policy. Whether a payload belongs in an exchange, whether an answer fits its
// offer and whether a public value is any good is decided by ikev2 and ikev2/suite.
package wire
