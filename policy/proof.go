package policy

import "github.com/btns-ipsec/btns/identity"

// Proof is what a peer has to show before it is who its PAD entry says. Policy matches and verifies nothing: package
// ikev2 does, with what its question FindCredential has brought along (ID, method, the key or the certificates of the CERT
// payloads) and with this answer. When the proof fails, no other entry is tried (BTNS-CORE-07).
type Proof struct {
	ID identity.ID // that counts once it is proven: the asserted one; zero when the entry is not found by an ID

	// One of the rest is set.

	Keys    []identity.PublicKey // AUTH verifies under one of them
	PSK     []byte               // AUTH is made with it; never printed
	Null    bool                 // AUTH is made with SK_pi or SK_pr (RFC 7619 §2.1)
	Anchors []string             // the certificates lead to one of these, the first of them names ID, and AUTH verifies under its key
}

// GoString shows no secret.
func (p Proof) GoString() string { return "policy.Proof(" + p.ID.String() + ")" }

// String shows no secret.
func (p Proof) String() string { return p.GoString() }

// Proof returns what is left to show for a peer that FindPAD has led to the entry.
func (e *PADEntry) Proof(a Asserted) Proof {
	var p Proof
	if e.Kind == ByID {
		p.ID = a.ID
	}
	switch {
	case a.Method == NullAuth:
		p.Null = true
	case a.Method == SharedKey:
		p.PSK = e.PSK
	case a.Key.IsZero() && !e.anchored(a):
		p.Keys = e.Keys
	case e.Kind == AnyKey || e.hasKey(a.Key): // the key itself is named, whatever certificate it came in
		p.Keys = []identity.PublicKey{a.Key}
	default:
		p.Anchors = e.Anchors
	}
	return p
}

// anchored reports whether certificates of the peer may prove its ID.
func (e *PADEntry) anchored(a Asserted) bool { return len(e.Anchors) > 0 && a.Chain }
