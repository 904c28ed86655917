package wire

import (
	"errors"
	"fmt"
)

// Reasons of an [Error].
var (
	ErrTruncated = errors.New("truncated")
	ErrTrailing  = errors.New("trailing octets")
	ErrLength    = errors.New("impossible length")
	ErrCount     = errors.New("count does not match")
	ErrTooMany   = errors.New("too many")
	ErrSPISize   = errors.New("wrong SPI size")
	ErrZeroSPI   = errors.New("zero initiator SPI")
	ErrMore      = errors.New("last or more marker contradicts the length")
	ErrRange     = errors.New("empty or impossible range")
	ErrProtocol  = errors.New("impossible protocol")
	ErrVersion   = errors.New("not version 2")
	ErrNested    = errors.New("encrypted payload inside an encrypted payload")
	ErrType      = errors.New("body does not fit the payload type")
)

// Error says that the octets are no IKEv2 message: the peer broke the format.
type Error struct {
	Payload string // its name in RFC 7296, or "message"
	Field   string
	Reason  error // one of the sentinels
}

func (e *Error) Error() string {
	return "wire: " + e.Payload + ": " + e.Field + ": " + e.Reason.Error()
}

func (e *Error) Unwrap() error { return e.Reason }

// UnsupportedCriticalError names the first unknown payload that was marked critical (RFC 7296 §2.5). It comes together
// with everything that was parsed: in a protected message it counts only when the ICV is good.
type UnsupportedCriticalError struct{ Type PayloadType }

func (e *UnsupportedCriticalError) Error() string {
	return fmt.Sprintf("wire: unknown critical payload %d", uint8(e.Type))
}
