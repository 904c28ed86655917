package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// A short authentication string lets two people compare a session instead of a key (trust.md §7): both see the same two
// words unless somebody sits in between. It is short because whoever would forge it is bound by a commitment before he
// has seen the other side's nonce, so that he has one guess in 2^22 (BTNS-TRUST-53).
//
// The messages are the data of a private notify inside the IKE SA that is compared. One side begins:
//
//	initiator -> responder   commit = SHA-256("btns-sas-commit" | 00 | 01 | Na)
//	responder -> initiator   Nb
//	initiator -> responder   Na, checked against the commitment

// Binding is the unique channel binding of an IKE SA (channel-binding.md §4).
type Binding [32]byte

// ShortString is what both people compare.
type ShortString struct {
	Words  string // two words, 22 bits
	Digits string // six digits, for those who would rather read numbers
}

var (
	// ErrCommitment says that the other side revealed a nonce that is not the one it had committed itself to: an
	// attack.
	ErrCommitment = errors.New("identity: short string: the nonce is not the one committed to")
	// ErrShortString says that a message does not belong to this comparison: malformed, or out of turn.
	ErrShortString = errors.New("identity: short string: unexpected message")
)

const (
	shortStringVersion = 1
	shortStringLen     = 2 + 32 // version, kind, value

	kindCommit = 1
	kindNonce  = 2
	kindReveal = 3
)

// ShortStringInitiator is the side that begins a comparison. It serves for one attempt (trust.md §7).
type ShortStringInitiator struct {
	binding Binding
	na      [32]byte
	waiting bool
}

// ShortStringResponder is the other side. It serves for one attempt.
type ShortStringResponder struct {
	binding Binding
	nb      [32]byte
	commit  [32]byte
	waiting bool
}

// CompareShortString begins a comparison with 32 fresh random octets and returns the message for the other side.
func CompareShortString(b Binding, na [32]byte) (*ShortStringInitiator, []byte) {
	return &ShortStringInitiator{b, na, true}, shortStringMessage(kindCommit, commitment(na))
}

// Nonce takes the responder's answer. It returns what both people compare, and the message that lets the responder
// compute the same; only the other person's word then says whether they are equal.
func (s *ShortStringInitiator) Nonce(message []byte) (ShortString, []byte, error) {
	nb, err := shortStringValue(message, kindNonce)
	if err != nil || !s.waiting {
		return ShortString{}, nil, orUnexpected(err)
	}
	s.waiting = false
	return shortString(s.binding, s.na, nb), shortStringMessage(kindReveal, s.na), nil
}

// AnswerShortString takes the first message of a comparison that the other side began, with 32 fresh random octets, and
// returns the answer.
func AnswerShortString(b Binding, nb [32]byte, message []byte) (*ShortStringResponder, []byte, error) {
	commit, err := shortStringValue(message, kindCommit)
	if err != nil {
		return nil, nil, err
	}
	return &ShortStringResponder{b, nb, commit, true}, shortStringMessage(kindNonce, nb), nil
}

// Reveal takes the initiator's last message and returns what both people compare. A nonce that was not committed to ends
// the comparison.
func (s *ShortStringResponder) Reveal(message []byte) (ShortString, error) {
	na, err := shortStringValue(message, kindReveal)
	if err != nil || !s.waiting {
		return ShortString{}, orUnexpected(err)
	}
	s.waiting = false
	c := commitment(na)
	if subtle.ConstantTimeCompare(c[:], s.commit[:]) != 1 {
		return ShortString{}, ErrCommitment
	}
	return shortString(s.binding, na, s.nb), nil
}

// CommitsShortString reports whether a message begins a comparison.
func CommitsShortString(message []byte) bool {
	_, err := shortStringValue(message, kindCommit)
	return err == nil
}

func orUnexpected(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: this attempt is over", ErrShortString)
}

func commitment(na [32]byte) [32]byte {
	return sha256.Sum256(labelled("btns-sas-commit", na[:]))
}

func shortString(b Binding, na, nb [32]byte) ShortString {
	mac := hmac.New(sha256.New, b[:])
	mac.Write(labelled("btns-sas", na[:], nb[:])) // a hash never fails
	s := mac.Sum(nil)
	bits := binary.BigEndian.Uint32(s)
	return ShortString{
		Words:  dictionary[bits>>21] + " " + dictionary[bits>>10&0x7ff],
		Digits: fmt.Sprintf("%06d", binary.BigEndian.Uint64(s)%1_000_000),
	}
}

func shortStringMessage(kind byte, value [32]byte) []byte {
	return append([]byte{shortStringVersion, kind}, value[:]...)
}

func shortStringValue(message []byte, kind byte) ([32]byte, error) {
	if len(message) != shortStringLen || message[0] != shortStringVersion || message[1] != kind {
		return [32]byte{}, fmt.Errorf("%w: %d octets", ErrShortString, len(message))
	}
	return [32]byte(message[2:]), nil
}
