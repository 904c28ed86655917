package suite

import "errors"

var (
	// ErrPublicValue says that a peer's public value fails the checks of RFC 6989, RFC 8031 or FIPS 203.
	ErrPublicValue = errors.New("suite: bad public value")
	// ErrUnsupported says that a transform, or a combination of transforms, is not one that this package has.
	ErrUnsupported = errors.New("suite: unsupported transform")
	// ErrKeyLength says that keying material does not fit its transform.
	ErrKeyLength = errors.New("suite: wrong key length")
	// ErrICV says that an SK payload is not authentic, or too short to be.
	ErrICV = errors.New("suite: integrity check failed")
	// ErrPadding says that an authentic SK payload claims more padding than it has octets: its sender is broken.
	ErrPadding = errors.New("suite: bad pad length")
	// ErrExhausted says that a key has sealed as many payloads as it may.
	ErrExhausted = errors.New("suite: key used up")
	// ErrWiped says that a key has been forgotten.
	ErrWiped = errors.New("suite: the key has been forgotten")
	// ErrSignature says that the data of an AUTH payload do not prove what they should.
	ErrSignature = errors.New("suite: authentication data do not verify")
	// ErrUnsupportedAlgorithm says that an AUTH method or signature algorithm is not acceptable for the key at hand.
	ErrUnsupportedAlgorithm = errors.New("suite: unacceptable signature algorithm")
)
