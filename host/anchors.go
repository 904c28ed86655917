package host

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/policy"
)

// Anchors are the authorities that the PAD names, by the names that it has for them. A name without any is nobody's.
type Anchors map[string]*chain.Anchors

// Of returns the authorities of all of some names.
func (a Anchors) Of(names []string) *chain.Anchors {
	var list []*chain.Anchors
	for _, n := range names {
		list = append(list, a[n])
	}
	return chain.Join(list...)
}

// entries is what the configuration has of entries of the PAD beside the PAD, by their names.
type entries struct {
	byName   map[string]*peer          // the configured peers
	vouchers map[string]*chain.Anchors // who may certify the peers of an entry
	roaming  map[string]*Peer          // those without an address
}

// acceptAnchors finds the authorities of each entry of the PAD, and has peers asked for their certificates.
func (h *Host) acceptAnchors() {
	clear(h.vouchers)
	var names []string
	for i := range h.policy.PAD() {
		if e := &h.policy.PAD()[i]; len(e.Anchors) > 0 {
			h.vouchers[e.Name] = h.cfg.Anchors.Of(e.Anchors)
			names = append(names, e.Anchors...)
		}
	}
	h.endpoint.Accept(h.cfg.Anchors.Of(names))
}

// Certified is how this host shows itself to strangers that ask for it by a name: a public service is known by its certificate
// to those who stay unknown (RFC 5387 §4.3.2). Without Own it shows them its own key only.
type Certified struct {
	Own *chain.Own
	Key identity.Signer
}

// as is the host under a name, if its certificate has that.
func (c Certified) as(id identity.ID) (ikev2.Local, bool) {
	if c.Own == nil || id.IsZero() || !c.Own.About(id) {
		return ikev2.Local{}, false
	}
	ders := c.Own.DER()
	return ikev2.Local{ID: id, Method: ikev2.Signature, Key: c.Key, Certificate: ders[0], Above: ders[1:]}, true
}

// calls is what a configured peer is asked for by name: one that is known by a certificate may have several.
func (h *Host) calls(name string) identity.ID {
	if e := h.policy.Entry(name); e != nil && len(e.Anchors) > 0 {
		return e.ID
	}
	return identity.ID{}
}

// selfFor is how this host shows itself to the peers of a PAD entry, who may have asked for it by a name, and what is otherwise
// with their IKE SAs.
func (h *Host) selfFor(name string, local netip.Addr, wanted identity.ID) (ikev2.Local, *ikev2.Override) {
	p := h.configuredFor(name)
	if p == nil {
		p = h.roaming[name]
	}
	if p == nil {
		if self, ok := h.cfg.Certified.as(wanted); ok {
			return self, nil
		}
		return h.self(), nil
	}
	return p.selfAt(local), p.IKE
}

// proved is what the peer of a session asserted, and has proven.
func (s *session) proved() policy.Asserted {
	return policy.Asserted{
		ID: s.who.ID, Method: policy.Method(s.who.Method), Key: s.who.Key, Addr: s.remote.Addr(),
		Chain: s.who.Proven != nil,
	}
}

// stillVouched says why the authority that vouched for a peer does so no more, or nil.
func (h *Host) stillVouched(s *session, entry string, proof policy.Proof) error {
	v := s.who.Proven
	switch {
	case len(proof.Anchors) == 0:
		return nil
	case v == nil:
		return policy.ErrNoChain
	case h.vouchers[entry].Holds(v.Anchor):
		return nil
	}
	return &chain.Error{
		Fault: chain.UnknownIssuer, Text: fmt.Sprintf("the authority %s, which vouched for %v, is not configured any more", v.Issuer, s.who.ID),
	}
}

// tellUnproven tells of a peer whose certificates do not prove what it asserts. Others see such refusals by their own attempts
// only.
func (h *Host) tellUnproven(now time.Time, s *session, err error) {
	var bad *chain.Error
	if !errors.As(err, &bad) || s.pad == nil {
		return
	}
	r := certificateReason(bad.Fault)
	h.report(now, Report{
		Kind: PeerRefused, Level: Warn, Remote: s.remote.Addr(), Reason: r, Hint: r.Meaning().Hint,
		Text: fmt.Sprintf("peer refused by PAD entry %q: %s (unproven ID %v)", s.pad.Name, bad.Text, s.who.ID),
	})
}

// certificate says what the certificates of a session prove.
func (w *walk) certificate(s *session) {
	if v := s.who.Proven; v != nil {
		w.say(stepKey, "its certificate is that of %s, and proves %v under the authority %s until %s",
			v.Subject, s.who.ID, v.Issuer, v.Until.UTC().Format(time.DateTime))
	}
}

// wanted says by what a configured peer would have to prove who it is.
func (w *walk) wanted(name string) {
	text := fmt.Sprintf("the peer has to satisfy the entry %q", name)
	if a := w.h.vouchers[name]; a != nil {
		text += fmt.Sprintf(": to prove %s by a certificate under %s", w.h.policy.Entry(name).IDText(), strings.Join(a.Names(), " or "))
	}
	w.say(stepPAD, "%s", text)
}
