package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// PeerRef is an authenticated peer, as far as policy has to know it.
type PeerRef struct {
	Entry      *PADEntry
	Assurance  identity.Assurance
	LocalAddr  netip.Addr // of the IKE SA
	RemoteAddr netip.Addr // observed (RFC 7296 §2.23.1)
}

// anonymous reports whether nobody vouches for the peer: its identity is its key, or it has none.
func (r PeerRef) anonymous() bool { return r.Entry.Kind != ByID }

// Grant is what a child SA may carry.
type Grant struct {
	Entry         *Entry
	Local, Remote selector.Set
	Mode          protect.Mode
}

// ChildError says why a child SA is refused (TS_UNACCEPTABLE); the IKE SA stays (RFC 7296 §1.2).
type ChildError struct {
	Peer          string // PAD entry
	Local, Remote selector.Set
	Why           string
}

func (e *ChildError) Error() string {
	return fmt.Sprintf("policy: child SA for %v to %v refused to %q: %s", clip(e.Local), clip(e.Remote), e.Peer, e.Why)
}

func clip(s selector.Set) selector.Set { return s[:min(len(s), 3)] }

// AuthorizeChild says which part of local and remote, asked for by the peer or answered by it, a child SA may carry: the
// child constraints of the PAD, then the first SPD entry that the peer may use (core.md §4, BTNS-CORE-11 to 13, 21, 22,
// 66, 67; BTNS-NULL-07, 08). mode is what is asked for. held is what belongs to others by their live SAs or their
// records; it is taken from peers that nobody vouches for, or not at this address.
func (p *Policy) AuthorizeChild(ref PeerRef, local, remote selector.Set, mode protect.Mode, held selector.Set) (Grant, error) {
	refuse := func(why string) (Grant, error) {
		return Grant{}, &ChildError{ref.Entry.Name, local, remote, why}
	}
	if len(local) == 0 || len(remote) == 0 {
		return refuse("it names no traffic")
	}
	asked := tie(p.constrain(ref, local, remote, mode, held))
	if asked.empty() {
		return refuse("these addresses are not the peer's, or belong to another one")
	}
	why := "no SPD entry protects this traffic"
	for _, whole := range [...]bool{true, false} { // the entry that has all of the initiator's first selectors comes before others (RFC 7296 §2.9)
		for i := range p.spd {
			e := &p.spd[i]
			if e.Action != Protect || ref.may(e) != may || e.holds(asked) != whole {
				continue
			}
			mine := p.share(ref, asked, e, p.spd[:i])
			switch {
			case len(mine) == 0:
				continue
			case e.Mode == protect.Transport && mode == protect.Tunnel:
				return refuse(fmt.Sprintf("SPD entry %q wants transport mode", e.Name))
			}
			return grant(e, mine, local[0], remote[0], mode), nil
		}
	}
	for i := range p.spd {
		if e := &p.spd[i]; !asked.intersect(e.Local, e.Remote).empty() && (e.Action != Protect || ref.may(e) == blocked) {
			why = e.refusal()
		}
	}
	return refuse(why)
}

// holds reports whether the entry has all of the first selectors.
func (e *Entry) holds(asked pair) bool {
	return e.Local.Covers(asked.local[:1]) && e.Remote.Covers(asked.remote[:1])
}

// share is what of asked an SA of the entry may carry: its own traffic, and that of earlier entries which this peer may
// use and which want the same SA. The rest of earlier entries is taken away, so that a rule is never weakened by a later
// one (BTNS-CORE-22).
func (p *Policy) share(ref PeerRef, asked pair, e *Entry, earlier []Entry) []pair {
	left := []pair{asked}
	for i := range earlier {
		q := &earlier[i]
		verdict := blocked
		if q.Action == Protect {
			verdict = ref.may(q)
		}
		if verdict != passedOver && (verdict != may || !e.alike(q)) {
			left = without(left, q, q.Action == Protect)
		}
	}
	var mine []pair
	for _, l := range left {
		if r := l.intersect(e.Local, e.Remote); !r.empty() {
			mine = append(mine, r)
		}
	}
	return mine
}

// alike reports whether an SA made for one entry serves the other too.
func (e *Entry) alike(o *Entry) bool {
	return e.Mode == o.Mode && e.PFP == 0 && o.PFP == 0 && e.Marks == o.Marks && e.Lifetime == o.Lifetime &&
		slices.Equal(e.Offer, o.Offer) && slices.Equal(e.KE, o.KE)
}

func (e *Entry) refusal() string {
	if e.Action == Protect {
		return fmt.Sprintf("SPD entry %q wants another or a better known peer", e.Name)
	}
	return fmt.Sprintf("SPD entry %q says %v", e.Name, e.Action)
}

// constrain applies the PAD: what the peer may have on its side, and what is others'.
func (p *Policy) constrain(ref PeerRef, local, remote selector.Set, mode protect.Mode, held selector.Set) (selector.Set, selector.Set) {
	observed := selector.Set{selector.Host(ref.RemoteAddr)}
	unnamed := ref.Entry.Kind == AnyKey || ref.Entry.Kind == Null
	switch {
	case ref.Entry.Constraint != nil:
		remote = remote.Intersect(ref.Entry.Constraint)
	case ref.anonymous():
		remote = remote.Intersect(observed) // BTNS-CORE-67
	}
	if ref.Entry.Here {
		remote = remote.Intersect(observed)
	}
	if unnamed && mode == protect.Transport { // BTNS-CORE-66
		remote = remote.Intersect(observed)
		local = local.Intersect(selector.Set{selector.Host(ref.LocalAddr)})
	}
	if ref.Entry.Roams() {
		return local, remote.Subtract(held)
	}
	if !ref.anonymous() {
		return local, remote
	}
	for i := range p.pad {
		o := &p.pad[i]
		if o != ref.Entry && (o.Kind == ByID || unnamed && o.Kind == ByKey) {
			remote = remote.Subtract(o.Constraint) // BTNS-CORE-11, BTNS-CORE-12
		}
	}
	if unnamed {
		remote = remote.Subtract(held)
	}
	return local, remote
}

type permission uint8

const (
	may permission = iota + 1
	blocked
	passedOver // not this entry, and a later one is as good (BtnsFallthrough)
)

// may says whether the peer may use a PROTECT entry. What it may not use blocks it, so that a rule is never weakened by
// a later one (BTNS-CORE-22).
func (r PeerRef) may(e *Entry) permission {
	ok := true
	switch {
	case e.Peer != "":
		ok = e.Peer == r.Entry.Name
	case r.Entry.Kind == ByKey || r.Entry.Kind == AnyKey:
		ok = e.BtnsOK // BTNS-CORE-21
	case r.Entry.Kind == Null:
		ok = e.NullOK // BTNS-NULL-07, BTNS-NULL-12
	}
	switch {
	case ok && e.Peer == "" && r.Entry.Search == ByName:
		return passedOver // BTNS-CORE-15
	case ok && r.Assurance >= e.MinAssurance:
		return may
	case r.anonymous() && e.BtnsFallthrough:
		return passedOver
	}
	return blocked
}

// grant picks the piece that holds the initiator's first selectors, else any (RFC 7296 §2.9).
func grant(e *Entry, mine []pair, firstLocal, firstRemote selector.Selector, mode protect.Mode) Grant {
	best := mine[0]
	for _, q := range mine {
		if !q.intersect(selector.Set{firstLocal}, selector.Set{firstRemote}).empty() {
			best = q
			break
		}
	}
	g := Grant{Entry: e, Mode: mode}
	if e.Mode != 0 {
		g.Mode = e.Mode
	}
	g.Local = selector.Narrow(best.local, best.local, true)
	g.Remote = selector.Narrow(best.remote, best.remote, true)
	return g
}
