package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Policy is an SPD and a PAD that fit together.
type Policy struct {
	spd      []Entry
	pad      []PADEntry
	warnings []string
}

// New makes a policy. It puts the PAD in its logical order whatever order it comes in (BTNS-CORE-04, BTNS-CORE-05) and
// refuses what has no meaning; what has one but is probably not meant is in Warnings.
func New(spd []Entry, pad []PADEntry) (*Policy, error) {
	p := &Policy{spd: slices.Clone(spd), pad: slices.Clone(pad)}
	slices.SortStableFunc(p.pad, func(a, b PADEntry) int { return int(a.Kind) - int(b.Kind) })
	if err := errors.Join(p.checkPAD(), p.checkSPD()); err != nil {
		return nil, err
	}
	p.lintPAD()
	p.lintSPD()
	return p, nil
}

// SPD returns the entries in order; they belong to the policy.
func (p *Policy) SPD() []Entry { return p.spd }

// PAD returns the entries in logical order; they belong to the policy.
func (p *Policy) PAD() []PADEntry { return p.pad }

// Warnings are what an operator should look at, in plain words.
func (p *Policy) Warnings() []string { return p.warnings }

// Entry returns the PAD entry of a name, or nil.
func (p *Policy) Entry(name string) *PADEntry {
	for i := range p.pad {
		if p.pad[i].Name == name {
			return &p.pad[i]
		}
	}
	return nil
}

// AcceptsUnknown reports whether peers that nobody vouches for are let in at all.
func (p *Policy) AcceptsUnknown() bool {
	return slices.ContainsFunc(p.pad, func(e PADEntry) bool { return e.Kind == AnyKey })
}

func (p *Policy) checkPAD() error {
	names := map[string]bool{}
	only := map[Kind]string{}
	var errs []error
	bad := func(e *PADEntry, format string, args ...any) {
		errs = append(errs, fmt.Errorf("policy: PAD entry %q: %s", e.Name, fmt.Sprintf(format, args...)))
	}
	for i := range p.pad {
		e := &p.pad[i]
		if e.Name == "" || names[e.Name] {
			bad(e, "its name is empty or taken")
		}
		names[e.Name] = true
		switch e.Kind {
		case ByID:
			if e.ID.IsZero() == !e.IDs.valid() || !e.ID.IsZero() && !e.IDs.IsZero() || len(e.PSK)+len(e.Keys)+len(e.Fingerprints)+len(e.Anchors) == 0 {
				bad(e, "it needs an ID or a range of them, and a key, fingerprint, shared secret or trust anchor")
			}
		case ByKey:
			if len(e.Keys)+len(e.Fingerprints) == 0 || len(e.PSK)+len(e.Anchors) > 0 {
				bad(e, "it needs a key or fingerprint, and no shared secret or trust anchor")
			}
		case Null, AnyKey:
			if other, ok := only[e.Kind]; ok {
				bad(e, "%q matches %v already; one is allowed", other, e.Kind) // BTNS-CORE-05
			}
			only[e.Kind] = e.Name
			if len(e.PSK)+len(e.Keys)+len(e.Fingerprints)+len(e.Anchors) > 0 {
				bad(e, "an entry for %v has no keys", e.Kind)
			}
		default:
			bad(e, "it has no kind")
		}
		if e.Kind != ByID && (!e.ID.IsZero() || !e.IDs.IsZero()) {
			bad(e, "an entry for %v has no IDs", e.Kind)
		}
		if !valid(e.Constraint) {
			bad(e, "its constraint %v is no set of selectors", e.Constraint)
		}
	}
	return errors.Join(errs...)
}

func (p *Policy) checkSPD() error {
	var errs []error
	for i := range p.spd {
		e := &p.spd[i]
		bad := func(text string) {
			errs = append(errs, fmt.Errorf("policy: SPD entry %q%s: %s", e.Name, e.where(), text))
		}
		if len(e.Local) == 0 || len(e.Remote) == 0 || !valid(e.Local) || !valid(e.Remote) {
			bad("it needs selectors of both sides")
		}
		switch e.Action {
		case Bypass, Discard:
			if e.BtnsOK || e.NullOK || e.BtnsFallthrough || e.Peer != "" || e.Mode != 0 || e.MinAssurance != 0 ||
				e.Inbound != "" || e.PFP != 0 || e.Marks != (protect.Marks{}) {
				bad("btns_ok and the like are for protected traffic") // BTNS-CORE-20
			}
		case Protect:
			p.checkProtect(e, bad)
		default:
			bad("it has no action")
		}
	}
	return errors.Join(errs...)
}

func (p *Policy) checkProtect(e *Entry, bad func(string)) {
	if e.Mode > protect.Tunnel {
		bad("it has no such mode")
	}
	if len(e.Offer) == 0 {
		bad("it offers no algorithms")
	}
	for _, s := range e.Offer {
		if err := s.Valid(); err != nil {
			bad(err.Error())
		}
	}
	if e.Peer != "" && p.Entry(e.Peer) == nil {
		bad(fmt.Sprintf("there is no peer %q", e.Peer))
	}
	if e.Waiting == Pass && e.Fallback == Require {
		bad("what must be protected cannot pass while SAs are negotiated")
	}
	switch e.Inbound {
	case "", WordRequire, WordPrefer, WordAccept:
	default:
		bad(fmt.Sprintf("%q says nothing about inbound traffic that is protected in the other direction", e.Inbound))
	}
	if e.PFP > PFPAll {
		bad("it populates unknown selectors from the packet")
	}
	if e.Marks.DSCP > protect.MaxDSCP || !e.Marks.SetDSCP && e.Marks.DSCP != 0 {
		bad("its DSCP is not one of 0 to 63")
	}
}

// where is the place of an entry, for messages.
func (e *Entry) where() string {
	if e.Source == "" {
		return ""
	}
	return " (" + e.Source + ")"
}

func valid(s selector.Set) bool {
	return !slices.ContainsFunc(s, func(x selector.Selector) bool { return !x.Valid() })
}

func (p *Policy) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// lintPAD finds constraints that overlap (BTNS-CORE-11): each child is checked against them anyway (BTNS-CORE-12), so
// that the overlap belongs to the entry that authenticates better.
func (p *Policy) lintPAD() {
	for i := range p.pad {
		e := &p.pad[i]
		if e.Kind == ByID || e.Constraint == nil {
			continue
		}
		for j := range p.pad[:i] {
			if o := &p.pad[j]; o.Kind < e.Kind && o.Kind != Null && e.Constraint.Overlaps(o.Constraint) {
				p.warn("peers of %v may ask for addresses of %v; what belongs to both is refused to the former", e, o)
			}
		}
	}
}
