package trust

import (
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Evidence is one reason to believe that a key belongs where it was seen.
type Evidence struct {
	Kind EvidenceKind
	At   time.Time
}

// EvidenceKind is the kind of an [Evidence].
type EvidenceKind string

const (
	Seen        EvidenceKind = "seen"         // it came first: a leap of faith
	Again       EvidenceKind = "again"        // it came again
	Accepted    EvidenceKind = "accepted"     // an operator let it replace another, or let it in
	Imported    EvidenceKind = "imported"     // an operator's file lists it
	HandedOver  EvidenceKind = "handed-over"  // the key before it named it, in a session of its own
	Compared    EvidenceKind = "compared"     // an operator compared its name out of band
	ShortString EvidenceKind = "short-string" // two people compared the short string of a session
	Listed      EvidenceKind = "listed"       // an operator's file vouches for it
	Rule        EvidenceKind = "rule"         // a PAD entry names the key or the identity; belongs to the rule, is never recorded
	Withdrawn   EvidenceKind = "withdrawn"    // an operator revoked it
	SelfRevoked EvidenceKind = "self-revoked" // its owner revoked it: final
)

// Assurance is the rung of the ladder that one piece of evidence reaches by itself (trust.md §2).
func (k EvidenceKind) Assurance() identity.Assurance {
	switch k {
	case Seen, Accepted, Imported:
		return identity.FirstUse
	case Again, HandedOver:
		return identity.Continuity
	case Compared, ShortString, Listed, Rule:
		return identity.Verified
	}
	return identity.Clear // unknown kinds, and those that speak against the key
}

// Level is the highest rung that a list of evidence reaches (BTNS-TRUST-01).
func Level(evidence []Evidence) identity.Assurance {
	level := identity.Clear
	for _, e := range evidence {
		level = max(level, e.Kind.Assurance())
	}
	return level
}
