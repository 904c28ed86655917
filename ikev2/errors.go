package ikev2

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// Reason classifies what was dropped, refused or noticed; the endpoint counts by it.
type Reason uint8

// ErrCertificatesEnded says that an IKE SA has ended with the certificates by which the peer had proven who it is: those that
// it has now are asked for by making another one.
var ErrCertificatesEnded = errors.New("ikev2: the certificates of the peer have ended")

// NoAnswerError says that nobody answered: the attempt ended by retransmission timeout.
type NoAnswerError struct {
	Remote netip.AddrPort
	Sent   int  // datagrams
	Began  bool // it had answered before, and then no more
}

func (e *NoAnswerError) Error() string {
	return fmt.Sprintf("ikev2: no answer from %v to %d datagrams", e.Remote, e.Sent)
}

// RefusedError says that the peer answered with an error notify (RFC 7296 §3.10.1).
type RefusedError struct {
	Notify        uint16
	Authenticated bool // it came inside the protected exchange
}

// ProtocolError says that the peer broke the protocol; Notify is what it is told, 0 for silence.
type ProtocolError struct {
	Notify uint16
	What   string
}

func (e *ProtocolError) Error() string { return "ikev2: " + e.What }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("ikev2: peer answered %v", wire.NotifyType(e.Notify))
}
