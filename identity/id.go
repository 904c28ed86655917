package identity

// IDType is the type of an IKE identity (RFC 7296 §3.5).
type IDType uint8

const (
	IDv4     IDType = 1
	IDFQDN   IDType = 2
	IDRFC822 IDType = 3
	IDv6     IDType = 5
	IDDN     IDType = 9
	IDKeyID  IDType = 11
	IDNull   IDType = 13 // RFC 7619 §2.2
)

// ID is what a peer asserts about itself in IKE. It proves nothing by itself (BTNS-CORE-40). It is comparable.
type ID struct {
	Type IDType
	Data string // octets as on the wire
}
