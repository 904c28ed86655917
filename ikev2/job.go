package ikev2

import (
	"crypto/sha3"
	"errors"
	"io"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/suite"
)

// work is a [Job] of this package. It is compared by identity when it comes back: what nobody waits for any more is
// forgotten.
type work interface {
	Job
	owner() *sa
}

type jobOf struct{ sa *sa }

func (j jobOf) owner() *sa { return j.sa }

// entropy stretches octets that were drawn in Step, where the order of draws is fixed, for use on any goroutine.
func entropy(seed [32]byte) io.Reader {
	h := sha3.NewSHAKE256()
	_, _ = h.Write(seed[:])
	return h
}

// generate makes the secret of an exchange initiator.
type generate struct {
	jobOf
	ke   suite.KE
	seed [32]byte

	private *suite.Private
	err     error
}

func (j *generate) Run() { j.private, j.err = j.ke.Generate(entropy(j.seed)) }

// agree computes the shared secret of an exchange initiator.
type agree struct {
	jobOf
	private *suite.Private
	peer    []byte

	shared []byte
	err    error
}

func (j *agree) Run() {
	if j.shared, j.err = j.private.Shared(j.peer); j.err == nil {
		j.private.Wipe()
	}
}

// respond does the exchange responder's part.
type respond struct {
	jobOf
	ke   suite.KE
	seed [32]byte
	peer []byte

	public, shared []byte
	err            error
}

func (j *respond) Run() { j.public, j.shared, j.err = j.ke.Respond(entropy(j.seed), j.peer) }

// sign makes the AUTH data of a signature.
type sign struct {
	jobOf
	seed   [32]byte
	signer identity.Signer
	hashes []suite.Hash
	octets []byte

	method uint8
	data   []byte
	err    error
}

func (j *sign) Run() {
	j.method, j.data, j.err = suite.Sign(entropy(j.seed), j.signer, j.hashes, j.octets)
}

// verify checks a signature with the first of some keys that fits.
type verify struct {
	jobOf
	keys   []identity.PublicKey
	hashes []suite.Hash
	method uint8
	data   []byte
	octets []byte
	claim  *claim // that certificates have to prove besides; nil: none

	key    identity.PublicKey // the one that verified
	proven *chain.Verified
	err    error
}

// claim is whose key it is, by certificates.
type claim struct {
	certs   [][]byte
	anchors *chain.Anchors
	id      identity.ID
	at      time.Time
}

var errNoKey = errors.New("ikev2: no key to verify with")

// Run checks the signature first: whoever does not hold the key makes nobody walk up a chain.
func (j *verify) Run() {
	j.err = errNoKey
	for _, k := range j.keys {
		if j.err = suite.Verify(k, j.hashes, j.method, j.data, j.octets); j.err == nil {
			j.key = k
			break
		}
	}
	switch {
	case j.err != nil:
		j.err = errors.Join(errBadProof, j.err)
	case j.claim != nil:
		j.err = j.certify()
	}
}

func (j *verify) certify() error {
	v, err := j.claim.anchors.Verify(j.claim.certs, j.claim.id, j.claim.at)
	if err != nil {
		return err
	}
	if v.Key != j.key {
		return errKeysDiffer
	}
	j.proven = &v
	return nil
}
