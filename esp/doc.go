// Package esp protects and opens one packet under one SA (RFC 4303): transforms, padding, sequence numbers, replay window.
//
// A [Sealer] is the outbound half of an SA, an [Opener] the inbound half. Neither knows about IP headers, selectors or
// time. Each belongs to one goroutine at a time and allocates nothing per packet; ciphers and the replay window are made
// at the first packet and given back by Rest, so that an idle SA is small.
package esp

import "errors"

const (
	// HeaderLen is SPI and sequence number (RFC 4303 §2).
	HeaderLen = 8
	// DefaultWindow is the replay window in packets where none is asked for.
	DefaultWindow = 1024
	// MinWindow is the least that RFC 4303 §3.4.3 allows.
	MinWindow = 32
	// MaxWindow keeps the ring of an SA at 8 KiB.
	MaxWindow = 65536
)

// Next headers with a meaning of their own in ESP (RFC 4303 §2.6).
const (
	NextIPv4  = 4
	NextIPv6  = 41
	NextDummy = 59
)

// What can be wrong with a packet or a call.
var (
	ErrExhausted = errors.New("esp: sequence numbers exhausted")                   // RFC 4303 §3.3.3: never wrap
	ErrReplay    = errors.New("esp: sequence number seen or too old")              // RFC 4303 §3.4.3
	ErrICV       = errors.New("esp: integrity check failed")                       // RFC 4303 §3.4.4
	ErrPadding   = errors.New("esp: bad padding")                                  // after a good ICV (RFC 4303 §2.4)
	ErrShort     = errors.New("esp: packet too short or not in whole blocks")      // before any cryptography
	ErrSPI       = errors.New("esp: SPI of another SA")                            // the caller mixed up its SAs
	ErrBuffer    = errors.New("esp: no room for the result")                       // the caller's buffer
	ErrKey       = errors.New("esp: keying material does not fit the suite")       // RFC 7296 §2.17
	ErrSPIRange  = errors.New("esp: reserved SPI")                                 // RFC 4303 §2.1
	ErrWindow    = errors.New("esp: replay window outside of 32 to 65536 packets") // never none
)
