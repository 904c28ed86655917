package wire

import (
	"errors"
	"fmt"
)

// Reasons of an [Error].
var (
	ErrTruncated = errors.New("truncated")
	ErrTrailing  = errors.New("octets left over")
	ErrLength    = errors.New("wrong length")
	ErrSPISize   = errors.New("SPI size does not fit the protocol")
	ErrValue     = errors.New("value out of range")
	ErrTooMany   = errors.New("too many")
	ErrNested    = errors.New("encrypted payload inside an encrypted payload")
	ErrNotLast   = errors.New("a payload follows the encrypted one")
	ErrEmpty     = errors.New("empty")
)

// Error says that octets are not what they claim to be.
type Error struct {
	Payload string // "header", "SA", "Notify", ...
	Field   string
	Reason  error // one of the above
}

func (e *Error) Error() string { return fmt.Sprintf("wire: %s: %s: %v", e.Payload, e.Field, e.Reason) }

func (e *Error) Unwrap() error { return e.Reason }

// UnsupportedCriticalError says that a payload of unknown type demands to be understood (RFC 7296 §2.5).
type UnsupportedCriticalError struct{ Type PayloadType }

func (e *UnsupportedCriticalError) Error() string {
	return fmt.Sprintf("wire: unknown critical payload %d", uint8(e.Type))
}
